"""Python files of the user's own, sent along with a sweep to the cluster's workers."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from rewind_ray.digests import FOREIGN, is_installed


def runtime_env(address: str) -> dict[str, Any]:
    """What ``ray.init`` takes as its ``runtime_env``; empty where workers have all the code.

    It holds all modules that this process has imported and that are neither installed nor ours,
    with the rest of their packages; Ray puts them on the workers' path. Workers on this machine see
    what lies in the working directory or on PYTHONPATH anyway.
    """
    places = [place for module in own_modules() for place in places_of(module)]
    if address == "local":
        seen = {Path(place or ".").resolve() for place in python_path()}
        places = [place for place in places if place.parent.resolve() not in seen]
    return {"py_modules": staged(places)} if places else {}


def own_modules() -> list[ModuleType]:
    """Outermost modules and packages, imported so far, that are neither installed nor ours."""
    return [
        module
        for name, module in list(sys.modules.items())
        if "." not in name
        and name not in FOREIGN
        and name != "__main__"
        and isinstance(module, ModuleType)
        and any(not is_installed(str(place)) for place in places_of(module))
    ]


def places_of(module: ModuleType) -> list[Path]:
    """Its file, or its folders where it is a package."""
    if hasattr(module, "__path__"):
        return [Path(place) for place in module.__path__ if Path(place).is_dir()]
    file = getattr(module, "__file__", None)
    return [Path(file)] if file and file.endswith(".py") else []


def python_path() -> list[str]:
    """Where Ray's workers on this machine look for modules, besides what is installed."""
    return ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def staged(places: Iterable[Path]) -> list[str]:
    """Copies of the Python files alone: beside them there may be gigabytes of data."""
    stage = Path(tempfile.mkdtemp(prefix="rewind-ray-code-"))
    copies = []
    for place in places:
        copy = stage / place.name
        if place.is_file():
            shutil.copyfile(place, copy)
        else:
            for file in sorted(place.rglob("*.py")):
                below = file.relative_to(place)
                if not any(part.startswith(".") for part in below.parts):
                    (copy / below).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, copy / below)
        copies.append(str(copy))
    return copies

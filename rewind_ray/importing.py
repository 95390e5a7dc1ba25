"""Objects of the user's own code, named by an import path such as ``my_tasks:Segmentation``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rewind_ray.errors import UserError

SEPARATOR = ":"
FOLDER = "folder"
"""``folder:PATH`` is a data set of images, whatever modules there are."""
NAMES_SHOWN = 5
"""Names of a module that an error message lists."""


def check_not_hidden(*packages: str) -> None:
    """Raises ImportError where a file of the user's hides a package of this project.

    With ``python -m`` Python looks into the working directory first. The command ``rewind-ray``
    imports the project's packages before it does.
    """
    ours = Path(__file__).resolve().parents[1]
    for name in packages:
        spec = importlib.util.find_spec(name)
        place = Path(spec.origin).resolve() if spec and spec.origin else None
        if place != ours / name / "__init__.py":
            raise ImportError(
                f"{place} hides the package {name!r} of rewind-ray; rename it, start from another "
                "folder, or write rewind-ray COMMAND instead of python -m"
            )


def is_import_path(text: str) -> bool:
    """Whether it has the form ``package.module:name``; ``folder:NAME`` is a data set's."""
    module, separator, name = text.partition(SEPARATOR)
    return (
        bool(separator)
        and module != FOLDER
        and all(part.isidentifier() for part in (*module.split("."), *name.split(".")))
    )


GIVEN = "given"
"""Stands for the module of things that only this process has."""
_given: dict[str, Any] = {}


def give(path: str, thing: Any) -> str:
    """Let ``import_object`` find a thing of this process that no module holds. The path."""
    _given[path] = thing
    return path


def path_of(function: Any) -> str:
    """The import path of a function or class; one that can't be imported by it is given.

    Such as one of a script, of a notebook or inside another function.
    """
    parts = [part.strip("<>") for part in function.__qualname__.split(".")]
    path = f"{function.__module__}{SEPARATOR}{'.'.join(parts)}"
    module = sys.modules.get(function.__module__)
    for part in parts:
        module = getattr(module, part, None)
    return path if module is function else give(path, function)


def import_object(path: str, what: str) -> Any:
    """What ``package.module:name`` names; what: the kind of thing, for error messages.

    Importing a module executes it, so ``path`` must come from the user, not from a file that
    somebody else wrote. Raises UserError where there is no such module or name. An exception
    that the module itself raises is passed on.
    """
    if path in _given:
        return _given[path]
    if not is_import_path(path):
        raise UserError(
            f"{what} {path!r} is no import path; write package.module:name, such as "
            "my_code.tasks:Segmentation"
        )
    module_name, _, name = path.partition(SEPARATOR)
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # a package that the module needs
        raise UserError(
            f"{what} {path!r}: there is no module {error.name!r}; check the spelling, install the "
            "package, or put its folder on PYTHONPATH"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise UserError(
                f"{what} {path!r}: {getattr(found, '__name__', name)} has no {part!r}; nearest: "
                f"{_nearest(part, dir(found))}"
            )
        found = getattr(found, part)
    return found


def _nearest(name: str, names: Iterable[str]) -> str:
    public = [known for known in names if not known.startswith("_")]
    return ", ".join(difflib.get_close_matches(name, public, NAMES_SHOWN, cutoff=0.0)) or "none"

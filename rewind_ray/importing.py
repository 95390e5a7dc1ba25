"""Objects of the user's own code, named by an import path such as ``my_tasks:Segmentation``."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from rewind_ray.errors import UserError

SEPARATOR = ":"
NAMES_SHOWN = 5
"""Names of a module that an error message lists."""


def is_import_path(text: str) -> bool:
    """Whether it has the form ``package.module:name``."""
    module, separator, name = text.partition(SEPARATOR)
    return bool(separator) and all(
        part.isidentifier() for part in (*module.split("."), *name.split("."))
    )


def import_object(path: str, what: str) -> Any:
    """What ``package.module:name`` names; what: the kind of thing, for error messages.

    Importing a module executes it, so ``path`` must come from the user, not from a file that
    somebody else wrote. Raises UserError where there is no such module or name. An exception
    that the module itself raises is passed on.
    """
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

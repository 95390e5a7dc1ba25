"""Trackers of the user's own: Tune callbacks by import path, which see a sweep and can't end it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partialmethod
from typing import Any

from ray import tune

from rewind_ray.errors import UserError
from rewind_ray.importing import import_object

HOOKS = ("setup", *(name for name in dir(tune.Callback) if name.startswith("on_")))
"""Methods that Tune calls."""


def trackers(paths: Iterable[str], note: Callable[[str], None]) -> list[tune.Callback]:
    """The callbacks that the import paths name, each made by a call without arguments.

    note: shows the user a line. Raises UserError where a path names nothing, or no callback.
    """
    return [tracker(path, note) for path in paths]


def tracker(path: str, note: Callable[[str], None]) -> tune.Callback:
    callback = import_object(path, "--tracker")()
    if not isinstance(callback, tune.Callback):
        raise UserError(
            f"--tracker {path}: what it returns is a {type(callback).__name__}; allowed: a class "
            "derived from ray.tune.Callback, or a function that returns an object of one"
        )
    return Tracker(path, callback, note)


class Tracker(tune.Callback):
    """Passes Tune's calls on. After the first that fails it passes on none, and says so."""

    def __init__(self, path: str, callback: tune.Callback, note: Callable[[str], None]) -> None:
        self._path = path
        self._callback = callback
        self._note = note
        self._failed = False

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune saves it, and nothing restores it."""
        return {}

    def _pass_on(self, hook: str, *arguments: Any, **named: Any) -> None:
        if self._failed:
            return
        try:
            getattr(self._callback, hook)(*arguments, **named)
        except Exception as error:
            self._failed = True
            self._note(f"--tracker {self._path} failed: {error!r}; the sweep continues without it")


for _hook in HOOKS:
    setattr(Tracker, _hook, partialmethod(Tracker._pass_on, _hook))

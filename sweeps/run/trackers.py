"""Trackers: what follows a sweep as Tune callbacks, and can't end it.

``mlflow``, ``wandb``, or one of the user's own by import path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partialmethod
from typing import Any

from ray import tune

from rewind_ray.errors import UserError
from rewind_ray.importing import import_object, is_import_path
from rewind_ray.store.ledger import Ledger
from sweeps.plan.graph import Graph
from sweeps.run.experiment_trackers import SERVICES, ExperimentTracker

HOOKS = ("setup", *(name for name in dir(tune.Callback) if name.startswith("on_")))
"""Methods that Tune calls."""


def trackers(
    names: Iterable[str], sweep: str, graph: Graph, ledger: Ledger, note: Callable[[str], None]
) -> list[tune.Callback]:
    """The callbacks of ``--tracker``; the user's own are made by a call without arguments.

    A service that can't be reached is left out, so that an unattended sweep starts without it.
    note: shows the user a line. Raises UserError where a path names nothing, or no callback, or
    where the service's package isn't installed.
    """
    found: list[tune.Callback] = []
    for name in names:
        if name in SERVICES:
            note(f"--tracker {name}: connecting")  # MLflow tries for half a minute
        try:
            found.append(Tracker(name, callback_named(name, sweep, graph, ledger), note))
        except Exception as error:
            if name not in SERVICES or isinstance(error, UserError):
                raise
            note(f"--tracker {name} failed: {error!r}; the sweep continues without it")
    return found


def callback_named(name: str, sweep: str, graph: Graph, ledger: Ledger) -> tune.Callback:
    """Raises UserError as ``trackers``."""
    if name in SERVICES:
        return ExperimentTracker(SERVICES[name](sweep), sweep, graph, ledger)
    if not is_import_path(name):
        raise UserError(
            f"--tracker is {name!r}; allowed: {', '.join(SERVICES)}, or an own callback: write "
            "package.module:name"
        )
    callback = import_object(name, "--tracker")()
    if not isinstance(callback, tune.Callback):
        raise UserError(
            f"--tracker {name}: what it returns is a {type(callback).__name__}; allowed: a class "
            "derived from ray.tune.Callback, or a function that returns an object of one"
        )
    return callback


class Tracker(tune.Callback):
    """Passes Tune's calls on. After the first that fails it passes on none, and says so."""

    def __init__(self, name: str, callback: tune.Callback, note: Callable[[str], None]) -> None:
        self._name = name
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
            self._note(f"--tracker {self._name} failed: {error!r}; the sweep continues without it")


for _hook in HOOKS:
    setattr(Tracker, _hook, partialmethod(Tracker._pass_on, _hook))

"""Pruning and retraining as a walk on a stage graph. Needs torch and numpy, never Ray.

spec, retraining, schedule, protocols, ..._options, result        what a stage is: plain data
training/     a stage from its start to its row
store/        where everything is kept
tasks/        what a network is trained on and for: data, loss, metric
datasets/     batches as a pure function of (data, seed, epoch)
models/       networks by name
measuring/    how fast a device trains, alone and shared
pruning/      masks, criteria, structures, and cutting filters out
export/       a finished stage as a file
api           compare and prune, for scripts and notebooks
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rewind_ray.api import Best, Results, compare, prune
    from rewind_ray.spec import Prune, Retrain
    from rewind_ray.tasks import Loss, Metric, Task

__version__ = "0.2.0"

_PLACES = {
    "rewind_ray.api": ("Best", "Results", "compare", "prune"),
    "rewind_ray.spec": ("Prune", "Retrain"),
    "rewind_ray.tasks": ("Loss", "Metric", "Task"),
}
"""Module -> names that are imported from it when they are first used: the analysis reads the
storage without torch."""


def __getattr__(name: str) -> Any:
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Best",
    "Loss",
    "Metric",
    "Prune",
    "Results",
    "Retrain",
    "Task",
    "__version__",
    "compare",
    "prune",
]

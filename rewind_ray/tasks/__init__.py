"""What a network is trained on and for.

task          the seam: Task, Metric, Loss
image         image classification
translation   sentences into another language, scored by bleu
"""

from __future__ import annotations

from functools import lru_cache

import torch

from rewind_ray.errors import UserError
from rewind_ray.importing import import_object, is_import_path
from rewind_ray.spec import Protocol
from rewind_ray.tasks.task import Batch, Loss, LossOf, Metric, Sizes, Task, as_loss

TASKS: dict[str, str] = {
    "image_classification": "rewind_ray.tasks.image:ImageClassification",
    "translation": "rewind_ray.tasks.translation:Translation",
}
"""Name -> import path of a ``Task``, imported only when it is used."""


def task_class(name: str) -> type[Task]:
    """name: a key of TASKS, or the import path of an own task, ``package.module:Class``.

    Raises UserError, saying what there is, if it is neither.
    """
    if name not in TASKS and not is_import_path(name):
        raise UserError(
            f"unknown task {name!r}; known: {', '.join(TASKS)}, or package.module:Class for a task "
            "of your own"
        )
    found = import_object(TASKS.get(name, name), "task")
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UserError(
            f"task {name!r} is {found!r}; give a class that derives from rewind_ray.tasks.Task"
        )
    return found


def task_of(protocol: Protocol, data: str | None, device: torch.device | str = "cpu") -> Task:
    """The protocol's task, its data not yet read. data: folder of the data's files.

    Raises UserError for an unknown task or option, or a data set that can't be had.
    """
    return task_class(protocol.task)(protocol, data, torch.device(device))


@lru_cache(maxsize=2)
def load_task(protocol: Protocol, data: str | None, device: torch.device) -> Task:
    """The protocol's task with its data. The last two are kept, for the next stages."""
    task = task_of(protocol, data, device)
    task.load()
    return task


__all__ = [
    "TASKS",
    "Batch",
    "Loss",
    "LossOf",
    "Metric",
    "Sizes",
    "Task",
    "as_loss",
    "load_task",
    "task_class",
    "task_of",
]

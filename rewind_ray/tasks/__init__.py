"""What a network is trained on and for.

task          the seam: Task, Metric, Loss
image         image classification
translation   sentences into another language, scored by bleu
own           classification of the user's own data
classifying   what these two share
identity      digests of what is the user's own, taken by the driver and checked by workers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewind_ray.digests import tensors_digest
from rewind_ray.errors import UserError
from rewind_ray.importing import import_object, is_import_path
from rewind_ray.models.history import FLAG, history_files
from rewind_ray.models.own import load_weights_, read_weights
from rewind_ray.spec import Protocol
from rewind_ray.tasks.identity import check_identity, check_network, own_digests
from rewind_ray.tasks.task import Batch, Loss, LossOf, Metric, Sizes, Task, as_loss

TASKS: dict[str, str] = {
    "image_classification": "rewind_ray.tasks.image:ImageClassification",
    "classification": "rewind_ray.tasks.own:Classification",
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
    check_identity(task)
    return task


@lru_cache(maxsize=2)
def planned_task(protocol: Protocol, data: str | None) -> Task:
    """The protocol's task, to describe it and to count before anything is trained. The user's own
    is loaded: it may know its sizes no sooner."""
    task = task_of(protocol, data)
    if is_import_path(protocol.task):
        task.load()
    return task


def identified(protocol: Protocol, data: str | None) -> Protocol:
    """With digests of what in it is the user's own; nothing is computed for a built-in protocol.

    Raises UserError where an own network or task can't be trained and pruned.
    """
    if not any(map(is_import_path, (protocol.task, protocol.network, protocol.dataset))):
        return protocol
    task = task_of(protocol, data)
    task.load()
    check_network(task)
    digests: dict[str, Any] = {**own_digests(task)}
    return replace(protocol, **digests)


def adopting(
    protocol: Protocol, data: str | None, weights: Mapping[str, Tensor], what: str
) -> Protocol:
    """For a dense network that has these trained weights from the start, and isn't trained.

    what: where they are from, for messages. Raises UserError, naming what doesn't fit the network.
    """
    load_weights_(planned_task(protocol, data).network(0), weights, what)
    return replace(protocol, init=tensors_digest(weights))


def adopting_history(protocol: Protocol, data: str | None, folder: str | Path) -> Protocol:
    """For a dense network with weights of several epochs of its training, those in the folder
    (see ``models.history``), of which T is the last.

    Raises MissingFile, or UserError, naming the file, for what can't be read or doesn't fit.
    """
    files = history_files(folder)
    if protocol.epochs != max(files):
        raise UserError(
            f"epochs is {protocol.epochs}, and the last weights in {folder} are of epoch "
            f"{max(files)} ({files[max(files)].name}); leave epochs out, or give {max(files)}"
        )
    network = planned_task(protocol, data).network(0)
    digests = []
    for epoch, file in files.items():  # one at a time: there may be hundreds
        weights = read_weights(file, FLAG)
        load_weights_(network, weights, f"{FLAG} {file}")
        digests.append(f"{epoch}:{tensors_digest(weights)}")
    return replace(protocol, init=" ".join(digests))


__all__ = [
    "TASKS",
    "Batch",
    "Loss",
    "LossOf",
    "Metric",
    "Sizes",
    "Task",
    "adopting",
    "adopting_history",
    "as_loss",
    "identified",
    "load_task",
    "planned_task",
    "task_class",
    "task_of",
]

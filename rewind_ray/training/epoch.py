"""The hot loop: one epoch of training; and an evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import nn

from rewind_ray.errors import UserError
from rewind_ray.pruning import Mask
from rewind_ray.tasks import Batch, Loss, Task
from rewind_ray.tasks.task import whole_backward
from rewind_ray.training.replay import Steps
from rewind_ray.training.update import (
    Backward,
    BatchLoss,
    Update,
    allocate_state_,
    autocast,
    multipliers_of,
    set_rate_,
)

Replay = Callable[[Update, Callable[[int], float], int, int], tuple[Update, Steps] | None]
"""See ``Recorder.steps``."""


SAVE_SECONDS = 600.0
"""Of training that a machine lost without notice may cost, where epochs are longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochMetrics:
    train_loss: float
    """Mean over the epoch's batches, weight decay not included."""
    train_accuracy: float | None
    """Correct / all examples of the epoch, each seen before its update; None where the task
    doesn't count them."""
    last_lr: float
    train_seconds: float
    examples_per_second: float
    waited_seconds: float = 0.0
    """Of ``train_seconds``, those in which the next batch wasn't there yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far an epoch is: what its metrics are made of so far."""

    updates: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    examples: int = 0
    seconds: float = 0.0


class BrokenOff(Exception):
    """An epoch was stopped between two updates; ``progress`` says where."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(f"stopped after {progress.updates} updates of the epoch")
        self.progress = progress


def never() -> bool:
    return False


def train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    batch_loss: BatchLoss,
    learning_rate: Callable[[int], float],
    parameters: dict[str, nn.Parameter],
    mask: Mask,
    precision: str,
    seed: int = 0,
    progress: Progress = Progress(),
    stop: Callable[[], bool] = never,
    save: Callable[[Progress], None] | None = None,
    save_seconds: float = SAVE_SECONDS,
    backward: Backward = whole_backward,
    max_gradient_norm: float | None = None,
    replay: Replay | None = None,
) -> EpochMetrics:
    """Train on every batch once; on those that are left, where ``progress`` says how far it was.

    learning_rate: of an update of this epoch, from 0. parameters: the prunable ones; those that
    ``mask`` prunes are zero after every update, whatever momentum and weight decay did. An empty
    mask prunes nothing. seed: of what the network itself draws from PyTorch's global generators,
    such as dropout; each update has its own, so that an epoch can be gone on with. stop: asked
    before every update whether to raise BrokenOff. save: called every ``save_seconds`` between two
    updates. backward, max_gradient_norm: see ``Task.backward`` and the protocol. replay: makes the
    same updates from what a GPU has recorded, where it can; the batches are then left alone.
    """
    saved = time.perf_counter()
    begun = saved - progress.seconds
    network.train()
    allocate_state_(optimizer)
    device = next(network.parameters()).device
    update = Update(
        network=network,
        optimizer=optimizer,
        batch_loss=batch_loss,
        backward=backward,
        precision=precision,
        masked=[parameters[name] for name in mask],
        multipliers=multipliers_of(parameters, mask),
        max_gradient_norm=max_gradient_norm,
        loss_sum=torch.tensor(progress.loss_sum, dtype=torch.float32, device=device),
        correct=torch.tensor(progress.correct, dtype=torch.long, device=device),
    )
    awaited = Awaited(batches)
    replayed = replay and replay(update, learning_rate, seed, progress.updates)
    if replayed:
        update, steps = replayed
    else:
        steps = steps_of(update, awaited, learning_rate, seed, progress.updates)
    examples, updates, counted = progress.examples, progress.updates, False

    def so_far() -> Progress:
        return Progress(
            updates=updates,
            loss_sum=float(update.loss_sum),
            correct=int(update.correct),
            examples=examples,
            seconds=time.perf_counter() - begun,
        )

    for step in steps:
        if stop():
            raise BrokenOff(so_far())
        if save and time.perf_counter() - saved >= save_seconds and updates > progress.updates:
            save(so_far())
            saved = time.perf_counter()
        loss = step()
        counted |= loss.correct is not None
        examples += loss.examples
        updates += 1
    train_loss = float(update.loss_sum) / updates  # waits for the device, the clock is read after
    seconds = time.perf_counter() - begun
    return EpochMetrics(
        train_loss=train_loss,
        train_accuracy=int(update.correct) / examples if counted else None,
        last_lr=learning_rate(updates - 1),
        train_seconds=seconds,
        examples_per_second=examples / seconds,
        waited_seconds=awaited.seconds,
    )


class Awaited:
    """Batches, and the seconds that were spent waiting for them so far."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = iter(batches)
        self.seconds = 0.0

    def __iter__(self) -> Awaited:
        return self

    def __next__(self) -> Batch:
        begun = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.seconds += time.perf_counter() - begun


def steps_of(
    update: Update,
    batches: Iterable[Batch],
    learning_rate: Callable[[int], float],
    seed: int,
    first: int,
) -> Steps:
    """The epoch's updates from ``first`` on, each made when it is called."""
    for number, batch in enumerate(islice(batches, first, None), first):
        yield partial(step_with, update, batch, learning_rate(number), seed + number)


def step_with(update: Update, batch: Batch, rate: float, seed: int) -> Loss:
    set_rate_(update.optimizer, rate)
    torch.manual_seed(seed)
    return update(batch)


@torch.no_grad()
def evaluate(
    task: Task, network: nn.Module, part: str, forward: nn.Module | None = None
) -> float | None:
    """The task's metric on "val" or "test", in [0, 1]; None: there is no such part.

    forward: computes the same as the network, from what a GPU has recorded. Raises UserError where
    the task returns something else.
    """
    network.eval()
    with autocast(task.device, task.protocol.precision):
        value = task.evaluate(forward or network, part)
    if value is not None and not 0 <= value <= 1:
        raise UserError(
            f"{task.metric.name} of task {task.name} is {value} on {part}; Task.evaluate must "
            "return a number from 0 to 1: scale or clip it"
        )
    return None if value is None else float(value)

"""The hot loop: one epoch of training; and an evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from rewind_ray.errors import UserError
from rewind_ray.pruning import Mask, apply_mask_
from rewind_ray.tasks import Batch, Loss, LossOf, Task, as_loss
from rewind_ray.tasks.task import whole_backward

BatchLoss = Callable[[nn.Module, Batch], Loss | Tensor]
"""See ``Task.loss``."""
Backward = Callable[[nn.Module, Batch, LossOf, Callable[[], None]], Loss]
"""See ``Task.backward``."""


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
) -> EpochMetrics:
    """Train on every batch once; on those that are left, where ``progress`` says how far it was.

    learning_rate: of an update of this epoch, from 0. parameters: the prunable ones; those that
    ``mask`` prunes are zero after every update, whatever momentum and weight decay did. An empty
    mask prunes nothing. seed: of what the network itself draws from PyTorch's global generators,
    such as dropout; each update has its own, so that an epoch can be gone on with. stop: asked
    before every update whether to raise BrokenOff. save: called every ``save_seconds`` between two
    updates. backward, max_gradient_norm: see
    ``Task.backward`` and the protocol.
    """
    network.train()
    device = next(network.parameters()).device
    loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float32, device=device)
    correct = torch.tensor(progress.correct, dtype=torch.long, device=device)
    examples, updates = progress.examples, progress.updates
    counted = False
    lr = 0.0

    def loss_of(part: Batch) -> Loss:
        with autocast(device, precision):
            return as_loss(batch_loss(network, part), part)

    def clip() -> None:
        if max_gradient_norm is not None:
            clip_gradients_(network, parameters, mask, max_gradient_norm)

    def so_far() -> Progress:
        return Progress(
            updates=updates,
            loss_sum=float(loss_sum),
            correct=int(correct),
            examples=examples,
            seconds=time.perf_counter() - begun,
        )

    saved = time.perf_counter()
    begun = saved - progress.seconds
    for batch in islice(batches, updates, None):
        if stop():
            raise BrokenOff(so_far())
        if save and time.perf_counter() - saved >= save_seconds and updates > progress.updates:
            save(so_far())
            saved = time.perf_counter()
        lr = learning_rate(updates)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        torch.manual_seed(seed + updates)
        loss = backward(network, batch, loss_of, clip)
        optimizer.step()
        if mask:
            apply_mask_(parameters, mask)
        loss_sum += loss.mean.detach()
        if loss.correct is not None:
            correct += loss.correct
            counted = True
        examples += loss.examples
        updates += 1
    train_loss = float(loss_sum) / updates  # waits for the device, so the clock is read after
    seconds = time.perf_counter() - begun
    return EpochMetrics(
        train_loss=train_loss,
        train_accuracy=int(correct) / examples if counted else None,
        last_lr=lr,
        train_seconds=seconds,
        examples_per_second=examples / seconds,
    )


@torch.no_grad()
def clip_gradients_(
    network: nn.Module, parameters: dict[str, nn.Parameter], mask: Mask, norm: float
) -> None:
    """Scale the gradient down to ``norm``, if it is larger; that of pruned weights becomes 0."""
    masked = {name: parameters[name].grad for name in mask}
    there = {name: gradient for name, gradient in masked.items() if gradient is not None}
    if there:
        torch._foreach_mul_(list(there.values()), [mask[name] for name in there])
    nn.utils.clip_grad_norm_(network.parameters(), norm, foreach=True)


@torch.no_grad()
def evaluate(task: Task, network: nn.Module, part: str) -> float | None:
    """The task's metric on "val" or "test", in [0, 1]; None: there is no such part.

    Raises UserError where the task returns something else.
    """
    network.eval()
    with autocast(task.device, task.protocol.precision):
        value = task.evaluate(network, part)
    if value is not None and not 0 <= value <= 1:
        raise UserError(
            f"{task.metric.name} of task {task.name} is {value} on {part}; Task.evaluate must "
            "return a number from 0 to 1: scale or clip it"
        )
    return value


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where the protocol says so; weights, momentum and BatchNorm stay fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

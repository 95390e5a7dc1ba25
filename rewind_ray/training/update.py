"""One update of the weights, a function over tensors that stay where they are.

It reads a batch and leaves everything else in place: weights, running statistics, the optimizer's
state, the totals of the epoch. ``train_epoch`` calls it for each batch; ``replay`` has a GPU record
it once and repeat it without Python.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rewind_ray.pruning import Mask
from rewind_ray.store.checkpoint import state_keys
from rewind_ray.tasks import Batch, Loss, LossOf, as_loss

BatchLoss = Callable[[nn.Module, Batch], Loss | Tensor]
"""See ``Task.loss``."""
Backward = Callable[[nn.Module, Batch, LossOf, Callable[[], None]], Loss]
"""See ``Task.backward``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """Called with a batch, it trains on it. ``Loss.mean`` of what it returns has no graph."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    batch_loss: BatchLoss
    backward: Backward
    precision: str
    masked: list[Tensor]
    """Parameters of which weights are pruned."""
    multipliers: list[Tensor]
    """Of each of these, see ``multipliers_of``."""
    max_gradient_norm: float | None
    loss_sum: Tensor
    """() float32, over the epoch's batches so far."""
    correct: Tensor
    """() int64, correct predictions so far."""

    def __call__(self, batch: Batch) -> Loss:
        self.optimizer.zero_grad()
        loss = self.backward(self.network, batch, self._loss_of, self._clip)
        self.optimizer.step()
        with torch.no_grad():
            if self.masked:
                torch._foreach_mul_(self.masked, self.multipliers)
            self.loss_sum.add_(loss.mean.detach())
            if loss.correct is not None:
                self.correct.add_(loss.correct)
        return Loss(loss.mean.detach(), loss.examples, loss.correct)

    def _loss_of(self, part: Batch) -> Loss:
        with autocast(self.loss_sum.device, self.precision):
            return as_loss(self.batch_loss(self.network, part), part)

    def _clip(self) -> None:
        if self.max_gradient_norm is not None:
            clip_gradients_(self.network, self.masked, self.multipliers, self.max_gradient_norm)


def multipliers_of(parameters: dict[str, nn.Parameter], mask: Mask) -> list[Tensor]:
    """The mask as numbers, 1 where a weight is kept and 0 where it is pruned, of each parameter's
    type and memory layout: so one call multiplies all layers (on a GPU one launch)."""
    return [
        torch.empty_like(parameters[name], requires_grad=False).copy_(kept)
        for name, kept in mask.items()
    ]


@torch.no_grad()
def clip_gradients_(
    network: nn.Module, masked: list[Tensor], multipliers: list[Tensor], norm: float
) -> None:
    """Scale the gradient down to ``norm``, if it is larger; that of pruned weights becomes 0."""
    pairs = zip(masked, multipliers, strict=True)
    there = [(p.grad, multiplier) for p, multiplier in pairs if p.grad is not None]
    if there:
        torch._foreach_mul_([gradient for gradient, _ in there], [kept for _, kept in there])
    nn.utils.clip_grad_norm_(network.parameters(), norm, foreach=True)


def set_rate_(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Of all parameters; into the rate's own tensor, where the optimizer has one."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def allocate_state_(optimizer: torch.optim.Optimizer) -> None:
    """Give parameters that have no state yet the one that the optimizer would start from, zeros.

    On a GPU: what is captured must be there before, and an update without a graph starts from the
    same. Elsewhere the optimizer makes its state when it first needs it.
    """
    fused = [group for group in optimizer.param_groups if group.get("fused")]
    new = [
        p for group in fused for p in group["params"] if p.is_cuda and not optimizer.state.get(p)
    ]
    scalars = state_keys(optimizer) if new else {}
    for parameter in new:
        for key, is_scalar in scalars.items():
            optimizer.state[parameter][key] = (
                torch.zeros((), device=parameter.device)
                if is_scalar
                else torch.zeros_like(parameter, requires_grad=False)
            )


def autocast(device: torch.device, precision: str, cache: bool = True) -> torch.autocast:
    """bf16 where the protocol says so; weights, momentum and BatchNorm stay fp32.

    cache: a weight is cast once, however often it is used.
    """
    return torch.autocast(
        device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=cache
    )

"""Masks: which weights of which layers are left."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Mask = dict[str, Tensor]
"""Parameter name -> bool tensor of the parameter's shape; True: the weight is kept."""


KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "kernels": (nn.Conv2d, nn.Linear),
    "convolutions": (nn.Conv2d,),
}
"""Rule of what may be pruned -> layers whose kernels may."""


def prunable_parameters(network: nn.Module, prunable: str) -> dict[str, nn.Parameter]:
    """Kernels that may be pruned, by name, in the order of the modules; never biases, BatchNorm.

    prunable: one of ``KINDS``.
    """
    kinds = KINDS[prunable]
    return {
        f"{name}.weight": module.weight  # type: ignore[misc]
        for name, module in network.named_modules()
        if isinstance(module, kinds)
    }


def dense_mask(parameters: dict[str, nn.Parameter]) -> Mask:
    """Everything kept."""
    return {
        name: torch.ones(parameter.shape, dtype=torch.bool, device=parameter.device)
        for name, parameter in parameters.items()
    }


@torch.no_grad()
def apply_mask_(parameters: dict[str, nn.Parameter], mask: Mask) -> None:
    """Set the pruned weights to exactly zero; all layers in one call."""
    torch._foreach_mul_([parameters[name] for name in mask], list(mask.values()))


def unchanged(mask: Mask) -> Mask:
    return mask


def unpruned(mask: Mask) -> int:
    """How many prunable weights are left."""
    return sum(int(kept.sum()) for kept in mask.values())


def density(mask: Mask) -> float:
    """Unpruned / prunable weights, in [0, 1]."""
    return unpruned(mask) / sum(kept.numel() for kept in mask.values())


def empty_layers(mask: Mask) -> list[str]:
    """Names of the parameters that have no weight left."""
    return [name for name, kept in mask.items() if not kept.any()]

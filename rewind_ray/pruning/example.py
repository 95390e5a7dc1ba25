"""Inputs of one forward pass on one example, which networks are traced and measured by."""

from __future__ import annotations

from torch import Tensor, nn


def fitted(example: tuple[Tensor, ...], network: nn.Module) -> tuple[Tensor, ...]:
    """On the network's device, floating point in its weights' type."""
    like = next(network.parameters())
    return tuple(
        part.to(like.device, like.dtype if part.is_floating_point() else part.dtype)
        for part in example
    )

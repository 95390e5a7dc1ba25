"""Inputs of one forward pass on one example."""

from __future__ import annotations

import torch
from torch import Tensor


def example(*shape: int) -> tuple[Tensor, ...]:
    """One input of this shape, (C, H, W) for images: zeros."""
    return (torch.zeros(1, *shape),)

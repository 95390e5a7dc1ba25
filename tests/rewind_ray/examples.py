"""Inputs of one forward pass."""

from __future__ import annotations

import torch
from torch import Tensor


def one_image(shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """shape: (C, H, W)."""
    return (torch.zeros(1, *shape),)

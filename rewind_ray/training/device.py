"""A check of a device before work is given to it."""

from __future__ import annotations

import torch

from rewind_ray.text import first_line
from rewind_ray.training.arithmetic import arithmetic

SIZE, VALUES = 256, 64
"""Sums of SIZE products below VALUES squared are whole numbers that fp32 holds exactly."""


def check_device(device: torch.device) -> None:
    """Raises RuntimeError where the device can't be used, or doesn't calculate rightly."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randint(VALUES, (2, SIZE, SIZE), generator=generator)
    try:
        with arithmetic("fp32", device):  # else cuBLAS would be used without its setting, for good
            product = (left.to(device, torch.float32) @ right.to(device, torch.float32)).cpu()
    except Exception as error:  # an AssertionError where torch has no CUDA
        raise RuntimeError(f"{device} can't be used: {first_line(error)}") from error
    wrong = int((product.long() != left @ right).sum())
    if wrong:
        raise RuntimeError(f"{device} multiplied wrongly: {wrong} of {SIZE * SIZE} sums")

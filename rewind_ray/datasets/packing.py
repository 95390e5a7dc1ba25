"""One int32 a pixel, and augmentation as a table of pixel positions.

Augmenting a batch is then a single gather: 7 to 14 times faster on a CPU than cropping and
flipping uint8 channels (measured on batches of 128 CIFAR images).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

BYTES_A_PIXEL = 4  # of an int32, so at most this many channels


class Shift(NamedTuple):
    padding: int
    """Pixels added on each side before a crop of the old size is taken."""
    mode: Literal["reflect", "black"]
    flip: bool


SHIFTS = {
    "none": Shift(0, "black", flip=False),
    "reflect4_flip": Shift(4, "reflect", flip=True),
    "zero4_flip": Shift(4, "black", flip=True),
    "zero1": Shift(1, "black", flip=False),
}
"""The augmentations of ``rewind_ray.spec.AUGMENTATIONS``."""


def pack(images: Tensor) -> Tensor:
    """(N, H, W, C) uint8 -> (N, H*W + 1) int32, a pixel's channels in its bytes.

    The last pixel is black, for padding to point at. Raises ValueError for more than 4 channels.
    """
    n, height, width, channels = images.shape
    if channels > BYTES_A_PIXEL:
        raise ValueError(f"images have {channels} channels; allowed: 1 to {BYTES_A_PIXEL}")
    packed = torch.zeros(n, height * width + 1, BYTES_A_PIXEL, dtype=torch.uint8)
    packed[:, :-1, :channels] = images.reshape(n, height * width, channels)
    return packed.view(torch.int32).squeeze(-1)


def unpack(pixels: Tensor, height: int, width: int, channels: int) -> Tensor:
    """(B, H*W) int32, without the black pixel -> (B, H, W, C) uint8, a view."""
    return pixels.view(torch.uint8).view(-1, height, width, BYTES_A_PIXEL)[..., :channels]


def views(augmentation: str, height: int, width: int) -> Tensor:
    """(V, H*W) int64: row v says for every pixel of the v-th view which packed pixel it shows.

    The views are all crops of the padded image, row by row from the top left; then, with
    flipping, the same crops mirrored. Raises ValueError for an unknown augmentation.
    """
    if augmentation not in SHIFTS:
        raise ValueError(f"unknown augmentation {augmentation!r}; known: {', '.join(SHIFTS)}")
    padding, mode, flip = SHIFTS[augmentation]
    positions = np.arange(height * width).reshape(height, width)
    if mode == "reflect":
        padded = np.pad(positions, padding, mode="reflect")
    else:
        padded = np.pad(positions, padding, constant_values=height * width)
    crops = np.lib.stride_tricks.sliding_window_view(padded, (height, width))
    both = np.stack([crops, crops[..., ::-1]]) if flip else crops
    return torch.from_numpy(both.reshape(-1, height * width).copy())

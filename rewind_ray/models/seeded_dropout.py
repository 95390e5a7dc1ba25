"""Dropout as a pure function: what is dropped follows from a key of each example.

No generator is involved, so a training that is resumed in the middle of an epoch drops what it
would have dropped, on every device, and so does one that takes a batch in smaller parts.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Multipliers of the 32-bit integer hash "lowbias32", C. Wellons 2018, "Prospecting for hash
# functions"; the shifts are in ``scrambled_``.
FIRST, SECOND = 0x7FEB352D, 0x846CA68B - (1 << 32)
GOLDEN = 0x9E3779B9
"""2^32 / golden ratio: its multiples are spread evenly modulo 2^32."""


def dropped(values: Tensor, noise: Tensor | None, site: int, share: float) -> Tensor:
    """``values`` with a ``share`` of them 0 and the others divided by 1 - share.

    values: (N, T, C); see ``stays`` for the others. Without ``noise`` nothing is dropped.
    """
    if noise is None or share == 0:
        return values
    stay = stays(noise, site, values.shape[1], values.shape[2], share)
    return values * stay * (1 / (1 - share))


def stays(noise: Tensor, site: int, steps: int, width: int, share: float) -> Tensor:
    """(N, steps, width) bool: which values stay.

    noise: (N,) int32, a random key of each example. site: number of the place in the network, so
    that each has draws of its own. An entry is a function of (key, site, step, column) alone,
    whatever N, steps and width are.
    """
    of_site = scrambled_(noise + wrapped(site * GOLDEN))
    rows = scrambled_(of_site[:, None] + spread(steps, noise.device))
    columns = scrambled_(spread(width, noise.device))
    draws = scrambled_(rows[:, :, None] + columns)
    return draws >= round(share * (1 << 32)) - (1 << 31)


def spread(number: int, device: torch.device) -> Tensor:
    """(number,) int32, far from each other."""
    return torch.arange(number, dtype=torch.int32, device=device) * wrapped(GOLDEN)


def wrapped(value: int) -> int:
    """The int32 that equals it modulo 2^32."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def scrambled_(x: Tensor) -> Tensor:
    """In place, int32 of any shape: a one-to-one mapping that looks random, modulo 2^32."""
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(FIRST)  # >> copies the sign; cut it off
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).mul_(SECOND)
    return x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))

"""Random numbers of code that isn't ours: global generators, set for a while and put back."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators of torch (its CPU's), numpy and Python start from ``seed``.

    Afterwards they are as before, whatever was drawn in between.
    """
    before = generator_states()
    try:
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def generator_states() -> tuple[Any, Any, Any]:
    """Of torch, numpy and Python; other ones after a number was drawn from them."""
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def same_states(one: tuple[Any, Any, Any], other: tuple[Any, Any, Any]) -> bool:
    """Whether no random number was drawn between the two."""
    numpy_alike = all(np.array_equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    return torch.equal(one[0], other[0]) and numpy_alike and one[2] == other[2]


def seed_of(name: str) -> int:
    """A seed for each name, 56 bits."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])

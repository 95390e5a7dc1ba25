"""Random numbers of a name: the same on every machine, and with every version of numpy."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def random_state(name: str) -> np.random.RandomState:
    # numpy promises that RandomState's streams never change, so an epoch stays what it is.
    words = hashlib.sha256(name.encode()).digest()
    return np.random.RandomState(np.frombuffer(words, dtype="<u4"))


def pass_order(seed: int, number: int, num_train: int) -> NDArray[np.int64]:
    """Of the examples in a pass, counted from 0. (num_train,)"""
    return random_state(f"pass {number} of seed {seed}").permutation(num_train)

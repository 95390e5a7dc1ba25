"""Which images train, validate and test: fixed random choices, the same for every training seed.

``numpy.random.RandomState`` because numpy promises that its streams never change; another
choice of images would silently make stored results incomparable.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from torch import LongTensor, Tensor

from rewind_ray.errors import UserError
from rewind_ray.spec import Protocol

VALIDATION_SALT = "validation"  # never edited, nor the salts in `split_indices`


class Split(NamedTuple):
    """Positions in the data set, ascending, (n,) int64."""

    train: Tensor
    test: Tensor
    val: Tensor | None
    """Positions in the test or the training set, as ``Protocol.validation`` says."""


def split_indices(protocol: Protocol, num_train: int, num_test: int) -> Split:
    """Subsets first, then the validation part out of what is left.

    num_train, num_test: images that the data set has. Raises UserError if the protocol asks
    for more, or if its fraction leaves one of the parts without images.
    """
    train = _chosen("train", num_train, protocol.train_examples)
    test = _chosen("test", num_test, protocol.test_examples)
    if protocol.validation == "none":
        return Split(train, test, None)
    if protocol.validation == "own":
        raise UserError(
            f"validation is 'own', and {protocol.dataset} comes without a validation set; allowed: "
            "none, test, train"
        )
    source = test if protocol.validation == "test" else train
    val, rest = validation_split(len(source), protocol.validation_fraction)
    if len(val) == 0 or len(rest) == 0:
        raise UserError(
            f"validation_fraction {protocol.validation_fraction} of {len(source)} "
            f"{protocol.validation} images leaves {len(val)} for validation and {len(rest)} for "
            f"the {protocol.validation} set; both need images: change it, or take more images"
        )
    if protocol.validation == "test":
        return Split(train, source[rest], source[val])
    return Split(source[rest], test, source[val])


def subset_indices(n: int, count: int, salt: str) -> LongTensor:
    """``count`` of 0..n-1, ascending, (count,) int64. A smaller choice is part of a larger one.

    Raises UserError if there are fewer than ``count``.
    """
    if not 0 <= count <= n:
        raise UserError(f"{count:,} images are asked for, but there are {n:,}; take at most these")
    return _ascending(_permutation(n, f"subset {salt}")[:count])


def validation_split(n: int, fraction: float) -> tuple[LongTensor, LongTensor]:
    """0..n-1 in two: round(fraction * n) for validation, and the rest. Both ascending, int64."""
    order = _permutation(n, VALIDATION_SALT)
    num_val = round(fraction * n)
    return _ascending(order[:num_val]), _ascending(order[num_val:])


def _chosen(part: str, n: int, count: int | None) -> Tensor:
    if count is None:
        return torch.arange(n)
    if count > n:
        raise UserError(
            f"{part}_examples is {count:,}, but there are {n:,} {part} images; allowed: up to these"
        )
    return subset_indices(n, count, part)


def _permutation(n: int, salt: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    words = np.frombuffer(hashlib.sha256(salt.encode()).digest(), dtype="<u4")
    return np.random.RandomState(words).permutation(n)


def _ascending(positions: np.ndarray[tuple[int], np.dtype[np.int64]]) -> LongTensor:
    return torch.LongTensor(np.sort(positions))

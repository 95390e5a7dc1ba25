"""CIFAR-10, CIFAR-100 and Fashion-MNIST, as torchvision stores and downloads them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from rewind_ray.datasets.cache import cache_folder, locked
from rewind_ray.datasets.catalog import ImageData
from rewind_ray.errors import MissingFile

TORCHVISION_SETS: dict[str, Callable[..., Any]] = {
    "cifar10": datasets.CIFAR10,
    "cifar100": datasets.CIFAR100,
    "fashion_mnist": datasets.FashionMNIST,
}
EXPECTED_FILES = {
    "cifar10": "cifar-10-batches-py/ or cifar-10-python.tar.gz",
    "cifar100": "cifar-100-python/ or cifar-100-python.tar.gz",
    "fashion_mnist": (
        "FashionMNIST/raw/ with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
        "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, packed (.gz) or not"
    ),
}


def load_torchvision(name: str, data: str | None) -> ImageData:
    """The data set from ``data`` or the cache folder, downloaded there if it is absent.

    Raises MissingFile, saying what was looked for and where, if that fails.
    """
    root = Path(data).expanduser().absolute() if data else cache_folder("data")
    make = TORCHVISION_SETS[name]
    try:
        _fetch(make, root)
        train, test = make(root, train=True), make(root, train=False)
    # A partly written file makes torchvision fail in more ways than it names.
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise MissingFile(
            f"no usable {name} in {root}, and downloading it did not succeed ({error}); expected "
            f"there: {EXPECTED_FILES[name]}. Remove what is broken, put the files there, or say "
            "where they are: --data DIR"
        ) from error
    return ImageData(
        train_images=_images(train.data),
        train_labels=torch.as_tensor(train.targets, dtype=torch.int64),
        test_images=_images(test.data),
        test_labels=torch.as_tensor(test.targets, dtype=torch.int64),
        classes=tuple(train.classes),
    )


def _fetch(make: Callable[..., Any], root: Path) -> None:
    """Download or unpack what is missing, one process at a time."""
    # A folder shared read-only can't be locked, and nobody unpacks into it either.
    if root.is_dir() and not os.access(root, os.W_OK):
        return
    with locked(root):
        make(root, train=False, download=True)


def _images(stored: Any) -> Tensor:
    """(N, H, W) or (N, H, W, C) uint8 -> (N, H, W, C) uint8, contiguous."""
    images = torch.from_numpy(np.ascontiguousarray(stored))
    return images.unsqueeze(-1) if images.ndim == 3 else images

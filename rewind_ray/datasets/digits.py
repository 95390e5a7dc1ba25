"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels, no download needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from rewind_ray.datasets.catalog import ImageData

TRAIN = 1347  # and 450 of 1,797 for the test
SPLIT = Path(__file__).with_name("digits_split.npy")
"""The examples' order, training first: ``train_test_split`` with ``test_size=0.25``,
``random_state=0`` and the classes as strata. Kept as data, because stored results belong to it."""


def load_digits() -> ImageData:
    """1,347 training and 450 test images, (N, 8, 8, 1) uint8, split by class and fixed.

    The values 0..16 become round(value * 255 / 16). The file is read without importing
    scikit-learn, which would take a worker longer than an epoch.
    """
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None
    table = np.loadtxt(
        Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz",
        delimiter=",",
        dtype=np.uint8,
    )
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = table[:, -1].astype(np.int64)
    split = np.load(SPLIT)
    train, test = split[:TRAIN], split[TRAIN:]
    return ImageData(
        train_images=torch.from_numpy(images[train]),
        train_labels=torch.from_numpy(labels[train]),
        test_images=torch.from_numpy(images[test]),
        test_labels=torch.from_numpy(labels[test]),
        classes=tuple("0123456789"),
    )

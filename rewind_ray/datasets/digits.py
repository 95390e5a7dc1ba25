"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels, no download needed."""

from __future__ import annotations

import numpy as np
import torch
from sklearn import datasets
from sklearn.model_selection import train_test_split

from rewind_ray.datasets.catalog import ImageData

TEST_SHARE = 0.25  # 450 of 1,797
SPLIT_SEED = 0  # never edited: stored results belong to this split


def load_digits() -> ImageData:
    """1,347 training and 450 test images, (N, 8, 8, 1) uint8, split by class and fixed.

    The values 0..16 become round(value * 255 / 16).
    """
    digits = datasets.load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=SPLIT_SEED
    )
    return ImageData(
        train_images=torch.from_numpy(images[train]),
        train_labels=torch.from_numpy(labels[train]),
        test_images=torch.from_numpy(images[test]),
        test_labels=torch.from_numpy(labels[test]),
        classes=tuple(str(name) for name in digits.target_names),
    )

"""Small real data: a folder of PNG and JPEG files, and a cache of its own for every test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rewind_ray.datasets import ImageData


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


def save_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """cat and dog, 6 PNG images each to train on and 3 JPEG images each to test with; 8x8."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "animals"
    for part, count, suffix in (("train", 6, "png"), ("test", 3, "jpg")):
        for name in ("cat", "dog"):
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                save_image(folder / part / name / f"{number}.{suffix}", pixels)
    return folder


@pytest.fixture
def make_data() -> Callable[..., ImageData]:
    """Random images: make_data(num_train, num_test, (height, width, channels))."""

    def make(num_train: int, num_test: int, shape: tuple[int, int, int]) -> ImageData:
        random = torch.Generator().manual_seed(0)

        def images(count: int) -> torch.Tensor:
            return torch.randint(256, (count, *shape), generator=random, dtype=torch.uint8)

        return ImageData(
            train_images=images(num_train),
            train_labels=torch.arange(num_train) % 10,
            test_images=images(num_test),
            test_labels=torch.arange(num_test) % 10,
            classes=tuple("0123456789"),
        )

    return make

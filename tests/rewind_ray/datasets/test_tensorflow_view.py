"""TensorFlow 1's crops and bicubic resizing, against torch's grid_sample and the formula."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from rewind_ray.datasets.catalog import CUT_FROM_FILES
from rewind_ray.datasets.stream import VIEWS, read_view
from rewind_ray.datasets.tensorflow_view import (
    centre,
    random_crop,
    resize_bicubic,
    tensorflow_view,
)


def photo(height: int, width: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).astype(np.float32)).permute(2, 0, 1)


def test_every_streamed_augmentation_has_a_view() -> None:
    assert tuple(VIEWS) == tuple(CUT_FROM_FILES)


@pytest.mark.parametrize(("height", "width", "size"), [(40, 61, 16), (9, 7, 16), (16, 16, 16)])
def test_resizing_is_a_cubic_interpolation_at_the_scaled_places(
    height: int, width: int, size: int
) -> None:
    """torch's grid_sample interpolates by the same kernel (-0.75) wherever it is asked to.

    To the 1/1024 of a pixel that TensorFlow rounds to, times levels up to 255.
    """
    image = as_tensor(photo(height, width))
    ys = torch.arange(size) * height / size
    xs = torch.arange(size) * width / size
    y, x = torch.meshgrid(ys / (height - 1) * 2 - 1, xs / (width - 1) * 2 - 1, indexing="ij")
    expected = F.grid_sample(
        image[None],
        torch.stack([x, y], dim=-1)[None],
        mode="bicubic",
        padding_mode="border",
        align_corners=True,
    )[0]
    torch.testing.assert_close(resize_bicubic(image, size), expected, atol=0.6, rtol=0)
    if height == width == size:
        torch.testing.assert_close(resize_bicubic(image, size), image)


def test_one_row_by_hand() -> None:
    """8 pixels to 5: output 1 lies at 1.6. The kernel at distances 1.6, .6, .4, 1.4 (Keys 1981)."""
    values = np.array([10.0, 0.0, 200.0, 50.0, 90.0, 30.0, 120.0, 60.0])

    def kernel(distance: float, a: float = -0.75) -> float:
        if distance <= 1:
            return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        return a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a

    image = torch.tensor(values, dtype=torch.float32).repeat(3, 8, 1)
    found = resize_bicubic(image, 5)[0, 0]
    for output in range(5):
        place = output * 8 / 5
        taps = [int(place) + step for step in (-1, 0, 1, 2)]
        expected = sum(kernel(abs(place - t)) * values[min(max(t, 0), 7)] for t in taps)
        assert float(found[output]) == pytest.approx(expected, abs=0.3)


def test_reducing_does_not_blur_first_as_pillow_does() -> None:
    """Stripes of one pixel, halved: every second pixel exactly; Pillow makes them grey."""
    stripes = np.zeros((8, 8, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    halved = resize_bicubic(as_tensor(Image.fromarray(stripes)), 4)
    assert torch.equal(halved, torch.full((3, 4, 4), 255.0))
    theirs = np.asarray(Image.fromarray(stripes).resize((4, 4), Image.Resampling.BICUBIC))
    assert 100 < theirs.mean() < 160


def test_the_centre_is_seven_eighths_of_the_shorter_side() -> None:
    """224 / (224 + 32); resnet_preprocessing.py: int(), and the odd pixel on top."""
    assert centre(375, 500, 224) == ((375 - 328 + 1) // 2, (500 - 328 + 1) // 2, 328, 328)
    assert centre(256, 256, 224) == (16, 16, 224, 224)
    image = photo(40, 50)
    side = int(16 / 48 * 40)
    top, left = (40 - side + 1) // 2, (50 - side + 1) // 2
    cut = as_tensor(image)[:, top : top + side, left : left + side]
    assert torch.equal(tensorflow_view(image, None, 16), resize_bicubic(cut, 16).bfloat16())


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (64, 64), (300, 900)])
def test_crops_keep_to_the_limits(height: int, width: int) -> None:
    random = Random(0)
    boxes = [random_crop(random, height, width) for _ in range(4000)]
    found = [box for box in boxes if box is not None]
    assert len(found) > 0.97 * len(boxes)
    areas = np.array([box.height * box.width for box in found]) / (height * width)
    assert areas.min() >= 0.1  # min_object_covered, of a box that is the whole image
    assert areas.max() <= 1
    for box in found:
        assert box.width == round(box.width)
        assert 0 <= box.top <= max(0, height - box.height - 1)
        assert 0 <= box.left <= max(0, width - box.width - 1)
        slack = 0.5 / box.height + 1e-6
        assert 3 / 4 - slack <= box.width / box.height <= 4 / 3 + slack


def test_crops_of_a_seed_are_for_ever() -> None:
    """Golden: a resumed run must see the same crops."""
    crops = [random_crop(Random(seed), 375, 500) for seed in (0, 1)]
    assert crops == [(2, 33, 325, 404), (2, 65, 351, 291)]


def test_the_height_is_drawn_uniformly_not_the_area() -> None:
    """Of a square image and ratio 1 heights from sqrt(.08) (.1 is kept) to 1 are equally likely;
    torchvision's areas are uniform: their mean is 0.55, here 0.4."""
    random = Random(1)
    boxes = [random_crop(random, 1000, 1000) for _ in range(20_000)]
    areas = np.array([b.height * b.width for b in boxes if b]) / 1e6
    ratios = np.random.default_rng(0).uniform(3 / 4, 4 / 3, 200_000)
    least = np.sqrt(0.08 / ratios)
    most = np.minimum(1.0, np.minimum(np.sqrt(1 / ratios), 1 / ratios))
    heights = np.random.default_rng(1).uniform(least, most)
    expected = heights**2 * ratios
    expected = expected[expected >= 0.1]
    assert areas.mean() == pytest.approx(expected.mean(), abs=0.01)
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(areas, share) == pytest.approx(np.quantile(expected, share), abs=0.02)


def test_a_view_is_a_function_of_its_seed(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    photo(50, 70).save(path)
    one, same, other = (read_view(path, seed, 16, "imagenet_tf") for seed in (3, 3, 4))
    assert one.dtype == torch.bfloat16
    assert one.shape == (3, 16, 16)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_half_of_the_views_are_flipped() -> None:
    """A ramp from left to right: its slope tells."""
    ramp = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (200, 1, 3))
    views = [tensorflow_view(Image.fromarray(ramp), seed, 8).float() for seed in range(400)]
    flipped = sum(bool(view[0, 0, 0] > view[0, 0, -1]) for view in views)
    assert 150 < flipped < 250

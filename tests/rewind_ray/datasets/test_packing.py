"""Packing and views, against numpy's padding, cropping and flipping of single images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rewind_ray.datasets.catalog import CUT_FROM_FILES
from rewind_ray.datasets.packing import SHIFTS, pack, unpack, views
from rewind_ray.spec import AUGMENTATIONS


def augmented(image: np.ndarray, augmentation: str) -> list[np.ndarray]:
    """Brute force: every crop of the padded image (H, W, C), then every crop mirrored."""
    padding = {"none": 0, "reflect4_flip": 4, "zero4_flip": 4, "zero1": 1}[augmentation]
    mode = "reflect" if augmentation.startswith("reflect") else "constant"
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode=mode)
    height, width, _ = image.shape
    crops = [
        padded[y : y + height, x : x + width]
        for y in range(2 * padding + 1)
        for x in range(2 * padding + 1)
    ]
    return crops + [crop[:, ::-1] for crop in crops] if augmentation.endswith("flip") else crops


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("augmentation", SHIFTS)
def test_every_view_is_a_crop_of_the_padded_image(augmentation: str, channels: int) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(1, 256, (7, 9, channels), dtype=np.uint8)
    expected = np.stack(augmented(image, augmentation))

    packed = pack(torch.from_numpy(image)[None])[0]
    shown = packed[views(augmentation, 7, 9)]

    np.testing.assert_array_equal(unpack(shown, 7, 9, channels).numpy(), expected)


@pytest.mark.parametrize(
    ("augmentation", "count"),
    [("none", 1), ("reflect4_flip", 162), ("zero4_flip", 162), ("zero1", 9)],
)
def test_number_of_views(augmentation: str, count: int) -> None:
    assert views(augmentation, 8, 8).shape == (count, 64)


def test_every_augmentation_of_a_protocol_has_views_or_is_streamed() -> None:
    assert {*SHIFTS, *CUT_FROM_FILES} == set(AUGMENTATIONS)
    assert SHIFTS.keys().isdisjoint(CUT_FROM_FILES)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_packing_loses_nothing_and_ends_in_black(channels: int) -> None:
    images = torch.randint(256, (5, 6, 7, channels), dtype=torch.uint8)
    packed = pack(images)
    assert packed.shape == (5, 6 * 7 + 1)
    assert packed.dtype == torch.int32
    assert not packed[:, -1].any()
    assert torch.equal(unpack(packed[:, :-1], 6, 7, channels), images)


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="5 channels; allowed: 1 to 4"):
        pack(torch.zeros(1, 2, 2, 5, dtype=torch.uint8))
    with pytest.raises(ValueError, match="unknown augmentation 'cutout'; known: none"):
        views("cutout", 8, 8)

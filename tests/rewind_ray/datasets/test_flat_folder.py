"""Folders of classes without parts: a fixed share of each class tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rewind_ray.datasets import load, resolve
from rewind_ray.datasets.class_folders import content_digest, list_folder
from rewind_ray.errors import UserError


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for name, count in (("cat", 10), ("dog", 20)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 255, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def test_a_share_of_each_class_tests(pets: Path) -> None:
    listing = list_folder(pets, 0.2)
    assert listing.classes == ("cat", "dog")
    for part, counts in ((listing.train, (8, 16)), (listing.test, (2, 4))):
        assert tuple(sum(file.label == label for file in part) for label in (0, 1)) == counts
    assert not {file.path for file in listing.train} & {file.path for file in listing.test}
    assert list_folder(pets, 0.2) == listing


def test_a_new_file_moves_few_others(pets: Path) -> None:
    before = {file.path for file in list_folder(pets, 0.2).test}
    Image.new("RGB", (6, 6)).save(pets / "cat" / "new.png")
    assert len(before - {file.path for file in list_folder(pets, 0.2).test}) <= 1


def test_other_shares_are_other_data(pets: Path) -> None:
    digests = {content_digest(list_folder(pets, share)) for share in (0.2, 0.4)}
    assert len(digests) == 2
    sizes = [len(load("folder:pets", str(pets), 6, share).test_images) for share in (0.2, 0.4)]
    assert sizes == [6, 12]


def test_without_a_share_the_way_out_is_said(pets: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"--split 0\.2"):
        resolve(f"folder:{pets}", None, None)
    with pytest.raises(UserError, match=r"--split is 1.5"):
        list_folder(pets, 1.5)


def test_a_share_with_a_test_part_is_refused(pets: Path) -> None:
    for part in ("train", "test"):
        (pets.parent / "parts" / part).mkdir(parents=True)
        (pets.parent / "parts" / part / "cat").symlink_to(pets / "cat")
    with pytest.raises(UserError, match=r"has a part test/"):
        list_folder(pets.parent / "parts", 0.2)
    with pytest.raises(UserError, match=r"digits has a test part"):
        resolve("digits", None, None, split=0.2)

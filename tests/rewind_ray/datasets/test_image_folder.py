"""Folders of images: real files, decoded once, found again, and checked against their content."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rewind_ray.datasets import class_folders, describe, folder, load, resolve
from rewind_ray.datasets.cache import locked, replacing


def read_folder(path: Path, size: int | None = None):
    dataset, data, digest, image_size = resolve(f"folder:{path}", None, size)
    loaded = load(dataset, data, image_size)
    assert loaded.digest == digest
    return loaded


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded since the list was last cleared."""
    paths: list[Path] = []
    original = folder.decode_image

    def counting(path: Path, image_size: int):
        paths.append(path)
        return original(path, image_size)

    monkeypatch.setattr(folder, "decode_image", counting)
    return paths


def test_a_folder_is_what_its_files_show(animals: Path) -> None:
    assert resolve(f"folder:{animals}", None, None)[:2] == ("folder:animals", str(animals))
    loaded = read_folder(animals)
    assert loaded.classes == ("cat", "dog")
    assert loaded.train_labels.tolist() == [0] * 6 + [1] * 6
    assert loaded.test_labels.tolist() == [0] * 3 + [1] * 3
    for part, images in (("train", loaded.train_images), ("test", loaded.test_images)):
        files = [
            file for name in ("cat", "dog") for file in sorted((animals / part / name).iterdir())
        ]
        expected = np.stack([np.asarray(Image.open(file)) for file in files])
        np.testing.assert_array_equal(images.numpy(), expected)

    info = describe("folder:animals", str(animals), None)
    assert (info.num_train, info.num_test, info.num_classes) == (12, 6, 2)
    assert (info.channels, info.image_size) == (3, 8)


def test_the_second_load_decodes_nothing(
    animals: Path, decoded: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first = read_folder(animals)
    assert len(decoded) == 18
    said = capsys.readouterr()
    assert said.out == ""
    assert "decoding 18 images" in said.err
    second = read_folder(animals)
    assert len(decoded) == 18
    assert capsys.readouterr().err == ""
    np.testing.assert_array_equal(second.train_images, first.train_images)


def test_a_touched_file_is_read_again_but_not_decoded(
    animals: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = read_folder(animals).digest
    decoded.clear()
    os.utime(animals / "train/cat/0.png", (1, 1))
    assert read_folder(animals).digest == digest
    assert decoded == []
    # The digest is now remembered with the new listing: no file is read.
    monkeypatch.setattr(class_folders, "_read_and_hash", None)
    assert read_folder(animals).digest == digest


def test_a_changed_pixel_is_another_data_set(animals: Path, decoded: list[Path]) -> None:
    before = read_folder(animals)
    decoded.clear()
    path = animals / "train/dog/2.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    after = read_folder(animals)
    assert after.digest != before.digest
    assert len(decoded) == 18
    np.testing.assert_array_equal(after.train_images[8].numpy(), pixels)


def test_a_renamed_file_is_another_data_set_and_a_moved_folder_is_not(animals: Path) -> None:
    digest = resolve(f"folder:{animals}", None, None)[2]
    moved = animals.rename(animals.parent / "creatures")
    assert resolve(f"folder:{moved}", None, None)[2] == digest
    (moved / "test/cat/0.jpg").rename(moved / "test/cat/9.jpg")
    assert resolve(f"folder:{moved}", None, None)[2] != digest


def test_other_sizes_are_resized_and_cut_to_the_centre(tmp_path: Path) -> None:
    wide = np.random.default_rng(2).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    for part in ("train", "test"):
        (tmp_path / f"wide/{part}/noise").mkdir(parents=True)
        Image.fromarray(wide).save(tmp_path / f"wide/{part}/noise/0.png")
    loaded = read_folder(tmp_path / "wide", 12)
    assert loaded.train_images.shape == (1, 12, 12, 3)
    resized = Image.fromarray(wide).resize((24, 12), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(loaded.train_images[0], resized.crop((6, 0, 18, 12)))

    assert resolve(f"folder:{tmp_path / 'wide'}", None, None)[3] == 20
    np.testing.assert_array_equal(read_folder(tmp_path / "wide").train_images[0], wide[:, 10:30])


def test_grey_and_transparent_images_become_rgb(animals: Path) -> None:
    grey = np.full((8, 8), 90, dtype=np.uint8)
    Image.fromarray(grey).save(animals / "train/cat/grey.gif")
    clear = np.full((8, 8, 4), 50, dtype=np.uint8)
    Image.fromarray(clear).save(animals / "train/cat/half.png")
    images = read_folder(animals).train_images.numpy()  # 0.png .. 5.png, grey.gif, half.png
    assert (images[6] == 90).all()
    assert (images[7] == 50).all()


def test_what_is_no_image_does_not_count(animals: Path) -> None:
    digest = read_folder(animals).digest
    for name in (".hidden.png", "Thumbs.db", "notes.txt", "paper.pdf"):
        (animals / "train/cat" / name).write_bytes(b"no image")
    (animals / ".git").mkdir()
    (animals / "train/.DS_Store").write_bytes(b"")
    (animals / "train/labels.csv").write_bytes(b"")
    assert read_folder(animals).digest == digest


def test_upper_case_suffixes_links_and_subfolders_count(animals: Path) -> None:
    (animals / "train/cat/0.png").rename(animals / "train/cat/0.PNG")
    (animals / "train/cat/more").mkdir()
    (animals / "train/cat/1.png").rename(animals / "train/cat/more/1.png")
    (animals / "train/dog").rename(animals / "dogs")
    (animals / "train/dog").symlink_to(animals / "dogs")
    assert read_folder(animals).train_labels.tolist() == [0] * 6 + [1] * 6


def test_unreadable_images_are_named_and_counted(animals: Path) -> None:
    whole = (animals / "train/cat/0.png").read_bytes()
    for number in range(6):
        (animals / f"train/cat/{number}.png").write_bytes(whole[: len(whole) // 2])
    (animals / "test/dog/1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="7 of 18 images") as caught:
        load("folder:animals", str(animals), 8)
    message = str(caught.value)
    assert "remove or replace them" in message
    assert message.count(".png: ") == 5
    with pytest.raises(ValueError, match="7 of 18 images"):  # and not taken for done afterwards
        load("folder:animals", str(animals), 8)


def test_a_folder_that_changes_while_it_is_read_is_not_kept(
    animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = folder.decode_image

    def meddling(path: Path, image_size: int):
        os.utime(animals / "train/cat/0.png", (1, 1))
        return original(path, image_size)

    monkeypatch.setattr(folder, "decode_image", meddling)
    with pytest.raises(ValueError, match="was changed while it was read"):
        load("folder:animals", str(animals), 8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("mv test other", FileNotFoundError, "no folder test/ in .*expected: train/<class>"),
        ("mkdir test/cow; cp test/cat/* test/cow", ValueError, "test/ that train/ hasn't: cow"),
        ("mkdir train/cow", ValueError, "class folder .*train/cow has no images"),
        ("rm test/dog/*", ValueError, "class folder .*test/dog has no images"),
        ("rm -r train/*", ValueError, "no class folders in .*train"),
        ("cp train/cat/0.png train", ValueError, "outside of the class folders: 0.png"),
    ],
)
def test_a_wrong_layout_is_told(
    animals: Path, change: str, error: type[Exception], message: str
) -> None:
    assert os.system(f"cd {animals} && ({change})") == 0
    with pytest.raises(error, match=message):
        resolve(f"folder:{animals}", None, None)


def test_a_class_may_be_absent_from_the_test_set(animals: Path) -> None:
    for path in (animals / "test/cat").iterdir():
        path.unlink()
    (animals / "test/cat").rmdir()
    loaded = read_folder(animals)
    assert loaded.classes == ("cat", "dog")
    assert loaded.test_labels.tolist() == [1] * 3


def test_a_name_with_data_is_the_folder_there(animals: Path, monkeypatch) -> None:
    by_path = resolve(f"folder:{animals}", None, None)
    assert resolve("folder:animals", str(animals), None) == by_path
    monkeypatch.chdir(animals.parent)
    assert resolve("folder:animals", None, None) == by_path
    assert resolve("folder:animals/", None, None) == by_path


def test_a_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter() -> None:
        nonlocal inside, most
        with locked(tmp_path / "shared"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    threads = [threading.Thread(target=enter) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    with pytest.raises(OSError, match="free some space"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError("No space left on device")
    assert [item.name for item in tmp_path.iterdir() if item.is_file()] == ["kept"]
    assert path.read_text() == "old"

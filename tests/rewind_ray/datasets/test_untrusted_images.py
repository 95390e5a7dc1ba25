"""Folders and caches that somebody else made, or damaged."""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rewind_ray.datasets import folder, load, resolve
from rewind_ray.datasets.class_folders import default_image_size, list_folder
from rewind_ray.datasets.image_file import FORMATS, image_size, read_image
from rewind_ray.datasets.stream import read_view

POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
0 0 8 8 rectfill
showpage
%%EOF
"""


def png_of(width: int, height: int) -> bytes:
    """A valid header, and pixels that were never there: a few bytes for any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if any process is started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    for name in ("Popen", "run", "call", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, name, started)


READERS: dict[str, Callable[[Path], object]] = {
    "decode": lambda path: folder.decode_image(path, 8),
    "view": lambda path: read_view(path, None, 8, "imagenet"),
    "size": image_size,
}


@pytest.mark.parametrize("reader", READERS)
def test_postscript_is_refused_under_the_name_of_an_image(
    tmp_path: Path, reader: str, no_programs: None
) -> None:
    path = tmp_path / "cat.jpg"
    path.write_bytes(POSTSCRIPT)
    with pytest.raises((ValueError, OSError)):
        READERS[reader](path)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8_200, 13_000, 20_000, 60_000])
def test_a_huge_image_is_refused_before_anything_is_allocated(
    tmp_path: Path, reader: str, side: int
) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(png_of(side, side))
    with pytest.raises(Exception, match=r"pixels") as raised:
        READERS[reader](path)
    assert not isinstance(raised.value, MemoryError)


def test_a_large_first_image_does_not_set_the_size_of_all(animals: Path) -> None:
    (animals / "train/cat/0.png").write_bytes(png_of(5000, 5000))
    with pytest.raises(ValueError, match="5000") as raised:
        default_image_size(list_folder(animals))
    assert "--image-size" in str(raised.value)


def test_more_pixels_than_memory_are_refused(animals: Path) -> None:
    with pytest.raises(ValueError, match="--image-size"):
        folder.load_folder(list_folder(animals), 300_000)


@pytest.mark.parametrize("reader", READERS)
def test_a_named_pipe_blocks_nobody(tmp_path: Path, reader: str) -> None:
    os.mkfifo(tmp_path / "cat.png")
    with pytest.raises((ValueError, OSError)):
        READERS[reader](tmp_path / "cat.png")


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/hostname", "elsewhere.png"])
def test_a_link_out_of_the_folder_is_refused(animals: Path, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "elsewhere.png"
    Image.new("RGB", (8, 8)).save(outside)
    (animals / "train/cat/9.png").symlink_to(tmp_path / target)
    with pytest.raises(ValueError, match=r"9\.png"):
        list_folder(animals)


def test_a_class_folder_that_is_elsewhere_is_refused(animals: Path, tmp_path: Path) -> None:
    (animals / "train/cat").rename(tmp_path / "cats")
    (animals / "train/cat").symlink_to(tmp_path / "cats")
    with pytest.raises(ValueError, match="cat"):
        list_folder(animals)


def test_pipes_among_the_images_are_refused(animals: Path) -> None:
    os.mkfifo(animals / "train/cat/9.png")
    with pytest.raises(ValueError, match=r"9\.png"):
        list_folder(animals)


def test_a_link_within_the_folder_is_followed(animals: Path) -> None:
    (animals / "train/cat/9.png").symlink_to(animals / "train/cat/0.png")
    assert len(list_folder(animals).train) == 13


def test_names_of_classes_reach_no_terminal(animals: Path) -> None:
    (animals / "test/\x1b[2Jbird").mkdir()
    with pytest.raises(ValueError) as raised:
        list_folder(animals)
    assert "\x1b" not in str(raised.value) and "bird" in str(raised.value)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_every_listed_format_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"image{FORMATS[kind][0]}"
    Image.new("RGB", (8, 8), (200, 30, 40)).save(path, kind)
    red, green, blue = np.asarray(read_image(path))[4, 4].tolist()
    assert red > 180 and green < 60 and blue < 70


# What was decoded


def decoded_again(animals: Path, damage: Callable[[Path], None], cache: Path) -> bool:
    """Whether damage to the cached training images is noticed, and healed."""
    dataset, data, _, side = resolve(f"folder:{animals}", None, None)
    sound = load(dataset, data, side).train_images.clone()
    (file,) = cache.rglob("train.npy")
    before = file.read_bytes()
    damage(file)
    again = load(dataset, data, side).train_images
    assert again.equal(sound)
    return file.read_bytes() == before


def flip_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-100] ^= 4
    file.write_bytes(data)


def zero_page(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:-512] + bytes(512))


def other_dtype(file: Path) -> None:
    np.save(file, np.load(file).astype(np.float32))


def other_shape(file: Path) -> None:
    np.save(file, np.load(file)[:-1])


def pickled(file: Path) -> None:
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [flip_bit, zero_page, other_dtype, other_shape, pickled, emptied, Path.unlink]
)
def test_damaged_pixels_are_decoded_again(
    animals: Path, cache_home: Path, damage: Callable[[Path], None]
) -> None:
    assert decoded_again(animals, damage, cache_home)


def test_damaged_checksums_are_made_again(animals: Path, cache_home: Path) -> None:
    def damage(file: Path) -> None:
        (file.parent / folder.FACTS).write_text("{}")

    assert decoded_again(animals, damage, cache_home)


def test_pixels_are_on_the_disk_before_they_have_their_name(
    animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("fsync") or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: calls.append(Path(b).name) or replace(a, b))
    dataset, data, _, side = resolve(f"folder:{animals}", None, None)
    load(dataset, data, side)
    for name in ("train.npy", "test.npy", folder.FACTS):
        assert calls[calls.index(name) - 1] == calls[calls.index(name) + 1] == "fsync"

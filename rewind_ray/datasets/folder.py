"""A folder of images as arrays: decoded once, then memory-mapped by every process."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from rewind_ray.datasets.cache import cache_folder, locked, replacing
from rewind_ray.datasets.catalog import ImageData
from rewind_ray.datasets.class_folders import (
    PARTS,
    ImageFile,
    Listing,
    content_digest,
    unchanged,
)
from rewind_ray.datasets.image_file import read_image
from rewind_ray.errors import UserError
from rewind_ray.store.strict_json import seal, unseal
from rewind_ray.text import printable

Pixels = NDArray[np.uint8]

FILES_A_TASK = 64  # enough that handing out tasks costs nothing beside decoding
MAX_THREADS = 16
TINY_FILE_BYTES = 4096
SHOWN_FAILURES = 5
FACTS = "sha256.json"
"""Of the decoded arrays; written last."""


def load_folder(listing: Listing, image_size: int) -> ImageData:
    """The folder's images as (N, image_size, image_size, 3) uint8, in the order of the listing.

    Raises UserError, naming files, if some can't be read.
    """
    _check_memory(listing, image_size)
    digest = content_digest(listing)
    cached = cache_folder("folders") / f"{digest}-{image_size}"
    decoded = _decoded(cached, listing, image_size)
    if decoded is None:
        with locked(cached):  # another process may decode it while this one waits
            decoded = _decoded(cached, listing, image_size)
            if decoded is None:
                _decode_folder(listing, image_size, cached)
                decoded = _decoded(cached, listing, image_size)
    if decoded is None:
        raise OSError(f"what was decoded to {cached} can't be read back; is the disk sound?")
    return ImageData(
        train_images=decoded["train"],
        train_labels=_labels(listing.train),
        test_images=decoded["test"],
        test_labels=_labels(listing.test),
        classes=listing.classes,
        digest=digest,
    )


def decode_image(path: Path, image_size: int) -> Pixels:
    """One image as (image_size, image_size, 3) RGB.

    An image of another size is resized, bilinear with antialiasing, so that its shorter side
    fits, and cut to the centred square. The EXIF orientation is not applied.
    """
    pixels = read_image(path)
    if pixels.size != (image_size, image_size):
        width, height = pixels.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2  # whole: no blur if only cut
        pixels = pixels.resize(
            (image_size, image_size),
            Image.Resampling.BILINEAR,
            box=(left, top, left + side, top + side),
        )
    return np.asarray(pixels)


def _check_memory(listing: Listing, image_size: int) -> None:
    """Raises UserError where the pixels wouldn't fit into this machine."""
    images = len(listing.train) + len(listing.test)
    wanted = images * image_size**2 * 3
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if wanted > there:
        raise UserError(
            f"{images:,} images of {image_size} x {image_size} pixels take {wanted / 1e9:.0f} GB, "
            f"and this machine has {there / 1e9:.0f}; give a smaller --image-size"
        )


def _decoded(cached: Path, listing: Listing, image_size: int) -> dict[str, Tensor] | None:
    """By part, as written; None where there is nothing, or other bytes than those written."""
    try:
        facts = unseal((cached / FACTS).read_bytes())
        return {
            part: _mapped(cached / f"{part}.npy", facts[part], (len(files), image_size))
            for part, files in zip(PARTS, (listing.train, listing.test), strict=True)
        }
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError) as error:
        print(f"{cached} is damaged ({error}); decoding again", file=sys.stderr)
        return None


def _mapped(path: Path, sha256: str, shape: tuple[int, int]) -> Tensor:
    """shape: number of images and their side. Raises ValueError where it isn't what was written."""
    pixels = np.load(path, mmap_mode="c", allow_pickle=False)
    # Copy-on-write: as shared as a read-only map while nobody writes, and torch wants no
    # read-only arrays.
    count, side = shape
    if pixels.dtype != np.uint8 or pixels.shape != (count, side, side, 3):
        raise ValueError(f"{path.name} holds {pixels.dtype} {pixels.shape}")
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError(f"{path.name} has other bytes than were written")
    return torch.from_numpy(pixels)


def _decode_folder(listing: Listing, image_size: int, cached: Path) -> None:
    files = [*listing.train, *listing.test]
    images = np.empty((len(files), image_size, image_size, 3), dtype=np.uint8)
    print(f"decoding {len(files):,} images in {listing.root}, once", file=sys.stderr)
    failures = _decode_into_(images, listing.root, files)
    if failures:
        shown = "\n  ".join(failures[:SHOWN_FAILURES])
        raise UserError(
            f"{len(failures)} of {len(files)} images in {listing.root} can't be read; remove or "
            f"replace them. The first:\n  {shown}"
        )
    if not unchanged(listing):
        raise UserError(f"{listing.root} was changed while it was read; start again")
    for leftover in cached.glob("*.tmp"):  # of a process that was killed
        leftover.unlink()
    num_train = len(listing.train)
    facts = {}
    for part, pixels in zip(PARTS, (images[:num_train], images[num_train:]), strict=True):
        with replacing(cached / f"{part}.npy") as temporary:
            with temporary.open("wb") as stream:
                np.save(stream, pixels)
            with temporary.open("rb") as stream:
                facts[part] = hashlib.file_digest(stream, "sha256").hexdigest()
    with replacing(cached / FACTS) as temporary:
        temporary.write_bytes(seal(facts))
    print(f"decoded, and kept in {cached}", file=sys.stderr)


def _decode_into_(images: Pixels, root: Path, files: list[ImageFile]) -> list[str]:
    """Fill ``images``, in parallel where that pays.

    Returns a line for each file that can't be read.
    """
    image_size = images.shape[1]

    def decode_some(start: int) -> list[str]:
        failures = []
        for position in range(start, min(start + FILES_A_TASK, len(files))):
            path = root / files[position].path
            try:
                images[position] = decode_image(path, image_size)
            except Exception as error:  # Pillow's decoders raise errors of many types
                failures.append(f"{printable(str(path))}: {printable(str(error))}")
        return failures

    console = Console(stderr=True)
    starts = range(0, len(files), FILES_A_TASK)
    with ThreadPoolExecutor(_num_threads(files)) as pool:
        tasks: Iterable[list[str]] = pool.map(decode_some, starts)
        if console.is_terminal:
            tasks = track(tasks, "decoding images", total=len(starts), console=console)
        return [line for failures in tasks for line in failures]


def _num_threads(files: list[ImageFile]) -> int:
    """Pillow lets other threads run while it decodes, but tiny images are mostly Python's work:
    two threads read CIFAR's JPEGs half again as slowly as one, and 256-pixel ones twice as fast.
    """
    mean_bytes = sum(file.size_bytes for file in files) / len(files)
    return 1 if mean_bytes < TINY_FILE_BYTES else min(MAX_THREADS, os.cpu_count() or 1)


def _labels(files: tuple[ImageFile, ...]) -> Tensor:
    return torch.tensor([file.label for file in files], dtype=torch.int64)

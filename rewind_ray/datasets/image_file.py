"""An image file of somebody else's, opened without trusting it.

Its decoder is one of a short list, all of them Pillow's own or well-known libraries': by its other
plug-ins Pillow would start Ghostscript on whatever looks like PostScript. It is measured before
anything is allocated for it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from PIL import Image

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Pillow's name of a format -> suffixes of files that are taken for images. What a file holds may
be another format of these."""
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
PIXELS_LIMIT = 2**26
"""Of an image, 200 MB decoded; ImageNet's largest have some 2**25."""
BYTES_LIMIT = 2**29
"""Of a file."""


def is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def image_size(path: Path) -> tuple[int, int]:
    """Width and height. Raises ValueError or OSError for what is no image, or too large a one."""
    descriptor = _opened(path)
    with open(descriptor, "rb") as file, Image.open(file, formats=tuple(FORMATS)) as image:
        _check_pixels(image)
        return image.size


def read_image(path: Path) -> Image.Image:
    """Decoded, as RGB. The EXIF orientation is not applied. Raises ValueError or OSError, or what
    else Pillow's decoders raise, for what is no image, or too large a one."""
    descriptor = _opened(path)
    with open(descriptor, "rb") as file, Image.open(file, formats=tuple(FORMATS)) as image:
        _check_pixels(image)
        return image.convert("RGB")


def _opened(path: Path) -> int:
    """A descriptor of a regular file; a named pipe would block, a device do anything."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= BYTES_LIMIT:
        return descriptor
    os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    raise ValueError(f"it has {status.st_size:,} bytes; allowed: {BYTES_LIMIT:,}")


def _check_pixels(image: Image.Image) -> None:
    width, height = image.size
    if not 0 < width * height <= PIXELS_LIMIT:
        raise ValueError(
            f"it has {width} x {height} pixels; allowed: {PIXELS_LIMIT:,} in all; make it smaller"
        )

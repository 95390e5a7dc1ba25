"""A folder of images, ``train/<class>/...`` and ``test/<class>/...``: what is in it.

Or without parts, ``<class>/...``, of which a share tests.

Everything here works on names, sizes and bytes; pixels are decoded in ``folder``.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from rewind_ray.datasets.cache import cache_folder, replacing
from rewind_ray.datasets.image_file import image_size, is_image_name
from rewind_ray.errors import MissingFile, UserError
from rewind_ray.store.strict_json import seal, unseal
from rewind_ray.text import printable

PARTS = ("train", "test")
TEST_NAMES = ("test", "val")  # of the folder that tests; ImageNet comes with the second
LAYOUT = (
    "expected: train/<class>/*.jpg and test/<class>/*.jpg, or other image types; or <class>/*.jpg "
    "and --split 0.2, the share that tests"
)
DIGEST_LENGTH = 16  # hex digits
SIDE_LIMIT = 1024  # pixels, of a size that nobody asked for


class ImageFile(NamedTuple):
    path: str
    """Relative to the folder, with forward slashes."""
    label: int
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The images of a folder in a fixed order: by class, then by path."""

    root: Path
    classes: tuple[str, ...]
    """Names of the folders in ``train``, sorted; an image's label is the position here."""
    train: tuple[ImageFile, ...]
    test: tuple[ImageFile, ...]
    split: float = 0.0
    """Share of each class that tests, where the folder has no part of its own for it."""


def list_folder(root: Path, split: float = 0.0) -> Listing:
    """Walk through the folder. Hidden files, and files that no image type is known for, don't
    count; links within the folder are followed, others refused. Where there is no test/, val/ is
    it. split: share of each class's images that tests, of a folder without both.

    Raises MissingFile without the two parts, UserError if the classes don't fit.
    """
    present = [name for name in TEST_NAMES if (root / name).is_dir()]
    if split:
        return _list_whole(root, split, present)
    test_name = present[0] if present else "test"
    for part in ("train", test_name):
        if not (root / part).is_dir():
            raise MissingFile(f"no folder {part}/ in {root}; {LAYOUT}")
    classes = _class_names(root, "train")
    unknown = sorted(set(_class_names(root, test_name)) - set(classes))
    if unknown:
        raise UserError(
            f"classes in {test_name}/ that train/ hasn't: {_some(unknown)} (in {root}); no network "
            "can learn them: remove them, or add training images"
        )
    train, test = (tuple(_list_part(root, part, classes)) for part in ("train", test_name))
    return Listing(root=root, classes=classes, train=train, test=test)


def _list_whole(root: Path, split: float, present: list[str]) -> Listing:
    """Of a folder of classes, or one with train/ alone: a fixed choice of each class tests, by
    digests of the paths, so that a new file changes few others' part."""
    if not 0 < split < 1:
        raise UserError(f"--split is {split:g}; allowed: above 0 and below 1")
    if not root.is_dir():
        raise MissingFile(f"there is no folder {root}")
    has_train = (root / "train").is_dir()
    if present and has_train:
        raise UserError(f"--split {split:g}, and {root} has a part {present[0]}/; leave it out")
    part = "train" if has_train else ""
    classes = _class_names(root, part)
    train: list[ImageFile] = []
    test: list[ImageFile] = []
    files = list(_list_part(root, part, classes))
    for label, name in enumerate(classes):
        own = [file for file in files if file.label == label]
        tests = min(len(own) - 1, max(1, round(split * len(own))))
        if tests < 1:
            raise UserError(f"class {printable(name)} in {root} has one image; --split takes two")
        shuffled = sorted(own, key=lambda file: hashlib.sha256(os.fsencode(file.path)).digest())
        test += sorted(shuffled[:tests])
        train += sorted(shuffled[tests:])
    return Listing(root=root, classes=classes, train=tuple(train), test=tuple(test), split=split)


def default_image_size(listing: Listing) -> int:
    """Shorter side, in pixels, of the first training image. Raises UserError if unreadable."""
    first = listing.root / listing.train[0].path
    try:
        side = min(image_size(first))
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise UserError(
            f"can't read the image {printable(str(first))}: {error}; remove or replace it"
        ) from error
    if side > SIDE_LIMIT:
        raise UserError(
            f"the first image, {printable(str(first))}, is {side} pixels wide or high, and would "
            "set the size of all; give --image-size"
        )
    return side


def content_digest(listing: Listing) -> str:
    """sha256 over sorted paths and file bytes, 16 hex digits.

    The digest is remembered with the listing (paths, sizes, times of change), so the bytes are
    read again only when the listing differs.
    """
    fingerprint = _fingerprint(listing)
    place = hashlib.sha256(os.fsencode(listing.root)).hexdigest()[:DIGEST_LENGTH]
    memory = cache_folder("folders") / "digests" / f"{place}.json"
    if (known := _recall(memory, fingerprint)) is not None:
        return known
    digest = _read_and_hash(listing)
    with replacing(memory) as temporary:
        folder = os.fsencode(listing.root).decode(errors="backslashreplace")
        temporary.write_bytes(seal({"folder": folder, "listing": fingerprint, "digest": digest}))
    return digest


def tree_digest(listing: Listing) -> str:
    """sha256 over sorted paths and file sizes, 16 hex digits: for folders too large to read.

    A file that is replaced by another of the same size goes unnoticed.
    """
    digest = hashlib.sha256(b"paths and sizes\n" + _split_text(listing))
    for file in sorted(chain(listing.train, listing.test)):
        digest.update(os.fsencode(f"{file.path}\0{file.size_bytes}\n"))
    return digest.hexdigest()[:DIGEST_LENGTH]


def unchanged(listing: Listing) -> bool:
    """Whether the folder still is as it was when listed."""
    return list_folder(listing.root, listing.split) == listing


def _class_names(root: Path, part: str) -> tuple[str, ...]:
    """Names of the class folders, sorted. Raises UserError for images outside of them."""
    entries = [item for item in os.scandir(root / part) if not item.name.startswith(".")]
    stray = sorted(item.name for item in entries if item.is_file() and _is_image(item.name))
    if stray:
        raise UserError(
            f"{root / part} has images outside of the class folders: {_some(stray)}; "
            f"move or remove them. {LAYOUT}"
        )
    names = sorted(item.name for item in entries if item.is_dir())
    if not names:
        raise UserError(f"no class folders in {root / part}; {LAYOUT}")
    return tuple(names)


def _list_part(root: Path, part: str, classes: tuple[str, ...]) -> Iterator[ImageFile]:
    for label, name in enumerate(classes):
        folder = root / part / name
        if not folder.is_dir():  # a class may be absent from the test set
            continue
        if folder.is_symlink():
            _check_link(folder, root)
        paths = sorted(_image_paths(folder))
        if not paths:
            raise UserError(f"the class folder {folder} has no images; add some, or remove it")
        for path in paths:
            status = _status(path, root)
            relative = os.path.join(part, name, path[len(str(folder)) + 1 :]).replace(os.sep, "/")
            yield ImageFile(relative, label, status.st_size, status.st_mtime_ns)


def _status(path: str, root: Path) -> os.stat_result:
    """Raises UserError unless it is a file, or a link to one, in the folder."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        _check_link(path, root)
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{printable(path)} is no file; remove it")
    return status


def _check_link(path: str | Path, root: Path) -> None:
    """Raises UserError for a link that leads out of the folder."""
    target = os.path.realpath(path)
    if not target.startswith(os.path.realpath(root) + os.sep):
        raise UserError(
            f"{printable(str(path))} is a link that leaves the folder, to {printable(target)}; put "
            "the files themselves there"
        )


def _image_paths(folder: Path) -> Iterator[str]:
    for parent, subfolders, names in os.walk(folder, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and _is_image(name):
                yield os.path.join(parent, name)


def _raise(error: OSError) -> None:
    raise error


def _is_image(name: str) -> bool:
    return is_image_name(name)


def _split_text(listing: Listing) -> bytes:
    """Which images test is part of what a folder without parts is."""
    return f"split {listing.split!r}\n".encode() if listing.split else b""


def _fingerprint(listing: Listing) -> str:
    digest = hashlib.sha256(_split_text(listing))
    for file in chain(listing.train, listing.test):
        digest.update(os.fsencode(f"{file.path}\0{file.size_bytes}\0{file.mtime_ns}\n"))
    return digest.hexdigest()


def _recall(memory: Path, fingerprint: str) -> str | None:
    try:
        known = unseal(memory.read_bytes())
        return str(known["digest"]) if known["listing"] == fingerprint else None
    except (OSError, ValueError, KeyError):  # absent, or not ours: hash again
        return None


def _read_and_hash(listing: Listing) -> str:
    digest = hashlib.sha256(_split_text(listing))
    for file in sorted(chain(listing.train, listing.test)):
        content = (listing.root / file.path).read_bytes()
        # The length keeps one file's end apart from the next one's start.
        digest.update(os.fsencode(f"{file.path}\0{len(content)}\0"))
        digest.update(content)
    return digest.hexdigest()[:DIGEST_LENGTH]


def _some(names: list[str]) -> str:
    return ", ".join(map(printable, names[:5])) + (
        f" and {len(names) - 5} more" if len(names) > 5 else ""
    )

"""From a data set's name to its pixels. Without torch until pixels are asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rewind_ray.datasets.class_folders import (
    Listing,
    content_digest,
    default_image_size,
    list_folder,
    tree_digest,
)
from rewind_ray.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

FOLDER_PREFIX = "folder:"
FOLDER_CHANNELS = 3  # every image of a folder is converted to RGB
CUT_FROM_FILES = ("imagenet", "imagenet_tf")
"""Augmentations that cut from an image at the size that its file has; see ``stream.VIEWS``."""
STREAMED_IMAGE_SIZE = 224  # of streamed folders where none is asked for; the usual of ImageNet


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """What can be said of a data set without its pixels."""

    num_train: int
    num_test: int
    num_classes: int
    channels: int
    image_size: int
    """Side in pixels; images are square."""
    streamed: bool = False
    """It doesn't fit into memory: a folder that the user has, given by ``--data DIR``, whose files
    are read again in every epoch."""
    classes_vary: bool = False
    """Which classes they are is the user's choice, so ``num_train`` is only about right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageData:
    """A whole data set. A folder's images are memory-mapped, so processes share them."""

    train_images: Tensor
    """(N, H, W, C) uint8."""
    train_labels: Tensor
    """(N,) int64, positions in ``classes``."""
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    digest: str = ""
    """Of a folder's content, as in ``Protocol.data_digest``; empty for named data sets."""


DATASETS = {
    "digits": DatasetInfo(num_train=1347, num_test=450, num_classes=10, channels=1, image_size=8),
    "cifar10": DatasetInfo(
        num_train=50_000, num_test=10_000, num_classes=10, channels=3, image_size=32
    ),
    "cifar100": DatasetInfo(
        num_train=50_000, num_test=10_000, num_classes=100, channels=3, image_size=32
    ),
    "fashion_mnist": DatasetInfo(
        num_train=60_000, num_test=10_000, num_classes=10, channels=1, image_size=28
    ),
    "imagenet": DatasetInfo(
        num_train=1_281_167,
        num_test=50_000,
        num_classes=1000,
        channels=FOLDER_CHANNELS,
        image_size=STREAMED_IMAGE_SIZE,
        streamed=True,
    ),
    "imagenet100": DatasetInfo(
        num_train=126_689,  # of the classes that Tian et al. 2020 chose
        num_test=5_000,
        num_classes=100,
        channels=FOLDER_CHANNELS,
        image_size=STREAMED_IMAGE_SIZE,
        streamed=True,
        classes_vary=True,
    ),
}


def resolve(
    text: str,
    data: str | None,
    image_size: int | None,
    augmentation: str = "none",
    split: float = 0.0,
) -> tuple[str, str | None, str, int | None]:
    """What the user wrote -> (dataset, data path, data_digest, image_size) for specs and workers.

    text: a name in ``DATASETS``, or ``folder:PATH``, or ``folder:NAME`` with ``data`` the path
    of the folder called NAME. For a folder, ``image_size`` None becomes the shorter side of its
    first training image. Paths come back absolute, because Ray's actors change their working
    directory. Raises UserError for an unknown name or a size that can't be had.

    augmentation: the protocol's. The digest of a folder that is streamed with it is over paths and
    file sizes, since reading all bytes would take hours, and its default size is 224. split: see
    ``class_folders.list_folder``.
    """
    if not text.startswith(FOLDER_PREFIX):
        _check_no_split(text, split)
        info = _named_info(text, image_size)
        if not info.streamed:
            return text, str(_absolute(data)) if data else None, "", None
        return text, str(_folder_path(text, data)), "", info.image_size
    place = text.removeprefix(FOLDER_PREFIX)
    if not place:
        raise UserError("folder: needs a path after it, as in folder:/data/flowers")
    if data is not None and _absolute(data).name == place:
        place = data
    folder = _absolute(place)
    listing = list_folder(folder, split)
    if is_streamed(text, augmentation):
        size = STREAMED_IMAGE_SIZE if image_size is None else _checked_size(image_size)
        return FOLDER_PREFIX + folder.name, str(folder), tree_digest(listing), size
    size = default_image_size(listing) if image_size is None else _checked_size(image_size)
    return FOLDER_PREFIX + folder.name, str(folder), content_digest(listing), size


def is_streamed(dataset: str, augmentation: str) -> bool:
    """Whether the images are read from their files in every epoch, by worker processes.

    Of the large data sets they are, and of folders where the augmentation needs the files' own
    sizes; the others are decoded once. Raises ValueError if the two don't go together.
    """
    of_files = augmentation in CUT_FROM_FILES
    if dataset.startswith(FOLDER_PREFIX):
        return of_files
    streamed = _named_info(dataset, None).streamed
    if streamed and not of_files:
        raise UserError(
            f"{dataset} doesn't fit into memory, and augmentation {augmentation!r} needs it there; "
            f"take one that reads its files: {', '.join(CUT_FROM_FILES)}"
        )
    if of_files and not streamed:
        folders = ", ".join(name for name, known in DATASETS.items() if known.streamed)
        raise UserError(
            f"augmentation {augmentation!r} reads folders of images, and {dataset} is none; take "
            f"another augmentation, or one of {folders}, folder:PATH"
        )
    return streamed


def describe(
    dataset: str, data: str | None, image_size: int | None, split: float = 0.0
) -> DatasetInfo:
    """Sizes of a data set; a folder is listed, and no pixels are loaded.

    dataset: a name in ``DATASETS``, or ``folder:NAME`` with ``data`` the folder's path. The sizes
    of a named one are known without its files.
    """
    if not dataset.startswith(FOLDER_PREFIX):
        _check_no_split(dataset, split)
        return _named_info(dataset, image_size)
    listing = list_folder(_folder_path(dataset, data), split)
    size = default_image_size(listing) if image_size is None else _checked_size(image_size)
    return DatasetInfo(
        num_train=len(listing.train),
        num_test=len(listing.test),
        num_classes=len(listing.classes),
        channels=FOLDER_CHANNELS,
        image_size=size,
    )


def load(dataset: str, data: str | None, image_size: int | None, split: float = 0.0) -> ImageData:
    """The pixels and labels of a data set, downloaded or decoded where that is still to be done.

    dataset: a name in ``DATASETS``, or ``folder:NAME`` with ``data`` the folder's path.
    Raises MissingFile where files are missing and can't be downloaded.
    """
    if dataset.startswith(FOLDER_PREFIX):
        from rewind_ray.datasets.folder import load_folder

        listing = list_folder(_folder_path(dataset, data), split)
        size = default_image_size(listing) if image_size is None else _checked_size(image_size)
        return load_folder(listing, size)

    info = _named_info(dataset, image_size)
    if info.streamed:
        raise UserError(
            f"{dataset} doesn't fit into memory; it is read from its files, see list_streamed"
        )
    if dataset == "digits":
        from rewind_ray.datasets.digits import load_digits

        loaded = load_digits()
    else:
        from rewind_ray.datasets.torchvision_sets import load_torchvision

        loaded = load_torchvision(dataset, data)
    _check_complete(dataset, loaded, info)
    return loaded


def list_streamed(dataset: str, data: str | None, split: float = 0.0) -> Listing:
    """The files of a folder, or of a named data set that is one, not yet read.

    Raises UserError if ``dataset`` is no folder, or if files are missing.
    """
    if dataset.startswith(FOLDER_PREFIX):
        return list_folder(_folder_path(dataset, data), split)
    info = _named_info(dataset, None)
    if not info.streamed:
        raise UserError(f"{dataset} is no folder of images; load it into memory, see load")
    listing = list_folder(_folder_path(dataset, data))
    found = (len(listing.train), len(listing.test), len(listing.classes))
    expected = (info.num_train, info.num_test, info.num_classes)
    if found[info.classes_vary :] != expected[info.classes_vary :]:
        raise UserError(
            f"{listing.root} has (training images, test images, classes) {found}, and {dataset} "
            f"has {expected}; complete it, or call it folder:{listing.root}"
        )
    return listing


def _check_no_split(dataset: str, split: float) -> None:
    if split:
        raise UserError(f"--split {split:g}, and {dataset} has a test part; leave it out")


def _named_info(dataset: str, image_size: int | None) -> DatasetInfo:
    if dataset not in DATASETS:
        raise UserError(
            f"unknown dataset {dataset!r}; known: {', '.join(DATASETS)}, folder:PATH for a "
            "folder of images, or package.module:function for data of your own"
        )
    info = DATASETS[dataset]
    if info.streamed:
        size = info.image_size if image_size is None else _checked_size(image_size)
        return replace(info, image_size=size)
    if image_size is not None:
        raise UserError(
            f"image_size is {image_size}, but {dataset} has images of "
            f"{info.image_size} pixels; only folders are resized: leave it out"
        )
    return info


def _checked_size(image_size: int) -> int:
    if image_size < 1:
        raise UserError(f"image_size is {image_size}; allowed: 1 pixel and more")
    return image_size


def _folder_path(dataset: str, data: str | None) -> Path:
    if data is None:
        raise UserError(
            f"{dataset} is a folder of images, train/<class>/ and test/<class>/ (or val/); say "
            "where it is: --data DIR"
        )
    return _absolute(data)


def _absolute(path: str) -> Path:
    """Links are kept, because a folder's name is the one its user gave it."""
    return Path(os.path.abspath(Path(path).expanduser()))


def _check_complete(dataset: str, loaded: ImageData, info: DatasetInfo) -> None:
    """What ``describe`` promised must be what training gets."""
    found = (len(loaded.train_images), len(loaded.test_images), len(loaded.classes))
    expected = (info.num_train, info.num_test, info.num_classes)
    if found != expected:
        raise UserError(
            f"{dataset} as stored has (training images, test images, classes) {found}, and "
            f"should have {expected}; remove its files, and they are downloaded again"
        )

"""Images read from their files again in every epoch: for folders that don't fit into memory.

Batches are a pure function of (data, seed, epoch) here too. Every place of an epoch seeds the
augmentation of its image anew, so it doesn't matter which process reads it, or how many do.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rewind_ray.datasets.batches import Batch, plan_epoch, standardised_each
from rewind_ray.datasets.cache import cache_folder, locked, replacing
from rewind_ray.datasets.class_folders import DIGEST_LENGTH, ImageFile, Listing, tree_digest
from rewind_ray.datasets.image_file import read_image
from rewind_ray.datasets.image_set import (
    check_digest,
    imagenet_moments,
    moments,
    steps_per_epoch,
    value_counts,
)
from rewind_ray.datasets.split import split_indices, subset_indices
from rewind_ray.datasets.tensorflow_view import tensorflow_view
from rewind_ray.errors import UserError
from rewind_ray.spec import Protocol
from rewind_ray.store.strict_json import seal, unseal
from rewind_ray.text import printable

RESIZE_RATIO = 256 / 224  # shorter side before the centre crop / crop; PyTorch's example
STATISTICS_IMAGES = 10_000  # enough for mean and deviation to four digits
EVALUATION_BATCH_SIZE = 256  # changes no result, only memory and time
CHUNK_IMAGES = 32  # read by one process at a time: 5 MB of shared memory at 224 pixels
CHUNKS_AHEAD = 4  # of every process
MAX_WORKERS = 32


class View(NamedTuple):
    """An image file as it is to be shown."""

    path: str
    """Relative to the folder."""
    crop_seed: int | None
    """Of the random crop and flip; None: the centre, for evaluation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePart:
    paths: tuple[str, ...]
    """Relative to the folder."""
    labels: Tensor
    """(N,) int64, on the CPU."""

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StreamSet:
    """What ``image_set.ImageSet`` is for data in memory."""

    reader: Reader
    train: FilePart
    test: FilePart
    val: FilePart | None
    """None where the protocol has no validation."""
    mean: Tensor
    """(C, 1, 1) float32, on the scale 0..255, on the device."""
    inv_std: Tensor
    """(C, 1, 1) float32, 1 / standard deviation."""
    standardisation: str
    num_classes: int
    batch_size: int
    steps_per_epoch: int
    whole_pass: bool
    """An epoch is a pass; see ``batches.plan_epoch``."""
    device: torch.device


def prepare(
    protocol: Protocol,
    listing: Listing,
    image_size: int,
    device: torch.device,
    num_workers: int | None = None,
) -> StreamSet:
    """num_workers: see ``Reader``. Raises UserError if the folder isn't the protocol's, or is too
    small for it."""
    if protocol.data_digest:  # named data sets have none
        check_digest(protocol, tree_digest(listing))
    split = split_indices(protocol, len(listing.train), len(listing.test))
    val_files = listing.train if protocol.validation == "train" else listing.test
    train = _part(listing.train, split.train)
    mean, std = torch.zeros(3), torch.ones(3)
    if protocol.standardisation == "dataset":
        mean, std = statistics(listing, train, image_size, protocol.augmentation)
    elif protocol.standardisation == "imagenet":
        mean, std = imagenet_moments(len(mean))
    return StreamSet(
        reader=Reader(listing.root, image_size, protocol.augmentation, device, num_workers),
        train=train,
        test=_part(listing.test, split.test),
        val=None if split.val is None else _part(val_files, split.val),
        mean=mean.view(-1, 1, 1).to(device),
        inv_std=(1 / std).view(-1, 1, 1).to(device),
        standardisation=protocol.standardisation,
        num_classes=len(listing.classes),
        batch_size=protocol.batch_size,
        steps_per_epoch=steps_per_epoch(protocol, len(train)),
        whole_pass=protocol.steps_per_epoch is None,
        device=device,
    )


def epoch_batches(data: StreamSet, seed: int, epoch: int) -> Iterator[Batch]:
    """The training batches of one epoch, augmented; ``data.steps_per_epoch`` of them."""
    size, steps = data.batch_size, data.steps_per_epoch
    order = plan_epoch(
        seed=seed,
        epoch=epoch,
        num_train=len(data.train),
        batch_size=size,
        steps=steps,
        num_views=1,
        whole_pass=data.whole_pass,
    ).order
    views = (
        View(data.train.paths[image], crop_seed(seed, epoch, place))
        for place, image in enumerate(order.tolist())
    )
    sizes = [size] * steps
    batches = data.reader.read(views, sizes)
    for images, chosen in zip(batches, torch.split(order, sizes), strict=True):
        yield _standardised(images, data), data.train.labels[chosen].to(data.device)


def evaluation_batches(
    data: StreamSet, part: str, batch_size: int = EVALUATION_BATCH_SIZE
) -> Iterator[Batch]:
    """All images of a part in order, their centres; the last batch may be smaller.

    part: "train", "val" or "test". Raises ValueError if there is no such part.
    """
    parts = {"train": data.train, "val": data.val, "test": data.test}
    chosen = parts.get(part)
    if chosen is None:
        known = ", ".join(name for name, content in parts.items() if content is not None)
        raise ValueError(f"there is no part {part!r} in this data; it has: {known}")
    labels = torch.split(chosen.labels, batch_size)
    views = (View(path, None) for path in chosen.paths)
    batches = data.reader.read(views, [len(batch) for batch in labels])
    for images, batch_labels in zip(batches, labels, strict=True):
        yield _standardised(images, data), batch_labels.to(data.device)


def crop_seed(seed: int, epoch: int, place: int) -> int:
    """Of the augmentation of the image at a place of an epoch's order."""
    digest = hashlib.sha256(f"place {place} of epoch {epoch} of seed {seed}".encode()).digest()
    return int.from_bytes(digest[:7])


def _standardised(images: Tensor, data: StreamSet) -> Tensor:
    """(B, 3, H, W), 0..255 -> float32, channels last."""
    pixels = images.to(memory_format=torch.channels_last).float()
    if data.standardisation == "image":
        return standardised_each(pixels)
    return pixels.sub_(data.mean).mul_(data.inv_std)


def _part(files: Sequence[ImageFile], positions: Tensor) -> FilePart:
    chosen = [files[position] for position in positions.tolist()]
    return FilePart(
        paths=tuple(file.path for file in chosen),
        labels=torch.tensor([file.label for file in chosen], dtype=torch.int64),
    )


# Reading


class Reader:
    """Reads views of a folder's images, in order, by processes that stay alive between epochs.

    The processes are started by ``spawn``. A fork would copy locks that threads of Ray and CUDA
    hold, and ``forkserver``'s outlive a killed trial, because they watch the server instead of it.
    """

    def __init__(
        self,
        root: Path,
        image_size: int,
        augmentation: str,
        device: torch.device,
        num_workers: int | None = None,
    ) -> None:
        """augmentation: key of VIEWS. num_workers: processes that read; 0: this one reads; None:
        ``default_workers``, asked when reading begins. It changes no result."""
        self._files = ViewFiles(root, image_size, augmentation)
        self._device = device
        self._num_workers = num_workers
        self._loader: DataLoader[Tensor] | None = None
        self._chunks = Chunks()
        self._passes = 0

    def read(self, views: Iterable[View], batch_sizes: Sequence[int]) -> Iterator[Tensor]:
        """Batches (B, 3, H, W), 0..255, on the device, of the view's type.

        One pass at a time: another one ends it. Raises UserError, naming the file, for an image
        that can't be read.
        """
        if self._loader is None:
            self._loader = self._start()
        self._passes += 1
        this_pass = self._passes
        self._chunks.fill(views, batch_sizes)
        chunks = iter(self._loader)
        for size in batch_sizes:
            read: list[Tensor] = []
            while sum(map(len, read)) < size:
                if self._passes != this_pass:
                    raise RuntimeError("another pass through the images began; finish one first")
                read.append(next(chunks).to(self._device, non_blocking=True))
            yield torch.cat(read)

    def _start(self) -> DataLoader[Tensor]:
        workers = self._num_workers
        if workers is None:
            workers = default_workers(self._device)
        of_processes: dict[str, Any] = {}
        if workers:
            of_processes = {
                "multiprocessing_context": "spawn",
                "persistent_workers": True,
                "prefetch_factor": CHUNKS_AHEAD,
            }
        return DataLoader(
            self._files,
            batch_sampler=self._chunks,
            num_workers=workers,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # or it would draw from the global one
            **of_processes,
        )


def default_workers(device: torch.device) -> int:
    """As many as PyTorch has threads here, which is what the stage was given CPUs for; one less
    where the network itself is trained on them."""
    threads = torch.get_num_threads() - (device.type == "cpu")
    return min(threads, len(os.sched_getaffinity(0)), MAX_WORKERS)


class Chunks:
    """The views of the current pass in pieces, none across the border of a batch."""

    def __init__(self) -> None:
        self._views: Iterator[View] = iter(())
        self._batch_sizes: Sequence[int] = ()

    def fill(self, views: Iterable[View], batch_sizes: Sequence[int]) -> None:
        self._views, self._batch_sizes = iter(views), batch_sizes

    def __iter__(self) -> Iterator[list[View]]:
        views = self._views
        for size in self._batch_sizes:
            for start in range(0, size, CHUNK_IMAGES):
                yield [next(views) for _ in range(min(CHUNK_IMAGES, size - start))]


class ViewFiles(Dataset[Tensor]):
    """What a reading process has: the place of the files, and how they are shown."""

    def __init__(self, root: Path, image_size: int, augmentation: str) -> None:
        self._root = root
        self._image_size = image_size
        self._augmentation = augmentation

    def __getitem__(self, view: View) -> Tensor:
        path = self._root / view.path
        return read_view(path, view.crop_seed, self._image_size, self._augmentation)


def read_view(path: Path, seed: int | None, image_size: int, augmentation: str) -> Tensor:
    """(3, image_size, image_size), RGB, 0..255; the rest: see the functions of VIEWS.

    The EXIF orientation is not applied. Raises UserError for an image that can't be read.
    """
    try:
        whole = read_image(path)
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise UserError(
            f"can't read the image {printable(str(path))}: {error}; remove or replace it"
        ) from error
    return VIEWS[augmentation](whole, seed, image_size)


def torchvision_view(whole: Image.Image, seed: int | None, image_size: int) -> Tensor:
    """(3, image_size, image_size) uint8.

    With a seed: a crop of 8 to 100% of the area, its sides 3:4 to 4:3, resized, and flipped or
    not. Without: resized by its shorter side, and cut to the centre. Bilinear, antialiased.
    """
    from torchvision.transforms import v2  # slow to import

    if seed is None:
        shorter_side = round(image_size * RESIZE_RATIO)
        steps = [v2.Resize(shorter_side), v2.CenterCrop(image_size)]
        shown = v2.Compose(steps)(whole)
    else:
        augment = v2.Compose([v2.RandomResizedCrop(image_size), v2.RandomHorizontalFlip()])
        # torchvision draws from the global generator, which is others' too.
        generator = torch.default_generator
        before = generator.get_state()
        generator.manual_seed(seed)
        shown = augment(whole)
        generator.set_state(before)
    pixels: Tensor = v2.functional.pil_to_tensor(shown)
    return pixels


VIEWS: dict[str, Callable[[Image.Image, int | None, int], Tensor]] = {
    "imagenet": torchvision_view,
    "imagenet_tf": tensorflow_view,
}
"""How an image is shown: one for each of ``catalog.CUT_FROM_FILES``."""


# Mean and deviation


def statistics(
    listing: Listing, train: FilePart, image_size: int, augmentation: str
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (3,) float32, 0..255.

    Over the centres of at most 10,000 training images, a fixed random choice. Kept in the cache
    under the folder's digest, so they are measured once.
    """
    count = min(STATISTICS_IMAGES, len(train))
    chosen = subset_indices(len(train), count, "statistics")
    paths = [train.paths[position] for position in chosen.tolist()]
    sample = hashlib.sha256(os.fsencode("\n".join(paths))).hexdigest()[:DIGEST_LENGTH]
    place = cache_folder("folders") / f"{tree_digest(listing)}-{image_size}-{augmentation}"
    kept = place / f"values-{sample}.json"
    with locked(place):
        counts = _kept_counts(kept)
        if counts is None:
            counts = _count_values(listing.root, paths, image_size, augmentation)
            with replacing(kept) as temporary:
                temporary.write_bytes(seal({"counts": counts.tolist()}))
    return moments(counts)


def _kept_counts(kept: Path) -> Tensor | None:
    """None where there is nothing, or something else than was written."""
    try:
        counts = torch.tensor(unseal(kept.read_bytes())["counts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return counts if counts.shape == (3, 256) and counts.dtype == torch.int64 else None


def _count_values(root: Path, paths: list[str], image_size: int, augmentation: str) -> Tensor:
    """(3, 256) int64, exact, so in whatever order they are added. Of values between whole levels
    the nearest counts."""
    print(f"measuring {len(paths):,} images in {root}, once", file=sys.stderr)
    read = partial(read_view, seed=None, image_size=image_size, augmentation=augmentation)
    counts = torch.zeros(3, 256, dtype=torch.int64)
    with ThreadPoolExecutor(min(MAX_WORKERS, len(os.sched_getaffinity(0)))) as pool:
        for start in range(0, len(paths), CHUNK_IMAGES):
            files = [root / path for path in paths[start : start + CHUNK_IMAGES]]
            for pixels in pool.map(read, files):
                levels = pixels.float().round().clamp(0, 255).to(torch.uint8)
                counts += value_counts(levels.permute(1, 2, 0))
    return counts

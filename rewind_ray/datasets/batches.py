"""Batches of an epoch, as a pure function of (data, seed, epoch): the hot path of training.

To rewind to epoch k is to call with k. No image is touched by Python on its own: a batch is two
row lookups, one gather and the standardisation, on whichever device the data is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rewind_ray.datasets.draws import pass_order, random_state
from rewind_ray.datasets.image_set import ImageSet, Part
from rewind_ray.datasets.packing import unpack

EVALUATION_BATCH_SIZE = 500  # changes no result, only memory and time

Batch = tuple[Tensor, Tensor]
"""Images (B, C, H, W) float32, standardised, in channels_last memory; labels (B,) int64."""


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """Which image each place of each batch holds, and in which view. On the CPU."""

    order: Tensor
    """(steps * batch_size,) int64, positions in the training set."""
    choices: Tensor
    """(steps * batch_size,) int64, rows of ``ImageSet.views``."""


def plan_epoch(
    seed: int,
    epoch: int,
    num_train: int,
    batch_size: int,
    steps: int,
    num_views: int,
    whole_pass: bool,
) -> EpochPlan:
    """A pure function of its arguments; what it costs doesn't grow with ``epoch``.

    whole_pass: an epoch is one pass through the training set, less the incomplete last batch.
    If not, it is a number of updates, and passes follow each other without a break: an epoch
    begins where the one before it ended in its pass, and may be part of a pass or many. Every
    pass has an order of its own, in which every image occurs once.
    """
    length = steps * batch_size
    of_each_pass = length if whole_pass else num_train
    start = epoch * length
    first, last = start // of_each_pass, (start + length - 1) // of_each_pass
    orders = [pass_order(seed, number, num_train) for number in range(first, last + 1)]
    places = np.concatenate([order[:of_each_pass] for order in orders])
    skipped = start - first * of_each_pass
    choices = random_state(f"epoch {epoch} of seed {seed}").randint(
        num_views, size=length, dtype=np.int64
    )
    return EpochPlan(
        order=torch.from_numpy(places[skipped : skipped + length]),
        choices=torch.from_numpy(choices),
    )


def epoch_batches(data: ImageSet, seed: int, epoch: int) -> Iterator[Batch]:
    """The training batches of one epoch, augmented; ``data.steps_per_epoch`` of them."""
    for rows in zip(*epoch_table(data, seed, epoch), strict=True):
        yield batch_at(data, *rows)


def epoch_table(data: ImageSet, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """What an epoch's batches show: (steps, B) int64 positions in the training set, and (steps, B)
    int64 rows of ``data.views``. On the data's device."""
    plan = plan_epoch(
        seed=seed,
        epoch=epoch,
        num_train=len(data.train),
        batch_size=data.batch_size,
        steps=data.steps_per_epoch,
        num_views=len(data.views),
        whole_pass=data.whole_pass,
    )
    shape = (-1, data.batch_size)
    return plan.order.to(data.device).view(shape), plan.choices.to(data.device).view(shape)


def batch_at(data: ImageSet, images: Tensor, view: Tensor) -> Batch:
    """The batch of a row of ``epoch_table``, (B,) and (B,)."""
    whole = data.train.pixels.index_select(0, images)  # (B, H*W + 1)
    shown = whole.gather(1, data.views.index_select(0, view))  # (B, H*W)
    return _standardised(shown, data), data.train.labels.index_select(0, images)


def evaluation_batches(
    data: ImageSet, part: str, batch_size: int = EVALUATION_BATCH_SIZE
) -> Iterator[Batch]:
    """All images of a part in order, as they are; the last batch may be smaller.

    part: "train", "val" or "test". Raises ValueError if there is no such part.
    """
    chosen = _part_named(data, part)
    for start in range(0, len(chosen), batch_size):
        images = slice(start, start + batch_size)
        yield _standardised(chosen.pixels[images, :-1], data), chosen.labels[images]


def _standardised(pixels: Tensor, data: ImageSet) -> Tensor:
    """(B, H*W) int32 -> (B, C, H, W) float32. Black padding is black before, as in Renda's code."""
    images = unpack(pixels, data.height, data.width, data.channels).float()
    if data.standardisation == "image":
        return standardised_each(images).permute(0, 3, 1, 2)
    return images.sub_(data.mean).mul_(data.inv_std).permute(0, 3, 1, 2)


def standardised_each(images: Tensor) -> Tensor:
    """(B, ...) float32, 0..255: every image by the mean and deviation of all its values, padding
    and channels together, as ``tf.image.per_image_standardization`` does."""
    values = tuple(range(1, images.dim()))
    std, mean = torch.std_mean(images, dim=values, correction=0, keepdim=True)
    least = images[0].numel() ** -0.5  # TensorFlow's, for images of one colour
    return (images - mean) / std.clamp_(min=least)


def _part_named(data: ImageSet, part: str) -> Part:
    parts = {"train": data.train, "val": data.val, "test": data.test}
    chosen = parts.get(part)
    if chosen is None:
        known = ", ".join(name for name, content in parts.items() if content is not None)
        raise ValueError(f"there is no part {part!r} in this data; it has: {known}")
    return chosen

"""A data set as training needs it: split, packed, measured, on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rewind_ray.datasets.catalog import ImageData
from rewind_ray.datasets.packing import pack, views
from rewind_ray.datasets.split import split_indices
from rewind_ray.errors import UserError
from rewind_ray.spec import Protocol

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
"""Of the channels of ImageNet; resnet_main.py of Renda et al. 2020's TPU code, as most others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    pixels: Tensor
    """(N, H*W + 1) int32, see ``packing.pack``."""
    labels: Tensor
    """(N,) int64."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSet:
    """Everything ``batches`` reads. All tensors are on one device."""

    train: Part
    test: Part
    val: Part | None
    """None where the protocol has no validation."""
    mean: Tensor
    """(C,) float32, of the training part (or ImageNet's constants), on the scale 0..255."""
    inv_std: Tensor
    """(C,) float32, 1 / standard deviation of the same."""
    views: Tensor
    """(V, H*W) int64, see ``packing.views``."""
    height: int
    width: int
    channels: int
    num_classes: int
    batch_size: int
    steps_per_epoch: int
    whole_pass: bool
    """An epoch is a pass; see ``batches.plan_epoch``."""
    standardisation: str = "dataset"
    """One of ``rewind_ray.spec.STANDARDISATIONS``; for ``image``, mean and deviation go unused."""

    @property
    def device(self) -> torch.device:
        return self.train.pixels.device


def prepare(protocol: Protocol, data: ImageData, device: torch.device | str) -> ImageSet:
    """Raises UserError if the data isn't the protocol's, or is too little for it."""
    check_digest(protocol, data.digest)
    split = split_indices(protocol, len(data.train_images), len(data.test_images))
    val_images, val_labels = (
        (data.train_images, data.train_labels)
        if protocol.validation == "train"
        else (data.test_images, data.test_labels)
    )
    _, height, width, channels = data.train_images.shape
    train_images = data.train_images[split.train]
    mean, std = mean_and_std(train_images)
    if protocol.standardisation == "imagenet":
        mean, std = imagenet_moments(train_images.shape[-1])
    return ImageSet(
        train=_part(train_images, data.train_labels[split.train], device),
        test=_part(data.test_images[split.test], data.test_labels[split.test], device),
        val=None
        if split.val is None
        else _part(val_images[split.val], val_labels[split.val], device),
        mean=mean.to(device),
        inv_std=(1 / std).to(device),
        views=views(protocol.augmentation, height, width).to(device),
        height=height,
        width=width,
        channels=channels,
        num_classes=len(data.classes),
        batch_size=protocol.batch_size,
        steps_per_epoch=steps_per_epoch(protocol, len(split.train)),
        whole_pass=protocol.steps_per_epoch is None,
        standardisation=protocol.standardisation,
    )


def check_digest(protocol: Protocol, digest: str) -> None:
    """Raises UserError if a folder of this digest isn't the protocol's data."""
    if protocol.data_digest != digest:
        raise UserError(
            f"{protocol.dataset} has the content {digest or '(none)'}, but the stage was "
            f"made for {protocol.data_digest or '(none)'}: the folder was changed, or is another "
            "one; put the old content back, or start the sweep anew"
        )


def steps_per_epoch(protocol: Protocol, num_train: int) -> int:
    """Updates an epoch: the protocol's number, or a full pass without the incomplete last batch.

    num_train: images that train, the validation part left out.
    """
    if protocol.batch_size > num_train:
        raise UserError(
            f"batch_size {protocol.batch_size} is more than the {num_train} training images; "
            "make it smaller, or train on more"
        )
    return protocol.steps_per_epoch or num_train // protocol.batch_size


def mean_and_std(images: Tensor) -> tuple[Tensor, Tensor]:
    """(N, H, W, C) uint8 -> mean and standard deviation of each channel, (C,) float32, 0..255.

    From exact counts of the 256 values, so the same on any machine and number of threads.
    A channel that never varies gets the deviation 1, and becomes all zero.
    """
    return moments(value_counts(images))


def imagenet_moments(channels: int) -> tuple[Tensor, Tensor]:
    """ImageNet's constants, as ``mean_and_std`` has them. Raises UserError but for 3 channels."""
    if channels != len(IMAGENET_MEAN):
        raise UserError(
            f"standardisation 'imagenet' is for 3 channels, and the images have {channels}; "
            "choose 'dataset' or 'image'"
        )
    return torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)


def value_counts(images: Tensor) -> Tensor:
    """(N, H, W, C) uint8 -> (C, 256) int64: how often each channel has each value."""
    return torch.stack(
        [torch.bincount(channel.reshape(-1), minlength=256) for channel in images.unbind(-1)]
    )


def moments(counts: Tensor) -> tuple[Tensor, Tensor]:
    """(C, 256) counts of the values -> mean and standard deviation, as ``mean_and_std`` has it."""
    values = torch.arange(256, dtype=torch.float64)
    counts = counts.double()
    num_pixels = counts.sum(1)
    mean = counts @ values / num_pixels
    variance = (counts * (values - mean[:, None]).square()).sum(1) / num_pixels
    std = torch.where(variance > 0, variance.sqrt(), 1.0)
    return mean.float(), std.float()


def _part(images: Tensor, labels: Tensor, device: torch.device | str) -> Part:
    return Part(pixels=pack(images).to(device), labels=labels.to(device))

"""Image classification: the data of a protocol, ready on a device, and its networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.datasets import DatasetInfo, batches, describe, image_set, load, stream
from rewind_ray.datasets.batches import Batch
from rewind_ray.datasets.catalog import FOLDER_CHANNELS, STREAMED_IMAGE_SIZE, list_streamed
from rewind_ray.datasets.image_set import ImageSet
from rewind_ray.datasets.stream import StreamSet
from rewind_ray.models import build_network, initialise_
from rewind_ray.spec import STREAMED, Protocol
from rewind_ray.training.epoch import evaluate

NAME = "image_classification"
METRIC = "accuracy"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageTask:
    protocol: Protocol
    images: ImageSet | StreamSet
    """In memory, or read from files in every epoch."""
    info: DatasetInfo
    classes: tuple[str, ...]
    """Names, in the order of the logits."""
    device: torch.device

    @property
    def steps_per_epoch(self) -> int:
        return self.images.steps_per_epoch

    def example(self) -> tuple[Tensor, ...]:
        """The input of one forward pass on one image."""
        return tuple(part.to(self.device) for part in example(self.info))

    def network(self, seed: int) -> nn.Module:
        """Fresh, on the device, channels last."""
        network = empty_network(self.protocol, self.info)
        initialise_(network, seed, self.protocol.initial_weights)
        return network.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def meta_network(self) -> nn.Module:
        """Its shapes, without memory for its weights."""
        return meta_network(self.protocol, self.info)

    def followers(self) -> dict[str, list[str]]:
        """Convolutions and the BatchNorms that lose a channel with their filters."""
        return _followers(self.protocol, self.info)

    def batches(self, data_seed: int, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch: a pure function of the arguments."""
        if isinstance(self.images, StreamSet):
            return stream.epoch_batches(self.images, data_seed, epoch)
        return batches.epoch_batches(self.images, data_seed, epoch)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy of the batch, label smoothing included."""
        images, labels = batch
        return F.cross_entropy(
            network(images), labels, label_smoothing=self.protocol.label_smoothing
        )

    def accuracy(self, network: nn.Module, part: str) -> float | None:
        """Of ``val`` or ``test``; None if the protocol has no such part."""
        if part == "val" and self.images.val is None:
            return None
        if isinstance(self.images, StreamSet):
            shown = stream.evaluation_batches(self.images, part)
        else:
            shown = batches.evaluation_batches(self.images, part)
        return evaluate(network, shown, self.protocol.precision)

    def pixel_moments(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, of pixels from 0 to 255, that images are
        standardised by where the protocol does so by the data set."""
        std = 1 / self.images.inv_std
        return self.images.mean.flatten().tolist(), std.flatten().tolist()


def input_shape(info: DatasetInfo) -> tuple[int, int, int]:
    """(C, H, W)."""
    return (info.channels, info.image_size, info.image_size)


def example(info: DatasetInfo) -> tuple[Tensor, ...]:
    """The input of one forward pass on one image: ((1, C, H, W),) float32."""
    return (torch.zeros(1, *input_shape(info)),)


def empty_network(protocol: Protocol, info: DatasetInfo) -> nn.Module:
    """The protocol's network, on PyTorch's current device, not initialised."""
    options = dict(protocol.network_options)
    return build_network(protocol.network, info.num_classes, info.channels, options)


def meta_network(protocol: Protocol, info: DatasetInfo) -> nn.Module:
    """The protocol's network without memory for its weights: shapes only."""
    with torch.device("meta"):
        return empty_network(protocol, info)


@lru_cache(maxsize=8)
def _followers(protocol: Protocol, info: DatasetInfo) -> dict[str, list[str]]:
    from rewind_ray.pruning.trace import followers

    return followers(empty_network(protocol, info), example(info))


@lru_cache(maxsize=2)
def load_task(protocol: Protocol, data: str | None, device: torch.device) -> ImageTask:
    """The task with its data, in memory unless it is streamed. The last two are kept, for the next
    stages."""
    if protocol.augmentation in STREAMED:
        return _streamed_task(protocol, data, device)
    info = describe(protocol.dataset, data, protocol.image_size)
    loaded = load(protocol.dataset, data, protocol.image_size)
    images = image_set.prepare(protocol, loaded, device)
    return ImageTask(
        protocol=protocol, images=images, info=info, classes=loaded.classes, device=device
    )


def _streamed_task(protocol: Protocol, data: str | None, device: torch.device) -> ImageTask:
    listing = list_streamed(protocol.dataset, data)
    info = DatasetInfo(
        num_train=len(listing.train),
        num_test=len(listing.test),
        num_classes=len(listing.classes),
        channels=FOLDER_CHANNELS,
        image_size=protocol.image_size or STREAMED_IMAGE_SIZE,
    )
    images = stream.prepare(protocol, listing, info.image_size, device)
    return ImageTask(
        protocol=protocol, images=images, info=info, classes=listing.classes, device=device
    )

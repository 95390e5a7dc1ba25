"""Image classification: the data of a protocol, ready on a device, and its networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from rewind_ray.datasets import DatasetInfo, describe, load
from rewind_ray.datasets.batches import Batch, epoch_batches, evaluation_batches
from rewind_ray.datasets.image_set import ImageSet, prepare
from rewind_ray.epoch import evaluate
from rewind_ray.models import build_network, initialise_
from rewind_ray.spec import Protocol

NAME = "image_classification"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageTask:
    protocol: Protocol
    images: ImageSet
    info: DatasetInfo
    device: torch.device

    @property
    def steps_per_epoch(self) -> int:
        return self.images.steps_per_epoch

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.info.channels, self.info.image_size, self.info.image_size)

    def network(self, seed: int) -> nn.Module:
        """Fresh, on the device, channels last."""
        network = empty_network(self.protocol, self.info)
        initialise_(network, seed)
        return network.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def batches(self, data_seed: int, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch: a pure function of the arguments."""
        return epoch_batches(self.images, data_seed, epoch)

    def accuracy(self, network: nn.Module, part: str) -> float | None:
        """Of ``val`` or ``test``; None if the protocol has no such part."""
        if part == "val" and self.images.val is None:
            return None
        return evaluate(network, evaluation_batches(self.images, part), self.protocol.precision)


def empty_network(protocol: Protocol, info: DatasetInfo) -> nn.Module:
    """The protocol's network, on PyTorch's current device, not initialised."""
    options = dict(protocol.network_options)
    return build_network(protocol.network, info.num_classes, info.channels, options)


@lru_cache(maxsize=2)
def load_task(protocol: Protocol, data: str | None, device: torch.device) -> ImageTask:
    """The task with its data in memory. The last two are kept, for the next stages."""
    info = describe(protocol.dataset, data, protocol.image_size)
    images = prepare(protocol, load(protocol.dataset, data, protocol.image_size), device)
    return ImageTask(protocol=protocol, images=images, info=info, device=device)

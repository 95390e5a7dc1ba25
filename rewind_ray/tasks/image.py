"""Image classification: labelled images, cross-entropy, and the share that is classified right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rewind_ray.datasets import (
    DatasetInfo,
    batches,
    describe,
    image_set,
    is_streamed,
    load,
    resolve,
    stream,
)
from rewind_ray.datasets.batches import Batch
from rewind_ray.datasets.catalog import STREAMED_IMAGE_SIZE, list_streamed
from rewind_ray.datasets.image_set import ImageSet
from rewind_ray.datasets.split import split_indices
from rewind_ray.datasets.stream import StreamSet
from rewind_ray.importing import is_import_path
from rewind_ray.models import build_network
from rewind_ray.network_options import Option, options_of
from rewind_ray.spec import Protocol
from rewind_ray.store.strict_json import check_fields
from rewind_ray.task_options import TASK_OPTIONS
from rewind_ray.tasks.classifying import (
    accuracy,
    classification_loss,
    fresh_network,
    own_network,
    rebuilt_classifier,
)
from rewind_ray.tasks.task import Loss, Metric, Sizes, Task

SMALLEST = {"resnet": "resnet8", "wrn": "wrn_10_1", "vgg": "vgg8", "digits": "digits_resnet"}
"""Prefix of a network's name -> the smallest network of that kind."""
LARGEST = {"num_classes": 10**5, "channels": 100, "image_size": 10**4}
"""Of what is kept of a data set."""


class ImageClassification(Task):
    """Images from a catalogued data set or a folder, networks from ``rewind_ray.models``."""

    metric = Metric("accuracy")
    records: ClassVar[bool] = True
    option_defaults: ClassVar[Mapping[str, Option]] = TASK_OPTIONS["image_classification"]
    """split: share of a folder without test/ that tests."""

    def __init__(
        self,
        protocol: Protocol,
        data: str | None,
        device: torch.device,
        info: DatasetInfo | None = None,
    ) -> None:
        """info: of the data set, where it is known. Raises ValueError or FileNotFoundError for a
        data set that is unknown, or a folder that isn't there."""
        super().__init__(protocol, data, device)
        self.streamed = is_streamed(protocol.dataset, protocol.augmentation)
        size = protocol.image_size
        if self.streamed and size is None:
            size = STREAMED_IMAGE_SIZE
        self.split = float(self.options["split"])
        self.info = info or describe(protocol.dataset, data, size, self.split)

    # Data

    @cached_property
    def _loaded(self) -> tuple[ImageSet | StreamSet, tuple[str, ...]]:
        """In memory, or read from files in every epoch; and the classes' names."""
        protocol = self.protocol
        if self.streamed:
            listing = list_streamed(protocol.dataset, self.data, self.split)
            size = self.info.image_size
            return stream.prepare(protocol, listing, size, self.device), listing.classes
        pixels = load(protocol.dataset, self.data, protocol.image_size, self.split)
        return image_set.prepare(protocol, pixels, self.device), pixels.classes

    @property
    def images(self) -> ImageSet | StreamSet:
        return self._loaded[0]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the logits."""
        return self._loaded[1]

    @property
    def steps_per_epoch(self) -> int:
        return self.images.steps_per_epoch

    def batches(self, part: str, seed: int, epoch: int) -> Iterator[Batch]:
        images = self.images
        if isinstance(images, StreamSet):
            if part == "train":
                return stream.epoch_batches(images, seed, epoch)
            return stream.evaluation_batches(images, part)
        if part == "train":
            return batches.epoch_batches(images, seed, epoch)
        return batches.evaluation_batches(images, part)

    def epoch_table(self, seed: int, epoch: int) -> tuple[Tensor, ...] | None:
        images = self.images
        return None if isinstance(images, StreamSet) else batches.epoch_table(images, seed, epoch)

    def batch_at(self, rows: tuple[Tensor, ...]) -> Batch:
        assert isinstance(self.images, ImageSet)
        return batches.batch_at(self.images, *rows)

    def prepare(self) -> None:
        if not self.streamed:
            load(self.protocol.dataset, self.data, self.protocol.image_size, self.split)

    def load(self) -> None:
        assert self._loaded

    def data_digest(self) -> str:
        """What ``datasets.resolve`` gave; it is checked where the data is loaded."""
        return self.protocol.data_digest

    def sizes(self) -> Sizes:
        split = split_indices(self.protocol, self.info.num_train, self.info.num_test)
        steps = image_set.steps_per_epoch(self.protocol, len(split.train))
        num_val = 0 if split.val is None else len(split.val)
        return Sizes(steps_per_epoch=steps, num_val=num_val, num_test=len(split.test))

    @cached_property
    def pixel_moments(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of each channel, of pixels from 0 to 255, that images are
        standardised by; None: each by its own."""
        if self.protocol.standardisation == "image":
            return None
        std = 1 / self.images.inv_std
        return self.images.mean.flatten().tolist(), std.flatten().tolist()

    def kept_of_data(self) -> dict[str, Any]:
        mean, std = self.pixel_moments or (None, None)
        of_data = {"info": asdict(self.info), "classes": list(self.classes)}
        return {**super().kept_of_data(), **of_data, "mean": mean, "std": std}

    @classmethod
    def recalled(
        cls, protocol: Protocol, kept: Mapping[str, Any], data: str | None
    ) -> ImageClassification:
        info, classes = checked_info(kept["info"]), kept["classes"]
        if not is_list_of(str, classes, info.num_classes):
            raise ValueError(f"names of {info.num_classes} classes: {repr(classes)[:60]}")
        task = cls(protocol, data, torch.device("cpu"), info)
        task.classes = tuple(classes)
        task.pixel_moments = None
        if protocol.standardisation != "image":
            mean, std = kept["mean"], kept["std"]
            if not all(is_list_of(float, each, info.channels) for each in (mean, std)):
                raise ValueError(f"mean and deviation: {repr((mean, std))[:60]}")
            task.pixel_moments = mean, std
        return task

    @classmethod
    def located(
        cls, dataset: str, data: str | None, wanted: Mapping[str, Any]
    ) -> tuple[str, str | None, dict[str, Any]]:
        augmentation = wanted["augmentation"]
        split = float(wanted["task_options"].get("split", cls.option_defaults["split"]))
        name, folder, digest, image_size = resolve(
            dataset, data, wanted["image_size"], augmentation, split
        )
        place = {"augmentation": augmentation, "data_digest": digest, "image_size": image_size}
        return name, folder, place

    @classmethod
    def tiny(cls, protocol: Protocol) -> dict[str, Any]:
        """The smallest network of its kind, and 64 of the built-in digits."""
        kinds = [kind for kind in SMALLEST if protocol.network.startswith(kind)]
        network = SMALLEST[kinds[0]] if kinds else protocol.network
        given, known = dict(protocol.network_options), options_of(network)
        return {
            "network": network,
            "network_options": {name: given[name] for name in known if name in given},
            "dataset": "digits",
            "data_digest": "",
            "image_size": None,
            "train_examples": 64,
            "test_examples": 50,
            "augmentation": "zero1",
            "standardisation": "image" if protocol.standardisation == "image" else "dataset",
            "batch_size": 32,
        }

    # Networks

    @classmethod
    def rebuilt(cls, facts: Mapping[str, Any]) -> nn.Module:
        return rebuilt_classifier(facts)

    def network(self, seed: int) -> nn.Module:
        info = self.info
        return self.placed(fresh_network(self.protocol, seed, info.num_classes, info.channels))

    def empty_network(self) -> nn.Module:
        """The protocol's network, on PyTorch's current device, not initialised; an own one on the
        CPU, as it is built."""
        options = dict(self.protocol.network_options)
        info = self.info
        if is_import_path(self.protocol.network):
            return own_network(self.protocol, 0, info.num_classes, info.channels)
        return build_network(self.protocol.network, info.num_classes, info.channels, options)

    def meta_network(self) -> nn.Module:
        with torch.device("meta"):
            return self.empty_network().to("meta")

    @property
    def num_classes(self) -> int:
        return self.info.num_classes

    def placed(self, network: nn.Module) -> nn.Module:
        """Channels last: convolutions are faster so."""
        return network.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.info.channels, self.info.image_size, self.info.image_size)

    def example(self) -> tuple[Tensor, ...]:
        """One image, (1, C, H, W) float32."""
        return (torch.zeros(1, *self.input_shape),)

    # Loss and metric

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        return classification_loss(network, batch, self.protocol.label_smoothing)

    def evaluate(self, network: nn.Module, part: str) -> float | None:
        if part == "val" and self.images.val is None:
            return None
        return accuracy(network, self.batches(part, 0, 0))


def checked_info(values: Any) -> DatasetInfo:
    """Of a json. Raises ValueError for a data set that nobody trains on."""
    check_fields(DatasetInfo, values)
    info = DatasetInfo(**values)
    for name, most in LARGEST.items():
        if not 0 < getattr(info, name) <= most:
            raise ValueError(f"{name} is {getattr(info, name)}; allowed: 1 to {most:,}")
    return info


def is_list_of(kind: type, values: Any, length: int) -> bool:
    return type(values) is list and len(values) == length and {*map(type, values)} <= {kind}

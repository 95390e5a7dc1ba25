"""Classification of the user's own data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rewind_ray.datasets.batches import EVALUATION_BATCH_SIZE, plan_epoch
from rewind_ray.datasets.image_set import steps_per_epoch
from rewind_ray.datasets.own import Batch, Held, OwnData, Part, Read, load_own
from rewind_ray.datasets.split import split_indices
from rewind_ray.errors import UserError
from rewind_ray.importing import is_import_path
from rewind_ray.network_options import Option
from rewind_ray.spec import Protocol
from rewind_ray.task_options import TASK_OPTIONS
from rewind_ray.tasks.classifying import (
    accuracy,
    classification_loss,
    fresh_network,
    rebuilt_classifier,
)
from rewind_ray.tasks.task import Loss, Metric, Sizes, Task, example_from

CLASSES_LIMIT = 10**6
"""Of what is kept of a data set."""

loaded = lru_cache(maxsize=1)(load_own)
"""The last one is kept: several protocols of a sweep share it."""


class Classification(Task):
    """Own data of (input, class) pairs, cross-entropy, and the share that is classified right."""

    metric = Metric("accuracy")
    records: ClassVar[bool] = True
    option_defaults: ClassVar[Mapping[str, Option]] = TASK_OPTIONS["classification"]
    """split: share of data without a test part that tests."""

    @classmethod
    def rebuilt(cls, facts: Mapping[str, Any]) -> nn.Module:
        return rebuilt_classifier(facts)

    # Data

    @cached_property
    def _data(self) -> OwnData:
        return loaded(self.protocol.dataset, float(self.options["split"]))

    @cached_property
    def _parts(self) -> dict[str, Part]:
        """As the protocol divides them, on the device where they are in memory."""
        data, protocol = self._data, self.protocol
        if data.val is not None and protocol.validation != "none":
            raise UserError(
                f"dataset {protocol.dataset!r} has a part that validates, and validation is "
                f"{protocol.validation!r}; leave one of them out (--validation 0)"
            )
        split = split_indices(protocol, len(data.train), len(data.test))
        parts = {"train": data.train.chosen(split.train), "test": data.test.chosen(split.test)}
        if split.val is not None:
            source = data.train if protocol.validation == "train" else data.test
            parts["val"] = source.chosen(split.val)
        elif data.val is not None:
            parts["val"] = data.val
        return {name: part.to(self.device) for name, part in parts.items()}

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.protocol, len(self._parts["train"]))

    def batches(self, part: str, seed: int, epoch: int) -> Iterator[Batch]:
        examples = self._parts[part]
        if part == "train":
            order = torch.split(self._order(seed, epoch), self.protocol.batch_size)
            keys = [
                f"{seed} {epoch} {step * self.protocol.batch_size // len(examples)}"
                for step in range(len(order))
            ]
        else:
            order = torch.split(torch.arange(len(examples)), EVALUATION_BATCH_SIZE)
            keys = ["evaluation"] * len(order)
        for inputs, labels in examples.batches(order, keys):
            yield inputs.to(self.device), labels.to(self.device)

    def _order(self, seed: int, epoch: int) -> Tensor:
        """(steps * batch_size,) int64 positions in the part that trains, on the CPU."""
        return plan_epoch(
            seed=seed,
            epoch=epoch,
            num_train=len(self._parts["train"]),
            batch_size=self.protocol.batch_size,
            steps=self.steps_per_epoch,
            num_views=1,
            whole_pass=self.protocol.steps_per_epoch is None,
        ).order

    def epoch_table(self, seed: int, epoch: int) -> tuple[Tensor, ...] | None:
        if isinstance(self._parts["train"], Read):
            return None
        order = self._order(seed, epoch).to(self.device)
        return (order.view(-1, self.protocol.batch_size),)

    def batch_at(self, rows: tuple[Tensor, ...]) -> Batch:
        (order,), train = rows, self._parts["train"]
        assert isinstance(train, Held)
        return train.inputs.index_select(0, order), train.labels.index_select(0, order)

    def load(self) -> None:
        assert self._parts

    def prepare(self) -> None:
        """Whatever the user's function downloads."""
        self.load()

    def sizes(self) -> Sizes:
        parts = self._parts
        return Sizes(
            steps_per_epoch=self.steps_per_epoch,
            num_val=len(parts["val"]) if "val" in parts else 0,
            num_test=len(parts["test"]),
        )

    def data_digest(self) -> str:
        return self._data.digest

    # Networks

    @cached_property
    def _first_input(self) -> Tensor:
        """(1, ...)"""
        inputs, _ = next(self._data.test.batches([torch.tensor([0])], ["evaluation"]))
        return inputs

    @cached_property
    def num_classes(self) -> int | None:
        return self._data.classes

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """Their names, where the user's Dataset says them."""
        return self._data.names

    def kept_of_data(self) -> dict[str, Any]:
        names = None if self.classes is None else list(self.classes)
        return {**super().kept_of_data(), "num_classes": self.num_classes, "classes": names}

    @classmethod
    def recalled(
        cls, protocol: Protocol, kept: Mapping[str, Any], data: str | None
    ) -> Classification:
        number, names = kept["num_classes"], kept["classes"]
        if number is not None and not (type(number) is int and 0 < number <= CLASSES_LIMIT):
            raise ValueError(f"{repr(number)[:40]} classes")
        if names is not None and not (type(names) is list and {*map(type, names)} <= {str}):
            raise ValueError(f"names of classes: {repr(names)[:60]}")
        task = cls(protocol, data, torch.device("cpu"))
        (task._first_input,) = example_from(kept)
        task.num_classes = number
        task.classes = None if names is None else tuple(names)
        return task

    def network(self, seed: int) -> nn.Module:
        shape = self._first_input.shape
        if self.num_classes is None and not is_import_path(self.protocol.network):
            raise UserError(
                f"network {self.protocol.network} needs the number of classes, and the Dataset "
                "doesn't say it; give it an attribute `classes`, a list of names"
            )
        channels = shape[1] if len(shape) > 1 else 1
        return self.placed(fresh_network(self.protocol, seed, self.num_classes or 0, channels))

    def example(self) -> tuple[Tensor, ...]:
        return (self._first_input,)

    # Loss and metric

    def loss(self, network: nn.Module, batch: Batch) -> Loss:
        return classification_loss(network, batch, self.protocol.label_smoothing)

    def evaluate(self, network: nn.Module, part: str) -> float | None:
        if part not in self._parts:
            return None
        return accuracy(network, self.batches(part, 0, 0))

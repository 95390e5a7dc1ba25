"""Data of the user's own: tensors, or torch Datasets that are read item by item.

A part that fits into memory, and whose items are the same whenever they are read, is kept there.
Another is read anew in every epoch; what its transforms draw from the global random generators of
torch, numpy and Python is a function of (seed, epoch, index).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from rewind_ray.digests import code_digest, tensors_digest, text_digest
from rewind_ray.errors import UserError
from rewind_ray.importing import import_object
from rewind_ray.seeding import generator_states, same_states, seed_of, seeded

PARTS = ("train", "val", "test")
MEMORY_LIMIT = 2**31
"""Bytes of a part that is kept in memory."""
SAMPLE = 1000
"""Items of a part that is read again and again by which it is known, evenly spread."""
RETURNS = (
    "return {'train': ..., 'test': ...}, each a torch Dataset of (input, label) or a pair of "
    "tensors (inputs, labels)"
)

Batch = tuple[Tensor, Tensor]
"""Inputs (B, ...), labels (B,) int64; on the CPU, or where the part is."""


@dataclass(frozen=True, slots=True)
class Held:
    """A part in memory."""

    inputs: Tensor
    """(N, ...)"""
    labels: Tensor
    """(N,) int64"""

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device) -> Held:
        return Held(self.inputs.to(device), self.labels.to(device))

    def chosen(self, positions: Tensor) -> Held:
        where = positions.to(self.inputs.device)
        return Held(self.inputs[where], self.labels[where])

    def batches(self, order: Sequence[Tensor], keys: Sequence[str]) -> Iterator[Batch]:
        """order: positions of each batch."""
        for positions in order:
            where = positions.to(self.inputs.device)
            yield self.inputs[where], self.labels[where]

    def digest(self) -> str:
        return tensors_digest({"inputs": self.inputs, "labels": self.labels})


@dataclass(frozen=True, slots=True)
class Read:
    """A part whose items are read when they are needed."""

    dataset: Any
    positions: Tensor
    """(N,) int64, in the dataset."""

    def __len__(self) -> int:
        return len(self.positions)

    def to(self, device: torch.device) -> Read:
        return self

    def chosen(self, positions: Tensor) -> Read:
        return Read(self.dataset, self.positions[positions])

    def batches(self, order: Sequence[Tensor], keys: Sequence[str]) -> Iterator[Batch]:
        """keys: of each batch; with an item's position in the dataset they seed its transforms."""
        lists = [
            [(int(position), key) for position in self.positions[positions]]
            for positions, key in zip(order, keys, strict=True)
        ]
        loader: DataLoader[Any] = DataLoader(
            _Seeded(self.dataset),
            batch_sampler=lists,
            num_workers=torch.get_num_threads() - 1,
            collate_fn=_collated,
            generator=torch.Generator().manual_seed(0),  # else it draws from the global one
        )
        return iter(loader)

    def digest(self) -> str:
        """Of how many items there are, of a sample of them, and of the code that makes them."""
        chosen = np.linspace(0, len(self) - 1, min(SAMPLE, len(self))).astype(int)
        items = [item_of(self.dataset, int(self.positions[i]), "digest") for i in chosen]
        shown = [
            tensors_digest({str(i): torch.as_tensor(part) for i, part in enumerate(item)})
            for item in items
        ]
        return text_digest(" ".join([str(len(self)), code_digest([type(self.dataset)]), *shown]))


Part = Held | Read


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnData:
    train: Part
    test: Part
    val: Part | None = None
    """None: none of its own."""
    classes: int | None = None
    """Number of them, where the labels or the Dataset say so."""
    names: tuple[str, ...] | None = None
    """Of the classes, where the training Dataset has a list ``classes`` of them."""
    digest: str


class _Seeded(torch.utils.data.Dataset[Any]):
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, place: tuple[int, str]) -> tuple[Any, Any]:
        return item_of(self.dataset, *place)


def item_of(dataset: Any, position: int, key: str) -> tuple[Tensor, Tensor]:
    """(input, label) as tensors; what the dataset draws at random is a function of the rest.

    Raises UserError for anything else.
    """
    with seeded(seed_of(f"{key} {position}")):
        item = dataset[position]
    return _as_item(item, position, dataset)


def _as_item(item: Any, position: int, dataset: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise UserError(
            f"item {position} of {_kind(dataset)} is a {type(item).__name__}; an item is a pair "
            "(input, label): for other tasks write a Task, see docs/extending.md"
        )
    inputs, label = item
    try:
        return _tensor(inputs), _tensor(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"item {position} of {_kind(dataset)} holds ({type(inputs).__name__}, "
            f"{type(label).__name__}); items are tensors, arrays or numbers: an image needs a "
            "transform such as torchvision's ToTensor"
        ) from error


def _tensor(value: Any) -> Tensor:
    if type(value).__module__.partition(".")[0] == "PIL":
        raise TypeError
    return torch.as_tensor(value)


def _collated(items: list[Any]) -> Batch:
    try:
        inputs, labels = default_collate(items)
    except RuntimeError as error:
        raise UserError(
            f"items of the data can't be put into one batch: {error}; give all the same shape"
        ) from error
    return inputs, checked_labels(labels)


# From what the user's function returns


def load_own(path: str, split: float) -> OwnData:
    """What ``path`` names: a function that is called, or the data itself.

    split: share that tests where there is only one part; 0: none. Raises UserError for what is
    no data.
    """
    found = import_object(path, "dataset")
    if callable(found) and not _is_dataset(found):
        with seeded(0):  # of a random split
            found = found()
    raw = named_parts(found, path)
    parts = {name: part_of(content, name) for name, content in raw.items()}
    if "test" not in parts:
        if not 0 < split < 1:
            raise UserError(
                f"dataset {path!r} has no test part; {RETURNS}, or say by --split 0.2 what share "
                "of it tests"
            )
        number = len(parts["train"])
        order = torch.randperm(number, generator=torch.Generator().manual_seed(0))
        tests = max(1, round(split * number))
        if tests >= number:
            raise UserError(f"--split {split:g} of {number} examples leaves none to train on")
        parts["test"] = parts["train"].chosen(order[:tests].sort().values)
        parts["train"] = parts["train"].chosen(order[tests:].sort().values)
    elif split:
        raise UserError(f"--split {split:g}, and dataset {path!r} has a test part; leave it out")
    return OwnData(
        train=parts["train"],
        test=parts["test"],
        val=parts.get("val"),
        classes=_classes(parts, raw["train"]),
        names=_names(raw["train"]),
        digest=text_digest(" ".join(f"{name} {parts[name].digest()}" for name in sorted(parts))),
    )


def named_parts(found: Any, path: str) -> dict[str, Any]:
    """By the names of PARTS; a single one is "train"."""
    if isinstance(found, Mapping):
        unknown = sorted(set(map(str, found)) - set(PARTS))
        if unknown or "train" not in found:
            raise UserError(
                f"dataset {path!r} has the parts {', '.join(map(str, found))}; allowed: "
                f"{', '.join(PARTS)}, of which there must be train: {RETURNS}"
            )
        return dict(found)
    if _is_pair(found) or _is_dataset(found):
        return {"train": found}
    if isinstance(found, (tuple, list)) and len(found) in (2, 3):
        names = PARTS if len(found) == 3 else ("train", "test")
        return dict(zip(names, found, strict=True))
    raise UserError(f"dataset {path!r} is a {type(found).__name__}; {RETURNS}")


def _is_pair(found: Any) -> bool:
    """Inputs and labels."""
    arrays = (Tensor, np.ndarray)
    return (
        isinstance(found, (tuple, list))
        and len(found) == 2
        and all(isinstance(each, arrays) for each in found)
    )


def _is_dataset(found: Any) -> bool:
    return hasattr(type(found), "__getitem__") and not isinstance(
        found, (str, bytes, tuple, list, Mapping, Tensor, np.ndarray)
    )


def part_of(content: Any, name: str) -> Part:
    """Raises UserError for what is neither a Dataset nor a pair of tensors."""
    if isinstance(content, TensorDataset) and len(content.tensors) == 2:
        content = content.tensors
    if _is_pair(content):
        inputs, labels = (torch.as_tensor(each).detach() for each in content)
        if len(inputs) != len(labels):
            raise UserError(
                f"the {name} part has {len(inputs):,} inputs and {len(labels):,} labels; give each "
                "input one"
            )
        part: Part = Held(inputs.contiguous(), checked_labels(labels))
    elif isinstance(content, IterableDataset) or not hasattr(content, "__len__"):
        raise UserError(
            f"the {name} part is a {type(content).__name__} without a length or an order; give a "
            "Dataset with __len__ and __getitem__, so that an epoch can be repeated"
        )
    elif not _is_dataset(content):
        raise UserError(f"the {name} part is a {type(content).__name__}; {RETURNS}")
    elif len(content) == 0:
        raise UserError(f"the {name} part has no examples")
    else:
        _check_repeatable(content)
        part = _held(content) or Read(content, torch.arange(len(content)))
    if len(part) == 0:
        raise UserError(f"the {name} part has no examples")
    return part


def _held(dataset: Any) -> Held | None:
    """All items in memory; None where they don't fit, differ in shape, or are drawn at random."""
    first = item_of(dataset, 0, "held")
    if len(dataset) * sum(each.numel() * each.element_size() for each in first) > MEMORY_LIMIT:
        return None
    items = []
    for position in range(len(dataset)):
        with seeded(0):
            before = generator_states()
            item = dataset[position]
            if not same_states(before, generator_states()):
                return None
        items.append(_as_item(item, position, dataset))
    if any(item[0].shape != first[0].shape for item in items):
        return None
    inputs, labels = (torch.stack(column) for column in zip(*items, strict=True))
    return Held(inputs, checked_labels(labels))


def _check_repeatable(dataset: Any) -> None:
    """Raises UserError where the same item of the same seed comes out differently."""
    one, other = (item_of(dataset, 0, "repeated") for _ in range(2))
    if not all(torch.equal(a, b) for a, b in zip(one, other, strict=True)):
        raise UserError(
            f"item 0 of {_kind(dataset)} differs from call to call though torch, numpy and random "
            "were seeded alike; draw from their global generators and from nothing else"
        )


def checked_labels(labels: Tensor) -> Tensor:
    """(N,) int64. Raises UserError for what is no class number."""
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.is_floating_point() or labels.is_complex() or labels.dim() != 1:
        raise UserError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; classification takes whole "
            "numbers from 0, one an example: for other targets write a Task, see docs/extending.md"
        )
    if bool((labels < 0).any()):
        raise UserError(f"a label is {int(labels.min())}; classes are numbered from 0")
    return labels.long()


def _classes(parts: Mapping[str, Part], train: Any) -> int | None:
    """Raises UserError where all examples are of one class."""
    found = [part.labels for part in parts.values() if isinstance(part, Held)]
    named = getattr(train, "classes", None)
    train_part = parts["train"]
    if isinstance(train_part, Held) and len(torch.unique(train_part.labels)) < 2:
        raise UserError("all training examples are of one class; there is nothing to learn")
    if len(found) == len(parts):
        return 1 + max(int(labels.max()) for labels in found)
    return len(named) if isinstance(named, Sequence) else None


def _names(train: Any) -> tuple[str, ...] | None:
    named = getattr(train, "classes", None)
    if isinstance(named, Sequence) and not isinstance(named, str):
        return tuple(map(str, named))
    return None


def _kind(dataset: Any) -> str:
    return type(dataset).__name__

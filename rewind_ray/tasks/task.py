"""What a network is trained on and for: the seam between training and everything it is used on.

Training knows no more of a task than is written here. A batch is whatever the task makes of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rewind_ray.digests import tensors_digest
from rewind_ray.errors import UserError
from rewind_ray.network_options import Option
from rewind_ray.pruning.masks import prunable_parameters
from rewind_ray.spec import Protocol

BATCHES_DIGESTED = 50
"""Of each part, in ``Task.data_digest``."""
Batch = Any
"""Examples of one update; only the task looks inside."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a task's networks are judged by."""

    name: str
    """In the rows' column ``metric``: what the ``*_accuracy`` columns hold."""
    _: KW_ONLY
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if not self.higher_is_better:
            raise UserError(
                f"metric {self.name!r} with higher_is_better False; comparisons take the higher "
                "value for the better one: evaluate to 1 - value, and name the metric so"
            )


@dataclass(frozen=True, slots=True)
class Loss:
    """Of a batch."""

    mean: Tensor
    """Scalar, with a graph behind it: over the batch's examples, without weight decay."""
    examples: int
    """What the mean is over."""
    correct: Tensor | None = None
    """How many of the examples were predicted right, an integer scalar; None: not a question."""


LossOf = Callable[[Batch], Loss]
"""``Task.loss`` of the network that is trained, in the protocol's precision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What can be said of a task's data before it is loaded."""

    steps_per_epoch: int
    num_val: int | None = None
    """Examples that validate; None: unknown."""
    num_test: int | None = None
    """Examples that test; None: unknown."""


class Task:
    """Data, networks, loss and metric of a protocol.

    An own task defines ``metric``, ``network``, ``batches``, ``loss`` and ``evaluate``; the rest
    has defaults. It is made from (protocol, data, device), and making it is cheap: data is read in
    ``load``, or when it is first needed.
    """

    metric: Metric
    formats: ClassVar[tuple[str, ...]] = ("safetensors", "pt2", "onnx", "state_dict", "json")
    """That ``rewind_ray.export`` can write its networks in."""
    records: ClassVar[bool] = False
    """Whether a GPU may record what ``loss`` and ``evaluate`` do with a batch and repeat it for
    other batches of its shape: they call ``network(inputs)``, and no value decides what is next."""
    option_defaults: ClassVar[Mapping[str, Option]] = {}
    """The ``Protocol.task_options`` that it takes, and what they are if not given."""

    def __init__(self, protocol: Protocol, data: str | None, device: torch.device) -> None:
        """data: folder of the data's files, where it has some. Raises UserError for an unknown
        option."""
        self.protocol = protocol
        self.data = data
        self.device = device
        given = dict(protocol.task_options)
        for option in given:
            if option not in self.option_defaults:
                raise UserError(
                    f"task {protocol.task} has no option {option!r}; known: "
                    f"{', '.join(self.option_defaults) or 'none'}"
                )
        self.options: Mapping[str, Option] = {**self.option_defaults, **given}

    # What an own task defines

    def network(self, seed: int) -> nn.Module:
        """Fresh, on the device; its weights a function of the seed alone."""
        raise NotImplementedError(f"{type(self).__name__} defines no network()")

    def batches(self, part: str, seed: int, epoch: int) -> Iterable[Batch]:
        """part: "train", "val" or "test". Of "train" the batches of an epoch (from 0), as many as
        ``steps_per_epoch``: a pure function of the arguments. The other parts don't depend on seed
        and epoch."""
        raise NotImplementedError(f"{type(self).__name__} defines no batches()")

    def loss(self, network: nn.Module, batch: Batch) -> Loss | Tensor:
        """Of a forward pass on the batch; a tensor is the mean over its examples.

        Called in the protocol's precision, also without gradients and with a network in evaluation
        mode.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no loss()")

    def evaluate(self, network: nn.Module, part: str) -> float | None:
        """The metric on "val" or "test", in [0, 1]; None: the data has no such part.

        The network is in evaluation mode, in the protocol's precision, without gradients.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no evaluate()")

    # What has a default

    @property
    def name(self) -> str:
        """In the rows' column ``task``."""
        return self.protocol.task

    @property
    def steps_per_epoch(self) -> int:
        """Updates of an epoch: the protocol's number, or as many as there are batches."""
        return self.protocol.steps_per_epoch or self._num_batches

    @cached_property
    def _num_batches(self) -> int:
        return sum(1 for _ in self.batches("train", 0, 0))

    def backward(
        self, network: nn.Module, batch: Batch, loss_of: LossOf, clip: Callable[[], None]
    ) -> Loss:
        """Leave the batch's gradient in the parameters' ``grad``, which are empty, and return its
        loss. ``clip`` makes the gradient that is there no larger than the protocol allows.

        A task may take the batch in parts that fit into memory.
        """
        return whole_backward(network, batch, loss_of, clip)

    def epoch_table(self, seed: int, epoch: int) -> tuple[Tensor, ...] | None:
        """What the training batches of an epoch are made of, where that is a table on the device:
        columns with a row for each batch. ``batch_at`` makes the batches of ``batches`` from its
        rows. A GPU then records an update together with the making of its batch. None: the
        batches can only be had one by one."""
        return None

    def batch_at(self, rows: tuple[Tensor, ...]) -> Batch:
        """The batch of a row of each column of ``epoch_table``; tensors only, whose shapes are the
        same for all rows."""
        raise NotImplementedError(f"{type(self).__name__} has no epoch_table()")

    @property
    def metric_details(self) -> str:
        """How the metric is measured, in words, for an epoch's metrics; empty: nothing to say."""
        return ""

    @property
    def prepared_digest(self) -> str:
        """Of what the data was made into, where the protocol leaves that open (a vocabulary that
        was learnt): the stages of a chain must have the same. Empty: it leaves nothing open."""
        return ""

    @classmethod
    def located(
        cls, dataset: str, data: str | None, wanted: Mapping[str, Any]
    ) -> tuple[str, str | None, dict[str, Any]]:
        """What the user wrote -> the data set's name in specs, the folder of its files (absolute,
        because Ray's actors change their working directory), and the fields of the protocol that
        follow from them. wanted: what was asked for or is usual of ``task_options``,
        ``augmentation`` and ``image_size``. Raises UserError for data that can't be had."""
        return dataset, None if data is None else os.path.abspath(data), {"augmentation": "none"}

    @classmethod
    def tiny(cls, protocol: Protocol) -> dict[str, Any]:
        """Settings of the protocol that make its network and data tiny, for ``--smoke``."""
        return {}

    @classmethod
    def rebuilt(cls, facts: Mapping[str, Any]) -> nn.Module:
        """A network that an exported file describes, its weights yet to be loaded, without the
        data. facts: what the file says of it. Raises UserError where it can't be built so."""
        raise UserError(
            f"networks of task {facts['spec']['protocol']['task']} can't be built from a file"
        )

    def attachments(self) -> dict[str, bytes]:
        """Files that an exported network is of no use without: ending of the name -> content."""
        return {}

    def kept_of_data(self) -> dict[str, Any]:
        """What is kept with each stage, as plain data, so that its network can be built, described
        and exported when the data are gone. The data is loaded."""
        return {"example": [_shape_and_type(given) for given in self.example()]}

    @classmethod
    def recalled(cls, protocol: Protocol, kept: Mapping[str, Any], data: str | None) -> Task:
        """The task, as far as it goes, from what ``kept_of_data`` returned: no data is read.

        data: as of the task, for an own one that doesn't get by without its files.
        Raises ValueError for what no task keeps.
        """
        task = cls(protocol, data, torch.device("cpu"))
        example = example_from(kept)
        task.example = lambda: example  # type: ignore[method-assign]
        return task

    def prunable(self, network: nn.Module) -> dict[str, nn.Parameter]:
        """Parameters that may be pruned, by name, in the order of the modules."""
        return prunable_parameters(network, self.protocol.prunable)

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of one forward pass on one example, ``network(*example())``; their values don't
        matter. By it multiply-adds are counted and networks traced and exported.

        By default the first tensor of a training batch, whose first dimension is the examples.
        """
        batch = next(iter(self.batches("train", 0, 0)))
        return (_first_tensor(batch)[:1],)

    def meta_network(self) -> nn.Module:
        """Its shapes, on the meta device."""
        return self.network(0).to("meta")

    def placed(self, network: nn.Module) -> nn.Module:
        """The same network on the task's device, in the memory layout that it is trained in."""
        return network.to(self.device)

    def prepare(self) -> None:
        """Download or convert the data's files: once and before stages are trained in parallel."""

    def load(self) -> None:
        """Read the data. What is wrong with it is raised here."""

    def data_digest(self) -> str:
        """What the data is, for a stage's id: 16 hex digits.

        By default of the first batches of each part; a task that has others may hide data that
        differs from here on.
        """
        tensors: dict[str, Tensor] = {}
        for part in ("train", "val", "test"):
            try:
                for number, batch in enumerate(islice(self.batches(part, 0, 0), BATCHES_DIGESTED)):
                    tensors |= _tensors(batch, f"{part} {number}")
            except (KeyError, IndexError, ValueError, AttributeError):  # it has no such part
                continue
        return tensors_digest(tensors)

    def sizes(self) -> Sizes:
        """For estimates before a sweep. By default the data is loaded; a task that knows its sizes
        without says so here."""
        self.load()
        return Sizes(steps_per_epoch=self.steps_per_epoch)


def whole_backward(
    network: nn.Module, batch: Batch, loss_of: LossOf, clip: Callable[[], None]
) -> Loss:
    """``Task.backward`` by a single pass."""
    loss = loss_of(batch)
    loss.mean.backward()  # type: ignore[no-untyped-call]
    clip()
    return loss


def as_loss(loss: Loss | Tensor, batch: Batch) -> Loss:
    """A bare tensor's examples are those of the batch's first tensor."""
    return loss if isinstance(loss, Loss) else Loss(loss, examples=len(_first_tensor(batch)))


EXAMPLE_LIMIT = 2**26
"""Numbers in an example of which a stage's file says how large it is."""
EXAMPLE_TYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


def _shape_and_type(tensor: Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def example_from(kept: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Zeros of the kept shapes. Raises ValueError."""
    found = []
    for given in kept["example"]:
        shape, dtype = given["shape"], given["dtype"]
        sizes = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
        if not sizes or math.prod(shape) > EXAMPLE_LIMIT or dtype not in EXAMPLE_TYPES:
            raise ValueError(f"an example of shape {repr(shape)[:60]}, {repr(dtype)[:20]}")
        found.append(torch.zeros(shape, dtype=EXAMPLE_TYPES[dtype]))
    return tuple(found)


def _tensors(batch: Batch, name: str) -> dict[str, Tensor]:
    """All tensors of a batch, by where they are in it."""
    if isinstance(batch, Tensor):
        return {name: batch}
    if isinstance(batch, Mapping):
        parts: Iterable[tuple[Any, Any]] = batch.items()
    elif isinstance(batch, (tuple, list)):
        parts = enumerate(batch)
    else:
        parts = vars(batch).items() if hasattr(batch, "__dict__") else ()
    return {key: t for label, part in parts for key, t in _tensors(part, f"{name} {label}").items()}


def _first_tensor(batch: Batch) -> Tensor:
    if isinstance(batch, Tensor):
        return batch
    contents = batch.values() if isinstance(batch, Mapping) else batch
    for content in contents if isinstance(contents, Iterable) else ():
        if isinstance(content, Tensor):
            return content
    raise UserError(
        f"a batch of type {type(batch).__name__} doesn't say how many examples it has; let "
        "Task.loss return a Loss, and define Task.example"
    )

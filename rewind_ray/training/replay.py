"""Updates and forward passes that a GPU repeats from a recording, a CUDA graph.

Small networks give a GPU some 300 kernels an update, and to launch each of them from Python takes
longer than to run it. Recorded once, they are launched together. A recording reads and writes the
very tensors it was made with, so whatever differs from one update to the next lies in tensors: the
epoch's order of examples and its learning rates as tables, and the number of the update, which
picks a row of each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from rewind_ray.importing import is_import_path
from rewind_ray.tasks import Loss, Task
from rewind_ray.training.memory import is_out_of_memory
from rewind_ray.training.update import Update, autocast

log = logging.getLogger(__name__)

REHEARSALS = 3
"""Updates before a recording, in which libraries choose their algorithms and allocate what they
need; as PyTorch's notes on CUDA graphs have it."""
Steps = Iterator[Callable[[], Loss]]
"""Updates, each made when it is called."""


@dataclass(kw_only=True, slots=True)
class TableUpdate:
    """An update that finds its batch and its rate by itself: all it depends on are tensors."""

    update: Update
    batch_at: Callable[[tuple[Tensor, ...]], object]
    """See ``Task.batch_at``."""
    table: tuple[Tensor, ...]
    """Of the epoch, see ``Task.epoch_table``."""
    rates: Tensor
    """(updates of the epoch,) float32."""
    number: Tensor
    """(1,) int64: which update of the epoch is next."""
    counters: list[Tensor] = field(default_factory=list)
    """Of BatchNorm, added to by one call; see ``uncounted``."""
    counts: list[int] = field(default_factory=list)
    """What an update adds to each."""

    def __call__(self) -> Loss:
        rows = tuple(column.index_select(0, self.number).squeeze(0) for column in self.table)
        rate = self.rates.index_select(0, self.number).squeeze(0)
        for group in self.update.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(rate)
            else:  # on a CPU, where there is nothing to record
                group["lr"] = rate.item()
        loss = self.update(self.batch_at(rows))
        self.number.add_(1)
        if self.counters:
            torch._foreach_add_(self.counters, self.counts)
        return loss

    def begin_(self, update: Update, table: tuple[Tensor, ...], rates: Tensor, first: int) -> None:
        """Set everything to the epoch's update ``first``. update: with its masks and totals."""
        pairs = [
            *zip(self.table, table, strict=True),
            *zip(self.update.multipliers, update.multipliers, strict=True),
            (self.update.loss_sum, update.loss_sum),
            (self.update.correct, update.correct),
        ]
        for own, given in pairs:
            if own is not given:
                own.copy_(given)
        self.rates.copy_(rates)
        self.number.fill_(first)

    def state(self) -> list[Tensor]:
        """All tensors that an update changes; gradients aside, which it begins with."""
        network, optimizer = self.update.network, self.update.optimizer
        return [
            *network.parameters(),
            *network.buffers(),
            *(t for kept in optimizer.state.values() for t in kept.values() if t is not None),
            *(group["lr"] for group in optimizer.param_groups if isinstance(group["lr"], Tensor)),
            *(self.update.loss_sum, self.update.correct, self.number),
        ]

    def rehearse_(self, times: int = REHEARSALS) -> None:
        """Make some updates and undo them: weights, statistics and state are as before.

        Counts meanwhile what an update adds to BatchNorm's counters.
        """
        with undone(self.state()):
            norms = counted(self.update.network)
            self.counters = [norm.num_batches_tracked for norm in norms]  # type: ignore[misc]
            self.counts = [0] * len(norms)
            before = [int(counter) for counter in self.counters]
            self()
            after = [int(counter) for counter in self.counters]
            with uncounted(self.update.network):  # as it is recorded: a compiler compiles it anew
                for _ in range(times - 1):
                    self.number.zero_()  # an epoch may be shorter than this
                    self()
            self.counts = [a - b for a, b in zip(after, before, strict=True)]
        self.update.optimizer.zero_grad()


@dataclass(kw_only=True, slots=True)
class Recorded:
    """A ``TableUpdate`` as a CUDA graph."""

    of: TableUpdate
    graph: torch.cuda.CUDAGraph
    loss: Loss
    """Of the last update that was replayed."""
    places: tuple[int, ...]

    def fits(self, update: Update, table: tuple[Tensor, ...]) -> bool:
        """Whether this is still the update: not after a cut, with another state of the optimizer,
        or another shape of an epoch."""
        return self.places == places_of(update, table)

    def step(self, seed: int) -> Loss:
        torch.manual_seed(seed)  # of dropout: a replay draws from where the generator is
        self.graph.replay()
        return self.loss


class Recorder:
    """Recordings of a stage's update and of its network's forward pass, made when they are first
    needed, and anew when they no longer fit."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.recorded: Recorded | None = None
        """The present recording of the update."""
        self._forward: RecordedForward | None = None
        self._refused = False

    def steps(
        self,
        table: tuple[Tensor, ...],
        update: Update,
        learning_rate: Callable[[int], float],
        seed: int,
        first: int,
    ) -> tuple[Update, Steps] | None:
        """The epoch's updates from ``first`` on, and the update whose totals they add to; None
        where the device refuses to record them.

        table: of the epoch. learning_rate, seed: see ``train_epoch``.
        """
        if self.recorded is not None and not self.recorded.fits(update, table):
            self.recorded = None  # its memory is free before the next is recorded
        if self.recorded is None and not self._refused:
            self.recorded = self._record(update, table)
        recorded = self.recorded
        if recorded is None:
            return None
        numbers = range(first, len(table[0]))
        rates = torch.tensor([learning_rate(number) for number in range(len(table[0]))])
        recorded.of.begin_(update, table, rates, first)
        steps = (partial(recorded.step, seed + number) for number in numbers)
        return recorded.of.update, steps

    def forward(self, network: nn.Module) -> nn.Module:
        """Computes what the network does, in evaluation mode."""
        if self._forward is None or self._forward.network is not network:
            self._forward = RecordedForward(network, self._task.protocol.precision)
        return self._forward

    def _record(self, update: Update, table: tuple[Tensor, ...]) -> Recorded | None:
        try:
            return record(table_update(update, self._task, table), places_of(update, table))
        except RuntimeError as error:
            log_refusal(error, "the update")
            self._refused = True
            return None


def can_record(task: Task) -> bool:
    """Whether this is a GPU, and every update is the same computation.

    That can't be known of a network or a task of the user's: their code may do something else every
    time it is called.
    """
    own = any(map(is_import_path, (task.protocol.network, task.protocol.task)))
    return task.device.type == "cuda" and task.records and not own


def table_update(update: Update, task: Task, table: tuple[Tensor, ...]) -> TableUpdate:
    """With tensors of its own for what changes from epoch to epoch."""
    device = table[0].device
    return TableUpdate(
        update=update,
        batch_at=task.batch_at,
        table=tuple(column.clone() for column in table),
        rates=torch.zeros(len(table[0]), device=device),
        number=torch.zeros(1, dtype=torch.long, device=device),
    )


def record(of: TableUpdate, places: tuple[int, ...]) -> Recorded:
    """Leaves no trace: no update has been made afterwards.

    Raises RuntimeError where something in it can't be recorded.
    """
    with beside(side_stream()):
        of.rehearse_()
    graph = torch.cuda.CUDAGraph()
    with uncounted(of.update.network), capturing(graph):
        loss = of()
    return Recorded(of=of, graph=graph, loss=loss, places=places)


def places_of(update: Update, table: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Where everything lies that a recording reads or writes and doesn't own, and how long an epoch
    is."""
    network, optimizer = update.network, update.optimizer
    state = [t for kept in optimizer.state.values() for t in kept.values() if t is not None]
    tensors = [*network.parameters(), *network.buffers(), *state, *update.masked]
    sizes = [size for column in table for size in column.shape]
    return (*(tensor.data_ptr() for tensor in tensors), *sizes)


@cache
def side_stream() -> torch.cuda.Stream:
    """On which this process rehearses and records; cuBLAS keeps memory for each that it is used
    on."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


@contextmanager
def capturing(graph: torch.cuda.CUDAGraph, pool: Any = None) -> Iterator[None]:
    """What is in it is recorded, not run. pool: memory that graphs share.

    Other threads may go on meanwhile, such as the one that pins the memory of a DataLoader's
    batches: by default a call of theirs would break both the recording and the thread.
    """
    with (
        torch.cuda.stream(torch.cuda.current_stream()),  # gone back to when a recording fails, too
        torch.cuda.graph(graph, pool, side_stream(), capture_error_mode="thread_local"),
    ):
        yield


def log_refusal(error: RuntimeError, what: str) -> None:
    """Raises what says that there was no memory, where that is why: the end of a recording that
    ran out of it may fail with another error."""
    for one in (error, error.__context__):
        if one is not None and is_out_of_memory(one):
            raise one
    log.warning("this GPU can't record %s, so it is slower: %s", what, str(error))


@contextmanager
def beside(stream: torch.cuda.Stream) -> Iterator[None]:
    """What is in it runs on the stream, after all before it and before all after it."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def undone(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Afterwards the tensors hold what they held before."""
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)


def counted(network: nn.Module) -> list[_NormBase]:
    """Its normalisation layers whose count of batches serves nothing but to be looked at."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _NormBase)
        and module.num_batches_tracked is not None
        and module.momentum is not None  # else the running mean is divided by it
    ]


@contextmanager
def uncounted(network: nn.Module) -> Iterator[None]:
    """Their counters are left alone: a launch for each would be a tenth of an update's."""
    norms = counted(network)
    counters = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, counter in zip(norms, counters, strict=True):
            norm.num_batches_tracked = counter


# Evaluation


@dataclass(frozen=True, slots=True)
class RecordedPass:
    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    outputs: Tensor


class RecordedForward(nn.Module):
    """A network in evaluation mode, without gradients. What it returns holds until the next call.

    A shape of inputs is recorded when it comes for the second time.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.network = network
        self.precision = precision
        self._passes: dict[torch.Size, RecordedPass | None] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._refused = False

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: (B, C, H, W) -> what the network makes of them."""
        is_new = inputs.shape not in self._passes
        recorded = self._passes.setdefault(inputs.shape, None)
        if recorded is None and not is_new and not self._refused:
            recorded = self._passes[inputs.shape] = self._record(inputs)
        if recorded is None:
            return self.network(inputs)  # type: ignore[no-any-return]
        recorded.inputs.copy_(inputs)
        recorded.graph.replay()
        return recorded.outputs

    def _record(self, inputs: Tensor) -> RecordedPass | None:
        """None where the device refuses to."""
        static, graph = inputs.clone(), torch.cuda.CUDAGraph()
        try:
            # without a cache: a weight that was cast to bf16 before would be read from where it was
            with autocast(inputs.device, self.precision, cache=False):
                with beside(side_stream()):
                    self.network(static)
                with capturing(graph, self._pool):
                    outputs = self.network(static)
        except RuntimeError as error:
            log_refusal(error, "the evaluation")
            self._refused = True
            return None
        return RecordedPass(graph, static, outputs)

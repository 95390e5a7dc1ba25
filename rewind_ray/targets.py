"""What a network is to be pruned to: a compression ratio, the bytes of its file, or its latency.

Shapes say size and, nearly, latency, so that how far to prune is found before anything is trained:
copies of the untrained network are cut. What is reached is measured on the trained one.
"""

from __future__ import annotations

import copy
import math
import re
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from rewind_ray.errors import UserError
from rewind_ray.export.command import write_export
from rewind_ray.export.formats import Exported, Form
from rewind_ray.export.latency import forward_times, random_images
from rewind_ray.models.history import history_files
from rewind_ray.models.own import load_weights_, read_weights
from rewind_ray.pruning import dense_mask, pruned_mask
from rewind_ray.pruning.channels import Channels, follower_mask
from rewind_ray.pruning.criteria import DEFAULT_CRITERION, criterion_named
from rewind_ray.pruning.masks import Mask
from rewind_ray.pruning.shrink import shrink_
from rewind_ray.pruning.trace import channels_of, followers
from rewind_ray.result import ResultRow
from rewind_ray.spec import Protocol, Prune, Stage
from rewind_ray.structures import STRUCTURES, structure_named
from rewind_ray.tasks import Task, planned_task
from rewind_ray.training.arithmetic import arithmetic

STEP = 0.2
"""Share of the remaining weights that a step removes, at most; Renda et al. 2020, Algorithm 1."""
MORE_STEPS = 10
"""Steps after the planned ones, where the trained network is larger or slower than its plan: the
file of a small network is mostly other than weights."""
MARGIN = 0.03
"""Of a size or latency, that plans stay below it: training chooses other filters."""
BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
MILLISECONDS = {"ms": 1.0}
ROUNDS, ROUND_MILLISECONDS = 7, 30
"""Of a measured latency, which is the median."""
HALVINGS = 8
"""Of the interval of densities, in a plan."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    kind: str = "compression"
    """compression, size or latency."""
    limit: float
    """Compression ratio to reach; or bytes of the file, or milliseconds of a forward pass of one
    example in fp32, not to exceed."""

    @property
    def is_measured(self) -> bool:
        """Whether only the network itself says if it is reached, and not how much was pruned."""
        return self.kind != "compression"

    def reached(self, value: float) -> bool:
        return value <= self.limit if self.is_measured else value >= self.limit

    def text(self, value: float | None = None) -> str:
        """``497 kB``, ``1.87 ms`` or ``10×``; the limit if no value is given."""
        value = self.limit if value is None else value
        if self.kind == "size":
            return size_text(value)
        return f"{value:.3g} ms" if self.kind == "latency" else f"{value:.4g}×"


def size_text(number: float) -> str:
    """Bytes as ``497 kB``, in the largest unit that has at least one of it, to four digits."""
    unit = max((u for u in BYTES if BYTES[u] <= max(1, number)), key=lambda unit: BYTES[unit])
    return f"{float(f'{number / BYTES[unit]:.4g}'):g} {unit}"


def quantity(text: str, units: dict[str, float] | dict[str, int], option: str) -> float:
    """``500kB`` or ``500 kB`` in the smallest unit. Raises UserError, naming the option."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text, re.ASCII)
    value = float(found[1]) * units[found[2]] if found and found[2] in units else 0.0
    if not 0 < value < math.inf:
        example = "500kB" if "kB" in units else "2ms"
        raise UserError(
            f"{option} is {text!r}; allowed: a number above 0 and its unit, {' or '.join(units)}, "
            f"such as {example}"
        )
    return value


def chosen_target(
    compression: float | None,
    size: str | None,
    latency: str | None,
    structure: str,
    option: Callable[[str], str],
) -> Target:
    """The one that is given; 10× if none is. option: how ``target_size`` is written, for messages.

    Raises UserError for several, for what is no such quantity, and for a structure that doesn't
    make a network smaller or faster.
    """
    given = {"target_compression": compression, "target_size": size, "target_latency": latency}
    named = [option(name) for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)} are given; choose one of them")
    if structure_named(structure).density is not None:
        raise UserError(
            f"{option('structure')} is {structure}, which says itself how much is removed; give "
            f"{' or '.join(n for n, one in STRUCTURES.items() if one.density is None)}"
        )
    if size is None and latency is None:
        ratio = 10.0 if compression is None else compression
        if not 1 < ratio < math.inf:
            raise UserError(f"{option('target_compression')} is {ratio:g}; allowed: above 1")
        return Target(limit=ratio)
    if not structure_named(structure).channels:
        cutting = [name for name, one in STRUCTURES.items() if one.channels]
        raise UserError(
            f"{named[0]} with {option('structure')} {structure}: zeros among the weights make "
            "neither the file smaller nor a forward pass faster; give "
            f"{option('structure')} {' or '.join(cutting)}, which are cut out"
        )
    if size is not None:
        return Target(kind="size", limit=quantity(size, BYTES, option("target_size")))
    assert latency is not None
    limit = quantity(latency, MILLISECONDS, option("target_latency"))
    return Target(kind="latency", limit=limit)


def step_of(structure: str, criterion: str, scope: str) -> Prune:
    """A step, its fraction still to be chosen. A layer that would lose all channels keeps one."""
    return Prune(
        fraction=STEP,
        structure=structure,
        criterion=criterion,
        scope=scope,
        keep_layers=structure_named(structure).channels,
    )


# Plans


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Equal steps."""

    step: Prune
    steps: int
    """That should reach the target."""
    most: int
    """With those that may follow where they don't."""


def steps_to(density: float, step: Prune, more: int = 0) -> Plan:
    """As few steps of at most STEP as end at this density."""
    count = max(1, math.ceil(round(math.log(density) / math.log(1 - STEP), 9)))
    fraction = 1 - density ** (1 / count)
    return Plan(step=replace(step, fraction=fraction), steps=count, most=count + more)


def planned(
    target: Target,
    step: Prune,
    protocol: Protocol,
    seed: int,
    option: str,
    data: str | None = None,
    init: str | Path | None = None,
    history: str | Path | None = None,
    device: torch.device | None = None,
) -> Plan:
    """The steps that should reach the target, found by cutting copies of the network that isn't
    trained yet (or of the one that was given: init, history).

    option: that named the target. Raises UserError where the network is so small or fast already,
    and where cutting all that can be cut doesn't reach it.
    """
    if not target.is_measured:
        return steps_to(1 / target.limit, step)
    task = planned_task(protocol, data)
    network = task.network(seed)
    if history is not None:
        init = list(history_files(history).values())[-1]
    if init is not None and Path(init).is_file():
        load_weights_(network, read_weights(init), str(init))
    cuts = Cuts(task, network.eval(), planning_step(step))
    on = device or torch.device("cpu")
    measure = partial(latency_of, device=on) if target.kind == "latency" else tensor_bytes

    def value_at(density: float) -> float:
        return measure(cuts.at(density), task.example()[0])

    dense = measure(network, task.example()[0])
    if target.reached(dense):
        raise UserError(
            f"{option} is {target.text()}, and the dense network has {target.text(dense)} already; "
            "ask for less"
        )
    low, high = 1 / cuts.weights, 1.0
    least = value_at(low)
    if not target.reached(least):
        raise UserError(
            f"{option} is {target.text()}, and with one filter left in every layer the network "
            f"still has {target.text(least)} of {target.text(dense)}; ask for more than that, or "
            "begin with a smaller network"
        )
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        if value_at(middle) <= target.limit * (1 - MARGIN):
            low = middle
        else:
            high = middle
    return steps_to(low, step, MORE_STEPS)


def planning_step(step: Prune) -> Prune:
    """By a criterion that looks at nothing but the weights: a plan is about shapes."""
    needs = criterion_named(step.criterion).needs
    return replace(step, criterion=DEFAULT_CRITERION) if needs else step


class Cuts:
    """Small copies of a network, by the density that pruning leaves."""

    def __init__(self, task: Task, network: nn.Module, step: Prune) -> None:
        self._network, self._step = network, step
        self._parameters = task.prunable(network)
        self._channels: Channels = channels_of(network, task.example())
        self._followers = followers(task.meta_network(), task.example())
        self.weights = sum(parameter.numel() for parameter in self._parameters.values())

    def at(self, density: float) -> nn.Module:
        network = copy.deepcopy(self._network)
        if round((1 - density) * self.weights) < 1:
            return network
        mask = pruned_mask(
            self._parameters,
            dense_mask(self._parameters),
            replace(self._step, fraction=1 - density),
            close=partial(self._channels.closed, companions=self._along),
            companions=self._along,
        )
        return shrink_(network, self._channels.cut({**mask, **self._along(mask)}))

    def _along(self, mask: Mask) -> Mask:
        return follower_mask(self._network, mask, self._followers)


# Measures


def measure_target(
    target: Target, exported: Exported, form: Form, device: torch.device
) -> tuple[float, bool]:
    """Bytes of the file, or milliseconds; and whether the target is out of reach, because the file
    has more beside the network's tensors than it allows."""
    if target.kind == "latency":
        return latency_of(exported.network, exported.task.example()[0], device), False
    value = file_bytes(exported, form)
    return value, value - tensor_bytes(exported.network) > target.limit


def tensor_bytes(network: nn.Module, example: Tensor | None = None) -> float:
    """Of parameters and buffers: what of a file there is to prune."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def file_bytes(exported: Exported, form: Form) -> int:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"network.{form.suffix}"
        write_export(exported, file, form)
        return file.stat().st_size


def latency_of(network: nn.Module, example: Tensor, device: torch.device) -> float:
    """Milliseconds of a forward pass of one example, in fp32, without compilation; the median.

    example: (1, ...), of which images of real numbers are replaced by random ones.
    """
    inputs = example.to(device)
    if example.is_floating_point():
        inputs = random_images(1, tuple(example.shape[1:]), device)
    there = {"network": copy.deepcopy(network).eval().to(device)}
    with arithmetic("fp32", device):
        once = min(forward_times(there, inputs, forwards=1, rounds=3)["network"])
        forwards = math.ceil(ROUND_MILLISECONDS / max(once, 1e-3))
        return statistics.median(forward_times(there, inputs, forwards, ROUNDS)["network"])


def last_within(
    end: Stage,
    row_of: Callable[[Stage], ResultRow | None],
    is_too_far: Callable[[Stage, ResultRow], bool],
    is_last: Callable[[Stage, ResultRow], bool],
) -> tuple[Stage, ResultRow] | None:
    """The last network of a chain before one that is too far or has diverged, and no farther than
    the one that ``is_last``; None if not even the first step is. end: the chain's."""
    found = None
    for stage in end.chain[1:]:
        row = row_of(stage)
        if row is None or row.status == "diverged" or is_too_far(stage, row):
            break
        found = stage, row
        if is_last(stage, row):
            break
    return found

"""What a sweep will take, before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import nn

from rewind_ray.pruning import check_fits, check_prune
from rewind_ray.spec import Protocol, Retrain, Stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.opening import free_bytes
from rewind_ray.structures import DEFAULT_STRUCTURE
from rewind_ray.tasks import task_of
from rewind_ray.training.optimizers import tensors_of_a_weight
from sweeps.plan.graph import Graph, Node, cost, kept_points, unfinished
from sweeps.plan.naming import target_density

RTX_3080_UPDATES_PER_SECOND = {
    "resnet20": 59.0,
    "resnet56": 28.6,
    "resnet110": 15.9,
    "wrn_16_8": 17.4,
}
"""On CIFAR at batch 128; Mikler 2022, Table 4."""
BESIDE_REWIND_POINTS = 1.05
"""Rows, metrics, boards and Tune's files take a few percent more."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a protocol's rewind points and epochs."""

    point_bytes: int
    updates: int
    """An epoch's."""
    num_test: int | None
    """Examples that test; None: unknown."""


@cache
def size_of(protocol: Protocol, data: str | None) -> Size:
    """Raises UserError or FileNotFoundError if the data or the network can't be had."""
    task = task_of(protocol, data)
    network, sizes = task.meta_network(), task.sizes()
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    buffers = sum(b.numel() * b.element_size() for b in network.buffers())
    mask = sum(p.numel() for p in task.prunable(network).values()) // 8
    return Size(
        point_bytes=(1 + tensors_of_a_weight(protocol)) * weights + buffers + mask,
        updates=sizes.steps_per_epoch,
        num_test=sizes.num_test,
    )


@cache
def prunable_shapes(protocol: Protocol, data: str | None) -> dict[str, nn.Parameter]:
    """The prunable parameters, without memory for their weights."""
    task = task_of(protocol, data)
    return task.prunable(task.meta_network())


def check_graph(graph: Graph, data: str | None) -> None:
    """Refuse, before anything trains, what could not be trained. Raises UserError."""
    for protocol in {node.stage.protocol for node in graph.values()}:
        size_of(protocol, data)
    specs = {(n.stage.protocol, n.stage.prune) for n in graph.values() if n.stage.prune}
    for protocol, prune in specs:
        check_prune(prune)
        check_fits(prune, prunable_shapes(protocol, data))


def disk_bytes(graph: Graph, keep: str, data: str | None) -> int:
    """Of all files that stay when these nodes are finished."""
    points = sum(
        kept_points(node, keep) * size_of(node.stage.protocol, data).point_bytes
        for node in graph.values()
    )
    return round(points * BESIDE_REWIND_POINTS)


def check_disk(graph: Graph, ledger: Ledger, keep: str, data: str | None) -> None:
    """Raises OSError if what is missing of the graph won't fit."""
    free = free_bytes(ledger.filesystem, ledger.root)
    needed = disk_bytes(unfinished(graph, ledger), keep, data)
    if free is not None and needed > free:
        way_out = "free some space, or give another --storage"
        if keep == "all":
            saving = disk_bytes(unfinished(graph, ledger), "referenced", data)
            way_out = f"--keep referenced needs {gigabytes(saving)}; or {way_out}"
        raise OSError(
            f"the sweep will write {gigabytes(needed)} to {ledger.uri}, where "
            f"{gigabytes(free)} are free: {way_out}"
        )


# The dry run


@dataclass(slots=True)
class Line:
    """Stages of one line of the dry run's table."""

    stages: int = 0
    epochs: int = 0
    densities: set[float | None] = field(default_factory=set)
    seeds: set[int] = field(default_factory=set)


def describe_graph(
    name: str,
    graph: Graph,
    ledger: Ledger,
    keep: str,
    data: str | None,
    rate: float | None = None,
    at_once: int | None = None,
) -> Group:
    """The graph in a table of its methods, and what it will cost; rate, at_once: see
    ``time_line``."""
    lines = cost_lines(graph, ledger, keep, data, rate, at_once)
    return Group(stage_table(name, graph), Text("\n".join(lines)))


def stage_table(name: str, graph: Graph) -> Table:
    groups: dict[tuple[str, ...], Line] = {}
    for node in graph.values():
        group = groups.setdefault(kind_of(node, graph), Line())
        group.stages += 1
        group.epochs += node.epochs
        group.densities.add(target_density(node.stage))
        group.seeds.add(node.stage.seed)
    table = Table(title=f"{name}: stage graph", title_justify="left")
    for column in ("network, data", "method", "pruning", "rewinds to epoch"):
        table.add_column(column)
    for column in ("compression", "seeds", "stages", "epochs"):
        table.add_column(column, justify="right")
    for kind, group in groups.items():
        known = [density for density in group.densities if density]
        spread = f"{1 / max(known):.2f}–{1 / min(known):.2f}×" if known else ""
        if len(known) == 1:
            spread = f"{1 / known[0]:.2f}×"
        numbers = (str(len(group.seeds)), f"{group.stages:,}", f"{group.epochs:,}")
        table.add_row(*kind, spread, *numbers)
    return table


def kind_of(node: Node, graph: Graph) -> tuple[str, ...]:
    stage = node.stage
    place = f"{stage.protocol.network} {stage.protocol.dataset.removeprefix('folder:')}"
    if stage.prune is None:
        return (place, "dense", "", "")
    iterative = stage.level > 1 or any(graph[child].stage.level > 1 for child in node.children)
    how = "one-shot"
    if iterative:
        how = f"iterative {stage.prune.fraction or stage.prune.structure}"
    if stage.prune.rates:
        how = f"{stage.prune.rates}, {how}"
    if stage.prune.layers:
        how = f"{stage.prune.layers}, {how}"
    if stage.prune.structure != DEFAULT_STRUCTURE:
        how = f"{stage.prune.structure}, {how}"
    rewind_epoch = stage.rewind_epoch
    back = "" if rewind_epoch is None else f"{rewind_epoch} of {stage.protocol.epochs}"
    return (place, stage.method, how, back)


def cost_lines(
    graph: Graph,
    ledger: Ledger,
    keep: str,
    data: str | None,
    rate: float | None = None,
    at_once: int | None = None,
) -> list[str]:
    left = unfinished(graph, ledger)
    whole = cost(graph)
    updates = total_updates(graph, data)
    needed = disk_bytes(left, keep, data)
    free = free_bytes(ledger.filesystem, ledger.root)
    lines = [
        f"stages   {whole.stages:,}, of which {len(graph) - len(left):,} are done; "
        f"{whole.rows:,} result rows",
        f"epochs   {whole.epochs:,}; each row's chain trained by itself: "
        f"{whole.epochs_unshared:,} ({whole.sharing_factor:.1f} times as many)",
        f"updates  {updates:,}",
        f"disk     {gigabytes(needed)} to write (--keep {keep}), "
        + ("free space unknown" if free is None else f"{gigabytes(free)} free"),
        *seeds_lines(graph, data),
    ]
    if rate is not None:
        return [*lines, time_line(left, data, rate, at_once)]
    hours = rtx_3080_hours(left, data)
    if hours:
        lines.append(
            f"time     about {hours:,.1f} GPU-hours left at the updates/s published for an "
            "RTX 3080 (Mikler 2022, Table 4)"
        )
    return lines


PAIRED_DEVIATION = 0.002
"""Of the difference between two retrainings of one dense network, from seed to seed: a fraction.
The trials of Renda et al. 2020, fine-tuning against learning-rate rewinding, one-shot, down to 10
times fewer weights, equal retraining times: medians of 0.16 (ResNet-56) to 0.21 points
(ResNet-20), GNMT 0.20 BLEU."""
IMAGES_DEVIATION = 2
"""The same on small test sets, in images: on 360 digits, 6 seeds, down to 10 times fewer weights,
it is 0.3 to 0.6 points, one to two images."""
GOALS = (0.005, 0.003)
"""Differences worth showing; half and a third of a point."""
TRIED = np.round(np.concatenate([np.arange(0.5, 10, 0.5), np.arange(10, 201, 1)]) / 1000, 6)
"""Differences that are tried, as fractions: steps of 0.05 points, from 1 point on of 0.1."""


def seeds_lines(graph: Graph, data: str | None = None) -> list[str]:
    """What differences the seeds of a graph are too few to show, and how many it would take.

    Nothing where there are no two methods to compare.
    """
    seeds = len({node.stage.seed for node in graph.values()})
    contenders = {contender_of(node.stage) for node in graph.values() if node.stage.level}
    pairs = math.comb(len(contenders), 2)
    if not pairs:
        return []
    sizes = [size_of(protocol, data) for protocol in {n.stage.protocol for n in graph.values()}]
    tested = [size.num_test for size in sizes if size.num_test is not None]
    scatter = max([PAIRED_DEVIATION, *(IMAGES_DEVIATION / number for number in tested)])
    least = least_shown(seeds, pairs, scatter)
    what = "no difference can be shown"
    if seeds > 1:
        what = f"a difference below {in_points(least)} would likely not be shown"
    needed = [
        f"{in_points(goal)} would take {number} seeds"
        for goal in GOALS
        if goal < least and (number := seeds_to_show(goal, pairs, scatter))
    ]
    number = f"{pairs} {'pair' if pairs == 1 else 'pairs'} of methods"
    source = "as published ResNets have"
    if scatter > PAIRED_DEVIATION:
        source = f"{IMAGES_DEVIATION} of the test images"
    how = f"80% power, {number}, {in_points(scatter)} of scatter from seed to seed, {source}"
    return [f"seeds    {seeds}: {'; '.join([what, *needed])} ({how})"]


def seeds_to_show(difference: float, pairs: int, scatter: float = PAIRED_DEVIATION) -> int:
    """Seeds that show a difference, a fraction, with 80% power: by a paired t test at the strictest
    level of Holm's correction for that many pairs of methods."""
    return int(_needed(np.array([difference]), pairs, scatter)[0])


def least_shown(seeds: int, pairs: int, scatter: float = PAIRED_DEVIATION) -> float:
    """The smallest of TRIED that so many seeds show; infinite for a single seed."""
    shown = TRIED[_needed(TRIED, pairs, scatter) <= seeds]
    return float(shown[0]) if len(shown) else math.inf


def _needed(differences: NDArray[np.float64], pairs: int, scatter: float) -> NDArray[np.float64]:
    from analysis.questions.statistics import ALPHA, seeds_needed  # scipy takes a second to import

    deviation = np.full(len(differences), scatter)
    return seeds_needed(differences, deviation, ALPHA / pairs)


def in_points(fraction: float) -> str:
    return f"{100 * fraction:.3g} {'point' if fraction == 0.01 else 'points'}"


def contender_of(stage: Stage) -> Retrain | None:
    """What is compared: the retraining, whatever its length."""
    return stage.retrain and replace(stage.retrain, epochs=ANY_LENGTH, drops=())


ANY_LENGTH = 1


def time_line(graph: Graph, data: str | None, rate: float, at_once: int | None) -> str:
    """rate: updates/s of one stage, also while ``at_once`` of them run."""
    hours = total_updates(graph, data) / rate / 3600
    line = (
        f"time     about {hours_text(hours)} hours of one device left at {rate:g} updates/s (given)"
    )
    if at_once is None:
        return line
    longest = longest_chain_updates(graph, data) / rate / 3600
    return f"{line}, {hours_text(max(hours / at_once, longest))} with {at_once} at once"


def longest_chain_updates(graph: Graph, data: str | None) -> int:
    """Of stages that wait for one another: no number of devices makes them faster."""
    ends: dict[str | None, int] = {None: 0}
    for stage_id, node in graph.items():
        updates = node.epochs * size_of(node.stage.protocol, data).updates
        ends[stage_id] = ends.get(node.parent_id, 0) + updates
    return max(ends.values())


def hours_text(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def total_updates(graph: Graph, data: str | None) -> int:
    return sum(n.epochs * size_of(n.stage.protocol, data).updates for n in graph.values())


def rtx_3080_hours(graph: Graph, data: str | None) -> float | None:
    """None where a network's speed was not published."""
    seconds = 0.0
    for node in graph.values():
        protocol = node.stage.protocol
        speed = RTX_3080_UPDATES_PER_SECOND.get(protocol.network)
        if speed is None or protocol.batch_size != 128:
            return None
        seconds += node.epochs * size_of(protocol, data).updates / speed
    return seconds / 3600


def gigabytes(size: int) -> str:
    if size < 10**9:
        return f"{size / 1e6:,.0f} MB"
    return f"{size / 1e9:,.1f} GB"

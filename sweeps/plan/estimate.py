"""What a sweep will cost in epochs, time and disk, before it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from torch import nn

from rewind_ray.pruning import check_fits, check_prune
from rewind_ray.spec import Protocol
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.opening import free_bytes
from rewind_ray.structures import DEFAULT_STRUCTURE
from rewind_ray.tasks import planned_task
from rewind_ray.training.optimizers import tensors_of_a_weight
from sweeps.options import Options
from sweeps.plan.graph import Graph, Node, cost, kept_points, unfinished
from sweeps.plan.naming import stage_place, target_density
from sweeps.plan.power import seeds_lines

RTX_3080_UPDATES_PER_SECOND = {
    "resnet20": 59.0,
    "resnet56": 28.6,
    "resnet110": 15.9,
    "wrn_16_8": 17.4,
}
"""On CIFAR at batch 128; Mikler 2022, Table 4."""
CIFAR_SIDE = 32
"""Of its images, in pixels."""
BESIDE_REWIND_POINTS = 1.05
"""Rows, metrics, TensorBoard's and Tune's files take a few percent more."""


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a protocol's rewind points, epochs and test set."""

    point_bytes: int
    updates: int
    """Of an epoch."""
    num_test: int | None
    """Number of test examples; None: unknown."""


def size_of(protocol: Protocol, data: str | None) -> Size:
    """Raises UserError if the data or the network can't be had."""
    return _planned(protocol, data)[0]


def prunable_shapes(protocol: Protocol, data: str | None) -> dict[str, nn.Parameter]:
    """The prunable parameters, on the meta device."""
    return _planned(protocol, data)[1]


@cache
def _planned(protocol: Protocol, data: str | None) -> tuple[Size, dict[str, nn.Parameter]]:
    task = planned_task(protocol, data)
    sizes = task.sizes()  # first: a task that must load its data for them has it for the network
    network = task.meta_network()
    prunable = task.prunable(network)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    buffers = sum(b.numel() * b.element_size() for b in network.buffers())
    mask = sum(p.numel() for p in prunable.values()) // 8
    size = Size(
        point_bytes=(1 + tensors_of_a_weight(protocol)) * weights + buffers + mask,
        updates=sizes.steps_per_epoch,
        num_test=sizes.num_test,
    )
    return size, prunable


def check_graph(graph: Graph, data: str | None) -> None:
    """Raises UserError, before anything trains, for what could not be trained."""
    for protocol in {node.stage.protocol for node in graph.values()}:
        size_of(protocol, data)
    specs = {(n.stage.protocol, n.stage.prune) for n in graph.values() if n.stage.prune}
    for protocol, prune in specs:
        check_prune(prune)
        check_fits(prune, prunable_shapes(protocol, data))


def disk_bytes(graph: Graph, keep: str, data: str | None) -> int:
    """Bytes of all files that stay once these nodes are finished."""
    points = sum(
        kept_points(node, keep) * size_of(node.stage.protocol, data).point_bytes
        for node in graph.values()
    )
    return round(points * BESIDE_REWIND_POINTS)


def check_disk(graph: Graph, ledger: Ledger, keep: str, data: str | None) -> None:
    """Raises OSError if the files that are still to be written won't fit."""
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
    """One line of the dry run's table."""

    stages: int = 0
    epochs: int = 0
    densities: set[float | None] = field(default_factory=set)
    seeds: set[int] = field(default_factory=set)
    lengths: set[int] = field(default_factory=set)
    """Of retraining, in epochs."""
    of: int = 0
    """Length of the original training."""

    @property
    def retraining(self) -> str:
        """``5 of 16``; ``5–140, 12 lengths``; empty for the dense network."""
        if not self.lengths:
            return ""
        if len(self.lengths) > 1:
            return f"{min(self.lengths)}–{max(self.lengths)}, {len(self.lengths)} lengths"
        return f"{min(self.lengths)} of {self.of}"

    @property
    def compression(self) -> str:
        known = [density for density in self.densities if density]
        if not known:
            return ""
        ends = dict.fromkeys(f"{1 / density:.2f}" for density in (max(known), min(known)))
        return f"{'–'.join(ends)}×"


def describe_graph(
    name: str, graph: Graph, ledger: Ledger, options: Options, data: str | None
) -> Group:
    """The graph as tables, a line a method, and what it will cost."""
    lines = cost_lines(graph, ledger, options, data)
    return Group(Text(f"{name}: stage graph"), *stage_tables(graph), Text("\n".join(lines)))


def stage_tables(graph: Graph) -> list[Table]:
    """One for each network on its data."""
    groups: dict[str, dict[tuple[str, str], Line]] = {}
    for node in graph.values():
        place = stage_place(node.stage)
        group = groups.setdefault(place, {}).setdefault(kind_of(node, graph), Line())
        group.stages += 1
        group.epochs += node.epochs
        group.densities.add(target_density(node.stage))
        group.seeds.add(node.stage.seed)
        group.of = node.stage.protocol.epochs
        if node.stage.retrain is not None:
            group.lengths |= node.row_epochs or {node.stage.retrain.epochs}
    return [stage_table(place, lines) for place, lines in groups.items()]


def stage_table(place: str, groups: dict[tuple[str, str], Line]) -> Table:
    table = Table(title=escape(place), title_justify="left", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)  # so that most fit into 80 columns
    table.add_column("method", no_wrap=True)
    table.add_column("pruning", min_width=9)
    table.add_column("retrained for", justify="right", min_width=9)
    for column in ("compression", "seeds", "stages", "epochs"):
        table.add_column(column, justify="right", no_wrap=True)
    for kind, group in groups.items():
        numbers = (str(len(group.seeds)), f"{group.stages:,}", f"{group.epochs:,}")
        table.add_row(*map(escape, kind), group.retraining, group.compression, *numbers)
    return table


def kind_of(node: Node, graph: Graph) -> tuple[str, str]:
    """Method, and way of pruning."""
    stage = node.stage
    if stage.prune is None:
        return ("dense", "")
    iterative = stage.level > 1 or any(graph[child].stage.level > 1 for child in node.children)
    how = "one-shot"
    if iterative:
        fraction = stage.prune.fraction
        how = f"iterative {fraction:.3g}" if fraction else f"iterative {stage.prune.structure}"
    if stage.prune.rates:
        how = f"{stage.prune.rates}, {how}"
    if stage.prune.layers:
        how = f"{stage.prune.layers}, {how}"
    if stage.prune.structure != DEFAULT_STRUCTURE:
        how = f"{stage.prune.structure}, {how}"
    return (stage.method, how)


def cost_lines(graph: Graph, ledger: Ledger, options: Options, data: str | None) -> list[str]:
    left, keep = unfinished(graph, ledger), options.keep
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
        *seeds_lines(graph, test_sizes(graph, data)),
    ]
    if options.updates_per_second is not None:
        line = time_line(left, data, options.updates_per_second, options.max_concurrent)
        return [*lines, line]
    hours = rtx_3080_hours(left, data)
    if hours:
        lines.append(published_time_line(left, data, hours, options.max_concurrent))
    elif hours is None:
        lines.append(
            "time     unknown; rewind-ray calibrate measures what --updates-per-second takes"
        )
    return lines


def time_line(graph: Graph, data: str | None, rate: float, at_once: int | None) -> str:
    """rate: updates/s of one stage, also while ``at_once`` of them run."""
    hours = total_updates(graph, data) / rate / 3600
    line = (
        f"time     about {hours_text(hours)} hours of one device left at {rate:g} updates/s (given)"
    )
    if at_once is None:
        return line
    longest = longest_chain_updates(graph, data) / rate / 3600
    return f"{line}, {at_once_text(hours, longest, at_once)}"


def published_time_line(graph: Graph, data: str | None, hours: float, at_once: int | None) -> str:
    """hours: of all stages, at the published speeds, which are those of a stage alone on a GPU."""
    line = (
        f"time     about {hours:,.1f} GPU-hours left at the updates/s published for an "
        "RTX 3080 (Mikler 2022, Table 4)"
    )
    if at_once is None:
        return line
    longest = longest_chain(graph, lambda node: rtx_3080_seconds(node, data) or 0.0) / 3600
    return f"{line}; on a GPU each, {at_once_text(hours, longest, at_once)}"


def at_once_text(hours: float, longest: float, at_once: int) -> str:
    """``11.1 with 32 at once``. longest: hours of the longest chain, in which stages wait."""
    text = f"{hours_text(max(hours / at_once, longest))} with {at_once} at once"
    return f"{text} (the longest chain; more gain nothing)" if longest > hours / at_once else text


def longest_chain_updates(graph: Graph, data: str | None) -> int:
    """Updates of the longest chain, which no number of devices makes faster."""
    return int(longest_chain(graph, lambda n: n.epochs * size_of(n.stage.protocol, data).updates))


def longest_chain(graph: Graph, length_of: Callable[[Node], float]) -> float:
    """The greatest sum of ``length_of`` over stages that go on from one another."""
    ends: dict[str | None, float] = {None: 0}
    for stage_id, node in graph.items():
        ends[stage_id] = ends.get(node.parent_id, 0) + length_of(node)
    return max(ends.values())


def hours_text(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def test_sizes(graph: Graph, data: str | None) -> list[int]:
    """Number of test examples of each protocol, where it is known."""
    sizes = [size_of(protocol, data) for protocol in {n.stage.protocol for n in graph.values()}]
    return [size.num_test for size in sizes if size.num_test is not None]


def total_updates(graph: Graph, data: str | None) -> int:
    return sum(n.epochs * size_of(n.stage.protocol, data).updates for n in graph.values())


def rtx_3080_hours(graph: Graph, data: str | None) -> float | None:
    """GPU-hours at published speeds; None where a network's speed was not published for images and
    batches of this size."""
    total = 0.0
    for node in graph.values():
        if (seconds := rtx_3080_seconds(node, data)) is None:
            return None
        total += seconds
    return total / 3600


def rtx_3080_seconds(node: Node, data: str | None) -> float | None:
    """Of one stage."""
    protocol = node.stage.protocol
    speed = RTX_3080_UPDATES_PER_SECOND.get(protocol.network)
    if speed is None or protocol.batch_size != 128 or side_of(protocol, data) != CIFAR_SIDE:
        return None
    return node.epochs * size_of(protocol, data).updates / speed


@cache
def side_of(protocol: Protocol, data: str | None) -> int:
    """Of the images, in pixels."""
    (images,) = planned_task(protocol, data).example()
    return images.shape[-1]


def gigabytes(size: int) -> str:
    if size < 10**9:
        return f"{size / 1e6:,.0f} MB"
    return f"{size / 1e9:,.1f} GB"

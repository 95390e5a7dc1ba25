"""The stages of a sweep as a graph, parents first, and its cost in epochs. No Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rewind_ray.retraining import METHODS
from rewind_ray.spec import Stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Job
from rewind_ray.training.stage import missing_epochs


@dataclass(kw_only=True, slots=True)
class Node:
    """A stage, trained once, with every length and rewind point that is asked of it."""

    stage: Stage
    """Its ``train_epochs`` is one of ``row_epochs``."""
    row_epochs: set[int] = field(default_factory=set)
    rewind_epochs: set[int] = field(default_factory=set)
    children: list[str] = field(default_factory=list)

    @property
    def stage_id(self) -> str:
        return self.stage.stage_id

    @property
    def parent_id(self) -> str | None:
        return self.stage.parent.stage_id if self.stage.parent else None

    @property
    def epochs(self) -> int:
        """Length it is trained for."""
        return max(self.row_epochs | self.rewind_epochs)

    @property
    def job(self) -> Job:
        return Job(
            stage=self.stage,
            row_epochs=tuple(sorted(self.row_epochs)),
            rewind_epochs=tuple(sorted(self.rewind_epochs)),
        )


Graph = dict[str, Node]
"""stage_id -> node; every parent stands before its children."""


def build_graph(stages: Iterable[Stage]) -> Graph:
    """The stages and their ancestors, each once, each with a result row."""
    graph: Graph = {}
    for stage in stages:
        for step in unseen_chain(stage, graph):
            add(step, graph)
    return graph


def unseen_chain(stage: Stage, graph: Graph) -> Iterator[Stage]:
    """Stages of the chain, parents first, that the graph lacks at their length."""
    unseen: list[Stage] = []
    step: Stage | None = stage
    while step is not None:
        node = graph.get(step.stage_id)
        if node is not None and step.train_epochs in node.row_epochs:
            break
        unseen.append(step)
        step = step.parent
    return reversed(unseen)


def add(stage: Stage, graph: Graph) -> None:
    """Ask for a row of the stage, and of its dense network trained to the end, with which a
    pruned network is compared however early it was pruned (``baseline_test_accuracy``)."""
    is_new = stage.stage_id not in graph
    node = graph.setdefault(stage.stage_id, Node(stage=stage))
    node.row_epochs.add(stage.train_epochs)
    if stage.parent is not None:
        graph[stage.baseline.stage_id].row_epochs.add(stage.protocol.epochs)
    if stage.parent is None or stage.retrain is None or not is_new:
        return
    parent = graph[stage.parent.stage_id]
    parent.children.append(stage.stage_id)
    parent.rewind_epochs.add(stage.parent.train_epochs)
    if METHODS[stage.retrain.method].weights in ("baseline", "blend"):
        assert stage.rewind_epoch is not None
        graph[stage.baseline.stage_id].rewind_epochs.add(stage.rewind_epoch)


def unfinished(graph: Graph, ledger: Ledger) -> Graph:
    """The nodes of which a row or rewind point is missing in the ledger."""
    listed = ledger.listed(graph)
    return {stage_id: node for stage_id, node in graph.items() if missing_epochs(listed, node.job)}


# Cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    stages: int
    rows: int
    epochs: int
    """Epochs to train, every stage once."""
    epochs_unshared: int
    """Epochs if every row's chain, baseline included, were trained by itself."""

    @property
    def sharing_factor(self) -> float:
        return self.epochs_unshared / self.epochs if self.epochs else 1.0


def cost(graph: Graph) -> Cost:
    chain_epochs: dict[str, int] = {}  # epochs of the ancestors
    epochs = epochs_unshared = rows = 0
    for stage_id, node in graph.items():
        parent = node.stage.parent
        before = chain_epochs[parent.stage_id] + parent.train_epochs if parent else 0
        chain_epochs[stage_id] = before
        epochs += node.epochs
        epochs_unshared += sum(before + length for length in node.row_epochs)
        rows += len(node.row_epochs)
    return Cost(stages=len(graph), rows=rows, epochs=epochs, epochs_unshared=epochs_unshared)


def kept_points(node: Node, keep: str) -> int:
    """Number of rewind points that stay once the stage is finished."""
    if node.stage.parent is None and keep == "all":
        return node.epochs + 1
    return len(node.row_epochs | node.rewind_epochs)


def longest_first(graph: Graph) -> dict[str, int]:
    """stage_id -> epochs from its start to the end of the longest chain through it.

    Started in this order, a sweep doesn't end in one long chain with the other workers idle.
    """
    longest: dict[str, int] = {}
    for stage_id, node in reversed(graph.items()):
        longest[stage_id] = node.epochs + max((longest[c] for c in node.children), default=0)
    return longest


def lineages(graph: Graph) -> dict[str, str]:
    """stage_id -> id of the last stage of its chain; the baselines are chains by themselves."""
    last: dict[str, str] = {}
    for stage_id, node in reversed(graph.items()):
        leads_on = node.stage.level > 0 and node.children
        last[stage_id] = last[node.children[0]] if leads_on else stage_id
    return last

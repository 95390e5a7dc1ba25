"""Stages as a graph, parents first: each is trained once, with all that is asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rewind_ray.retraining import METHODS
from rewind_ray.spec import Stage
from rewind_ray.training.run import Job


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
        """Length it is trained for; 0 where it is adopted."""
        return 0 if self.stage.adopted else max(self.row_epochs | self.rewind_epochs)

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
        graph[stage.baseline.stage_id].row_epochs.add(stage.protocol.dense_epochs)
    if stage.parent is None or stage.retrain is None or not is_new:
        return
    parent = graph[stage.parent.stage_id]
    parent.children.append(stage.stage_id)
    parent.rewind_epochs.add(stage.parent.train_epochs)
    if METHODS[stage.retrain.method].weights in ("baseline", "blend"):
        assert stage.rewind_epoch is not None
        graph[stage.baseline.stage_id].rewind_epochs.add(stage.rewind_epoch)

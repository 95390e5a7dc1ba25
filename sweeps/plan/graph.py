"""The stages of a sweep as a graph, and its cost in epochs. No Ray."""

from __future__ import annotations

from dataclasses import dataclass

from rewind_ray.spec import Stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.graph import Graph, Node, add, build_graph, unseen_chain
from rewind_ray.training.stage import missing_epochs


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
        before = chain_epochs[parent.stage_id] + trained(parent) if parent else 0
        chain_epochs[stage_id] = before
        epochs += node.epochs
        lengths = (0,) if node.stage.adopted else node.row_epochs
        epochs_unshared += sum(before + length for length in lengths)
        rows += len(node.row_epochs)
    return Cost(stages=len(graph), rows=rows, epochs=epochs, epochs_unshared=epochs_unshared)


def trained(stage: Stage) -> int:
    """Epochs that the stage by itself is trained for."""
    return 0 if stage.adopted else stage.train_epochs


def kept_points(node: Node, keep: str) -> int:
    """Number of rewind points that stay once the stage is finished."""
    if node.stage.parent is None and keep == "all" and not node.stage.adopted:
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


__all__ = [
    "Cost",
    "Graph",
    "Node",
    "add",
    "build_graph",
    "cost",
    "kept_points",
    "lineages",
    "longest_first",
    "unfinished",
    "unseen_chain",
]

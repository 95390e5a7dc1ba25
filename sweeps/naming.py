"""What a stage is called where people read it."""

from __future__ import annotations

from rewind_ray.spec import Stage
from sweeps.graph import Graph, lineages


def percent(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{100 * accuracy:.2f}%"


def target_density(stage: Stage) -> float:
    """What the chain's prune fractions multiply up to; the row has the exact density."""
    density = 1.0
    for step in stage.chain[1:]:
        assert step.prune is not None
        density *= 1 - step.prune.fraction
    return density


def stage_title(stage: Stage) -> str:
    """One line: ``resnet20 cifar10 lr_rewind 2.92× level 3 seed 0``."""
    protocol = stage.protocol
    words = [protocol.network, protocol.dataset.removeprefix("folder:"), stage.method]
    if stage.level:
        words.append(f"{1 / target_density(stage):.2f}×")
    if stage.level > 1:
        words.append(f"level {stage.level}")
    return " ".join([*words, f"seed {stage.seed}"])


def chain_place(stage: Stage) -> str:
    return f"{stage.protocol.network}-{stage.protocol.dataset.removeprefix('folder:')}"


def chain_name(leaf: Stage) -> str:
    """Of the chain that ends in this stage; a name that a file system takes."""
    if leaf.prune is None or leaf.retrain is None:
        return f"dense-seed{leaf.seed}"
    how = f"{leaf.method}-{leaf.retrain.epochs}ep"
    if leaf.prune.structure != "unstructured":
        how = f"{leaf.prune.structure}-{how}"
    if leaf.level == 1:
        return f"{how}-oneshot-{1 / target_density(leaf):.4g}x-seed{leaf.seed}"
    return f"{how}-iterative-{leaf.prune.fraction:g}-seed{leaf.seed}"


def chain_names(graph: Graph) -> dict[str, str]:
    """stage_id -> name of its chain, unlike any other chain's of the graph.

    Network and data set come before it, as a folder, where the graph has several.
    """
    last = lineages(graph)
    several = len({chain_place(node.stage) for node in graph.values()}) > 1
    owners: dict[str, str] = {}
    for leaf_id in dict.fromkeys(last.values()):
        leaf = graph[leaf_id].stage
        name = f"{chain_place(leaf)}/{chain_name(leaf)}" if several else chain_name(leaf)
        owners[f"{name}-{leaf_id[:6]}" if name in owners else name] = leaf_id
    names = {leaf_id: name for name, leaf_id in owners.items()}
    return {stage_id: names[leaf_id] for stage_id, leaf_id in last.items()}

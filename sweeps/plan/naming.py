"""Titles of stages and names of chains, for people and TensorBoard."""

from __future__ import annotations

import re

from analysis.table.metrics import metric_named
from rewind_ray.retraining import method_named
from rewind_ray.spec import Stage
from rewind_ray.structures import DEFAULT_STRUCTURE, structure_named
from sweeps.plan.graph import Graph, lineages


def percent(accuracy: float | None) -> str:
    return "–" if accuracy is None else f"{100 * accuracy:.2f}%"


def score(value: float | None, metric: str) -> str:
    """``92.31%``; of another metric than accuracy ``30.72 BLEU``."""
    if metric == "accuracy" or value is None:
        return percent(value)
    return f"{100 * value:.2f}{metric_named(metric).unit}"


def method_label(stage: Stage) -> str:
    """The method, and the values of the knobs that it needs: ``blend 0.5``."""
    retrain = stage.retrain
    if retrain is None:
        return "dense"
    needs = method_named(retrain.method).needs
    return " ".join([retrain.method, *(f"{getattr(retrain, name):g}" for name in needs)])


def target_density(stage: Stage) -> float | None:
    """Density by the chain's prune fractions; the result row has the exact one.

    None where only some layers are pruned, or by rates: the density depends on the network then.
    """
    density = 1.0
    for step in stage.chain[1:]:
        assert step.prune is not None
        of_layer = structure_named(step.prune.structure).density
        if step.prune.layers or step.prune.rates:
            return None
        if of_layer is not None:
            density *= of_layer
        else:
            assert step.prune.fraction is not None
            density *= 1 - step.prune.fraction
    return density


def amount(stage: Stage) -> str:
    """How far the network is pruned: ``9.31×``, ``90% of stages.*.conv1``, ``resnet56-B^2``."""
    density = target_density(stage)
    if density is not None:
        return f"{1 / density:.2f}×"
    prune = stage.prune
    assert prune is not None
    if prune.rates:
        return f"{prune.rates}^{prune.power}" if prune.power > 1 else prune.rates
    share = prune.structure if prune.fraction is None else f"{100 * prune.fraction:g}%"
    return f"{share} of {prune.layers}"


def stage_title(stage: Stage) -> str:
    """One line: ``resnet20 cifar10 lr_rewind 2.92× level 3 seed 0``."""
    return f"{stage_place(stage)} {short_title(stage)}"


def stage_place(stage: Stage) -> str:
    """``resnet20 cifar10``."""
    return f"{stage.protocol.network} {stage.protocol.dataset.removeprefix('folder:')}"


def short_title(stage: Stage) -> str:
    """Without network and data: ``lr_rewind 2.92× level 3 seed 0``."""
    words = [method_label(stage)]
    if stage.level:
        words.append(amount(stage))
    if stage.level > 1:
        words.append(f"level {stage.level}")
    return " ".join([*words, f"seed {stage.seed}"])


def chain_name(leaf: Stage) -> str:
    """Name of the chain that ends in this stage, fit for a file system.

    It ends with digits of the id of the chain's first stage, pruned or dense, so that another
    sweep of the same name never writes to the same files. A longer chain keeps its name.
    """
    first = leaf.chain[:2][-1].stage_id[:6]
    if leaf.prune is None or leaf.retrain is None:
        return f"seed{leaf.seed}-{first}"
    how = f"{method_label(leaf).replace(' ', '')}-{leaf.retrain.epochs}ep"
    if leaf.prune.structure != DEFAULT_STRUCTURE:
        how = f"{structure_named(leaf.prune.structure).slug}-{how}"
    if leaf.level == 1:
        return f"{how}-oneshot-{path_amount(leaf)}-seed{leaf.seed}-{first}"
    step = "" if leaf.prune.fraction is None else f"-{leaf.prune.fraction:g}"
    return f"{how}-iterative{step}-seed{leaf.seed}-{first}"


def chain_group(leaf: Stage) -> str:
    """Folder of its chain: the method, so that TensorBoard can show one group of thousands."""
    place = re.sub(r"[^\w.+-]", "-", stage_place(leaf))
    return f"{place}/{'dense' if leaf.retrain is None else leaf.retrain.method}"


def path_amount(stage: Stage) -> str:
    density = target_density(stage)
    if density is not None:
        return f"{1 / density:.4g}x"
    return amount(stage).replace("%", "pc").replace(" of ", "-").replace("*", "_")


def chain_names(graph: Graph) -> dict[str, str]:
    """stage_id -> name of its chain, unique in the graph: ``resnet20-cifar10/lr_rewind/...``."""
    last = lineages(graph)
    owners: dict[str, str] = {}
    for leaf_id in dict.fromkeys(last.values()):
        leaf = graph[leaf_id].stage
        name = f"{chain_group(leaf)}/{chain_name(leaf)}"
        owners[f"{name}-{leaf_id[:6]}" if name in owners else name] = leaf_id
    names = {leaf_id: name for name, leaf_id in owners.items()}
    return {stage_id: names[leaf_id] for stage_id, leaf_id in last.items()}

"""The rivals of a recipe: Algorithm 1 of Renda et al. 2020 at the same search cost."""

from __future__ import annotations

import math

from rewind_ray.spec import Protocol, Prune, Retrain
from sweeps.searching.objectives import Point
from sweeps.searching.space import Recipe

STEP = 0.2  # of the remaining weights; Renda et al. 2020, §5


def rivals_at(point: Point, protocol: Protocol) -> dict[str, Recipe]:
    """Learning-rate rewinding in equal levels that prunes as far as ``point`` in no more epochs.

    In full, Algorithm 1 takes steps of 20% that each retrain for T epochs. To cost less it can
    retrain for a shorter time or take larger steps, which the paper doesn't settle. So there are
    two rivals: one with levels of about 20%, one with as few levels as leave each its T epochs.
    They may be the same.
    """
    many = max(1, round(math.log(point.compression) / -math.log1p(-STEP)))
    many = min(many, point.cost_epochs)
    few = min(many, max(1, point.cost_epochs // protocol.epochs))
    rivals = {"Algorithm 1 in shorter levels": in_levels(many, point, protocol)}
    if few < many:
        rivals["Algorithm 1 in larger steps"] = in_levels(few, point, protocol)
    return rivals


def in_levels(levels: int, point: Point, protocol: Protocol) -> Recipe:
    epochs = min(protocol.epochs, point.cost_epochs // levels)
    return Recipe(
        prune=Prune(fraction=1 - point.compression ** (-1 / levels)),
        retrain=Retrain(method="lr_rewind", epochs=epochs),
        levels=levels,
    )


def published_cost(compression: float, protocol: Protocol) -> int:
    """Epochs of Algorithm 1 as published, T for each level, until it has pruned as far."""
    levels = math.ceil(round(math.log(compression) / -math.log1p(-STEP), 2))
    return levels * protocol.epochs

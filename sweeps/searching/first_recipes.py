"""The first suggestions of a search: the recipes that one would try without it."""

from __future__ import annotations

import math
import sys
from typing import Any

from rewind_ray.knobs import Values
from rewind_ray.limits import Range
from rewind_ray.retraining import METHODS
from rewind_ray.spec import Protocol
from sweeps.plan.chains import share_of, steps_to
from sweeps.searching.objectives import Goal
from sweeps.searching.space import (
    DIGITS,
    KNOBS,
    Space,
    asked_knobs,
    lowest,
    values_of,
)

METHOD = "lr_rewind"
"""Of Algorithm 1; Renda et al. 2020, §6."""


def first_recipes(space: Space, protocol: Protocol, goal: Goal) -> list[dict[str, Any]]:
    """Optuna parameters of Algorithm 1 with the largest and with the smallest steps of the space.

    Each level retrains for as long, and the chain prunes as far, as the limits allow. Recipes that
    the space doesn't have are left out.
    """
    if METHOD not in values_of(space.methods):
        return []
    steps = dict.fromkeys((greatest(space.fractions, 1.0), lowest(space.fractions)))
    recipes = [first_recipe(fraction, space, protocol, goal) for fraction in steps]
    return [recipe for n, recipe in enumerate(recipes) if recipe and recipe not in recipes[:n]]


def first_recipe(
    fraction: float, space: Space, protocol: Protocol, goal: Goal
) -> dict[str, Any] | None:
    """None if not even one level is within the limits."""
    structure = values_of(space.structures)[0]
    asked = asked_knobs(METHODS[METHOD], structure, goal.target_compression is not None)
    budget = goal.budget_epochs or sys.maxsize
    fewest = 1
    if "fractions" in asked and "levels" not in asked:
        assert goal.target_compression is not None
        fewest = steps_to(goal.target_compression, fraction)
    affordable = min(protocol.epochs, budget // fewest)
    share = greatest(space.shares, affordable / protocol.epochs)
    if share is None:
        return None
    epochs = share_of(protocol.epochs, share)
    deepest = math.log(space.max_compression) / -math.log1p(-fraction)
    levels = greatest(space.levels, min(budget / epochs, deepest))
    if "levels" in asked and levels is None:
        return None
    values = {
        "fractions": fraction,
        "levels": levels,
        "shares": share,
        "momentum": lowest(space.momentum),
    }
    found = {KNOBS[knob].parameter: values[knob] for knob in asked}
    return {"method": METHOD, "structure": structure, **found}


def greatest(knob: Values, limit: float) -> Any:
    """The greatest value up to ``limit``; None if all are above it."""
    limit += 10**-DIGITS
    if not isinstance(knob, Range):
        return max((value for value in knob if value <= limit), default=None)
    if knob.low > limit:
        return None
    top = min(knob.high, limit)
    if knob.step is None:
        return top
    value = knob.low + math.floor((top - knob.low) / knob.step + 10**-DIGITS) * knob.step
    return int(value) if knob.whole else round(value, DIGITS)

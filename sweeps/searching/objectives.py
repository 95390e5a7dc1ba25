"""The goal of a search: objectives, limits, and the points that no other dominates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import moocore
import numpy as np
from numpy.typing import NDArray

from rewind_ray.errors import UserError
from rewind_ray.result import ResultRow
from sweeps.searching.space import Recipe

MAXIMISE = {"accuracy": True, "compression": True, "cost": False}
"""Objective -> whether higher is better."""
COSTS = ("epochs", "flops")

LUMPS = 0.02
"""Relative tolerance below a target compression: filters can only be removed as a whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """One objective with limits on the others, or two or three objectives."""

    objectives: tuple[str, ...] = ("accuracy", "compression", "cost")
    cost: str = "epochs"
    """Unit of the search cost: epochs, or multiply-adds with zeros skipped."""
    max_accuracy_drop: float | None = None
    """Of validation accuracy, from the dense network of the same seed; a fraction."""
    target_compression: float | None = None
    budget_epochs: int | None = None
    """Most retraining epochs of one chain."""

    def __post_init__(self) -> None:
        wrong = [name for name in self.objectives if name not in MAXIMISE]
        if wrong or not self.objectives or len(set(self.objectives)) < len(self.objectives):
            value = " ".join(self.objectives) or "empty"
            raise UserError(
                f"--objectives is {value}; allowed: one, two or three of {', '.join(MAXIMISE)}"
            )
        if self.cost not in COSTS:
            raise UserError(f"--cost is {self.cost!r}; allowed: {', '.join(COSTS)}")
        drop, target, budget = self.max_accuracy_drop, self.target_compression, self.budget_epochs
        if drop is not None and not 0 <= drop < 1:
            raise UserError(
                f"--max-accuracy-drop is {drop:g}; allowed: 0pt up to below 100pt, as 0.5pt, or "
                "fractions as 0.005"
            )
        if target is not None and not 1 < target < math.inf:
            raise UserError(f"--target-compression is {target:g}; allowed: above 1")
        if budget is not None and budget < 1:
            raise UserError(f"--budget-epochs is {budget}; allowed: whole numbers from 1 up")
        self._check_together()

    def _check_together(self) -> None:
        limits = {
            "accuracy": ("--max-accuracy-drop", self.max_accuracy_drop),
            "compression": ("--target-compression", self.target_compression),
            "cost": ("--budget-epochs", self.budget_epochs),
        }
        for name, (flag, limit) in limits.items():
            if name in self.objectives and limit is not None:
                raise UserError(
                    f"{name} is an objective and limited by {flag}; leave one of the two out "
                    "(--objectives)"
                )
        for name, (flag, limit) in limits.items():
            if name not in self.objectives and limit is None and name != "cost":
                raise UserError(
                    f"the objective {' and '.join(self.objectives)} alone would sacrifice {name}: "
                    f"limit it with {flag}, or add it to --objectives"
                )

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        return ["maximize" if MAXIMISE[name] else "minimize" for name in self.objectives]


# Points


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Results of a recipe: medians over its seeds."""

    recipe: Recipe
    seeds: tuple[int, ...]
    val_accuracy: float
    drop: float
    """Of validation accuracy, from the dense network of the same seed."""
    test_accuracies: tuple[float, ...]
    """One for each seed."""
    compression: float
    cost_epochs: int
    cost_flops: float

    def value(self, objective: str, cost: str) -> float:
        if objective == "accuracy":
            return self.val_accuracy
        if objective == "compression":
            return self.compression
        return self.cost_flops if cost == "flops" else self.cost_epochs


def point_of(recipe: Recipe, rows: dict[int, ResultRow], dense: dict[int, ResultRow]) -> Point:
    """rows, dense: seed -> row of the recipe's last level, and of its dense network."""
    seeds = tuple(sorted(rows))
    found = [rows[seed] for seed in seeds]
    val = [accuracy(row.val_accuracy) for row in found]
    dense_val = [accuracy(dense[seed].val_accuracy) for seed in seeds]
    return Point(
        recipe=recipe,
        seeds=seeds,
        val_accuracy=median(val),
        drop=median(before - after for before, after in zip(dense_val, val, strict=True)),
        test_accuracies=tuple(accuracy(row.test_accuracy) for row in found),
        compression=median(row.compression_ratio for row in found),
        cost_epochs=found[0].search_cost_epochs,
        cost_flops=median(row.search_cost_flops for row in found),
    )


def accuracy(measured: float | None) -> float:
    """The accuracy of a row that has one: not diverged, with a validation set."""
    assert measured is not None
    return measured


def violations(point: Point, goal: Goal) -> dict[str, float]:
    """Limit -> how far it is missed; 0 and below: kept."""
    found = {}
    if goal.max_accuracy_drop is not None:
        found["accuracy drop"] = round(point.drop - goal.max_accuracy_drop, 9)
    if goal.target_compression is not None:
        found["compression"] = 1 - LUMPS - point.compression / goal.target_compression
    if goal.budget_epochs is not None:
        found["search cost"] = point.cost_epochs / goal.budget_epochs - 1
    return found


def is_feasible(point: Point, goal: Goal) -> bool:
    return all(amount <= 0 for amount in violations(point, goal).values())


def values_of(points: Sequence[Point], goal: Goal) -> NDArray[np.float64]:
    """Shape (points, objectives), signed so that higher is better."""
    signs = [1 if MAXIMISE[name] else -1 for name in goal.objectives]
    values = [[point.value(name, goal.cost) for name in goal.objectives] for point in points]
    return np.array(values, dtype=np.float64).reshape(len(points), len(signs)) * signs


def front_of(points: Sequence[Point], goal: Goal) -> list[Point]:
    """Points within the limits that no other dominates (as good in all, better in one)."""
    within = [point for point in points if is_feasible(point, goal)]
    if not within:
        return []
    flags = moocore.is_nondominated(values_of(within, goal), maximise=True, keep_weakly=True)
    return [point for point, flag in zip(within, flags, strict=True) if flag]


def is_promising(point: Point, others: Sequence[Point], goal: Goal, noise: float) -> bool:
    """Whether it would be on the front if its validation accuracy were higher by ``noise``."""
    missed = violations(point, goal)
    if "accuracy drop" in missed:
        missed["accuracy drop"] -= noise
    if any(amount > 0 for amount in missed.values()):
        return False
    within = [other for other in others if is_feasible(other, goal)]
    if not within:
        return True
    values, ours = values_of(within, goal), values_of([point], goal)[0]
    if "accuracy" in goal.objectives:
        ours[goal.objectives.index("accuracy")] += noise
    beaten = (values >= ours).all(axis=1) & (values > ours).any(axis=1)
    return not bool(beaten.any())


def recommended(front: Sequence[Point], goal: Goal, noise: float) -> Point:
    """The most accurate point of the front, or one that is hardly less accurate and better
    otherwise.

    Hardly less: by at most ``noise``, than the dense network or, where none comes so near, than the
    best. Of these the most compressed if compression is an objective, then the cheapest.
    """
    close = list(front)
    if "accuracy" in goal.objectives:
        best = min(point.drop for point in front)
        least = 0.0 if best <= noise else best
        close = [point for point in front if point.drop <= least + noise]
    further = "compression" in goal.objectives

    def better(point: Point) -> tuple[float, float, float]:
        compression = point.compression if further else 0.0
        return (-compression, point.value("cost", goal.cost), -point.val_accuracy)

    return min(close, key=better)


def noise_of(accuracy: float, num_validation: int) -> float:
    """Standard error of an accuracy measured on ``num_validation`` images.

    With Laplace's rule of succession, so that 100% isn't certain either.
    """
    expected = (accuracy * num_validation + 1) / (num_validation + 2)
    return math.sqrt(expected * (1 - expected) / num_validation)

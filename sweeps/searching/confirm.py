"""The recommended recipe against another, on seeds that nothing was chosen by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.statistics import ALPHA, fewest_seeds, paired_test, smallest_p
from rewind_ray.result import ResultRow
from sweeps.searching.objectives import accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """Of seeds that both have a row of; test accuracies as fractions."""

    seeds: tuple[int, ...]
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    low: float
    """Of the interval of the mean difference, ours less theirs."""
    high: float
    confidence: float
    p: float
    """Two-sided permutation test of the paired differences."""

    @property
    def difference(self) -> float:
        return float(np.mean(self.ours) - np.mean(self.theirs))

    def verdict(self) -> str:
        """Who is better, how sure, and what could have been shown."""
        away = f"{100 * abs(self.difference):.2f} points"
        interval = f"{seeds_text(len(self.seeds))}, p = {self.p:.2g}"
        if self.confidence > 0:
            low, high = 100 * self.low, 100 * self.high
            interval = f"{self.confidence:.0%} interval {low:+.2f} to {high:+.2f}, {interval}"
        if self.p <= ALPHA:
            better = "better" if self.difference > 0 else "worse"
            return f"the recommended recipe is {better} by {away} ({interval})"
        words = f"no difference shown: {100 * self.difference:+.2f} points ({interval})"
        if smallest_p(len(self.seeds)) > ALPHA:
            needed = fewest_seeds(ALPHA, paired=True)
            words += f"; so few can show none, {needed} can: --confirm-seeds {needed}"
        return words


def seeds_text(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def confirmation(ours: dict[int, ResultRow], theirs: dict[int, ResultRow]) -> Confirmation | None:
    """seed -> row. None without a seed that both have."""
    seeds = tuple(sorted(set(ours).intersection(theirs)))
    if not seeds:
        return None
    a = np.array([accuracy(ours[seed].test_accuracy) for seed in seeds])
    b = np.array([accuracy(theirs[seed].test_accuracy) for seed in seeds])
    tested = paired_test((a - b)[None])
    return Confirmation(
        seeds=seeds,
        ours=tuple(a.tolist()),
        theirs=tuple(b.tolist()),
        low=float(tested.low[0]),
        high=float(tested.high[0]),
        confidence=tested.confidence,
        p=float(tested.p[0]),
    )

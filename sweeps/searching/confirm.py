"""Compares the recommended recipe with another, on seeds that nothing was chosen by."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.questions.judge import MARGIN, Judged, judge_pairs
from analysis.questions.statistics import ALPHA
from analysis.table.metrics import amount, unit_of
from rewind_ray.result import ResultRow
from sweeps.searching.objectives import accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """Test accuracies, as fractions, of the seeds that both have a row of."""

    seeds: tuple[int, ...]
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    judged: Judged
    """Ours less theirs."""
    metric: str = "accuracy"
    rivals: int = 1
    """Number of comparisons, which verdicts are corrected for (Bonferroni)."""

    def verdict(self) -> str:
        """Which is better, how certain that is, and what difference could have been shown."""
        found = self.judged
        p = min(1.0, self.rivals * found.p)
        away = f"{100 * abs(found.difference):.2f} {unit_of(self.metric)}"
        interval = f"{interval_text(found)}{seeds_text(found.n)}, p = {p:.2g}"
        if self.rivals > 1:
            interval += f" corrected for {self.rivals} rivals"
        if p <= ALPHA:
            relation = "better" if found.difference > 0 else "worse"
            return f"the recommended recipe is {relation} by {away} ({interval})"
        signed = f"{100 * found.difference:+.2f} {unit_of(self.metric)}"
        if self.rivals * found.p_equivalent <= ALPHA:
            within = amount(MARGIN, self.metric)
            return f"equivalent within {within}: {signed} ({interval})"
        return f"no difference shown: {signed} ({interval}); {could_not(found, self.metric)}"


def interval_text(found: Judged) -> str:
    """Empty where a single seed allows no interval."""
    if found.low != found.low:
        return ""
    return f"95% interval {100 * found.low:+.2f} to {100 * found.high:+.2f}, "


def could_not(found: Judged, metric: str) -> str:
    """What the seeds could not have shown, and how many seeds could."""
    margin = amount(MARGIN, metric)
    if found.n < 2:
        return "a single seed can show none: --confirm-seeds 5 or more"
    if found.seeds_needed != found.seeds_needed:
        return "all seeds show the same difference: the spread can't be judged by so few"
    if found.seeds_needed <= found.n:
        return f"a difference of {margin} would probably have been"
    return (
        f"a difference of {margin} takes about {found.seeds_needed:.0f} seeds: "
        f"--confirm-seeds {found.seeds_needed:.0f}"
    )


def seeds_text(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def confirmation(
    ours: dict[int, ResultRow], theirs: dict[int, ResultRow], rivals: int = 1
) -> Confirmation | None:
    """ours, theirs: seed -> row. None if they share no seed. rivals: number of comparisons."""
    seeds = tuple(sorted(set(ours).intersection(theirs)))
    if not seeds:
        return None
    a = tuple(accuracy(ours[seed].test_accuracy) for seed in seeds)
    b = tuple(accuracy(theirs[seed].test_accuracy) for seed in seeds)
    return Confirmation(
        seeds=seeds,
        ours=a,
        theirs=b,
        judged=judge_pairs(a, b, number=rivals),
        rivals=rivals,
        metric=ours[seeds[0]].metric,
    )

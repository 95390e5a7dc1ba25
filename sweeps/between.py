"""Is anything between the two rewindings better than both? A verdict, and a figure of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from analysis.drawing import STYLE
from analysis.statistics import ALPHA, fewest_seeds, holm, paired_test, smallest_p
from rewind_ray.result import ResultRow
from sweeps.searching.confirm import seeds_text

ENDS = (0.0, 1.0)
END_NAMES = ("weight rewinding", "learning-rate rewinding")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe & Ito 2008


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where alphas are compared: they differ in nothing else there."""

    schedule_kind: str
    size: float
    """One-shot: the density; iterative: the fraction of each step."""
    retrain_epochs: int

    @property
    def title(self) -> str:
        how = f"steps of {100 * self.size:g}%" if self.schedule_kind == "iterative" else "one-shot"
        return how if self.schedule_kind == "iterative" else f"{how} to {1 / self.size:.4g}×"


Rows = dict[float, dict[int, ResultRow]]
"""alpha -> seed -> row; without those that diverged or were never finished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Against:
    """The chosen alpha against one end: test accuracy, paired by seed."""

    difference: float
    """Mean, the end's subtracted."""
    low: float
    high: float
    confidence: float
    p: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Of one place, or of several on average."""

    chosen: tuple[float, ...]
    """The alpha strictly between the ends with the best median validation accuracy, of each
    place."""
    against: tuple[Against, Against]
    """Weight rewinding (alpha 0), learning-rate rewinding (1)."""
    n_seeds: int

    @property
    def p(self) -> float:
        """That it is better than both: it has to be shown against each (Berger 1982)."""
        ahead = all(end.difference > 0 for end in self.against)
        return max(end.p for end in self.against) if ahead else 1.0


def judge(places: Sequence[Rows]) -> Judged | None:
    """Each place with the alpha that validation chose there; differences averaged over places.

    Only seeds that all of it was trained with. None if there is none, or no alpha between.
    """
    chosen = []
    for rows in places:
        between = [alpha for alpha in rows if alpha not in ENDS and rows[alpha]]
        if not between or any(end not in rows for end in ENDS):
            return None
        chosen.append(max(between, key=lambda alpha: median_validation(rows[alpha])))
    used = [
        rows[alpha] for rows, best in zip(places, chosen, strict=True) for alpha in (best, *ENDS)
    ]
    seeds = sorted(set.intersection(*(set(found) for found in used)))
    if not seeds:
        return None
    return Judged(
        chosen=tuple(chosen),
        against=(
            against(places, chosen, ENDS[0], seeds),
            against(places, chosen, ENDS[1], seeds),
        ),
        n_seeds=len(seeds),
    )


def median_validation(rows: dict[int, ResultRow]) -> float:
    return median(row.val_accuracy or 0.0 for row in rows.values())


def against(
    places: Sequence[Rows], chosen: Sequence[float], end: float, seeds: Sequence[int]
) -> Against:
    differences = np.array(
        [
            [
                (rows[best][seed].test_accuracy or 0.0) - (rows[end][seed].test_accuracy or 0.0)
                for seed in seeds
            ]
            for rows, best in zip(places, chosen, strict=True)
        ]
    ).mean(axis=0)
    tested = paired_test(differences[None])
    return Against(
        difference=float(differences.mean()),
        low=float(tested.low[0]),
        high=float(tested.high[0]),
        confidence=tested.confidence,
        p=float(tested.p[0]),
    )


# In words


def verdict_lines(places: dict[Place, Rows]) -> list[str]:
    """A line a place, corrected for their number (Holm), and all of them together."""
    judged = {place: found for place, rows in places.items() if (found := judge([rows]))}
    if not judged:
        return ["no verdict: nowhere have both rewindings and something between been finished"]
    corrected = holm([found.p for found in judged.values()])
    lines = [
        f"  {place.title}, {place.retrain_epochs} epochs: {told(found, p, len(judged))}"
        for (place, found), p in zip(judged.items(), corrected, strict=True)
    ]
    together = judge([places[place] for place in judged])
    if together is None:
        return [*lines, "no verdict on all together: no seed has everything"]
    headline = f"{len(judged)} comparisons together: {told(together, together.p, 1)}"
    return ["each comparison (p corrected for their number):", *lines, headline]


def told(found: Judged, p: float, number: int) -> str:
    """p: corrected for ``number`` comparisons."""
    alphas = sorted(set(found.chosen))
    which = f"α = {alphas[0]:g}" if len(alphas) == 1 else "α chosen for each"
    ends = ", ".join(
        f"{100 * end.difference:+.2f} points against {name}{interval_text(end)}"
        for end, name in zip(found.against, END_NAMES, strict=True)
    )
    seeds = seeds_text(found.n_seeds)
    if p <= ALPHA:
        return f"{which} is better than both ends: {ends}, p = {p:.2g}, {seeds}"
    worse = [
        name
        for end, name in zip(found.against, END_NAMES, strict=True)
        if end.difference < 0 and number * end.p <= ALPHA
    ]
    if worse:
        return f"{which} is worse than {' and '.join(worse)}: {ends}, {seeds}"
    words = f"no difference shown, {which}: {ends}, p = {p:.2g}, {seeds}"
    if smallest_p(found.n_seeds) * number > ALPHA:
        words += f"; {fewest_seeds(ALPHA / number, paired=True)} seeds could show one"
    return words


def interval_text(end: Against) -> str:
    """Empty where a single seed allows no interval."""
    if end.confidence <= 0:
        return ""
    return f" ({end.confidence:.0%} interval {100 * end.low:+.2f} to {100 * end.high:+.2f})"


# In a picture


def draw_between(places: dict[Place, Rows], out: Path) -> None:
    """Test accuracy over alpha, a panel a pruning, a line a retraining time."""
    panels: dict[str, list[tuple[Place, Rows]]] = {}
    for place, rows in places.items():
        panels.setdefault(place.title, []).append((place, rows))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    times = sorted({place.retrain_epochs for place in places})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * columns + 0.3, 2.2 * lines + 0.5), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, (title, members) in zip(grid.flat, panels.items(), strict=False):
            for place, rows in members:
                number = times.index(place.retrain_epochs)
                colour = COLOURS[number % len(COLOURS)]
                alphas = [alpha for alpha in sorted(rows) if rows[alpha]]
                found = [
                    [100 * (row.test_accuracy or 0.0) for row in rows[alpha].values()]
                    for alpha in alphas
                ]
                axes.plot(
                    alphas,
                    [float(np.mean(values)) for values in found],
                    color=colour,
                    marker="osDv"[number % 4],
                    markersize=4,
                    linewidth=1.2,
                    label=f"{place.retrain_epochs} epochs of retraining",
                )
                lowest, highest = [min(v) for v in found], [max(v) for v in found]
                axes.fill_between(alphas, lowest, highest, color=colour, alpha=0.15, linewidth=0)
            ratios = [row.compression_ratio for row in any_rows(members)]
            axes.set_title(f"{title}, {median(ratios):.4g}×" if "steps" in title else title)
            axes.set_xticks(sorted({alpha for _, rows in members for alpha in rows}))
            axes.set_xlabel("α: 0 rewinds weights, 1 rates only")
            axes.set_ylabel("test accuracy, %")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(times))
        figure.savefig(out, dpi=200)


def any_rows(members: Sequence[tuple[Place, Rows]]) -> list[ResultRow]:
    return [row for _, rows in members for found in rows.values() for row in found.values()]

"""Verdict and figure: is anything between the two rewindings better than both?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from analysis.draw.looks import STYLE
from analysis.questions.judge import MARGIN, Judged, judge_pairs
from analysis.questions.statistics import ALPHA, holm
from analysis.table.metrics import amount, unit_of
from rewind_ray.result import ResultRow
from sweeps.searching.confirm import seeds_text

ENDS = (0.0, 1.0)
END_NAMES = ("weight rewinding", "learning-rate rewinding")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe & Ito 2008


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A pruning and a retraining time; alphas are compared within one."""

    schedule_kind: str
    size: float
    """One-shot: the density; iterative: the fraction of each step."""
    retrain_epochs: int

    @property
    def title(self) -> str:
        how = f"steps of {100 * self.size:g}%" if self.schedule_kind == "iterative" else "one-shot"
        return how if self.schedule_kind == "iterative" else f"{how} to {1 / self.size:.4g}×"


AlphaRows = dict[float, dict[int, ResultRow]]
"""alpha -> seed -> row, of finished stages that didn't diverge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The chosen alphas against both ends, under one condition or averaged over several."""

    chosen: tuple[float, ...]
    """For each condition the alpha between the ends with the best median validation accuracy."""
    against: tuple[Judged, Judged]
    """Test accuracy of the chosen less that of weight rewinding (alpha 0), and less that of
    learning-rate rewinding (1); averaged over conditions seed by seed."""
    n_seeds: int
    metric: str
    margin: float

    @property
    def p(self) -> float:
        """Of being better than both ends: shown against each (Berger 1982)."""
        ahead = all(end.difference > 0 for end in self.against)
        return max(end.p for end in self.against) if ahead else 1.0


def judge(
    conditions: Sequence[AlphaRows], margin: float = MARGIN, number: int = 1
) -> Verdict | None:
    """Compare the alphas that validation chose with both ends, averaged over conditions.

    Uses the seeds that all of it was trained with; None if there is none, or no alpha between.
    number: of verdicts, for the correction.
    """
    chosen = []
    for rows in conditions:
        between = [alpha for alpha in rows if alpha not in ENDS and rows[alpha]]
        if not between or any(end not in rows for end in ENDS):
            return None
        chosen.append(max(between, key=lambda alpha: median_validation(rows[alpha])))
    used = [
        rows[alpha]
        for rows, best in zip(conditions, chosen, strict=True)
        for alpha in (best, *ENDS)
    ]
    seeds = sorted(set.intersection(*(set(found) for found in used)))
    if not seeds:
        return None
    to_weights, to_rates = (
        judge_pairs(
            averaged(conditions, chosen, seeds),
            averaged(conditions, [end] * len(conditions), seeds),
            margin,
            number=number,
        )
        for end in ENDS
    )
    return Verdict(
        chosen=tuple(chosen),
        against=(to_weights, to_rates),
        n_seeds=len(seeds),
        metric=conditions[0][chosen[0]][seeds[0]].metric,
        margin=margin,
    )


def median_validation(rows: dict[int, ResultRow]) -> float:
    return median(row.val_accuracy or 0.0 for row in rows.values())


def averaged(
    conditions: Sequence[AlphaRows], alphas: Sequence[float], seeds: Sequence[int]
) -> list[float]:
    """For each seed the mean test accuracy over the conditions, each at its alpha."""
    return [
        float(
            np.mean(
                [
                    rows[alpha][seed].test_accuracy or 0.0
                    for rows, alpha in zip(conditions, alphas, strict=True)
                ]
            )
        )
        for seed in seeds
    ]


# In words


def verdict_lines(conditions: dict[Condition, AlphaRows], margin: float = MARGIN) -> list[str]:
    """One line for each condition, corrected for their number (Holm), and one for all together."""
    complete = [condition for condition, rows in conditions.items() if judge([rows], margin)]
    if not complete:
        return ["no verdict: no condition has both rewindings and an alpha between them finished"]
    judged = {
        condition: judge([conditions[condition]], margin, len(complete)) for condition in complete
    }
    found = {condition: verdict for condition, verdict in judged.items() if verdict}
    corrected = holm([verdict.p for verdict in found.values()])
    lines = [
        f"  {one.title}, {one.retrain_epochs} epochs: {words_of(verdict, p, len(found))}"
        for (one, verdict), p in zip(found.items(), corrected, strict=True)
    ]
    together = judge([conditions[condition] for condition in found], margin)
    if together is None:
        return [*lines, "no verdict on all together: no seed has all conditions finished"]
    headline = f"{len(found)} comparisons together: {words_of(together, together.p, 1)}"
    return ["each comparison (p corrected for their number):", *lines, headline]


def words_of(found: Verdict, p: float, number: int) -> str:
    """p: corrected for ``number`` comparisons."""
    alphas = sorted(set(found.chosen))
    which = f"α = {alphas[0]:g}" if len(alphas) == 1 else "α chosen for each"
    unit, margin = unit_of(found.metric), amount(found.margin, found.metric)
    ends = ", ".join(
        f"{100 * end.difference:+.2f} {unit} against {name}{interval_text(end)}"
        for end, name in zip(found.against, END_NAMES, strict=True)
    )
    seeds = seeds_text(found.n_seeds)
    if p <= ALPHA:
        return f"{which} is better than both ends: {ends}, p = {p:.2g}, {seeds}"
    named = list(zip(found.against, END_NAMES, strict=True))
    worse = [name for end, name in named if end.difference < 0 and number * end.p <= ALPHA]
    if worse:
        return f"{which} is worse than {' and '.join(worse)}: {ends}, {seeds}"
    if all(number * end.p_equivalent <= ALPHA for end in found.against):
        return f"{which} is equivalent to both ends within {margin}: {ends}, {seeds}"
    words = f"no difference shown, {which}: {ends}, p = {p:.2g}, {seeds}"
    needed = max(end.seeds_needed for end in found.against)
    if found.n_seeds < 2:
        return f"{words}; one seed can show none"
    if needed > found.n_seeds:
        words += f"; a difference of {margin} would take about {needed:.0f} seeds"
    return words


def interval_text(end: Judged) -> str:
    """Empty where too few seeds allow no interval."""
    if np.isnan(end.low):
        return ""
    return f" (95% interval {100 * end.low:+.2f} to {100 * end.high:+.2f})"


# In a picture


def draw_between(conditions: dict[Condition, AlphaRows], out: Path) -> None:
    """Test accuracy over alpha: one panel for each pruning, one line for each retraining time."""
    panels: dict[str, list[tuple[Condition, AlphaRows]]] = {}
    for condition, rows in conditions.items():
        panels.setdefault(condition.title, []).append((condition, rows))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    times = sorted({condition.retrain_epochs for condition in conditions})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * columns + 0.3, 2.2 * lines + 0.5), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, (title, members) in zip(grid.flat, panels.items(), strict=False):
            for condition, rows in members:
                number = times.index(condition.retrain_epochs)
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
                    label=f"{condition.retrain_epochs} epochs of retraining",
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


def any_rows(members: Sequence[tuple[Condition, AlphaRows]]) -> list[ResultRow]:
    return [row for _, rows in members for found in rows.values() for row in found.values()]

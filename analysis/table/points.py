"""Points: rows that differ in nothing but the seed, taken together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from analysis.table.columns import BadRows
from analysis.table.details import SAME_IN_A_POINT
from analysis.table.groups import (
    any_repeated,
    as_texts,
    coded,
    first_lines,
    first_lines_with,
    group_numbers,
    grouped,
    medians,
    refined,
)
from analysis.table.lengths import dense_epochs_of_rows
from analysis.table.rows import ITERATIVE, shared_first_levels
from analysis.table.spreads import spread_kinds

log = logging.getLogger(__name__)

PANEL = ["network", "dataset", "structure", "schedule_kind", "protocol", "metric"]
"""What is never compared across: one panel of a figure, one part of a table."""

POINT = [
    *PANEL,
    "criterion",
    "method",
    "variant",
    "retrain_epochs",
    "level",
    "prune_fraction",
    "density",
]
"""What the rows of one point have in common."""

FRACTION_DIGITS = 9  # 1 - 0.8 and 0.2 are the same fraction
SAME_DENSITY = 0.0005  # relative

WIDTH_OF_80 = {2: 0.904, 3: 1.353, 4: 1.618, 5: 1.791, 6: 1.906, 8: 2.047, 10: 2.109, 12: 2.168}
"""Number of trials -> expected width of an interval from their 10th to their 90th percentile,
linearly interpolated, in standard deviations of a normal distribution: what Mikler 2022 draws
(docs/statistics.md)."""

MEDIANS = [
    "test_accuracy",
    "val_accuracy",
    "accuracy_change",
    "baseline_test_accuracy",
    "speedup",
    "flops_remaining",
    "search_cost_epochs",
    "search_cost_flops",
]
"""Measured: missing where a trial diverged."""

TEXTS = [*PANEL, "criterion", "method", "variant", "baseline_id", "status", "source"]

OF_TRIALS = list(
    dict.fromkeys(
        [
            *POINT,
            *(name for name in MEDIANS if name != "accuracy_change"),
            *("seed", "status", "source", "trials", "compression_ratio", "dense_epochs"),
            *("test_accuracy_low", "test_accuracy_high", "test_accuracy_std"),
        ]
    )
)
"""Columns that points are computed from."""


def points_of(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a point: the columns of POINT, knobs, and medians over seeds under the rows' names.

    ``accuracy_change`` is test_accuracy - baseline_test_accuracy, seed by seed, then the median:
    a loss is negative. ``n_seeds`` counts the seeds in the medians; diverged rows are left out of
    them and counted in ``n_diverged``. A published row that sums up several trials counts as that
    many seeds, or as one where it doesn't say how many, and its interval is taken for their
    spread. ``test_accuracy_mean`` and ``test_accuracy_std``, the sample standard deviation, are
    over seeds too. ``spread_kind`` says what test_accuracy_min and _max are (``spreads.KINDS``).

    Raises BadRows if no row is of a pruned network, or several of one point have the same seed.
    """
    return _points(rows, _trials(rows))[0]


def points_and_trials(
    rows: pd.DataFrame, of_trials: Sequence[str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The points, and the rows that they are of: those of ``pruned_rows``, with the column
    ``point``, the position of its point. Raises BadRows as ``points_of`` does.

    of_trials: the columns wanted of these rows, all by default. To pick all 80 out of a million
    rows takes longer than the points do.
    """
    trials = _trials(rows)
    points, position = _points(rows, trials)
    wanted = trials.columns(rows, of_trials)
    return points, wanted.assign(point=position[trials.number.to_numpy()])


def _points(rows: pd.DataFrame, trials: _Trials) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """The points in order, and where each number of a point went."""
    _refuse_mixed_rows(rows, trials)
    number, computed = trials.number, trials.computed
    firsts = first_lines(number)
    groups = grouped(computed, number)
    accuracy = groups["test_accuracy"]
    middle = medians(
        computed[["compression_ratio", "dense_epochs", *MEDIANS, "test_accuracy_std"]], number
    )
    deviation = accuracy.std().set_axis(middle.index)
    points = pd.DataFrame(
        {
            **{name: computed[name].array.take(firsts) for name in POINT},
            **{name: _firsts(rows[name], trials, firsts) for name in SAME_IN_A_POINT},
            **middle.drop(columns="test_accuracy_std"),
            "test_accuracy_min": groups["test_accuracy_min"].min().array,
            "test_accuracy_max": groups["test_accuracy_max"].max().array,
            "spread_kind": computed["spread_kind"].array.take(firsts),
            "test_accuracy_mean": accuracy.mean().array,
            "test_accuracy_std": deviation.fillna(middle["test_accuracy_std"]),
            **{name: groups[name].sum().array for name in ("n_seeds", "n_diverged")},
        }
    ).sort_values(POINT)  # texts as categories: they are sorted already
    texts = points.columns[points.dtypes == "category"]
    points = points.assign(**{name: as_texts(points[name]) for name in texts})
    position = np.empty(len(points), dtype=np.int64)
    position[points.index] = np.arange(len(points))
    return points.reset_index(drop=True), position


def pruned_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that medians are taken of, one a trial or published sum of trials.

    With ``density`` made the same for those of one level, ``dense_epochs``, which is T,
    ``accuracy_change``, ``n_seeds``, ``n_diverged``, and the spread that a published row states.
    What a diverged trial measured is NaN. Raises BadRows if there are none.
    """
    return _trials(rows).columns(rows)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Trials:
    """``pruned_rows`` as positions in the table that they are of, so that what is in a million of
    its lines is copied only if somebody wants it."""

    lines: NDArray[np.int64]
    """Positions."""
    computed: pd.DataFrame
    """The columns that aren't the table's, or that differ from it; texts as categories."""
    number: pd.Series
    """Of their point."""

    def columns(self, rows: pd.DataFrame, names: Sequence[str] | None = None) -> pd.DataFrame:
        """rows: the table. names: by default all."""
        if names is None:
            names = list(dict.fromkeys([*rows.columns, *self.computed]))
        return pd.DataFrame({name: self._column(rows, name) for name in names}, copy=False)

    def _column(self, rows: pd.DataFrame, name: str) -> ExtensionArray:
        if name not in self.computed:
            return rows[name].array.take(self.lines)
        values = self.computed[name]
        is_text = isinstance(values.dtype, pd.CategoricalDtype)
        return as_texts(values).array if is_text else values.array


def _firsts(values: pd.Series, trials: _Trials, firsts: NDArray[np.int64]) -> ExtensionArray:
    """The first value that is there, of each point. firsts: its first line."""
    there = values.notna().to_numpy()
    if not there.all() and there.any():
        firsts = first_lines_with(there[trials.lines], trials.number)
    return values.array.take(trials.lines[firsts])


def _trials(rows: pd.DataFrame) -> _Trials:
    table = coded(rows, TEXTS)
    table = table.assign(dense_epochs=dense_epochs_of_rows(table))
    pruned, lines = _picked(table, OF_TRIALS)
    if pruned.empty:
        raise BadRows(f"there is no pruned network among these {len(rows)} rows")
    diverged = pruned["status"] == "diverged"
    pruned = pruned.assign(
        accuracy_change=pruned["test_accuracy"] - pruned["baseline_test_accuracy"],
        prune_fraction=pruned["prune_fraction"].round(FRACTION_DIGITS),
    )
    pruned[MEDIANS] = pruned[MEDIANS].astype("float64").mask(diverged)
    measured = pruned["test_accuracy"].notna()
    low, high = pruned["test_accuracy_low"], pruned["test_accuracy_high"]
    implied = (high - low) / pruned["trials"].astype("float64").map(WIDTH_OF_80)
    number = group_numbers(pruned, POINT[:-1])
    density = density_levels(pruned, POINT[:-1], number)
    if pruned["prune_fraction"].isna().any():  # a fraction and a level have one density
        number = refined(number, density)
    pruned = pruned.assign(
        density=density,
        test_accuracy_min=low.fillna(pruned["test_accuracy"]).where(measured),
        test_accuracy_max=high.fillna(pruned["test_accuracy"]).where(measured),
        test_accuracy_std=pruned["test_accuracy_std"].fillna(implied),
        spread_kind=spread_kinds(pruned, sums_up(pruned)),
        n_seeds=pruned["trials"].fillna(1).astype("int64").where(measured, 0),
        n_diverged=diverged.astype("int64"),
    )
    return _Trials(lines=lines, computed=pruned, number=number)


def _picked(table: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """These columns of the pruned networks' rows, shared first levels twice, and their positions.

    table: with ``schedule_kind`` as categories.
    """
    copied = shared_first_levels(table)
    own = np.flatnonzero(table["level"].to_numpy() > 0)
    lines = np.concatenate([own, copied])
    picked = {name: table[name].array.take(lines) for name in names}
    if len(copied):
        kinds = picked["schedule_kind"]
        kinds = kinds.add_categories([ITERATIVE] if ITERATIVE not in kinds.categories else [])
        kinds[len(own) :] = ITERATIVE
        picked["schedule_kind"] = kinds
    return pd.DataFrame(picked, copy=False), lines


def trials_of(trials: pd.DataFrame, points: NDArray[np.int64]) -> pd.DataFrame:
    """Those of these points. trials: of ``points_and_trials``; points: their positions there."""
    wanted = np.zeros(int(trials["point"].max()) + 1, dtype=bool)
    wanted[points] = True
    return trials[wanted[trials["point"]]]


def sums_up(rows: pd.DataFrame) -> pd.Series:
    """Whether each row sums up several trials, or may: a published row that doesn't state how many.

    Such a row's accuracy is a median or a mean, so it is no trial of a test.
    """
    unknown = rows["trials"].isna() & rows["source"].notna()
    several = (rows["trials"] > 1).fillna(False).astype(bool)
    return unknown | several | rows["test_accuracy_std"].notna()


def numbers_of_points(
    points: pd.DataFrame, trials: pd.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each of the points its number, and for each of the trials that of its point.

    trials: of ``pruned_rows``; those of no point have numbers of their own.
    """
    both = pd.concat([points[POINT], trials[POINT]], ignore_index=True)
    numbers = group_numbers(both, POINT).to_numpy()
    return numbers[: len(points)], numbers[len(points) :]


def density_levels(
    frame: pd.DataFrame, within: list[str], groups: pd.Series | None = None
) -> pd.Series:
    """Each density, replaced by the median of those that are one level with it.

    Of one level are the same prune_fraction and level, whatever they came to (filters weigh
    differently, so seeds differ), and densities that differ in the fifth digit. groups: numbers of
    ``within``, where they are at hand.
    """
    groups = group_numbers(frame, within) if groups is None else groups
    unknown = frame["prune_fraction"].isna()
    asked = [frame["prune_fraction"].round(FRACTION_DIGITS), frame["level"]]
    asked = [column for column in asked if column.name not in within]
    by_itself = [frame["density"].where(unknown)] if unknown.any() else []
    alike = refined(groups, *asked, *by_itself)
    densities = medians(frame[["density"]], alike)
    levels = same_level(densities["density"].to_numpy(), groups.to_numpy()[first_lines(alike)])
    if levels.max(initial=-1) + 1 < len(levels):
        alike = pd.Series(levels[alike], frame.index)
        densities = medians(frame[["density"]], alike)
    return densities["density"].take(alike).set_axis(frame.index)


def same_level(densities: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each density's level, from 0 up; those of two groups are never the same.

    A level reaches from its lowest density to SAME_DENSITY above that, so it can't creep.
    """
    order = np.lexsort((densities, groups))
    ordered, group = densities[order], groups[order]
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = np.diff(group) != 0
    # From one density to the next is too far: then from the lowest of its level too
    starts[1:] |= ordered[1:] >= ordered[:-1] * (1 + SAME_DENSITY)
    while True:
        level = np.cumsum(starts) - 1
        beyond = ~starts & (ordered >= ordered[starts][level] * (1 + SAME_DENSITY))
        if not beyond.any():
            break
        first_beyond = np.flatnonzero(beyond)
        starts[first_beyond[np.diff(level[first_beyond], prepend=-1) != 0]] = True
    levels = np.empty(len(order), dtype=np.int64)
    levels[order] = level
    return levels


def choose_retrain_epochs(points: pd.DataFrame) -> pd.DataFrame:
    """For each method and compression, the retraining time with the best validation accuracy.

    Medians over seeds, as in Renda et al. 2020, §3; of equals the shortest. Where a validation
    accuracy is missing the test accuracy decides, with a warning: it then flatters. The column
    ``chosen_by`` names what decided, and is empty where there was no choice.
    """
    within = [name for name in POINT if name not in ("retrain_epochs", "density")]
    alike = group_numbers(points, within)
    rivals = refined(alike, density_levels(points, within, alike))
    measured = points["test_accuracy"].notna()
    unjudged = grouped(measured & points["val_accuracy"].isna(), rivals).transform("any")
    judged = points["test_accuracy"].where(unjudged, points["val_accuracy"]).where(measured)
    ranked = pd.DataFrame({"judged": judged, "retrain_epochs": points["retrain_epochs"]})
    ranked = ranked.reset_index(drop=True).sort_values(list(ranked), ascending=[False, True])
    worst_first = ranked.index.to_numpy()[::-1]
    best = np.empty(int(rivals.max()) + 1 if len(rivals) else 0, dtype=np.int64)
    best[rivals.to_numpy()[worst_first]] = worst_first
    best.sort()
    had_choice = grouped(measured, rivals).transform("sum").to_numpy()[best] > 1
    by = np.where(unjudged.to_numpy()[best], "test_accuracy", "val_accuracy")
    chosen = points.iloc[best].reset_index(drop=True)
    chosen = chosen.assign(chosen_by=pd.Series(by, dtype="str").where(had_choice))
    by_test = int((chosen["chosen_by"] == "test_accuracy").sum())
    if by_test:
        log.warning(
            "%d of %d points: retrain_epochs chosen by test accuracy, for want of a validation "
            "accuracy; that flatters them",
            by_test,
            len(chosen),
        )
    return chosen


def how_chosen(chosen: pd.DataFrame) -> str:
    """What decided the retraining times of points of ``choose_retrain_epochs``, as a sentence.

    Empty where no point had a choice.
    """
    decided = chosen["chosen_by"].dropna()
    by_test = int((decided == "test_accuracy").sum())
    if decided.empty:
        return ""
    if not by_test:
        return "Each method with the retraining time that has the best median validation accuracy."
    if by_test == len(decided):
        return (
            "Each method with the retraining time that has the best median test accuracy, for want "
            "of a validation accuracy: that flatters it."
        )
    return (
        "Each method with the retraining time that has the best median validation accuracy; at "
        f"{by_test} of {len(decided)} points, for want of one, the best median test accuracy, "
        "which flatters them."
    )


def dense_baselines(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a panel: its dense networks' test accuracy over seeds, each baseline once."""
    table = coded(rows, [*PANEL, "baseline_id"])
    pruned, _ = _picked(table, [*PANEL, "baseline_id", "baseline_test_accuracy", "seed"])
    key = group_numbers(pruned, [*PANEL, "baseline_id", "baseline_test_accuracy"])
    each = pruned.iloc[first_lines(key)]
    each = each.assign(**{name: as_texts(each[name]) for name in PANEL})
    return (
        each[each["baseline_test_accuracy"].notna()]
        .groupby(PANEL, dropna=False)
        .agg(
            test_accuracy=("baseline_test_accuracy", "median"),
            test_accuracy_min=("baseline_test_accuracy", "min"),
            test_accuracy_max=("baseline_test_accuracy", "max"),
            n_seeds=("seed", "nunique"),
        )
        .reset_index()
    )


def _refuse_mixed_rows(rows: pd.DataFrame, trials: _Trials) -> None:
    number, seed = trials.number, trials.computed["seed"]
    if not any_repeated(number, seed):
        return
    twice = refined(number, seed).duplicated(keep=False)
    pruned = trials.columns(rows, ["stage_id", "method", "density", "seed"])
    example = pruned[twice & (number == number[twice].iloc[0])]
    example = example[example["seed"] == example["seed"].iloc[0]]
    raise BadRows(
        f"{int(number[twice].nunique())} points hold several rows of one seed, as stages "
        f"{' and '.join(example['stage_id'].head(2))} ({example['method'].iloc[0]}, density "
        f"{example['density'].iloc[0]:.4g}, seed {example['seed'].iloc[0]}): they differ in "
        "something that no column of this table holds (protocol, learning rate, momentum, ...) "
        "and can't share a curve; read the storage root they come from, whose stages hold it, or "
        "the rows of one sweep (rewind-ray analysis rows --sweep NAME)"
    )

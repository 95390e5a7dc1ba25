"""Points: rows that differ in nothing but the seed, taken together."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.columns import BadRows
from analysis.rows import with_shared_first_levels

log = logging.getLogger(__name__)

PANEL = ["network", "dataset", "structure", "schedule_kind"]
"""What is never compared across: one panel of a figure, one part of a table."""

POINT = [
    *PANEL,
    "criterion",
    "method",
    "retrain_epochs",
    "level",
    "prune_fraction",
    "density",
]
"""What the rows of one point have in common."""

FRACTION_DIGITS = 9  # 1 - 0.8 and 0.2 are the same fraction
SAME_DENSITY = 0.005  # relative; filters weigh differently, so seeds differ slightly

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


def points_of(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a point: the columns of POINT, and medians over seeds under the rows' own names.

    ``accuracy_change`` is test_accuracy - baseline_test_accuracy, seed by seed, then the median:
    a loss is negative. ``n_seeds`` counts the seeds in the medians; diverged rows are left out of
    them and counted in ``n_diverged``.
    """
    pruned = with_shared_first_levels(rows)
    pruned = pruned[pruned["level"] > 0].reset_index(drop=True)
    if pruned.empty:
        raise BadRows(f"there is no pruned network among these {len(rows)} rows")
    change = pruned["test_accuracy"] - pruned["baseline_test_accuracy"]
    pruned = pruned.assign(accuracy_change=change, diverged=pruned["status"] == "diverged")
    pruned[MEDIANS] = pruned[MEDIANS].astype("float64").mask(pruned["diverged"])
    pruned["counted_seed"] = pruned["seed"].where(pruned["test_accuracy"].notna())
    pruned["prune_fraction"] = pruned["prune_fraction"].round(FRACTION_DIGITS)
    pruned["density"] = density_levels(pruned, POINT[:-1])
    groups = pruned.groupby(POINT, dropna=False)
    _warn_of_mixed_rows(groups)
    points = groups.agg(
        task=("task", "first"),
        compression_ratio=("compression_ratio", "median"),
        **{name: (name, "median") for name in MEDIANS},
        test_accuracy_min=("test_accuracy", "min"),
        test_accuracy_max=("test_accuracy", "max"),
        n_seeds=("counted_seed", "nunique"),
        n_diverged=("diverged", "sum"),
    )
    return points.reset_index()


def density_levels(frame: pd.DataFrame, within: list[str]) -> pd.Series:
    """Each density, replaced by the median of those that are one level with it."""
    groups = frame.groupby(within, dropna=False).ngroup()
    levels = same_level(frame["density"].to_numpy(), groups.to_numpy())
    return frame["density"].groupby(levels).transform("median")


def same_level(densities: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each density's level, from 0 up; those of two groups are never the same.

    A level reaches from its lowest density to SAME_DENSITY above that, so it can't creep.
    """
    levels = np.zeros(len(densities), dtype=np.int64)
    level, lowest, group = -1, np.inf, -1
    for position in np.lexsort((densities, groups)):
        above = densities[position] >= lowest * (1 + SAME_DENSITY)
        if above or groups[position] != group:
            level, lowest, group = level + 1, densities[position], groups[position]
        levels[position] = level
    return levels


def choose_retrain_epochs(points: pd.DataFrame) -> pd.DataFrame:
    """For each method and compression, the retraining time with the best validation accuracy.

    Medians over seeds, as in Renda et al. 2020, §3; of equals the shortest. Where a validation
    accuracy is missing the test accuracy decides, with a warning: it then flatters. The column
    ``chosen_by`` names what decided, and is empty where there was no choice.
    """
    within = [name for name in POINT if name not in ("retrain_epochs", "density")]
    compression = density_levels(points, within)
    rivals = points.groupby([*(points[name] for name in within), compression], dropna=False)
    choices = [_best(group) for _, group in rivals]
    chosen = points.loc[[index for index, _ in choices]].reset_index(drop=True)
    chosen["chosen_by"] = pd.Series([judge for _, judge in choices], dtype="str")
    by_test = int((chosen["chosen_by"] == "test_accuracy").sum())
    if by_test:
        log.warning(
            "%d of %d points: retrain_epochs chosen by test accuracy, for want of a validation "
            "accuracy; that flatters them",
            by_test,
            len(chosen),
        )
    return chosen


def _best(rivals: pd.DataFrame) -> tuple[int, str | None]:
    """Index of the best point, and the column that decided."""
    measured = rivals[rivals["test_accuracy"].notna()]
    judge = "val_accuracy" if measured["val_accuracy"].notna().all() else "test_accuracy"
    candidates = rivals if measured.empty else measured
    ranked = candidates.sort_values([judge, "retrain_epochs"], ascending=[False, True])
    return ranked.index[0], judge if len(measured) > 1 else None


def dense_baselines(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a panel: its dense networks' test accuracy over seeds, each baseline once."""
    pruned = with_shared_first_levels(rows)
    pruned = pruned[(pruned["level"] > 0) & pruned["baseline_test_accuracy"].notna()]
    each = pruned.drop_duplicates([*PANEL, "baseline_id", "baseline_test_accuracy"])
    return (
        each.groupby(PANEL, dropna=False)
        .agg(
            test_accuracy=("baseline_test_accuracy", "median"),
            test_accuracy_min=("baseline_test_accuracy", "min"),
            test_accuracy_max=("baseline_test_accuracy", "max"),
            n_seeds=("seed", "nunique"),
        )
        .reset_index()
    )


def _warn_of_mixed_rows(groups: pd.api.typing.DataFrameGroupBy) -> None:
    mixed = int((groups["seed"].size() > groups["seed"].nunique()).sum())
    if mixed:
        log.warning(
            "%d points hold several rows of one seed: stages that differ in something no column "
            "tells (the protocol, a learning rate, momentum); take the rows of one sweep",
            mixed,
        )

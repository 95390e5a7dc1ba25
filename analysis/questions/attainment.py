"""What one, half and all of the seeds attain: the spread of a front."""

from __future__ import annotations

import logging

import moocore
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.questions.fronts import OBJECTIVES, members_of
from analysis.questions.pareto import AGAINST, BY, check_choice
from analysis.table.columns import BadRows
from analysis.table.points import (
    PANEL,
    choose_retrain_epochs,
    density_levels,
    points_and_trials,
    sums_up,
)

log = logging.getLogger(__name__)

CURVES = ["best", "median", "worst"]
"""Attained by one seed, by half of them, and by all."""


def attainment(
    rows: pd.DataFrame, by: str = "method", x: str = "compression_ratio"
) -> pd.DataFrame:
    """The corners of each panel's and ``by``'s attainment curves in accuracy and x.

    Columns: PANEL, ``by``, ``curve`` (one of CURVES), ``n_seeds``, ``attained_by`` (seeds), x,
    ``test_accuracy``; each curve's lines in order of x. A seed attains what some network trained
    with it is at least as good as, in both. At a corner ``attained_by`` of the ``n_seeds``
    attain it, and no higher accuracy or better x besides; between corners draw steps, never
    slopes: a compression is attained with the accuracy of the next corner of higher compression.
    The empirical attainment function of Grunert da Fonseca et al. 2001, exact.

    The retraining time is chosen as pareto() does. Rows that sum up trials are left out.
    """
    check_choice("by", by, BY)
    check_choice("x", x, AGAINST)
    chosen = by != "retrain_epochs" and not x.startswith("search_cost_")
    trials = trials_of(rows, chosen=chosen)
    if by == "density":
        trials = trials.assign(density=density_levels(trials, PANEL))
    trials = trials[trials[[x, "test_accuracy"]].notna().all(axis="columns")]
    if trials.empty:
        raise BadRows(f"no row of a single trial has both a test_accuracy and {x}")
    keys = list(dict.fromkeys([*PANEL, by]))
    values = trials[[x, "test_accuracy"]].to_numpy(dtype=np.float64)
    seeds = trials["seed"].to_numpy()
    groups = members_of(trials, keys)
    parts = [
        attained(values[members], seeds[members], more_is_better=OBJECTIVES[x])
        for members in groups
    ]
    corners = pd.concat(parts, ignore_index=True).rename(columns={"x": x})
    lengths = [len(part) for part in parts]
    labels = trials[keys].iloc[np.repeat([members[0] for members in groups], lengths)]
    table = pd.concat([labels.reset_index(drop=True), corners], axis="columns")
    ordered = table.assign(order=table["curve"].map(CURVES.index))
    return ordered.sort_values([*keys, "order", x], ignore_index=True).drop(columns="order")


def attained(
    values: NDArray[np.float64], seeds: NDArray[np.int64], *, more_is_better: bool
) -> pd.DataFrame:
    """values: (n, 2), x and accuracy; seeds: (n,). A line a corner, as of ``attainment``.

    With an even number of seeds the median curve is attained by exactly half of them.
    """
    signs = np.array([-1 if more_is_better else 1, -1])
    order = np.argsort(seeds, kind="stable")  # moocore takes each set to be in one piece
    n_seeds = len(np.unique(seeds))
    needed = dict(zip(CURVES, (1, (n_seeds + 1) // 2, n_seeds), strict=True))
    found = moocore.eaf(
        values[order] * signs,
        seeds[order],
        percentiles=[100 * level / n_seeds for level in set(needed.values())],
    )
    levels = np.rint(found[:, 2] * n_seeds / 100).astype(np.int64)
    parts = [
        pd.DataFrame(
            {
                "curve": curve,
                "n_seeds": n_seeds,
                "attained_by": level,
                "x": found[levels == level, 0] * signs[0],
                "test_accuracy": found[levels == level, 1] * signs[1],
            }
        )
        for curve, level in needed.items()
    ]
    return pd.concat(parts, ignore_index=True)


def trials_of(rows: pd.DataFrame, *, chosen: bool) -> pd.DataFrame:
    """The rows that ``points_of`` takes medians of, one a trial, with its ``density``.

    ``chosen``: only those at the retraining times of ``choose_retrain_epochs``. What a diverged
    trial measured is NaN. Rows that sum up several trials (``sums_up``) are left out,
    with a warning.
    """
    points, trials = points_and_trials(rows)
    points = points.assign(point=np.arange(len(points)))
    if chosen:
        points = choose_retrain_epochs(points)
    single = ~sums_up(trials).to_numpy()
    if not single.all():
        log.warning(
            "%d rows sum up several trials each, or don't say how many: left out",
            int((~single).sum()),
        )
    wanted = trials[single & np.isin(trials["point"], points["point"])]
    return wanted.drop(columns="point").reset_index(drop=True)

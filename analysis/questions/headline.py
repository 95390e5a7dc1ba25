"""The numbers people quote: how small a network gets without losing accuracy, and at what cost."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.table.columns import BadRows
from analysis.table.groups import group_numbers
from analysis.table.points import (
    PANEL,
    choose_retrain_epochs,
    density_levels,
    points_and_trials,
    sums_up,
    trials_of,
)

NO_DROP = 0.0005
"""Renda et al. print accuracies to 0.1 points: a median drop below 0.05 points is none."""
SMALL_DROP = 0.01
"""1 point of accuracy or 1 BLEU; Renda et al. 2020, §4."""

CURVE = [*PANEL, "criterion", "variant", "method", "step"]
"""What a line of a figure has in common. ``step`` is the prune fraction of an iterative chain."""

REWINDINGS = ["weight_rewind", "lr_rewind"]

OF_SEEDS = ["seed", "accuracy_change", "trials", "source", "test_accuracy_std"]
"""Columns of the trials that headlines are made of."""

OF_ZONE = [*PANEL, "criterion", "variant", "max_drop"]
"""Of the rewinding safe zone."""


def with_step(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` with the column ``step``; empty one-shot, where every point has its own."""
    iterative = points["schedule_kind"] == "iterative"
    return points.assign(step=points["prune_fraction"].where(iterative))


def headlines(rows: pd.DataFrame, max_drops: tuple[float, ...]) -> pd.DataFrame:
    """One line a curve and drop: the highest compression whose median accuracy drops no further.

    It is found by test accuracy; the retraining time by validation accuracy (Renda et al. 2020,
    §3), ``chosen_by`` says where it wasn't. ``at_least``: nothing of the curve was tried at a
    higher compression, so the number is where the grid ends and not where the accuracy does.
    ``lowest_seed`` and ``highest_seed`` are the same compression for the seeds one by one, each
    against its own dense network, at the same retraining times; the lowest is missing where
    ``n_seeds_none`` seeds stay within the drop nowhere, ``highest_seed_at_least`` is as above.
    ``n_lower_failures`` counts lower compressions that dropped further all the same: then the
    curve isn't monotone, and the number is a lucky one. ``speedup_over_finetune`` is fine-tuning's
    FLOPs over this point's, at the same compression (their App. F). A curve that never stays
    within the drop has no compression.
    """
    return headlines_of(*points_and_trials(rows, OF_SEEDS), max_drops)


def headlines_of(
    points: pd.DataFrame, trials: pd.DataFrame, max_drops: tuple[float, ...]
) -> pd.DataFrame:
    """The same of what ``points_and_trials`` returns, of trials the columns OF_SEEDS."""
    points = with_step(choose_retrain_epochs(points.assign(point=np.arange(len(points)))))
    points = points.assign(curve=group_numbers(points, CURVE))
    tried = points["accuracy_change"].notna() | (points["n_diverged"] > 0)
    furthest = points["compression_ratio"].where(tried).groupby(points["curve"]).transform("max")
    points = points.assign(furthest=furthest)
    chosen = points[points["accuracy_change"].notna()].reset_index(drop=True)
    if chosen.empty:
        raise BadRows("no pruned row has both a test_accuracy and a baseline_test_accuracy")
    chosen["speedup_over_finetune"] = chosen["speedup"] / speedup_of(chosen, "finetune")
    of_chosen = chosen.set_index("point")[["curve", "compression_ratio", "furthest"]]
    single = trials_of(trials, chosen["point"].to_numpy())
    single = single.loc[~sums_up(single), ["point", "seed", "accuracy_change"]]
    single = single.join(of_chosen, on="point")
    found = [
        _highest(chosen, drop).merge(_of_seeds(single, drop), on="curve", how="left")
        for drop in max_drops
    ]
    lines = pd.concat(found, ignore_index=True).drop(columns=["point", "furthest", "curve"])
    return lines.sort_values([*CURVE, "max_drop"], ignore_index=True)


def _highest(chosen: pd.DataFrame, max_drop: float) -> pd.DataFrame:
    curve = chosen["curve"]
    kept = chosen["accuracy_change"] >= -max_drop
    ratio = chosen["compression_ratio"].where(kept)
    highest = ratio.groupby(curve).transform("max")
    failed = (~kept & (chosen["compression_ratio"] < highest)).groupby(curve).transform("sum")
    best = chosen.assign(
        max_drop=max_drop,
        n_lower_failures=failed,
        at_least=highest >= chosen["furthest"],
    )[kept & (chosen["compression_ratio"] == highest)]
    none = chosen[~curve.isin(curve[kept])].drop_duplicates("curve")
    missing = none[[*CURVE, "curve"]].assign(
        max_drop=max_drop, n_seeds=none["n_seeds"], at_least=False
    )
    return pd.concat([best, missing], ignore_index=True)


def _of_seeds(trials: pd.DataFrame, max_drop: float) -> pd.DataFrame:
    """By curve, what its seeds reach one by one.

    trials: of single seeds, with the ``curve`` and the compression of their point.
    """
    measured = trials[trials["accuracy_change"].notna()]
    within = measured["accuracy_change"] >= -max_drop
    reached = (
        measured["compression_ratio"]
        .where(within)
        .groupby([measured["curve"], measured["seed"]])
        .max()
        .groupby(level=0)
    )
    n_none = reached.size() - reached.count()
    highest = reached.max()
    furthest = trials.groupby("curve")["furthest"].first()
    found = pd.DataFrame(
        {
            "lowest_seed": reached.min().where(n_none == 0),
            "highest_seed": highest,
            "n_seeds_none": n_none,
        }
    )
    at_least = found["highest_seed"] >= furthest.reindex(found.index)
    return found.assign(highest_seed_at_least=at_least).reset_index()


def speedup_of(points: pd.DataFrame, method: str) -> pd.Series:
    """For each point the median speedup of ``method`` at its compression, in its panel."""
    among = [name for name in CURVE if name not in ("method", "variant")]
    levels = density_levels(points, among)
    place = group_numbers(points.assign(density=levels), [*among, "density"])
    theirs = points["speedup"].where(points["method"] == method)
    return theirs.groupby(place).transform("median")


# Accuracy against search cost


def costs_at_headlines(points: pd.DataFrame, max_drops: tuple[float, ...]) -> pd.DataFrame:
    """The points of every method and retraining time at each panel's headline compressions.

    These are the highest compressions at which any method stays within the drop, at any retraining
    time (Renda et al. 2020, §4): what their figures 3 and 4 show. With a column ``max_drop``.
    """
    points = with_step(points)
    among = [name for name in CURVE if name != "method"]
    points = points.assign(density=density_levels(points, among))
    scenario = group_numbers(points, among)
    parts = []
    for drop in max_drops:
        within = points["density"].where(points["accuracy_change"] >= -drop)
        lowest = within.groupby(scenario).transform("min")
        parts.append(points[points["density"] == lowest].assign(max_drop=drop))
    order = [*among, "max_drop", "method", "retrain_epochs"]
    return pd.concat(parts).sort_values(order, ignore_index=True)


# The rewinding safe zone


def outperforming(points: pd.DataFrame) -> pd.DataFrame:
    """Where both rewindings beat fine-tuning at an equal search cost; one line a retraining time.

    points: of ``costs_at_headlines``. Columns: the scenario (OF_ZONE), ``share`` = t / T,
    ``margin`` = the smaller lead of the two, and ``outperforms``.
    """
    three = points[points["method"].isin([*REWINDINGS, "finetune"])]
    table = three.pivot_table(
        index=[*OF_ZONE, "density", "retrain_epochs", "dense_epochs"],
        columns="method",
        values="test_accuracy",
        aggfunc="median",
    ).reindex(columns=[*REWINDINGS, "finetune"])
    table = table.dropna()
    if table.empty:
        return pd.DataFrame(columns=[*OF_ZONE, "share", "margin", "outperforms"])
    margin = table[REWINDINGS].min(axis="columns") - table["finetune"]
    lines = margin.rename("margin").reset_index()
    share = lines["retrain_epochs"].astype("float64") / lines["dense_epochs"]
    lines = lines.assign(share=share, outperforms=lines["margin"] > 0)
    return lines.sort_values([*OF_ZONE, "share"], ignore_index=True)


def safe_zone(lines: pd.DataFrame) -> tuple[float, float] | None:
    """The rewinding safe zone: the region of t / T, ends included, in which both rewindings beat
    fine-tuning in every scenario (Renda et al. 2020, §4). None if there is none.

    lines: of ``outperforming``. Of each scenario the widest run of retraining times counts, and
    what these runs have in common is the zone: scenarios needn't have tried the same times.
    """
    if lines.empty:
        return None
    runs = [
        _widest_run(scenario) for _, scenario in lines.groupby(OF_ZONE, dropna=False, sort=False)
    ]
    if None in runs:
        return None
    known = [run for run in runs if run is not None]
    start, end = max(run[0] for run in known), min(run[1] for run in known)
    return (start, end) if start <= end else None


def _widest_run(scenario: pd.DataFrame) -> tuple[float, float] | None:
    run_number = (~scenario["outperforms"]).cumsum()[scenario["outperforms"]]
    runs = scenario["share"].groupby(run_number).agg(["min", "max"])
    if runs.empty:
        return None
    widest = runs.loc[(runs["max"] - runs["min"]).idxmax()]
    return float(widest["min"]), float(widest["max"])

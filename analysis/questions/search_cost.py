"""What an accuracy cost to find, in epochs and multiply-adds, and what sharing stages saved."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pandas as pd

from analysis.table.groups import group_numbers, is_in, places_in
from analysis.table.points import PANEL, points_of, sums_up

log = logging.getLogger(__name__)


def search_costs(rows: pd.DataFrame) -> pd.DataFrame:
    """Every point, by method and compression, cheapest first."""
    order = [*PANEL, "method", "compression_ratio", "search_cost_epochs", "criterion"]
    return points_of(rows).sort_values(order, ignore_index=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """Epochs that a sweep trained, against those its rows would need one by one."""

    epochs_trained: int
    """Each stage once, to its longest row; baselines included."""
    epochs_alone: int
    """Each row by itself: its baseline's epochs and its search_cost_epochs."""

    @property
    def factor(self) -> float:
        return self.epochs_alone / self.epochs_trained


def sharing_of(rows: pd.DataFrame) -> Sharing | None:
    """None, with a warning, where ancestors or costs are missing.

    None too where rows sum up trials: these cost as much as all their trials together, which no row
    says. A baseline that has rows of several lengths counts with its shortest: the factor is never
    overstated.
    """
    sums = int(sums_up(rows).sum())
    if sums:
        log.warning("how many epochs sharing saved is unknown: %d rows sum up trials", sums)
        return None
    ancestors = pd.concat([rows["parent_id"], rows["baseline_id"].drop_duplicates()]).dropna()
    absent = ancestors[~is_in(ancestors, rows["stage_id"])].nunique()
    if absent or rows["search_cost_epochs"].isna().any():
        log.warning(
            "how many epochs sharing saved is unknown: %s",
            f"{absent} stages that these rows go on from have no row among them"
            if absent
            else "some rows have no search_cost_epochs",
        )
        return None
    stage = group_numbers(rows, ["stage_id"])
    lengths = rows["train_epochs"].groupby(stage).agg(["min", "max"])
    baseline = stage.to_numpy()[places_in(rows["baseline_id"], rows["stage_id"])]
    shortest = lengths["min"].take(baseline).set_axis(rows.index)
    dense_epochs = rows["train_epochs"].where(rows["level"] == 0, shortest)
    alone = dense_epochs + rows["search_cost_epochs"]
    return Sharing(epochs_trained=int(lengths["max"].sum()), epochs_alone=int(alone.sum()))

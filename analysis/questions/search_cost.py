"""What an accuracy cost to find, in epochs and multiply-adds, and what sharing stages saved."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.table.groups import grouped
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
    # numbered in order of appearance, so that an ancestor without a row comes after all stages
    ids = pd.concat([rows[name] for name in ("stage_id", "baseline_id", "parent_id")])
    stage, baseline, parent = np.split(pd.factorize(ids)[0], 3)
    last = stage.max(initial=-1)
    absent = len(np.union1d(baseline[baseline > last], parent[parent > last]))
    if absent or rows["search_cost_epochs"].isna().any():
        log.warning(
            "how many epochs sharing saved is unknown: %s",
            f"{absent} stages that these rows go on from have no row among them"
            if absent
            else "some rows have no search_cost_epochs",
        )
        return None
    lengths = grouped(rows["train_epochs"], pd.Series(stage))
    shortest = pd.Series(lengths.min().to_numpy()[baseline], rows.index)
    dense_epochs = rows["train_epochs"].where(rows["level"] == 0, shortest)
    alone = dense_epochs + rows["search_cost_epochs"]
    return Sharing(epochs_trained=int(lengths.max().sum()), epochs_alone=int(alone.sum()))

"""Fronts in two or three objectives, and the size of what they reach."""

from __future__ import annotations

from collections.abc import Callable

import moocore
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.table.groups import group_numbers
from analysis.table.points import PANEL

OBJECTIVES = {
    "test_accuracy": True,
    "compression_ratio": True,
    "speedup": True,
    "flops_remaining": False,
    "search_cost_epochs": False,
    "search_cost_flops": False,
}
"""What may be weighed against each other; True: more is better."""


def nondominated(
    points: pd.DataFrame, objectives: dict[str, bool], within: list[str]
) -> NDArray[np.bool_]:
    """Which points no other beats: at least as good in all objectives, and better in one.

    objectives: two or three columns; True: more is better. Only points that agree in all columns
    ``within`` compete; equal points keep each other. A point that lacks an objective doesn't
    compete, and is not one of them.
    """
    values = points[list(objectives)].to_numpy(dtype=np.float64)
    measured = ~np.isnan(values).any(axis=1)
    flags = np.zeros(len(points), dtype=bool)
    for members in members_of(points, within):
        competing = members[measured[members]]
        if len(competing):
            flags[competing] = moocore.is_nondominated(
                values[competing], maximise=list(objectives.values()), keep_weakly=True
            )
    return flags


def members_of(frame: pd.DataFrame, by: list[str]) -> list[NDArray[np.int64]]:
    """The positions of the lines of each group, in order of the groups' first lines."""
    numbers = group_numbers(frame, by).to_numpy()
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []


# Hypervolume


def doublings(ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log2(ratios)


def share_saved(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the highest cost; that one saves nothing."""
    return np.asarray(1 - costs / costs.max())


SCALES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "compression_ratio": doublings,
    "speedup": doublings,
    "flops_remaining": share_saved,
    "search_cost_epochs": share_saved,
    "search_cost_flops": share_saved,
}
"""What a panel's values of x are measured as: 0 is the reference point, more is better."""


def hypervolumes(points: pd.DataFrame, by: list[str], x: str = "compression_ratio") -> pd.DataFrame:
    """The area under the front of each panel and ``by``: columns PANEL, ``by``, ``hypervolume``.

    Accuracy is measured from 0 as a fraction, x by SCALES: compression and speedup from 1× in
    doublings, costs as the share saved of the panel's highest. So 3.0 is an accuracy of 1 kept up
    to 8×, or of 0.75 up to 16×. It grows with how far a method was tried: compare only methods
    tried at the same compressions. One line a seed with the seed in ``by`` and trials as points.
    """
    measured = points[points[[x, "test_accuracy"]].notna().all(axis="columns")]
    scaled = measured[x].to_numpy(dtype=np.float64, copy=True)
    for members in members_of(measured, PANEL):
        scaled[members] = SCALES[x](scaled[members])
    accuracy = measured["test_accuracy"].to_numpy(dtype=np.float64)
    corners = np.column_stack([scaled, accuracy])
    keys = list(dict.fromkeys([*PANEL, *by]))
    groups = members_of(measured, keys)
    found = measured[keys].iloc[[members[0] for members in groups]].reset_index(drop=True)
    found["hypervolume"] = [
        float(moocore.hypervolume(corners[members], ref=0, maximise=True)) for members in groups
    ]
    return found.sort_values(keys, ignore_index=True)

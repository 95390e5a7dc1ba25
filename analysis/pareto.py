"""The frontier: accuracy against compression, speedup or search cost."""

from __future__ import annotations

import logging

import moocore
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.columns import BadRows
from analysis.points import PANEL, POINT, choose_retrain_epochs, density_levels, points_of

log = logging.getLogger(__name__)

MORE_IS_BETTER = {
    "compression_ratio": True,
    "speedup": True,
    "flops_remaining": False,
    "search_cost_epochs": False,
    "search_cost_flops": False,
}
"""What accuracy may be weighed against."""

BY = POINT
"""What may have a frontier of its own."""


def pareto(rows: pd.DataFrame, by: str = "method", x: str = "compression_ratio") -> pd.DataFrame:
    """The points, with a column ``nondominated``: within a panel and one value of ``by``, no other
    point is better in accuracy or ``x`` and as good in the other.

    The retraining time is chosen by validation accuracy first, except where it is what is weighed.
    """
    check_choice("--by", by, BY)
    check_choice("--x", x, list(MORE_IS_BETTER))
    points = points_of(rows)
    if by != "retrain_epochs" and not x.startswith("search_cost_"):
        points = choose_retrain_epochs(points)
    if by == "density":
        points = points.assign(density=density_levels(points, PANEL))
    measured = points[points[[x, "test_accuracy"]].notna().all(axis="columns")]
    unmeasured = len(points) - len(measured)
    if unmeasured:
        log.warning("%d of %d points have no test_accuracy or %s", unmeasured, len(points), x)
    if measured.empty:
        raise BadRows(f"no pruned row has both a test_accuracy and {x}")
    groups = measured.groupby(list(dict.fromkeys([*PANEL, by])), dropna=False)
    flags = pd.Series(False, index=measured.index, name="nondominated")
    for _, group in groups:
        flags[group.index] = is_nondominated(
            group[x].to_numpy(), group["test_accuracy"].to_numpy(), more_is_better=MORE_IS_BETTER[x]
        )
    ordered = measured.assign(nondominated=flags)
    return ordered.sort_values([*PANEL, by, x, *POINT], ignore_index=True)


def is_nondominated(
    x: ArrayLike, accuracy: ArrayLike, *, more_is_better: bool
) -> NDArray[np.bool_]:
    """No other point is at least as good in both and better in one. Equal points keep each other.

    Neither may be NaN.
    """
    objectives = np.column_stack([x, accuracy]).astype(np.float64)
    flags: NDArray[np.bool_] = moocore.is_nondominated(
        objectives, maximise=[more_is_better, True], keep_weakly=True
    )
    return flags


def check_choice(option: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise ValueError(f"unknown {option} {value!r}; known: {', '.join(known)}")

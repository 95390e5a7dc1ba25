"""The frontier: accuracy against compression, speedup or search cost, or any of these."""

from __future__ import annotations

import logging

import pandas as pd

from analysis.questions.fronts import OBJECTIVES, nondominated
from analysis.table.columns import BadRows
from analysis.table.points import PANEL, POINT, choose_retrain_epochs, density_levels, points_of
from rewind_ray.errors import UserError

log = logging.getLogger(__name__)

AGAINST = [name for name in OBJECTIVES if name != "test_accuracy"]
"""What accuracy may be weighed against."""

BY = POINT
"""What may have a frontier of its own."""


def pareto(
    rows: pd.DataFrame,
    by: str = "method",
    objectives: tuple[str, ...] = ("compression_ratio", "test_accuracy"),
    all_settings: bool = False,
) -> pd.DataFrame:
    """The points, with a column ``nondominated``: within a panel and one value of ``by``, no other
    point is as good in all ``objectives`` and better in one.

    The retraining time is chosen by validation accuracy first (the papers' rule), except where it
    is what is weighed, or with ``all_settings``. Raises UserError for objectives that aren't two
    or three of OBJECTIVES, and BadRows where no point has them all.
    """
    check_choice("--by", by, BY)
    check_objectives(objectives)
    points = points_of(rows)
    weighs_cost = any(name.startswith("search_cost_") for name in objectives)
    if by != "retrain_epochs" and not weighs_cost and not all_settings:
        points = choose_retrain_epochs(points)
    if by == "density":
        points = points.assign(density=density_levels(points, PANEL))
    measured = points[points[list(objectives)].notna().all(axis="columns")]
    unmeasured = len(points) - len(measured)
    if unmeasured:
        named = " or ".join(objectives)
        log.warning("%d of %d points have no %s", unmeasured, len(points), named)
    if measured.empty:
        raise BadRows(f"no pruned row has {' and '.join(objectives)}")
    wanted = {name: OBJECTIVES[name] for name in objectives}
    flags = nondominated(measured, wanted, within=list(dict.fromkeys([*PANEL, by])))
    order = [*PANEL, by, *objectives[:1], *POINT]
    return measured.assign(nondominated=flags).sort_values(
        list(dict.fromkeys(order)), ignore_index=True
    )


def check_objectives(objectives: tuple[str, ...]) -> None:
    for name in objectives:
        check_choice("--objectives", name, list(OBJECTIVES))
    if not 2 <= len(set(objectives)) == len(objectives) <= 3:
        raise UserError(
            f"--objectives are {' '.join(objectives) or 'none'}; give two or three different ones "
            f"of {', '.join(OBJECTIVES)}"
        )


def check_choice(option: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise UserError(f"unknown {option} {value!r}; known: {', '.join(known)}")

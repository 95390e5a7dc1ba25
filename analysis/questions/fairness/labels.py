"""Labels: what holds for every comparison of a figure or table, in a line below it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.questions.fairness.findings import UNKNOWN
from analysis.questions.fairness.setups import BESIDE, SHORT
from analysis.questions.fairness.verdicts import Pair, fairness, in_one_panel
from analysis.table.points import FRACTION_DIGITS, POINT, density_levels, numbers_of_points
from analysis.table.rows import with_shared_first_levels


def label_of_pair(pair: Pair) -> str:
    """As ``fairness S3.2: same base models, ...``, short enough to stand under a figure."""
    if not pair.setup:
        assert pair.breaks is not None
        return f"fairness: no setup ({pair.breaks.words})"
    return _label([pair])


def fairness_label(rows: pd.DataFrame) -> str:
    """What holds for every comparison that a figure or table of these rows makes.

    Where not all rows are shown, pass ``drawn(rows, points)``.
    """
    return label_of_pairs(fairness(rows))


def label_of_pairs(pairs: list[Pair]) -> str:
    """Of the pairs within a panel, or of all if there is none such; empty if there is no pair.

    Pairs that share no compression are counted, and decide only where no pair does.
    """
    pairs = [pair for pair in pairs if in_one_panel(pair.a, pair.b)] or pairs
    if not pairs:
        return ""
    comparable = [pair for pair in pairs if pair.setup] or pairs
    if len(pairs) == 1 or not comparable[0].setup:
        return label_of_pair(comparable[0])
    notes = [f"weakest of {len(comparable)} pairs"] if len(comparable) > 1 else []
    if len(comparable) < len(pairs):
        notes.append(f"{len(pairs) - len(comparable)} more share no compression")
    return _label(comparable, notes)


def _label(pairs: list[Pair], notes: Iterable[str] = ()) -> str:
    weakest = min(pairs, key=lambda pair: pair.rank)
    setups = [weakest.setup]
    if weakest.setup in ("S1", "S2"):  # later ones say more than the whole cost
        setups += [name for name in BESIDE if all(name in pair.beside for pair in pairs)]
    text = f"fairness {', '.join(setups)}: {', '.join(SHORT[name] for name in setups)}"
    unknown = []
    if weakest.breaks and weakest.breaks.status == UNKNOWN:
        unknown = [f"{weakest.next_setup} can't be told: {weakest.breaks.words}"]
    noted = "; ".join([*unknown, *notes])
    return f"{text} ({noted})" if noted else text


def drawn(rows: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """The rows behind ``points``, which were made of ``rows``, and the dense ones.

    Where a figure shows the retraining time chosen for each method, the comparison it makes is of
    these rows, not of all that were tried.
    """
    pruned = with_shared_first_levels(rows)
    pruned = pruned[pruned["level"] > 0].reset_index(drop=True)
    keys = pruned[POINT].assign(prune_fraction=pruned["prune_fraction"].round(FRACTION_DIGITS))
    keys["density"] = density_levels(keys, POINT[:-1])
    of_points, of_rows = numbers_of_points(points, keys)
    shown = np.isin(of_rows, of_points)
    return pd.concat([rows[rows["level"] == 0], pruned[shown]], ignore_index=True)

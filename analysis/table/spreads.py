"""What a point's accuracy and its spread are: over seeds, or as a paper published them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

KINDS = ("seeds", "interval", "deviation", "none")
"""Lowest to highest seed; a published interval; a published mean and its standard deviation; or a
published number without any."""

INTERVALS = {
    "Mikler 2022": "from the 10th to the 90th percentile of 2 to 12 trials, no confidence intervals"
}
"""Protocol -> what its published intervals are (docs/statistics.md)."""


def spread_kinds(rows: pd.DataFrame, sums_up: pd.Series) -> pd.Series:
    """One of KINDS for each row, as categories. sums_up: whether it sums up several trials."""
    choices = {
        "deviation": rows["test_accuracy_std"].notna(),
        "interval": rows["test_accuracy_low"].notna() | rows["test_accuracy_high"].notna(),
        "none": sums_up,
    }
    kinds = pd.Index([*choices, "seeds"], dtype="str")
    codes = np.select(list(choices.values()), range(len(choices)), len(choices))
    return pd.Series(pd.Categorical.from_codes(codes, kinds), rows.index)


def marks_text(points: pd.DataFrame, spread: str) -> str:
    """What the accuracies and spreads of these points are, as a sentence.

    points: columns ``spread_kind`` (missing values are passed over) and ``protocol``. spread: how
    it is shown, a plural, such as "bars".
    """
    kinds = [kind for kind in KINDS if (points["spread_kind"] == kind).any()]
    parts = {
        "seeds": f"medians over seeds, {spread} from the lowest to the highest",
        "interval": f"published medians, {spread} {_interval(points)}",
        "deviation": f"published means, {spread} one standard deviation to each side",
        "none": f"published numbers without {spread}",
    }
    text = "; ".join(parts[kind] for kind in kinds)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _interval(points: pd.DataFrame) -> str:
    protocols = points.loc[points["spread_kind"] == "interval", "protocol"].unique()
    known = {INTERVALS.get(protocol) for protocol in protocols}
    return known.pop() or "as published" if len(known) == 1 else "as published"


def spread_column(kinds: Iterable[object]) -> str:
    """The name of a column with the spreads of points of these kinds."""
    return "min-max" if all(kind == "seeds" for kind in kinds if not pd.isna(kind)) else "spread"

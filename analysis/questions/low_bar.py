"""Dense networks that are easy to equal, because they were trained too briefly."""

from __future__ import annotations

import pandas as pd

from analysis.table.metrics import KNOWN, metric_named
from analysis.table.text import panel_name, times

FAR_ABOVE = 0.01
"""1 point of accuracy or 1 BLEU."""
OF_DENSE = ["network", "dataset", "protocol", "metric"]
"""Of ``points_of``'s columns those that dense networks have in common."""
SHOWN = 3
OF_PAPERS = 0.0092
"""The most that a pruned network gains over its dense one in Wang et al. 2023's tables; 0.0075 in
the trials of Renda et al. 2020 and in Mikler 2022's figures."""


def far_above_dense(points: pd.DataFrame) -> pd.DataFrame:
    """The point that gains most over the dense networks of its data and protocol, if more than
    FAR_ABOVE.

    Then any further training helps, and the dense accuracy is a low bar. The furthest first.
    points: of ``points_of``.
    """
    far = points[(points["accuracy_change"] > FAR_ABOVE) & points["metric"].isin(list(KNOWN))]
    far = far.sort_values("accuracy_change", ascending=False, kind="stable")
    return far.drop_duplicates(OF_DENSE)


def low_bar_texts(points: pd.DataFrame) -> list[str]:
    """A warning for each such point, of the worst SHOWN. A point with a ``line``, its label in
    figures, goes by that."""
    far = far_above_dense(points)
    texts = [_text(point) for _, point in far.head(SHOWN).iterrows()]
    more = len(far) - len(texts)
    return [*texts, f"The same goes for {more:,} more."] if more else texts


def _text(point: pd.Series) -> str:
    step = metric_named(point["metric"]).step
    points = f"{step}s" if step == "point" else step
    return (
        f"{panel_name(tuple(point[OF_DENSE]))}: {point.get('line', point['method'])} at "
        f"{times(point['compression_ratio'])} is {100 * point['accuracy_change']:.2f} {points} "
        f"above its dense networks; in the three papers no pruned network gains more than "
        f"{100 * OF_PAPERS:.2f}. The dense ones may have been trained too briefly: then any "
        "further training helps, and keeping their accuracy says little about pruning. Train them "
        "for longer."
    )

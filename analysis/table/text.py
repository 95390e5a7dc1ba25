"""Points as text to read in a terminal, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.table.metrics import metric_named
from analysis.table.points import PANEL
from analysis.table.spreads import spread_column


def times(ratio: float) -> str:
    """Three digits, as papers write it: 1.25×, 10.0×, 128×; empty if there is none."""
    if pd.isna(ratio):
        return ""
    rounded = float(f"{ratio:.3g}")
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(rounded)))}f}×"


def reached(ratio: float, at_least: bool) -> str:
    """A compression; ``≥ 9.31×`` where no higher one was tried."""
    return f"≥ {times(ratio)}" if at_least and not pd.isna(ratio) else times(ratio)


def reached_by_seeds(line: Any) -> str:
    """The range over the seeds of a line of ``headlines``; empty without several seeds."""
    if pd.isna(line.highest_seed):
        return "none" if line.n_seeds_none > 1 else ""
    high = reached(line.highest_seed, line.highest_seed_at_least)
    low = "none" if line.n_seeds_none else times(line.lowest_seed)
    if line.n_seeds < 2:
        return ""
    return high if low == times(line.highest_seed) else f"{low} to {high}"


def percent(accuracy: float) -> str:
    """0.9639 is 96.39; empty if there is none."""
    return "" if pd.isna(accuracy) else f"{100 * accuracy:.2f}"


def spread(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"{percent(low)}-{percent(high)}"


def spreads(points: pd.DataFrame) -> list[str]:
    """Of each point; empty where a published number has none."""
    shown = zip(
        *(points[name] for name in ("spread_kind", "test_accuracy_min", "test_accuracy_max")),
        strict=True,
    )
    return ["" if kind == "none" else spread(low, high) for kind, low, high in shown]


def count(number: float) -> str:
    """Epochs and multiply-adds: 182, 40.5, 4.08e+07."""
    if pd.isna(number):
        return ""
    return f"{number:g}" if abs(number) < 1e6 else f"{number:.3g}"


def panel_name(panel: tuple[Any, ...]) -> str:
    """Its values, without what goes without saying: that what is measured are accuracies."""
    said = [
        str(part)
        for place, part in enumerate(panel)
        if not pd.isna(part) and part != "" and not (place > 1 and part == "accuracy")
    ]
    return " · ".join(said)


LINES_SHOWN = 60
"""Of a panel; the rest is in --json and in a .csv."""


def panels_text(
    points: pd.DataFrame,
    baselines: pd.DataFrame,
    columns: list[str],
    notes: Mapping[Any, str] | None = None,
) -> str:
    """A table for each panel, under its name and the accuracy of its dense networks.

    notes: panel -> a line below its table.
    """
    dense = baselines.set_index(PANEL)
    parts = []
    for panel, group in points.groupby(PANEL, dropna=False):
        assert isinstance(panel, tuple)
        lines = [f"{panel_name(panel)}: {_dense_text(dense, panel)}"]
        lines.append(_text(group.head(LINES_SHOWN), columns))
        if len(group) > LINES_SHOWN:
            more = len(group) - LINES_SHOWN
            lines.append(f"... and {more} more: --json, or --out with a .csv, has all")
        if notes and panel in notes:
            lines.append(notes[panel])
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _dense_text(dense: pd.DataFrame, panel: tuple[Any, ...]) -> str:
    if panel not in dense.index:
        return "no dense accuracy"
    line = dense.loc[[panel]].iloc[0]
    return (
        f"dense {percent(line.test_accuracy)} "
        f"({spread(line.test_accuracy_min, line.test_accuracy_max)}, n={line.n_seeds:g})"
    )


def _text(points: pd.DataFrame, columns: list[str]) -> str:
    cells = pd.DataFrame(index=points.index)
    for name in [*columns, *_varying(points, columns)]:
        cells[name] = points[name].map(_cell)
    cells["compression"] = points["compression_ratio"].map(times)
    cells[accuracy_column(points["metric"])] = points["test_accuracy"].map(percent)
    cells[spread_column(points["spread_kind"])] = spreads(points)
    cells["change"] = points["accuracy_change"].map(
        lambda change: "" if pd.isna(change) else f"{100 * change:+.2f}"
    )
    cells["n"] = points["n_seeds"].map(str)
    if points["n_diverged"].any():
        cells["diverged"] = points["n_diverged"].map(str)
    return aligned(cells, left={name for name in cells if points.dtypes.get(name) == "str"})


def accuracy_column(metrics: pd.Series) -> str:
    """The name of a column with what these rows measure."""
    return " or ".join(metric_named(name).name for name in sorted(set(metrics)))


def aligned(cells: pd.DataFrame, left: set[str]) -> str:
    """Columns of text under their names; those in ``left`` flush left."""
    columns = []
    for name in cells:
        texts = [name, *cells[name]]
        width = max(map(len, texts))
        columns.append([text.ljust(width) if name in left else text.rjust(width) for text in texts])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _varying(points: pd.DataFrame, columns: list[str]) -> list[str]:
    """What else distinguishes these points. One-shot, the compression implies the fraction."""
    iterative = (points["schedule_kind"] == "iterative").all()
    candidates = ["variant", "criterion", "level", *(["prune_fraction"] if iterative else [])]
    return [name for name in candidates if name not in columns and points[name].nunique() > 1]


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return value if isinstance(value, str) else count(value)


def json_text(content: dict[str, Any]) -> str:
    """Valid JSON: what is missing or not finite is null."""
    return json.dumps(_plain(content), indent=1, allow_nan=False)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, line, strict=True)) for line in table.itertuples(index=False)]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(content) for key, content in value.items()}
    if isinstance(value, list):
        return [_plain(content) for content in value]
    if pd.isna(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""Numbers and names as a reader wants them; tables that stay short."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.report.blocks import Table
from analysis.table.points import PANEL
from analysis.table.text import panel_name

MAX_LINES = 100
"""Of a table in words."""
NAMED = 3
"""In a list of names that would be longer."""


def several(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def named(values: pd.Series, plural: str) -> str:
    """The names, if they are few; else their number."""
    names = [str(name) for name in values.unique()]
    if len(names) > NAMED:
        return f"{len(names):,} {plural}"
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[:-1] else names)


def listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def short_names(panels: pd.DataFrame) -> tuple[list[str], str]:
    """What distinguishes these panels, and what they have in common; a single one has all in its
    name."""
    varying = [name for name in PANEL if panels[name].nunique(dropna=False) > 1] or PANEL
    names = [panel_name(panel) for panel in lines_of(panels[varying])]
    common = [name for name in PANEL if name not in varying]
    shared = panel_name(("", "", *lines_of(panels[common])[0])) if common and names else ""
    return names, shared


def signed(change: float) -> str:
    """Of accuracy, in points: +0.25, −1.30; empty if there is none."""
    return "" if pd.isna(change) else f"{100 * change:+.2f}".replace("-", "−")


def lines_of(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(table.itertuples(index=False, name=None))


def cut(table: Table) -> Table:
    """The first MAX_LINES lines; the caption then says so."""
    if len(table.lines) <= MAX_LINES:
        return table
    caption = f"{table.caption} (the first {MAX_LINES} of {len(table.lines):,})"
    return replace(table, caption=caption, lines=table.lines[:MAX_LINES])

"""What stands below a figure: how fair its comparisons are, and where its numbers come from."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis.draw.panels import Panel
from analysis.draw.papers.scenes import Source, SourcePoints
from analysis.questions.fairness import fairness_label


def fairness_note(
    panels: Iterable[Panel], main: SourcePoints, beside: SourcePoints | None
) -> tuple[str, ...]:
    """Of all comparisons within panels; nothing where none is made."""
    shown, dense = [], []
    for material in filter(None, (main, beside)):
        published = bool(material.source.paper)
        parts = [
            panel.points.loc[panel.points["published"] == published, ["point"]].assign(
                # A panel is what is compared within, so it takes the place of the network
                network=panel.title.replace("\n", ", ")
            )
            for panel in panels
        ]
        trials = material.trials.drop(columns="network")
        shown.append(trials.merge(pd.concat(parts), on="point").drop(columns="point"))
        rows = material.source.rows
        dense.append(rows[rows["level"] == 0])
    label = fairness_label(pd.concat([*dense, *shown], ignore_index=True))
    return (label,) if label else ()


def origin_note(main: Source, beside: Source | None, *, shown: bool = True) -> tuple[str, ...]:
    """shown: anything of ``beside`` is there."""
    if main.paper:
        return (f"From the results published with {main.paper}.",)
    if beside and shown:
        return (f"Published: {beside.paper}.",)
    return ()


def chart_notes(
    panels: Iterable[Panel], main: SourcePoints, beside: SourcePoints | None, words: str
) -> tuple[str, ...]:
    """Origin and ``words``, then the fairness."""
    panels = list(panels)
    shown = any(panel.points["published"].any() for panel in panels)
    origin = origin_note(main.source, beside.source if beside else None, shown=shown)
    caption = " ".join(filter(None, [*origin, words]))
    return (caption, *fairness_note(panels, main, beside))

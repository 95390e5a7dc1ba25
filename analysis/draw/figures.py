"""The figures of rows: accuracy against compression, frontiers, accuracy against search cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.draw.drawing import Sheet, abreast, draw, write_figures
from analysis.draw.looks import METHOD_LABELS
from analysis.draw.panels import AXES, Panel, accuracy_axis
from analysis.table.columns import BadRows
from analysis.table.points import (
    PANEL,
    choose_retrain_epochs,
    dense_baselines,
    density_levels,
    how_chosen,
    points_of,
)
from analysis.table.rows import KEY, with_shared_first_levels
from analysis.table.spreads import marks_text
from analysis.table.text import panel_name, times

PANELS_ABREAST = 3
COMPRESSIONS_SHOWN = 4  # in a figure of search costs


def accuracy_against_compression(rows: pd.DataFrame, out: str) -> None:
    """A line a method, a panel a network, data set, structure and kind of schedule.

    Of several retraining times each method shows the one with the best validation accuracy. A
    panel of one-shot points that are but first steps of iterative chains is left out.
    """
    points = choose_retrain_epochs(points_of(rows))
    points = points.assign(line=line_labels(points, "method"))
    without = {panel_name(panel) for panel in mere_first_steps(rows)}
    panels = _panels(points, dense_baselines(rows), "compression_ratio")
    kept = [panel for panel in panels if panel.title not in without]
    note = " ".join(filter(None, [marks_text(points, "bars"), how_chosen(points)]))
    write_figures([draw([Sheet(rows=abreast(kept, PANELS_ABREAST))], note=note)], out)


def frontier(points: pd.DataFrame, baselines: pd.DataFrame, by: str, x: str, out: str) -> None:
    """What ``pareto`` found: lines join the non-dominated points, hollow marks are dominated."""
    panels = _panels(points.assign(line=line_labels(points, by)), baselines, x)
    chosen = how_chosen(points) if "chosen_by" in points else ""
    beaten = "Hollow: beaten by another of its line, in test accuracy."
    note = " ".join(filter(None, [marks_text(points, "bars"), chosen, beaten]))
    write_figures([draw([Sheet(rows=abreast(panels, PANELS_ABREAST))], note=note)], out)


def accuracy_against_search_cost(rows: pd.DataFrame, out: str) -> None:
    """A row of panels for each network, data set, structure and kind of schedule.

    In it stand some compressions side by side, the lowest and the highest among them at which
    there is something to compare: through several of them accuracy would change with size, not
    with search cost.
    """
    points = points_of(rows)
    points = points.assign(
        line=line_labels(points, "method"), density=density_levels(points, PANEL)
    )
    panels = _panels(points, dense_baselines(rows), "search_cost_epochs")
    panels = [panel for panel in panels if panel.points["x"].notna().any()]
    if not panels:
        raise BadRows("no pruned row has search_cost_epochs: there is nothing to draw")
    sheet = Sheet(rows=[_by_compression(panel) for panel in panels], share="row")
    tried = "All retraining times that were tried, good ones and bad ones."
    note = f"{marks_text(points, 'bars')} {tried}"
    write_figures([draw([sheet], note=note)], out)


# what is drawn


def line_labels(points: pd.DataFrame, by: str) -> pd.Series:
    """``by``, with criterion and step where several would otherwise share a line."""
    labels = points[by].map(lambda value: METHOD_LABELS.get(value, _readable(value)))
    if by != "method":
        labels = by + " " + labels
        return labels
    variant = without_network(points)
    labels = labels.where(variant == "", labels + ", " + variant)
    if points["criterion"].nunique() > 1:
        labels = labels + ", " + points["criterion"].map(_readable)
    iterative = points["schedule_kind"] == "iterative"
    if points.loc[iterative, "prune_fraction"].nunique() > 1:
        step = ", " + (100 * points["prune_fraction"]).map("{:.3g} % a step".format)
        labels = labels.where(~iterative, labels + step)
    return labels


def without_network(points: pd.DataFrame) -> pd.Series:
    """The variants; rates that are named after the network, as resnet56-B, are "rates B"."""
    pairs = zip(points["network"], points["variant"], strict=True)
    texts = [variant.replace(f"{network}-", "rates ") for network, variant in pairs]
    return pd.Series(texts, index=points.index, dtype="str")


def _readable(value: object) -> str:
    return "unknown" if pd.isna(value) else str(value).replace("_", " ")


def _panels(points: pd.DataFrame, baselines: pd.DataFrame, x: str) -> list[Panel]:
    """Of accuracies against ``x``; points: with a column ``line``."""
    dense = {
        panel_name(tuple(line[name] for name in PANEL)): line
        for line in baselines.to_dict("records")
    }
    points = points.assign(
        x=points[x],
        y=points["test_accuracy"],
        low=points["test_accuracy_min"],
        high=points["test_accuracy_max"],
    )
    panels = []
    for panel, group in points.groupby(PANEL, dropna=False):
        baseline = dense.get(panel_name(panel))
        panels.append(
            Panel(
                title=panel_name(panel),
                points=group,
                x=AXES[x],
                y=accuracy_axis(group["metric"].iloc[0]),
                dense=baseline
                and (
                    baseline["test_accuracy"],
                    baseline["test_accuracy_min"],
                    baseline["test_accuracy_max"],
                ),
            )
        )
    return panels


def mere_first_steps(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """One-shot panels whose every row is the first step of an iterative chain too."""
    first = with_shared_first_levels(rows)
    first = first[first["level"] == 1]
    shared = first.duplicated(KEY, keep=False)
    one_shot = first["schedule_kind"] == "one-shot"
    return [
        panel
        for panel, all_shared in shared[one_shot]
        .groupby([first[name] for name in PANEL])
        .all()
        .items()
        if all_shared
    ]


def _by_compression(panel: Panel) -> list[Panel]:
    """Those at which several lines have a point, unless there is none such."""
    points = panel.points[panel.points["x"].notna()]
    lines = points.groupby("density")["line"].transform("nunique")
    compared = points[lines > 1] if (lines > 1).any() else points
    densities = np.sort(compared["density"].unique())[::-1]
    picked = np.linspace(0, len(densities) - 1, min(len(densities), COMPRESSIONS_SHOWN))
    parts = [
        panel.points[panel.points["density"] == densities[position]]
        for position in picked.round().astype(int)
    ]
    return [
        replace(
            panel, title=f"{panel.title}\n{times(part.compression_ratio.median())}", points=part
        )
        for part in parts
    ]

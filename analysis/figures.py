"""Figures for print: methods differ in colour, marker and line, so they read in grey as well.

Marks are medians over seeds; bars and bands reach from the lowest seed to the highest.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.points import (
    PANEL,
    choose_retrain_epochs,
    dense_baselines,
    density_levels,
    points_of,
)
from analysis.rows import KEY, suffix_of, with_shared_first_levels, write_file
from analysis.tables import count, panel_name, times

FIGURES = (".png", ".svg", ".pdf")

METHOD_LABELS = {
    "finetune": "fine-tuning",
    "weight_rewind": "weight rewinding",
    "lr_rewind": "learning-rate rewinding",
    "low_lr_weight_rewind": "low-LR weight rewinding",
    "reinit": "reinitialisation",
    "blend": "blend",
    "scratch_e": "Scratch-E",
    "scratch_b": "Scratch-B",
    "slr": "SLR",
    "clr": "CLR",
    "llr": "LLR",
    "allr": "ALLR",
    "step": "step decay",
    "cosine": "cosine decay",
}
"""The order gives each method its look, the same in every figure."""

# Okabe & Ito 2008, "Color universal design"; without their yellow, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1.2, 1.5)), (0, (1.2, 1.2)))
GREY = "#6E6E6E"

STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "rewind-ray",
}
PANEL_INCHES = (3.3, 2.6)  # about a column of a paper
LEGEND_LINE_INCHES = 0.18
PANELS_ABREAST = 3
COMPRESSIONS_SHOWN = 4  # in a figure of search costs
TICKS = 6

AXIS_LABELS = {
    "compression_ratio": "compression ratio",
    "speedup": "theoretical speedup",
    "flops_remaining": "multiply-adds of a forward pass",
    "search_cost_epochs": "search cost (epochs of retraining)",
    "search_cost_flops": "search cost (multiply-adds)",
}
RATIOS = ("compression_ratio", "speedup")


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One pair of axes."""

    title: str
    points: pd.DataFrame
    """With a column ``line``, the label of the line a point is on."""
    dense: pd.DataFrame
    """Its line of ``dense_baselines``, or none."""


def accuracy_against_compression(rows: pd.DataFrame, out: str) -> None:
    """A line a method, a panel a network, data set, structure and kind of schedule.

    Of several retraining times each method shows the one with the best validation accuracy. A
    panel of one-shot points that are but first steps of iterative chains is left out.
    """
    points = choose_retrain_epochs(points_of(rows))
    points = points.assign(line=line_labels(points, "method"))
    panels = _panels(points, dense_baselines(rows), without=mere_first_steps(rows))
    write_figure(draw(panels, "compression_ratio"), out)


def frontier(points: pd.DataFrame, baselines: pd.DataFrame, by: str, x: str, out: str) -> None:
    """What ``pareto`` found: lines join the non-dominated points, hollow marks are dominated."""
    panels = _panels(points.assign(line=line_labels(points, by)), baselines)
    write_figure(draw(panels, x), out)


def accuracy_against_search_cost(rows: pd.DataFrame, out: str) -> None:
    """A row of panels for each network, data set, structure and kind of schedule.

    In it stand some compressions side by side, the lowest and the highest among them; or all in
    one panel, where each was reached at one search cost only.
    """
    points = points_of(rows)
    points = points.assign(
        line=line_labels(points, "method"), density=density_levels(points, PANEL)
    )
    grid = [_by_compression(panel) for panel in _panels(points, dense_baselines(rows))]
    write_figure(draw_grid(grid, "search_cost_epochs", share_accuracy=True), out)


# what is drawn


def line_labels(points: pd.DataFrame, by: str) -> pd.Series:
    """``by``, with criterion and step where several would otherwise share a line."""
    labels = points[by].map(lambda value: METHOD_LABELS.get(value, _readable(value)))
    if by != "method":
        labels = by + " " + labels
        return labels
    knobs = points["variant"] != ""
    labels = labels.where(~knobs, labels + ", " + points["variant"])
    if points["criterion"].nunique() > 1:
        labels = labels + ", " + points["criterion"].map(_readable)
    iterative = points["schedule_kind"] == "iterative"
    if points.loc[iterative, "prune_fraction"].nunique() > 1:
        step = ", " + (100 * points["prune_fraction"]).map("{:.3g} % a step".format)
        labels = labels.where(~iterative, labels + step)
    return labels


def _readable(value: object) -> str:
    return "unknown" if pd.isna(value) else str(value).replace("_", " ")


def _panels(
    points: pd.DataFrame, baselines: pd.DataFrame, without: Iterable[tuple[Any, ...]] = ()
) -> list[Panel]:
    skipped = {panel_name(panel) for panel in without}
    dense_names = [panel_name(panel) for panel in baselines[PANEL].itertuples(index=False)]
    return [
        Panel(
            title=panel_name(panel),
            points=group,
            dense=baselines[[name == panel_name(panel) for name in dense_names]],
        )
        for panel, group in points.groupby(PANEL, dropna=False)
        if panel_name(panel) not in skipped
    ]


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
    costs = panel.points.groupby(["line", "density"])["search_cost_epochs"].nunique()
    if costs.max() <= 1:
        return [panel]
    densities = np.sort(panel.points["density"].unique())[::-1]
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


# drawing


def draw(panels: list[Panel], x: str) -> Figure:
    abreast = min(len(panels), PANELS_ABREAST)
    grid = [panels[start : start + abreast] for start in range(0, len(panels), abreast)]
    return draw_grid(grid, x)


def draw_grid(grid: list[list[Panel]], x: str, share_accuracy: bool = False) -> Figure:
    """``share_accuracy``: one scale a row of panels."""
    columns = max(len(row) for row in grid)
    looks = _looks(panel.points for row in grid for panel in row)
    width = columns * PANEL_INCHES[0]
    abreast = _legend_columns(list(looks), width)
    height = len(grid) * PANEL_INCHES[1] + LEGEND_LINE_INCHES * math.ceil(len(looks) / abreast)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        all_axes = figure.subplots(
            len(grid), columns, squeeze=False, sharey="row" if share_accuracy else False
        )
        for row, row_axes in zip(grid, all_axes, strict=True):
            for axes in row_axes[len(row) :]:
                axes.set_axis_off()
            for panel, axes in zip(row, row_axes, strict=False):
                draw_panel(axes, panel, x, looks)
                if share_accuracy and axes is not row_axes[0]:
                    axes.set_ylabel("")
        handles = {
            label: handle
            for axes in figure.axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        ordered = sorted(handles, key=list(looks).index)
        figure.legend(
            [handles[label] for label in ordered],
            ordered,
            loc="outside lower center",
            ncols=abreast,
            handlelength=3.2,
        )
    return figure


def draw_panel(axes: Axes, panel: Panel, x: str, looks: dict[str, dict[str, Any]]) -> None:
    if not panel.dense.empty:
        line = panel.dense.iloc[0]
        axes.axhspan(line.test_accuracy_min, line.test_accuracy_max, color=GREY, alpha=0.15, lw=0)
        axes.axhline(line.test_accuracy, label=DENSE, **looks[DENSE])
    points = panel.points[panel.points[[x, "test_accuracy"]].notna().all(axis="columns")]
    for label, curve in points.groupby("line"):
        draw_curve(axes, curve.sort_values(x), x, str(label), looks[str(label)])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_ticks(points[x])))
    axes.xaxis.set_minor_locator(NullLocator())
    as_text = times if x in RATIOS else count
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: as_text(value)))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}"))
    axes.set_title(panel.title)
    axes.set_xlabel(AXIS_LABELS[x])
    translation = (panel.points["task"] == "translation").all()
    axes.set_ylabel("test BLEU" if translation else "test accuracy (%)")


def draw_curve(axes: Axes, curve: pd.DataFrame, x: str, label: str, look: dict[str, Any]) -> None:
    if "nondominated" in curve:
        dominated = curve[~curve["nondominated"]]
        hollow = look | {"linestyle": "none", "markerfacecolor": "white", "alpha": 0.7}
        axes.plot(dominated[x], dominated["test_accuracy"], **hollow)
        curve = curve[curve["nondominated"]]
    below = curve["test_accuracy"] - curve["test_accuracy_min"]
    above = curve["test_accuracy_max"] - curve["test_accuracy"]
    axes.fill_between(
        curve[x],
        curve["test_accuracy_min"],
        curve["test_accuracy_max"],
        color=look["color"],
        alpha=0.12,
        linewidth=0,
    )
    axes.errorbar(
        curve[x],
        curve["test_accuracy"],
        yerr=np.vstack([below, above]),
        label=label,
        elinewidth=0.7,
        capsize=1.8,
        **look,
    )


DENSE = "dense"


def _looks(points: Iterable[pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """Label -> how its line is drawn: a known method always the same, others what is left."""
    labels = sorted({label for group in points for label in group["line"]})
    known = list(METHOD_LABELS.values())
    others = [label for label in labels if label not in known]
    start = len(known) if len(others) < len(labels) else 0
    numbers = {label: number for number, label in enumerate(known) if label in labels}
    numbers |= {label: start + number for number, label in enumerate(others)}
    looks: dict[str, dict[str, Any]] = {
        DENSE: {"color": GREY, "linestyle": "--", "linewidth": 1.1, "zorder": 1}
    }
    for label, number in numbers.items():
        looks[label] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": LINES[number % len(LINES)],
            "linewidth": 1.2,
            "markersize": 4,
        }
    return looks


def _legend_columns(labels: list[str], inches: float) -> int:
    widest = 0.75 + 0.065 * max(map(len, labels))  # inches: the line, and 8-point letters
    return max(1, min(len(labels), int(inches / widest)))


def _ticks(values: pd.Series) -> list[float]:
    """Values that occur, at least a share of the axis apart."""
    ordered = sorted(set(values))
    if not ordered:
        return []
    apart = np.log(ordered[-1] / ordered[0]) / TICKS
    kept = [ordered[-1]]
    for value in reversed(ordered):
        if np.log(kept[-1] / value) >= max(apart * 0.999, 1e-3):
            kept.append(value)
    return kept[::-1]


# out


def write_figure(figure: Figure, out: str) -> None:
    """To a .png, .svg or .pdf; the same rows give the same bytes."""
    suffix = suffix_of(out, FIGURES)
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=suffix[1:], dpi=200, metadata=undated)
    write_file(out, buffer.getvalue())

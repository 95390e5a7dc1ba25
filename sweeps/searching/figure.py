"""Figure of a search: accuracy over search cost, with compression as colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.draw.looks import STYLE
from sweeps.searching.objectives import Point

COLOURS = "viridis_r"
POOREST = 0.08
"""Share of the recipes that may fall below the figure."""
UNITS = {
    "epochs": "search cost in epochs of retraining",
    "flops": "search cost in multiply-adds",
}


def draw_search(
    points: Sequence[Point], front: Sequence[Point], best: Point | None, cost: str, out: Path
) -> None:
    """Every recipe that was tried; those on the front are outlined, the recommended one a star.

    cost: key of UNITS. The line joins the highest validation accuracies up to each search cost.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        ratios = [point.compression for point in points]
        norm = LogNorm(min(ratios), max(max(ratios), 1.01 * min(ratios)))
        looks: dict[str, Any] = {"norm": norm, "cmap": COLOURS}
        rest = [point for point in points if point not in front]
        marks = scatter(axes, rest, cost, s=14, alpha=0.55, linewidths=0, **looks)
        scatter(axes, front, cost, s=34, edgecolors="black", linewidths=0.9, **looks)
        if best is not None:
            scatter(axes, [best], cost, s=190, marker="*", edgecolors="black", **looks)
        axes.step(*staircase(points, cost), where="post", color="#6E6E6E", lw=0.8, zorder=0)
        axes.set_xscale("log")
        if cost == "epochs":
            plain_ticks(axes.xaxis, [point.cost_epochs for point in points], "")
        axes.set_xlabel(UNITS[cost])
        axes.set_ylabel("validation accuracy, %")
        beneath = leave_out_the_poorest(axes, points)
        axes.set_title(f"{len(points)} recipes{beneath}; outlined: the front; star: recommended")
        bar = figure.colorbar(marks, ax=axes, label="compression")
        plain_ticks(bar.ax.yaxis, ratios, "×")
        figure.savefig(out, dpi=200)


def scatter(axes: Axes, points: Sequence[Point], cost: str, **looks: Any) -> PathCollection:
    return axes.scatter(
        [point.value("cost", cost) for point in points],
        [100 * point.val_accuracy for point in points],
        c=[point.compression for point in points],
        **looks,
    )


def leave_out_the_poorest(axes: Axes, points: Sequence[Point]) -> str:
    """Cut off the points far below the others, which would hide the differences among those;
    returns how many, in words."""
    accuracies = [100 * point.val_accuracy for point in points]
    best, poor = max(accuracies), float(np.quantile(accuracies, POOREST))
    low = poor - (best - poor) / 2
    count = sum(accuracy < low for accuracy in accuracies)
    if not count:
        return ""
    axes.set_ylim(low, best + (best - low) / 20)
    return f", {count} of them below"


def plain_ticks(axis: Axis, values: Sequence[float], unit: str) -> None:
    """Ticks at 1, 2, 5, 10, ... within the values, or at powers of ten over a wide range."""
    low, high = min(values), max(values)
    tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) <= 3 else (1,)
    ticks = [step * 10.0**ten for ten in tens for step in steps]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}{unit}"))
    axis.set_minor_locator(NullLocator())


def staircase(points: Sequence[Point], cost: str) -> tuple[list[float], list[float]]:
    """Costs, and the highest accuracy up to each, in percent."""
    costs: list[float] = []
    best: list[float] = []
    for point in sorted(points, key=lambda point: point.value("cost", cost)):
        if not best or 100 * point.val_accuracy > best[-1]:
            costs.append(point.value("cost", cost))
            best.append(100 * point.val_accuracy)
    return costs, best

"""One pair of axes: the points it shows, how its quantities are shown, and how it is drawn.

Marks are medians over seeds; bars and bands reach from the lowest seed to the highest, except
where a panel's ``low`` and ``high`` say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.draw.looks import DENSE, GREY, PUBLISHED_DENSE, Look, as_own, as_published
from analysis.table.metrics import axis_label, change_label
from analysis.table.text import count, percent, times

TICK_LABEL = 0.42  # inches
MARKS = 5  # on a line of many points
LEAST_WITHIN = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """How a quantity is shown."""

    label: str
    text: Callable[[float], str] = count
    """What a tick says."""
    exact: Callable[[float], str] = count
    """What a value is in a table."""
    log: bool = False


def _percent(value: float) -> str:
    return f"{100 * value:.6g}".replace("-", "−")


def _points(value: float) -> str:
    return "0" if abs(value) < 1e-9 else f"{100 * value:+.6g}".replace("-", "−")


def _exact_points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "−")


def _factor(value: float) -> str:
    return f"{value:.4g}×"


AXES = {
    "compression_ratio": Axis(label="compression ratio", text=times, exact=times, log=True),
    "speedup": Axis(label="theoretical speedup", text=times, exact=times, log=True),
    "flops_remaining": Axis(label="multiply-adds of a forward pass", log=True),
    "search_cost_epochs": Axis(label="search cost (epochs of retraining)", log=True),
    "search_cost_flops": Axis(label="search cost (multiply-adds)", log=True),
    "retrain_epochs": Axis(label="epochs of retraining"),
    "test_accuracy": Axis(label="test accuracy (%)", text=_percent, exact=percent),
    "accuracy_change": Axis(label="accuracy change (points)", text=_points, exact=_exact_points),
    "speedup_over_dense": Axis(label="theoretical speedup", text=_factor, exact=times),
    "speedup_over_finetune": Axis(label="speedup over fine-tuning", text=_factor, exact=times),
}


def accuracy_axis(metric: str) -> Axis:
    """Of the test accuracies of rows with this ``metric``."""
    return replace(AXES["test_accuracy"], label=axis_label(metric))


def change_axis(metric: str) -> Axis:
    return replace(AXES["accuracy_change"], label=change_label(metric))


@dataclass(frozen=True, kw_only=True, slots=True)
class Zone:
    """A region of the x axis."""

    start: float
    end: float
    label: str
    filled: bool
    """Shaded; else only its ends are marked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One pair of axes."""

    title: str
    points: pd.DataFrame
    """Columns ``line``, the label of the line a point is on, ``x``, ``y``, ``low`` and ``high``;
    where there are two kinds of points ``nondominated`` or ``published``."""
    x: Axis
    y: Axis
    dense: tuple[float, float, float] | None = None
    """The dense network's y, its lowest and its highest."""
    published_dense: tuple[float, float, float] | None = None
    dots: pd.DataFrame | None = None
    """Results of other works: columns ``label``, ``x``, ``y``, ``deviation``."""
    zones: tuple[Zone, ...] = ()
    continuous: bool = False
    """Lines of one's own have many points: few are marked, and their spread is shaded."""
    limits: tuple[float, float] | None = None
    """Of y; left alone where they hold less than LEAST_WITHIN of the points, of a sheet of one
    scale or else of the panel. Where they don't, x ends with the last point within them."""


def draw_panel(
    axes: Axes,
    panel: Panel,
    looks: dict[str, Look],
    dots: dict[str, str],
    *,
    both: bool,
    bands: bool,
) -> None:
    """both: somewhere in the figure are own and published points."""
    for zone in panel.zones:
        if zone.filled:
            axes.axvspan(zone.start, zone.end, color=GREY, alpha=0.18, lw=0, zorder=0.5)
        else:
            for end in (zone.start, zone.end):
                axes.axvline(end, color=GREY, linestyle=":", linewidth=1.1, zorder=0.6)
    if panel.dense is not None:
        y, low, high = panel.dense
        axes.axhspan(low, high, color=GREY, alpha=0.15, lw=0)
        axes.axhline(y, label=DENSE, **looks[DENSE])
    if panel.published_dense is not None:
        axes.axhline(panel.published_dense[0], label=PUBLISHED_DENSE, **looks[PUBLISHED_DENSE])
    points = panel.points[panel.points[["x", "y"]].notna().all(axis="columns")]
    keys = ["line", *(["published"] if both else [])]
    for key, curve in points.groupby(keys, sort=False):
        look = looks[str(key[0])]
        if both:
            look = as_published(look) if key[1] else as_own(look)
        theirs = bool(both and key[1])
        band = (bands or panel.continuous) and not theirs
        bars = theirs or not panel.continuous
        draw_curve(axes, curve.sort_values("x"), str(key[0]), look, band=band, bars=bars)
    if panel.dots is not None:
        for label, works in panel.dots.groupby("label"):
            axes.errorbar(
                works["x"],
                works["y"],
                yerr=works["deviation"].fillna(0),
                color="black",
                marker=dots[str(label)],
                markersize=6,
                linestyle="none",
                elinewidth=0.8,
                zorder=4,
                label=str(label),
            )
    _scale(axes, panel, points)


def holds_enough(limits: tuple[float, float] | None, values: pd.Series) -> bool:
    """Whether an axis is cut there."""
    return limits is not None and values.between(*limits).mean() >= LEAST_WITHIN


def _scale(axes: Axes, panel: Panel, points: pd.DataFrame) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    wide = axes.get_position().width * figure.get_figwidth()
    room = max(2, int(wide / TICK_LABEL))
    if panel.x.log:
        axes.set_xscale("log")
    if panel.limits is not None:
        axes.set_ylim(panel.limits)
        within = points["y"].between(*panel.limits)
        if within.any():
            points = points[points["x"] <= points.loc[within, "x"].max()]
            axes.set_xlim(right=_beyond(points["x"], log=panel.x.log))
    if panel.x.log:
        ticks = _ticks(points["x"], room, panel.x.text)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(min(room, 6), steps=[1, 2, 2.5, 3, 5, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: panel.x.text(value)))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: panel.y.text(value)))
    axes.set_xlabel(panel.x.label)
    axes.set_ylabel(panel.y.label)


def _beyond(values: pd.Series, *, log: bool) -> float:
    """A twentieth of the axis beyond the highest."""
    low, high = values.min(), values.max()
    return float(high * (high / low) ** 0.05 if log else high + 0.05 * (high - low))


def _ticks(values: pd.Series, room: int, text: Callable[[float], str]) -> list[float]:
    """Values that occur, at least a share of the axis apart, with texts that differ."""
    ordered = sorted(set(values.dropna()))
    if not ordered:
        return []
    apart = np.log(ordered[-1] / ordered[0]) / room
    kept = [ordered[-1]]
    for value in reversed(ordered):
        far = np.log(kept[-1] / value) >= max(apart * 0.999, 1e-3)
        if far and text(value) != text(kept[-1]):
            kept.append(value)
    return kept[::-1]


def draw_curve(
    axes: Axes,
    curve: pd.DataFrame,
    label: str,
    look: Look,
    *,
    band: bool,
    bars: bool = True,
) -> None:
    if "nondominated" in curve:
        dominated = curve[~curve["nondominated"]]
        hollow = look | {"linestyle": "none", "markerfacecolor": "white", "alpha": 0.7}
        axes.plot(dominated["x"], dominated["y"], **hollow)
        curve = curve[curve["nondominated"]]
    if band:
        axes.fill_between(
            curve["x"], curve["low"], curve["high"], color=look["color"], alpha=0.12, linewidth=0
        )
    if not bars:
        every = max(1, len(curve) // MARKS)
        axes.plot(curve["x"], curve["y"], label=label, markevery=(every - 1, every), **look)
        return
    spread = np.vstack([curve["y"] - curve["low"], curve["high"] - curve["y"]])
    axes.errorbar(
        curve["x"],
        curve["y"],
        yerr=np.nan_to_num(spread).clip(min=0),
        label=label,
        elinewidth=0.7,
        capsize=1.8,
        **look,
    )

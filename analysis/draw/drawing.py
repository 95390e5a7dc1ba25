"""Figures for print: methods differ in colour, marker and line, so they read in grey as well.

Marks are medians over seeds; bars and bands reach from the lowest seed to the highest, except
where a panel's ``low`` and ``high`` say otherwise. Sizes are in inches, so that labels fit.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextToPath
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.table.metrics import axis_label, change_label
from analysis.table.rows import suffix_of, write_file
from analysis.table.text import count, percent, times

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
DOTS = ("*", "p", "8", "h")  # of other works' results; in black
GREY = "#6E6E6E"
PALER = 0.45  # of the way to white

STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "rewind-ray",
}

# Inches
LINE = 0.0185  # height of a line of text, for each point of its size
TICK_LABEL = 0.42
LEFT, RIGHT, GAP = 0.6, 0.12, 0.14
BOTTOM, ABOVE = 0.45, 0.1
LEGEND_LINE, HANDLE = 0.17, 0.58  # height of an entry; of its line and the space around it
NOTE_SIZE = 6.5  # points
TEXT_SIZE = 8  # of a table drawn
MONO_LETTER = 0.00837  # inches, for each point
AXES_INCHES = (2.6, 1.9)  # about a column of a paper, with labels

MOST_BELOW = 3  # sheets of one picture, before they stand two abreast
MARKS = 5  # on a line of many points
MOST_OF_A_COLOUR = 4  # variants of a method
VARIANT_STEP = 5  # from one variant's mark and dashes to the next one's: all differ
BEYOND = 3  # colours that lines of no method of their own keep away from
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """Panels under one heading."""

    rows: list[list[Panel]]
    heading: str = ""
    share: str = ""
    """"row": a row has one scale of y; "all": the sheet has one of x, and one of y."""


def abreast(panels: Sequence[Panel], columns: int) -> list[list[Panel]]:
    return [list(panels[start : start + columns]) for start in range(0, len(panels), columns)]


# drawing

DENSE, PUBLISHED_DENSE = "dense", "dense, published"


def draw(
    sheets: Sequence[Sheet],
    *,
    axes_inches: tuple[float, float] = AXES_INCHES,
    bands: bool = True,
    note: str = "",
) -> Figure:
    """The sheets below each other, many of them two abreast, then one legend, then the note.

    bands: shade the spread of the seeds behind its bars.
    """
    panels = [panel for sheet in sheets for row in sheet.rows for panel in row]
    line_looks = looks(panel.points for panel in panels)
    beside = 2 if len(sheets) > MOST_BELOW else 1
    both = any(panel.points.get("published", pd.Series([False])).nunique() > 1 for panel in panels)
    dots = _dot_looks(panels)
    blocks = [_Block.of(sheet, axes_inches) for sheet in sheets]
    grid = [blocks[start : start + beside] for start in range(0, len(blocks), beside)]
    widths = [max(block.width for block in blocks[column::beside]) for column in range(beside)]
    heights = [max(block.height for block in row) for row in grid]
    width = sum(widths)
    handles = _legend(panels, line_looks, dots, both)
    columns = _legend_columns(list(handles), width - 2 * GAP)
    note_lines = _wrapped(note, width - 2 * GAP, NOTE_SIZE)
    below = GAP + LINE * NOTE_SIZE * len(note_lines)
    legend_height = LEGEND_LINE * math.ceil(len(handles) / columns)
    height = sum(heights) + legend_height + below
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        for number, row in enumerate(grid):
            top = height - sum(heights[:number])
            for column, block in enumerate(row):
                corner = (sum(widths[:column]), top)
                block.draw(figure, corner, (width, height), line_looks, dots, both, bands)
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="lower center",
            bbox_to_anchor=(0.5, below / height),
            borderaxespad=0,
            ncols=columns,
            handlelength=3.2,
            columnspacing=1.4,
            borderpad=0,
        )
        for number, line in enumerate(reversed(note_lines)):
            y = (GAP / 2 + number * LINE * NOTE_SIZE) / height
            figure.text(GAP / width, y, line, fontsize=NOTE_SIZE, color=GREY, va="bottom")
    return figure


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    """Where a sheet's panels stand; inches, from its upper left corner."""

    sheet: Sheet
    axes_inches: tuple[float, float]
    lefts: list[float]
    """Of the axes of each column."""
    tops: list[float]
    """Of the axes of each row."""
    width: float
    height: float

    @classmethod
    def of(cls, sheet: Sheet, axes_inches: tuple[float, float]) -> _Block:
        columns = max(map(len, sheet.rows))
        inner = GAP if sheet.share else LEFT
        lefts = [LEFT + column * (axes_inches[0] + RIGHT + inner) for column in range(columns)]
        y = LINE * 9 + ABOVE if sheet.heading else 0.0
        tops = []
        for number, row in enumerate(sheet.rows):
            lines = max(_title(panel, axes_inches, sheet).count("\n") + 1 for panel in row)
            y += ABOVE + LINE * 8 * lines
            tops.append(y)
            last = number == len(sheet.rows) - 1 or len(sheet.rows[number + 1]) < len(row)
            y += axes_inches[1] + (BOTTOM if last or sheet.share != "all" else GAP)
        return cls(
            sheet=sheet,
            axes_inches=axes_inches,
            lefts=lefts,
            tops=tops,
            width=lefts[-1] + axes_inches[0] + RIGHT,
            height=y,
        )

    def draw(
        self,
        figure: Figure,
        corner: tuple[float, float],
        size: tuple[float, float],
        looks: dict[str, dict[str, Any]],
        dots: dict[str, str],
        both: bool,
        bands: bool,
    ) -> None:
        """corner: of the block, upper left, and size: of the figure, in inches."""
        sheet, (wide, high), (left, top) = self.sheet, self.axes_inches, corner
        if sheet.heading:
            y = (top - ABOVE) / size[1]
            figure.text(
                (left + GAP) / size[0], y, sheet.heading, fontsize=9, weight="bold", va="top"
            )
        drawn: list[list[Axes]] = []
        for row, panels in enumerate(self._cut()):
            drawn.append([])
            for column, panel in enumerate(panels):
                bottom = top - self.tops[row] - high
                axes = figure.add_axes(
                    (
                        (left + self.lefts[column]) / size[0],
                        bottom / size[1],
                        wide / size[0],
                        high / size[1],
                    )
                )
                draw_panel(axes, panel, looks, dots, both=both, bands=bands)
                axes.set_title(_title(panel, self.axes_inches, sheet))
                drawn[-1].append(axes)
        self._share(drawn)
        if sheet.share == "all":
            middle = top - (self.tops[0] + self.tops[-1] + high) / 2
            figure.text(
                (left + GAP / 2) / size[0],
                middle / size[1],
                sheet.rows[0][0].y.label,
                fontsize=STYLE["axes.labelsize"],
                rotation=90,
                va="center",
            )

    def _cut(self) -> list[list[Panel]]:
        """The panels, without limits that hold too few points."""
        rows = self.sheet.rows
        every = pd.concat([panel.points["y"] for row in rows for panel in row])
        return [
            [
                panel
                if heeded(panel.limits, every if self.sheet.share == "all" else panel.points["y"])
                else replace(panel, limits=None)
                for panel in row
            ]
            for row in rows
        ]

    def _share(self, drawn: list[list[Axes]]) -> None:
        """One scale, and its labels at the outside only."""
        share = self.sheet.share
        if not share:
            return
        for group in drawn if share == "row" else [[axes for row in drawn for axes in row]]:
            limits = np.array([axes.get_ylim() for axes in group])
            for axes in group:
                axes.set_ylim(limits.min(), limits.max())
        for number, row in enumerate(drawn):
            for axes in row[1:]:
                axes.tick_params(labelleft=False)
            for axes in row if share == "all" else row[1:]:
                axes.set_ylabel("")
            below = len(drawn[number + 1]) if number + 1 < len(drawn) else 0
            for axes in row[:below] if share == "all" else []:
                axes.tick_params(labelbottom=False)
                axes.set_xlabel("")
        if share == "all":
            every = [axes for row in drawn for axes in row]
            limits = np.array([axes.get_xlim() for axes in every])
            for axes in every:
                axes.set_xlim(limits.min(), limits.max())


def draw_panel(
    axes: Axes,
    panel: Panel,
    looks: dict[str, dict[str, Any]],
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
            look = _as_published(look) if key[1] else _as_own(look)
        theirs = bool(both and key[1])
        band = (bands or panel.continuous) and not theirs
        bars = theirs or not panel.continuous
        draw_curve(axes, curve.sort_values("x"), str(key[0]), look, band=band, bars=bars)
    if panel.dots is not None:
        for label, lot in panel.dots.groupby("label"):
            axes.errorbar(
                lot["x"],
                lot["y"],
                yerr=lot["deviation"].fillna(0),
                color="black",
                marker=dots[str(label)],
                markersize=6,
                linestyle="none",
                elinewidth=0.8,
                zorder=4,
                label=str(label),
            )
    _scale(axes, panel, points)


def heeded(limits: tuple[float, float] | None, values: pd.Series) -> bool:
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


def draw_curve(
    axes: Axes,
    curve: pd.DataFrame,
    label: str,
    look: dict[str, Any],
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


def draw_text(text: str) -> Figure:
    """A table as it is printed, in letters of one width."""
    lines = text.split("\n")
    wide, high = MONO_LETTER * TEXT_SIZE, 1.25 * LINE * TEXT_SIZE
    width = max(map(len, lines)) * wide + 2 * GAP
    height = len(lines) * high + 2 * GAP
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        for number, line in enumerate(lines):
            y = (GAP + number * high) / height
            figure.text(
                GAP / width, 1 - y, line, family="DejaVu Sans Mono", fontsize=TEXT_SIZE, va="top"
            )
    return figure


# looks


def looks(points: Iterable[pd.DataFrame]) -> dict[str, dict[str, Any]]:
    """Label -> how its line is drawn: a method always the same, others what is left.

    Variants of a method have its colour, and marks and dashes of their own; more of them than
    MOST_OF_A_COLOUR take all colours in turn, because marks alone don't tell so many apart.
    Where a method has no plain line, the first of its variants looks like it.
    """
    labels = sorted({label for group in points for label in group["line"]})
    known = {label: number for number, label in enumerate(METHOD_LABELS.values())}
    variants: dict[int, list[str]] = {}
    for label in sorted(labels, key=lambda label: ", " in label):
        number = known.get(label.partition(", ")[0])
        if number is not None:
            variants.setdefault(number, []).append(label)
    found: dict[str, dict[str, Any]] = {
        DENSE: {"color": GREY, "linestyle": "--", "linewidth": 1.1, "zorder": 1},
        PUBLISHED_DENSE: {"color": GREY, "linestyle": "-.", "linewidth": 0.8, "zorder": 1},
    }
    for number in sorted(variants):
        colours = _colours_of(number, variants)
        for variant, label in enumerate(variants[number]):
            colour = colours[variant % len(colours)]
            found[label] = _look(colour, number + VARIANT_STEP * variant)
    others = [label for label in labels if label not in found]
    start = len(known) + BEYOND if variants else 0
    for number, label in enumerate(others, start):
        found[label] = _look(number, number)
    return found


def _colours_of(number: int, variants: dict[int, list[str]]) -> list[int]:
    """Of a method's variants: its own, or if there are many all that no method with few has."""
    if len(variants[number]) <= MOST_OF_A_COLOUR:
        return [number]
    few = {
        other % len(COLOURS)
        for other, labels in variants.items()
        if other != number and len(labels) <= MOST_OF_A_COLOUR
    }
    turn = [(number + step) % len(COLOURS) for step in range(len(COLOURS))]
    return [colour for colour in turn if colour not in few] or turn


def _look(colour: int, shape: int) -> dict[str, Any]:
    return {
        "color": COLOURS[colour % len(COLOURS)],
        "marker": MARKERS[shape % len(MARKERS)],
        "linestyle": LINES[shape % len(LINES)],
        "linewidth": 1.2,
        "markersize": 4,
    }


def _as_own(look: dict[str, Any]) -> dict[str, Any]:
    return look | {"linestyle": "-", "linewidth": 1.5, "zorder": 3}


def _as_published(look: dict[str, Any]) -> dict[str, Any]:
    paler = tuple(part + PALER * (1 - part) for part in to_rgb(look["color"]))
    dashed = {"linestyle": (0, (3.5, 1.5)), "linewidth": 1.0, "markerfacecolor": "white"}
    return look | dashed | {"color": paler, "zorder": 2}


def _dot_looks(panels: list[Panel]) -> dict[str, str]:
    """Label -> marker."""
    labels = {label for panel in panels if panel.dots is not None for label in panel.dots["label"]}
    return {label: DOTS[number % len(DOTS)] for number, label in enumerate(sorted(labels))}


def _legend(
    panels: list[Panel], looks: dict[str, dict[str, Any]], dots: dict[str, str], both: bool
) -> dict[str, Line2D | Patch]:
    """Label -> what stands beside it."""
    handles: dict[str, Line2D | Patch] = {}
    for label, look in looks.items():
        if label not in (DENSE, PUBLISHED_DENSE):
            handles[label] = Line2D([], [], **(_as_own(look) if both else look))
    if both:
        plain = {"color": GREY, "marker": "o", "markersize": 4}
        handles["own rows"] = Line2D([], [], **_as_own(plain))
        handles["published"] = Line2D([], [], **_as_published(plain))
    if any(panel.dense is not None for panel in panels):
        handles[DENSE] = Line2D([], [], **looks[DENSE])
    if any(panel.published_dense is not None for panel in panels):
        handles[PUBLISHED_DENSE] = Line2D([], [], **looks[PUBLISHED_DENSE])
    for label, marker in dots.items():
        handles[label] = Line2D(
            [], [], color="black", marker=marker, linestyle="none", markersize=6
        )
    for zone in (zone for panel in panels for zone in panel.zones):
        handles[zone.label] = (
            Patch(color=GREY, alpha=0.18, lw=0)
            if zone.filled
            else Line2D([], [], color=GREY, linestyle=":", linewidth=1.1)
        )
    return handles


def _legend_columns(labels: list[str], inches: float) -> int:
    """As many as fit; the legend fills one after the other."""
    widths = [HANDLE + text_width(label, 7.5) for label in labels]
    for columns in range(len(labels), 1, -1):
        rows, longer = divmod(len(labels), columns)
        lengths = [rows + 1] * longer + [rows] * (columns - longer)
        starts = [sum(lengths[:number]) for number in range(columns)]
        wide = [max(widths[a : a + n]) for a, n in zip(starts, lengths, strict=True)]
        if sum(wide) <= inches:
            return columns
    return 1


def _title(panel: Panel, axes_inches: tuple[float, float], sheet: Sheet) -> str:
    """Broken where it would reach into the next panel, or over the edge beside the last one."""
    beside = GAP if sheet.share else LEFT
    lines = panel.title.split("\n")
    room = axes_inches[0] + 1.8 * min(beside / 2, RIGHT)
    whole = [" · ".join(_unbroken(part, room) for part in line.split(" · ")) for line in lines]
    wrapped = [part for line in whole for part in _wrapped(line, room, 8)]
    return "\n".join(wrapped).replace(NO_BREAK, " ")


NO_BREAK = "\N{NO-BREAK SPACE}"


def _unbroken(part: str, room: float) -> str:
    """A part of a title that fits into a line isn't broken."""
    return part.replace(" ", NO_BREAK) if text_width(part, 8) <= room else part


def _wrapped(text: str, inches: float, size: float) -> list[str]:
    """Lines no wider than that, broken between words."""
    lines: list[str] = []
    for given in text.split("\n") if text else []:
        first = len(lines)
        for word in given.split(" "):
            longer = f"{lines[-1]} {word}" if len(lines) > first else word
            if len(lines) > first and text_width(longer, size) <= inches:
                lines[-1] = longer
            else:
                lines.append(word)
    return lines


@cache
def text_width(text: str, size: float) -> float:
    """Inches; size in points. At few dots an inch letters come out that much wider."""
    font = FontProperties(family="DejaVu Sans", size=size)
    width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return 1.04 * float(width) / 72


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


# out


DPI = 200


def write_figures(figures: Sequence[Figure], out: str, dpi: int = DPI) -> None:
    """To a .png, .svg or .pdf; the same rows give the same bytes. Only a .pdf has several pages.

    dpi: of a .png.
    """
    suffix = suffix_of(out, FIGURES)
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        if suffix == ".pdf":
            with PdfPages(buffer, metadata={"CreationDate": None}) as pages:
                for figure in figures:
                    pages.savefig(figure)
        else:
            (figure,) = figures
            undated = {"Date": None} if suffix == ".svg" else None
            figure.savefig(buffer, format=suffix[1:], dpi=dpi, metadata=undated)
    write_file(out, buffer.getvalue())

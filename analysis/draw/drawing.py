"""Pages: sheets of panels, one legend, one note; and how they are written.

Sizes are in inches and fixed before anything is drawn, so that axes are alike in all figures and
labels fit. matplotlib's constrained layout gives axes whatever is left, and doubles the time that
a figure of 120 panels takes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextToPath

from analysis.draw.looks import (
    DENSE,
    GREY,
    PUBLISHED_DENSE,
    STYLE,
    Look,
    as_own,
    as_published,
    looks,
    marks_of_others,
)
from analysis.draw.panels import Panel, draw_panel, holds_enough
from analysis.table.rows import PICTURES, suffix_of, write_file

LINE = 0.0185  # height of a line of text, for each point of its size
LEFT, RIGHT, GAP = 0.6, 0.12, 0.14
BOTTOM, ABOVE = 0.45, 0.1
LEGEND_LINE, HANDLE = 0.17, 0.58  # height of an entry; of its line and the space around it
NOTE_SIZE = 6.5  # points
TEXT_SIZE = 8  # of a table drawn
MONO_LETTER = 0.00837  # inches, for each point
AXES_INCHES = (2.6, 1.9)  # about a column of a paper, with labels
MOST_BELOW = 3  # sheets of one picture, before they stand two abreast


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """Panels under one heading."""

    rows: list[list[Panel]]
    heading: str = ""
    share: str = ""
    """"row": a row has one scale of y; "all": the sheet has one of x, and one of y."""


def abreast(panels: Sequence[Panel], columns: int) -> list[list[Panel]]:
    return [list(panels[start : start + columns]) for start in range(0, len(panels), columns)]


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
    works = [label for panel in panels if panel.dots is not None for label in panel.dots["label"]]
    dots = marks_of_others(works)
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
        looks: dict[str, Look],
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

        def cut(panel: Panel) -> Panel:
            values = every if self.sheet.share == "all" else panel.points["y"]
            return panel if holds_enough(panel.limits, values) else replace(panel, limits=None)

        return [[cut(panel) for panel in row] for row in rows]

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


def _legend(
    panels: list[Panel], looks: dict[str, Look], dots: dict[str, str], both: bool
) -> dict[str, Line2D | Patch]:
    """Label -> what stands beside it."""
    handles: dict[str, Line2D | Patch] = {}
    for label, look in looks.items():
        if label not in (DENSE, PUBLISHED_DENSE):
            handles[label] = Line2D([], [], **(as_own(look) if both else look))
    if both:
        plain = {"color": GREY, "marker": "o", "markersize": 4}
        handles["own rows"] = Line2D([], [], **as_own(plain))
        handles["published"] = Line2D([], [], **as_published(plain))
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


DPI = 200


def write_figures(figures: Sequence[Figure], out: str, dpi: int = DPI) -> None:
    """To a .png, .svg or .pdf; the same rows give the same bytes. Only a .pdf has several pages.

    dpi: of a .png.
    """
    suffix = suffix_of(out, PICTURES)
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

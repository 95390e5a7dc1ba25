"""What a figure or table of a paper holds, and how it is put out: drawn, as text, or as csv."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.draw.drawing import DPI, Sheet, draw, draw_text, write_figures
from analysis.draw.panels import Panel
from analysis.table.rows import PICTURES, suffix_of, table_as_bytes, write_file
from analysis.table.text import aligned, count, times

FORMATS = (*PICTURES, ".csv", ".txt")

SIZES = {1: (3.2, 2.2), 2: (2.6, 1.7), 3: (1.72, 1.3)}
SMALL = (1.16, 0.95)
"""Axes by panels abreast, in inches: two, three and five are about as wide as a page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperChart:
    """Panels with lines."""

    sheets: Sequence[Sheet]
    notes: tuple[str, ...] = ()
    """Sentences that stand below."""
    missing: tuple[str, ...] = ()
    """What the paper's figure shows and this one doesn't."""

    @property
    def panels(self) -> list[Panel]:
        return [panel for sheet in self.sheets for row in sheet.rows for panel in row]


CELL = ["row", "column", "value", "deviation", "n", "text"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperTable:
    """Cells; rows stand in the order in which they first occur."""

    head: str
    """What the rows are."""
    columns: tuple[str, ...]
    cells: pd.DataFrame
    """Columns CELL, where ``text`` is what is printed, and ``published``."""
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


Content = PaperChart | PaperTable


def cell(
    row: str,
    column: str,
    text: str,
    *,
    published: bool,
    value: float | str | None = None,
    deviation: float | None = None,
    n: int | None = None,
) -> dict[str, Any]:
    """A line of ``cells``; ``value`` is the text where it is no number."""
    return {
        "row": row,
        "column": column,
        "value": text if value is None else value,
        "deviation": deviation,
        "n": n,
        "text": text,
        "published": published,
    }


def accuracy_cell(
    row: str, column: str, accuracies: pd.Series, *, published: bool, unit: str = ""
) -> dict[str, Any]:
    """Mean and standard deviation, in percent or BLEU, of fractions."""
    percent = 100 * accuracies.dropna().astype("float64")
    mean, deviation = float(percent.mean()), float(percent.std())
    spread = "" if math.isnan(deviation) else f" ± {deviation:.2f}"
    return cell(
        row,
        column,
        f"{mean:.2f}{spread}{unit}",
        published=published,
        value=mean,
        deviation=deviation,
        n=len(percent),
    )


def write_content(content: Content, out: str, dpi: int = DPI) -> None:
    """To one of FORMATS. A .pdf of a chart has a page for each sheet."""
    suffix = suffix_of(out, FORMATS)
    if suffix == ".csv":
        write_file(out, table_as_bytes(as_table(content), suffix))
    elif suffix == ".txt":
        write_file(out, f"{as_text(content)}\n".encode())
    elif isinstance(content, PaperTable):
        write_figures([draw_text(as_text(content))], out, dpi)
    else:
        pages = [[sheet] for sheet in content.sheets] if suffix == ".pdf" else [content.sheets]
        note = "\n".join(content.notes)
        abreast = max(len(row) for sheet in content.sheets for row in sheet.rows)
        size = SIZES.get(abreast, SMALL)
        drawn = [draw(page, axes_inches=size, bands=False, note=note) for page in pages]
        write_figures(drawn, out, dpi)


# csv

CHART_COLUMNS = [
    *("sheet", "panel", "kind", "line", "published", "x_is", "x", "y_is", "y", "low", "high"),
    *("compression_ratio", "retrain_epochs", "n_seeds"),
]


def as_table(content: Content) -> pd.DataFrame:
    """Of a chart a line a mark, in fractions of 1; of a table a line a cell, both results in it."""
    if isinstance(content, PaperChart):
        lines = [
            {"sheet": sheet.heading, "panel": panel.title.replace("\n", ", ")} | line
            for sheet in content.sheets
            for row in sheet.rows
            for panel in row
            for line in _marks(panel)
        ]
        return pd.DataFrame(lines, columns=CHART_COLUMNS)
    numbers = ["value", "deviation", "n"]
    places = content.cells[["row", "column"]].drop_duplicates()
    for published, who in ((False, "own"), (True, "published")):
        part = content.cells[content.cells["published"] == published]
        if not part.empty:
            names = {name: f"{who}_{name}" for name in numbers} | {"value": who}
            theirs = part[["row", "column", *numbers]].rename(columns=names)
            places = places.merge(theirs, on=["row", "column"], how="left")
    return places.rename(columns={"row": content.head}).dropna(axis="columns", how="all")


def _marks(panel: Panel) -> Iterator[dict[str, Any]]:
    # Units in brackets are those of the ticks; here accuracies are fractions
    names = [axis.label.partition(" (")[0] for axis in (panel.x, panel.y)]
    axes = {"x_is": names[0], "y_is": names[1]}
    kept = [name for name in CHART_COLUMNS if name in panel.points]
    points = panel.points.sort_values(["published", "line", "x"])
    for line in points[kept].to_dict("records"):
        yield {"kind": "line"} | axes | line
    for name, dense in (("dense", panel.dense), ("dense, published", panel.published_dense)):
        if dense is not None:
            y, low, high = dense
            yield {"kind": "dense", "line": name, "y": y, "low": low, "high": high} | axes
    if panel.dots is not None:
        for dot in panel.dots.to_dict("records"):
            low, high = dot["y"] - dot["deviation"], dot["y"] + dot["deviation"]
            mark = {"line": dot["label"], "published": True, "x": dot["x"], "y": dot["y"]}
            yield {"kind": "compared", "low": low, "high": high} | axes | mark
    for zone in panel.zones:
        for end in (zone.start, zone.end):
            yield {"kind": "zone", "line": zone.label, "x": end} | axes


# text


def as_text(content: Content) -> str:
    parts = _chart_texts(content) if isinstance(content, PaperChart) else [_table_text(content)]
    return "\n\n".join([*parts, *(["\n".join(content.notes)] if content.notes else [])])


def _chart_texts(chart: PaperChart) -> list[str]:
    parts = []
    for sheet in chart.sheets:
        for panel in (panel for row in sheet.rows for panel in row):
            title = ", ".join([*filter(None, [sheet.heading]), *panel.title.split("\n")])
            extras = [f"dense {panel.y.exact(panel.dense[0])}"] if panel.dense else []
            extras += [
                f"{zone.label}: {panel.x.text(zone.start)} to {panel.x.text(zone.end)}"
                for zone in panel.zones
            ]
            heading = "\n".join([title, *extras])
            parts.append(f"{heading}\n{_panel_text(panel)}")
    return parts


def _panel_text(panel: Panel) -> str:
    points = panel.points.sort_values(["line", "published", "x"])
    cells = pd.DataFrame({"line": points["line"]})
    if points["published"].nunique() > 1:
        cells["rows"] = points["published"].map({False: "own", True: "published"})
    cells[panel.x.label] = points["x"].map(panel.x.text)
    cells[panel.y.label] = points["y"].map(panel.y.exact)
    spread = zip(points["low"], points["high"], strict=True)
    cells["spread"] = [
        "" if pd.isna(low) else f"{panel.y.exact(low)} to {panel.y.exact(high)}"
        for low, high in spread
    ]
    if "retrain_epochs" in points and panel.x.text is times:
        cells["t"] = points["retrain_epochs"].map(count)
    if "n_seeds" in points:
        cells["n"] = points["n_seeds"].map(count)
    if panel.dots is not None:
        dots = pd.DataFrame(
            {
                "line": panel.dots["label"],
                panel.x.label: panel.dots["x"].map(panel.x.text),
                panel.y.label: panel.dots["y"].map(panel.y.exact),
            }
        )
        cells = pd.concat([cells, dots]).fillna("")
    return aligned(cells, left={"line", "rows"})


def _table_text(table: PaperTable) -> str:
    """Own and published results of a row stand below each other."""
    both = table.cells["published"].nunique() > 1
    texts = table.cells.set_index(["row", "published", "column"])["text"].to_dict()
    lines = []
    for row in dict.fromkeys(table.cells["row"]):
        for published in (False, True):
            found = {name: texts.get((row, published, name), "–") for name in table.columns}
            if any(text != "–" for text in found.values()):
                whose = {"rows": "published" if published else "own"} if both else {}
                lines.append({table.head: row} | whose | found)
    words = table.cells.assign(word=[isinstance(value, str) for value in table.cells["value"]])
    of_words = words.groupby("column")["word"].all()
    return aligned(pd.DataFrame(lines), left={table.head, "rows", *of_words.index[of_words]})

"""What the charts and the table of the report are drawn from: plain data, a list a column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.draw.learning_curves import METRICS
from analysis.draw.looks import COLOURS, LINES, MARKERS
from analysis.draw.looks import looks as looks_of_lines
from analysis.report.material import Material
from analysis.report.words import short_names
from analysis.table.groups import group_numbers
from analysis.table.metrics import axis_label, metric_named
from analysis.table.points import PANEL
from analysis.table.text import panel_name

MAX_POINTS = 10_000
"""In the page: the table and the charts have no more."""
MAX_MEMBERS = 100_000
"""Rows behind those points that the page can name."""
MAX_SEEDS = 50

DIGITS = 6

NUMBERS = [
    "density",
    "compression_ratio",
    "test_accuracy",
    "test_accuracy_min",
    "test_accuracy_max",
    "val_accuracy",
    "accuracy_change",
    "baseline_test_accuracy",
    "speedup",
    "flops_remaining",
    "search_cost_epochs",
    "search_cost_flops",
    "retrain_epochs",
    "level",
    "prune_fraction",
    "n_seeds",
    "n_diverged",
    "size",
]
TEXTS = [*PANEL, "criterion", "method", "variant"]
FLAGS = ["chosen", "spread"]


def payload_of(material: Material) -> dict[str, Any]:
    kept = worth_showing(material.points)
    points = material.points.loc[kept]
    panels, panel = np.unique(group_numbers(material.points, PANEL), return_index=True)
    lines = looks(material.points)
    labels = [line["label"] for line in lines]
    of_panel = group_numbers(material.points, PANEL)
    of_line = pd.Series(
        pd.Categorical(material.points["line"], labels).codes, material.points.index
    )
    assert list(panels) == list(range(len(panels)))
    columns = {name: _numbers(points[name]) for name in NUMBERS}
    columns |= {name: points[name].astype(int).tolist() for name in FLAGS}
    columns |= {"panel": of_panel[kept].tolist(), "line": of_line[kept].tolist()}
    return {
        "panels": _panels(material.points.iloc[panel], material.baselines),
        "lines": lines,
        "points": columns,
        "texts": {name: _texts(points[name]) for name in TEXTS},
        "members": _members(material.members, kept),
        "seeds": sorted(set(material.members["seed"]))[:MAX_SEEDS],
        "all_points": len(material.points),
        "curves": _curves(material, of_panel, of_line),
    }


def worth_showing(points: pd.DataFrame) -> pd.Index:
    """At most MAX_POINTS: first the compressions shown abreast, then the chosen retraining times,
    of the rest an even selection."""
    kept: list[Any] = []
    tier = 2 * (~points["spread"].astype(bool)) + ~points["chosen"].astype(bool)
    for number in range(4):
        members = points.index[tier == number]
        room = min(len(members), MAX_POINTS - len(kept))
        kept.extend(members[np.linspace(0, len(members) - 1, room).astype(int)])
    return points.index[points.index.isin(kept)]


def looks(points: pd.DataFrame) -> list[dict[str, Any]]:
    """Of each line, in the order of legends: its label, and the places of its colour, marker and
    dashes among those of figures."""
    return [
        {
            "label": label,
            "colour": COLOURS.index(look["color"]),
            "marker": MARKERS.index(look["marker"]),
            "dash": LINES.index(look["linestyle"]),
        }
        for label, look in looks_of_lines([points]).items()
        if "marker" in look
    ]


def _panels(firsts: pd.DataFrame, baselines: pd.DataFrame) -> list[dict[str, Any]]:
    """firsts: a point of each panel."""
    names = [panel_name(panel) for panel in baselines[PANEL].itertuples(index=False)]
    accuracies = ["test_accuracy", "test_accuracy_min", "test_accuracy_max"]
    columns = [_numbers(baselines[name]) for name in accuracies]
    dense = dict(zip(names, zip(*columns, strict=True), strict=True))
    titles, _ = short_names(firsts)
    panel_names = [panel_name(panel) for panel in firsts[PANEL].itertuples(index=False)]
    return [
        {
            "name": name,
            "title": title,
            "network": point.network,
            "iterative": point.schedule_kind == "iterative",
            "metric": {"name": metric.name, "unit": metric.unit, "step": metric.step},
            "axis": axis_label(point.metric),
            "dense": dense.get(name),
        }
        for name, title, point, metric in zip(
            panel_names,
            titles,
            firsts.itertuples(index=False),
            map(metric_named, firsts["metric"]),
            strict=True,
        )
    ]


def _members(members: pd.DataFrame, kept: pd.Index) -> dict[str, Any]:
    """Rows behind the points: some of each, where there are too many."""
    place = pd.Series(np.arange(len(kept)), index=kept)
    of_kept = members[members["point"].isin(kept)]
    each = max(1, min(MAX_SEEDS, MAX_MEMBERS // max(1, len(kept))))
    some = of_kept.sort_values(["point", "seed"], kind="stable")
    some = some[some.groupby("point").cumcount() < each]
    return {
        "point": some["point"].map(place).tolist(),
        "seed": some["seed"].tolist(),
        "test_accuracy": _numbers(some["test_accuracy"]),
        "accuracy_change": _numbers(some["accuracy_change"]),
        "diverged": (some["status"] == "diverged").astype(int).tolist(),
        "stage_id": some["stage_id"].tolist(),
    }


def _curves(material: Material, of_panel: pd.Series, of_line: pd.Series) -> dict[str, Any] | None:
    """Curves of stages, and chains as lists of their places; a shared one is there once."""
    if material.curves is None or material.curves.empty:
        return None
    curves = material.curves
    columns = {name: _numbers(curves[name]) for name in ("epoch", *METRICS)}
    changed = curves[["chain", "level"]].ne(curves[["chain", "level"]].shift()).any(axis="columns")
    starts = np.flatnonzero(changed)
    ends = [*starts[1:], len(curves)]
    places: dict[tuple[Any, ...], int] = {}
    stages: list[dict[str, Any]] = []
    chains: list[dict[str, Any]] = []
    for start, end in zip(starts, ends, strict=True):
        first = curves.iloc[start]
        key = (first["stage_id"], first["epoch"], end - start)
        if key not in places:
            places[key] = len(stages)
            part = {name: values[start:end] for name, values in columns.items()}
            stages.append({"level": int(first["level"])} | part)
        if not chains or chains[-1]["end"] != first["chain"]:  # its first stages may be unreadable
            chains.append(_chain(material, first) | {"parts": []})
        chains[-1]["parts"].append(places[key])
    for chain in chains:
        chain |= {"panel": int(of_panel[chain["point"]]), "line": int(of_line[chain["point"]])}
    return {"stages": stages, "chains": chains, "of": material.chains}


def _chain(material: Material, first: pd.Series) -> dict[str, Any]:
    point = material.points.loc[first["point"]]
    return {
        "end": first["chain"],
        "point": int(first["point"]),
        "seed": int(first["seed"]),
        "retrain_epochs": _short(point["retrain_epochs"]),
        "size": _short(point["size"]),
        "spread": int(point["spread"]),
        "compression_ratio": _short(point["compression_ratio"]),
    }


def _numbers(values: pd.Series) -> list[float | int | None]:
    """Rounded to DIGITS digits; what is missing is None."""
    numbers = values.astype("float64").to_numpy()
    return [_short(number) if np.isfinite(number) else None for number in numbers.tolist()]


def _short(number: float) -> float | int:
    short = float(f"{number:.{DIGITS}g}")
    return int(short) if short.is_integer() else short


def _texts(values: pd.Series) -> dict[str, Any]:
    """Each distinct text once, and the place of each value's."""
    codes, known = pd.factorize(values.fillna(""))
    return {"values": [str(value) for value in known], "at": codes.tolist()}

"""Figures 1 to 6 and tables 1 to 5 of Mikler, ReScience 2022.

Accuracies against compression. The published bars, which the paper calls 80% confidence intervals,
reach from the 10th to the 90th percentile of 2 to 12 trials, between the trials linearly
(docs/statistics.md): of two trials that is 80% of the gap between them, and says nothing about how
sure the median is. Bars of own rows reach from the lowest seed to the highest. The paper's own y
axis is the change relative to the dense network; accuracies say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from analysis.draw.drawing import Sheet, abreast
from analysis.draw.panels import AXES, Panel, accuracy_axis
from analysis.draw.papers.content import PaperChart, PaperTable, accuracy_cell, cell
from analysis.draw.papers.notes import chart_notes
from analysis.draw.papers.registry import PaperFigure
from analysis.draw.papers.scenes import (
    DATA_LABELS,
    NETWORK_LABELS,
    Scene,
    Source,
    SourcePoints,
    at_compression,
    both,
    facets,
    lacking,
    of_methods,
    place,
    points_in,
    scenes_in,
    source_points,
)
from analysis.draw.papers.tables import dense_networks, table_of
from analysis.reference.facts import facts
from analysis.table.columns import BadRows
from analysis.table.points import choose_retrain_epochs, how_chosen
from analysis.table.spreads import marks_text

PAPER = "Mikler 2022"
METHODS = ("finetune", "weight_rewind", "lr_rewind")
REWINDINGS = METHODS[1:]

# figures


def accuracies(
    main: Source,
    beside: Source | None,
    *,
    scenes: Sequence[Scene],
    methods: Sequence[str] = METHODS,
) -> PaperChart:
    one = _material(main, methods)
    two = _material(beside, methods) if beside else None
    found, missing = scenes_in(one.points, scenes)
    panels, drawn = [], []
    for scene in found:
        others = points_in(two.points, scene) if two else None
        theirs = _placed(others) if two and others is not None and len(others) else None
        for protocol, points in facets(points_in(one.points, scene), main.paper):
            missing += lacking(scene, points, methods)
            placed = _placed(points)
            drawn += [placed] if theirs is None else [placed, theirs]
            panels.append(
                Panel(
                    title=scene.title + protocol,
                    points=both(placed, theirs),
                    x=AXES["compression_ratio"],
                    y=accuracy_axis(points["metric"].iloc[0]),
                    dense=_dense(points, one),
                    published_dense=_dense(theirs, two) if two and theirs is not None else None,
                )
            )
    content = PaperChart(sheets=[Sheet(rows=abreast(panels, 2))], missing=tuple(missing))
    every = pd.concat(drawn)
    words = " ".join(filter(None, [marks_text(every, "bars"), how_chosen(every)]))
    return replace(content, notes=chart_notes(content.panels, one, two, words))


def _material(source: Source, methods: Sequence[str]) -> SourcePoints:
    material = source_points(source)
    return replace(material, points=of_methods(material.points, methods, METHODS))


def _placed(points: pd.DataFrame) -> pd.DataFrame:
    """Chosen points with bars: published intervals, or from the lowest seed to the highest."""
    chosen = choose_retrain_epochs(points)
    return chosen.assign(
        x=chosen["compression_ratio"],
        y=chosen["test_accuracy"],
        low=chosen["test_accuracy_min"],
        high=chosen["test_accuracy_max"],
    )


def _dense(points: pd.DataFrame, material: SourcePoints) -> tuple[float, float, float] | None:
    """Median, lowest and highest accuracy of the dense networks that these started from."""
    trials = material.of(points).drop_duplicates("baseline_id")
    accuracy = trials["baseline_test_accuracy"].dropna()
    if accuracy.empty:
        return None
    return float(accuracy.median()), float(accuracy.min()), float(accuracy.max())


# tables, as lines of cells

Cells = list[dict[str, Any]]


def table(main: Source, beside: Source | None, *, number: int, head: str) -> PaperTable:
    """The paper's table of this number, and the same of the rows."""
    order = list(dict.fromkeys(_printed(number)["row"]))
    if main.paper:
        return table_of(head, pd.DataFrame(_printed_cells(number, set(order))), order, main, beside)
    own = OWN[number](main, number)
    printed = _printed_cells(number, {line["row"] for line in own}) if beside else []
    missing = ["updates, which no column holds"] if number == 4 else []
    return table_of(head, pd.DataFrame([*own, *printed]), order, main, beside, missing=missing)


def _printed(number: int) -> pd.DataFrame:
    cells = facts("mikler2022_tables.csv")
    return cells[(cells["table"] == number) & (cells["value"] != "–")]


def _printed_cells(number: int, rows: set[str]) -> Cells:
    cells = _printed(number)
    return [
        cell(row, column, value, value=_number(value), published=True)
        for row, column, value in cells[["row", "column", "value"]].itertuples(index=False)
        if row in rows and column != "Retraining"
    ]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def data_sets(main: Source, beside: Source | None) -> PaperTable:
    """Table 3, as printed: rows hold nothing of their data sets but the names."""
    order = list(dict.fromkeys(_printed(3)["row"]))
    there = {DATA_LABELS.get(name, name) for name in main.rows["dataset"]}
    shown = order if main.paper else [name for name in order if name in there]
    if not shown:
        raise BadRows(
            f"none of these rows fits: the table shows {' and '.join(order)}; here are "
            f"{', '.join(sorted(there))}"
        )
    cells = pd.DataFrame(_printed_cells(3, set(shown)))
    missing = () if main.paper else ("all but the names: no column holds it, so it is as printed",)
    columns = tuple(dict.fromkeys(cells["column"]))
    return PaperTable(head="data set", columns=columns, cells=cells, missing=missing)


def networks(main: Source, number: int) -> Cells:
    """Tables 1 and 2: parameters, and the dense networks' accuracy."""
    lines = []
    for name, rows in _dense_networks(main, number):
        for column, words in PARAMETERS.items():
            for size in rows[column].dropna().astype("int64")[:1]:
                lines.append(cell(name, words, f"{size}", value=float(size), published=False))
        column = f"{DATA_LABELS.get(rows['dataset'].iloc[0], rows['dataset'].iloc[0])} accuracy %"
        lines.append(accuracy_cell(name, column, rows["test_accuracy"], published=False))
    return lines


PARAMETERS = {"params_total": "Trainable parameters", "params_prunable": "Kernel parameters"}


def training_times(main: Source, number: int) -> Cells:
    """Table 4: of the dense networks, over seeds the median."""
    lines = []
    for name, rows in _dense_networks(main, number):
        epochs, minutes = rows["train_epochs"].iloc[0], rows["train_seconds"].median() / 60
        dataset = DATA_LABELS.get(rows["dataset"].iloc[0], rows["dataset"].iloc[0])
        lines.append(cell(name, "Dataset", dataset, published=False))
        lines.append(cell(name, "epochs", f"{epochs}", value=float(epochs), published=False))
        if pd.notna(minutes):
            time = cell(
                name, "Training time (min)", f"{minutes:.3g}", value=minutes, published=False
            )
            lines.append(time)
        for device in rows["device"].dropna().unique()[:1]:
            lines.append(cell(name, "device", device, published=False))
    return lines


def _dense_networks(main: Source, number: int) -> list[tuple[str, pd.DataFrame]]:
    """Under the table's names, with what distinguishes several of one network."""
    names = set(_printed(number)["row"])
    wanted = [
        place(code, data)
        for code, name in NETWORK_LABELS.items()
        if name in names
        for data in DATA_LABELS
    ]
    data = {f" · {name}" for name in DATA_LABELS.values()}
    found = []
    for full, rows in dense_networks(main, wanted):
        short = full
        for suffix in data:
            short = short.replace(f"{suffix} ", " ").removesuffix(suffix)
        found.append((short, rows))
    return found


def at_nine_times(main: Source, number: int) -> Cells:
    """Table 5: one-shot, unstructured, 89.3% of the weights removed; medians over seeds."""
    material = _material(main, METHODS)
    points = material.points
    points = points[
        (points["structure"] == "unstructured") & (points["schedule_kind"] == "one-shot")
    ]
    points = at_compression(points, 1 / (1 - 0.893))
    named = points[points["network"] == "resnet110"]
    points = choose_retrain_epochs(points if named.empty else named)
    if points.empty:
        raise BadRows(
            "none of these rows fits: the table shows networks of which, one-shot and "
            "unstructured, 89.3% of the weights are removed"
        )
    lines: Cells = []
    several = points[["network", "dataset", "protocol"]].drop_duplicates().shape[0] > 1
    for (network, dataset, protocol), group in points.groupby(["network", "dataset", "protocol"]):
        whose = f" · {place(network, dataset)} {protocol}".rstrip() if several else ""
        dense = _dense(group, material)
        accuracies = {"None": (0.0, dense[0], None)} if dense else {}
        for line in group.itertuples():
            name = next((n for n, code in RETRAININGS.items() if code == line.method), line.method)
            sparsity = 100 * (1 - line.density)
            accuracies[f"{name} {line.knobs}".strip()] = sparsity, line.test_accuracy, line.n_seeds
        for name, (sparsity, accuracy, n) in accuracies.items():
            row = f"{name}{whose}"
            lines += [
                cell(row, "Network", NETWORK_LABELS.get(network, network), published=False),
                cell(row, "Dataset", DATA_LABELS.get(dataset, dataset), published=False),
                cell(row, "Sparsity %", f"{sparsity:.3g}", value=sparsity, published=False),
                cell(
                    row,
                    "Test accuracy %",
                    f"{100 * accuracy:.2f}",
                    value=100 * accuracy,
                    n=n,
                    published=False,
                ),
            ]
    return lines


RETRAININGS = {
    "LR rewinding": "lr_rewind",
    "weight rewinding": "weight_rewind",
    "finetuning": "finetune",
}
"""Rows of Table 5."""

OWN = {1: networks, 2: networks, 4: training_times, 5: at_nine_times}


def _scene(network: str, kind: str, **others: Any) -> Scene:
    return Scene(**{"network": network, "dataset": "cifar10", "schedule_kind": kind} | others)


FIGURES = {
    "mikler2022.fig1": PaperFigure(
        says="ResNet-20, unstructured, one-shot and iterative",
        make=partial(
            accuracies,
            scenes=(_scene("resnet20", "one-shot"), _scene("resnet20", "iterative", step=0.2)),
        ),
    ),
    "mikler2022.fig2": PaperFigure(
        says="ResNet-56, unstructured, one-shot and iterative",
        make=partial(
            accuracies,
            scenes=(_scene("resnet56", "one-shot"), _scene("resnet56", "iterative", step=0.2)),
        ),
    ),
    "mikler2022.fig3": PaperFigure(
        says="ResNet-20, filters, one-shot",
        make=partial(accuracies, scenes=(_scene("resnet20", "one-shot", structure="filters"),)),
    ),
    "mikler2022.fig4": PaperFigure(
        says="ResNet-56 on CIFAR-100, unstructured, one-shot",
        make=partial(accuracies, scenes=(_scene("resnet56", "one-shot", dataset="cifar100"),)),
    ),
    "mikler2022.fig5": PaperFigure(
        says="WRN-16-8, where learning-rate rewinding fails, one-shot and iterative",
        make=partial(
            accuracies,
            scenes=(_scene("wrn_16_8", "one-shot"), _scene("wrn_16_8", "iterative", step=0.3)),
            methods=REWINDINGS,
        ),
    ),
    "mikler2022.fig6": PaperFigure(
        says="WRN-16-8, learning-rate rewinding in steps of 20% and of 30%",
        make=partial(accuracies, scenes=(_scene("wrn_16_8", "iterative"),), methods=("lr_rewind",)),
    ),
    "mikler2022.table1": PaperFigure(
        says="the ResNets: parameters and dense accuracy",
        make=partial(table, number=1, head="network"),
    ),
    "mikler2022.table2": PaperFigure(
        says="the Wide ResNet: parameters and dense accuracy",
        make=partial(table, number=2, head="network"),
    ),
    "mikler2022.table3": PaperFigure(says="the data sets", make=data_sets),
    "mikler2022.table4": PaperFigure(
        says="training times of the dense networks", make=partial(table, number=4, head="network")
    ),
    "mikler2022.table5": PaperFigure(
        says="ResNet-110 at 9.35×, one-shot, all three methods",
        make=partial(table, number=5, head="retraining"),
    ),
}

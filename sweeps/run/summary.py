"""The end of a sweep: its table, its figure, and the next commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rewind_ray.result import ResultRow, row_to_dict
from rewind_ray.retraining import METHODS
from rewind_ray.spec import Stage
from rewind_ray.store import layout
from rewind_ray.store.ledger import Ledger
from sweeps.options import Options

METHODS_ABREAST = 4


def show_results(
    sweep: str,
    rows: Sequence[ResultRow],
    stages: Mapping[str, Stage],
    options: Options,
    console: Console,
) -> None:
    """Print table and figure, if a pruned network is finished. stages: stage_id -> stage."""
    if not any(row.level for row in rows):
        return
    from analysis.draw.figures import accuracy_against_compression, mere_first_steps
    from analysis.table.columns import as_rows  # pandas and matplotlib take a second to import
    from analysis.table.details import details_of, keep_what_differs
    from analysis.table.points import PANEL, dense_baselines, points_of

    records = [row_to_dict(row) | details_of(stages[row.stage_id]) for row in rows]
    table = keep_what_differs(as_rows(pd.DataFrame(records), sweep))
    points = points_of(table)
    baselines = dense_baselines(table)
    skipped = mere_first_steps(table)
    for panel, group in points.groupby(PANEL, dropna=False):
        if panel in skipped:
            continue
        dense = baselines[(baselines[PANEL] == list(panel)).all(axis=1)]
        console.print(panel_table(panel, group, dense))
    figure = figure_path(sweep, options)
    accuracy_against_compression(table, str(figure))
    console.print(f"figure   {figure}", markup=False)
    first = next_question(sweep, options.storage, [stages[row.stage_id] for row in rows])
    console.print(next_commands(sweep, options, first), soft_wrap=True, markup=False)


def panel_table(panel: tuple[str, ...], points: pd.DataFrame, dense: pd.DataFrame) -> Table:
    """Median of the metric on the test part (lowest–highest seed): a row for each compression, a
    column for each method; with many methods the other way round. Where a method has several
    retraining times at one compression, each has a row."""
    from analysis.table.metrics import axis_label
    from analysis.table.points import PANEL
    from analysis.table.text import panel_name

    points = points.assign(column=columns_of(points))
    order = list(METHODS)
    columns = sorted(set(points["column"]), key=lambda name: (order.index(name.split()[0]), name))
    baseline = spread(*dense.iloc[0][["test_accuracy", "test_accuracy_min", "test_accuracy_max"]])
    count = points["n_seeds"].max()
    seeds = "1 seed" if count == 1 else f"{count} seeds"
    table = Table(
        title=f"{escape(panel_name(panel))}\n"
        f"{axis_label(panel[PANEL.index('metric')])}, median of {seeds} (lowest–highest)\n"
        f"dense {baseline}",
        title_justify="left",
    )
    times = retraining_times(points)
    table.add_column("compression", justify="right")
    levels = points.assign(ratio=points["compression_ratio"].map("{:.2f}×".format))
    levels = levels.sort_values("compression_ratio")
    ratios = list(dict.fromkeys(levels["ratio"]))
    side = ["ratio", "column"]
    if len(columns) <= METHODS_ABREAST:
        lines, heads = ratios, columns
    else:
        table.columns[0].header = "method"
        table.columns[0].justify = "left"
        lines, heads = columns, ratios
        side.reverse()
    if times:
        table.add_column("epochs", justify="right")
    for head in heads:
        table.add_column(head, justify="right")
    if not times:  # of each method its own, whatever it is
        levels = levels.assign(retrain_epochs=0.0)
    cells = {key: cell(part) for key, part in levels.groupby([*side, "retrain_epochs"])}
    for line in lines:
        here = [t for t in times or [0.0] if any((line, head, t) in cells for head in heads)]
        for t in here:
            epochs = [f"{t:g}"] if times else []
            texts = (cells.get((line, head, t), "") for head in heads)
            table.add_row(line if t == here[0] else "", *epochs, *texts)
    return table


def retraining_times(points: pd.DataFrame) -> list[float]:
    """All of them in epochs, if a method has several at one compression; else none."""
    tried = points.groupby(["column", "compression_ratio"])["retrain_epochs"].nunique()
    return sorted(points["retrain_epochs"].dropna().unique()) if tried.gt(1).any() else []


def columns_of(points: pd.DataFrame) -> pd.Series:
    """Method, knobs where they differ, and step size where there are several."""
    names = (points["method"] + " " + points["variant"]).str.strip()
    iterative = (points["schedule_kind"] == "iterative").all()
    if not iterative or points["prune_fraction"].nunique() < 2:
        return names
    return names + " " + points["prune_fraction"].map("{:g} per step".format)


def cell(points: pd.DataFrame) -> str:
    return "\n".join(
        spread(point.test_accuracy, point.test_accuracy_min, point.test_accuracy_max)
        + (f", {point.n_diverged} diverged" if point.n_diverged else "")
        for point in points.itertuples()
    )


def spread(median: float, low: float, high: float) -> str:
    if pd.isna(median):
        return "–"
    return f"{100 * median:.2f} ({100 * low:.2f}–{100 * high:.2f})"


def figure_path(sweep: str, options: Options) -> Path:
    """In the storage, or in the working directory if the storage isn't local."""
    ledger = Ledger(options.storage)
    local = ledger.filesystem.type_name == "local"
    folder = Path(ledger.layout.figures) if local else Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{sweep}.png"


OWN_IMAGES = (
    "  Compare on your own images, in FOLDER/train/CLASS/ and FOLDER/test/CLASS/:\n"
    "    rewind-ray compare --dataset folder:FOLDER --image-size 32 --epochs 30 --dry-run\n"
)
OWN_TEXT = (
    "  Compare on your own text, in FOLDER/train.en, train.de, test.en and test.de:\n"
    "    rewind-ray compare --task translation --network gnmt_small --dataset folder:FOLDER \\\n"
    "      --dry-run\n"
)


def next_question(sweep: str, storage: str, stages: Sequence[Stage]) -> str:
    """A paper's figure; who has used own data asks which method is better, others use their own."""
    from analysis.draw.papers import FIGURES

    figure = sweep.removesuffix("-smoke").replace("-", ".", 1)
    if figure in FIGURES:
        return (
            "  Draw the paper's figure, with the published points over yours:\n"
            f"    rewind-ray analysis figure {figure} {storage} --overlay published --out "
            f"{figure}.pdf\n"
        )
    protocols = [stage.protocol for stage in stages]
    methods = {stage.method for stage in stages if stage.level}
    own = all(":" in each.dataset for each in protocols)  # a folder, or an import path
    if own and len(methods) > 1:
        return (
            "  See which method is better, by the same seeds:\n"
            f"    rewind-ray analysis compare {storage}\n"
        )
    return OWN_TEXT if protocols[0].task == "translation" else OWN_IMAGES


def next_commands(sweep: str, options: Options, first: str) -> str:
    storage = options.storage
    return (
        f"Three things to do next:\n{first}"
        "  See all of these results on one page, or as rows:\n"
        f"    rewind-ray analysis report {storage} --out report.html\n"
        f"    rewind-ray analysis rows --storage {storage} --sweep {sweep} --out {sweep}.csv\n"
        "  Look at the learning curves:\n"
        f"    tensorboard --logdir {layout.tensorboard(storage, sweep)}"
    )

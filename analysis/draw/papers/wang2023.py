"""Tables 1 and 4 to 7 and the learning curves of Wang et al. 2023.

A setting is written as in the paper: "P30F90, 1e-2" is pruned at epoch 30 and retrained for 90
epochs from rate 1e-2; "(+60 epochs)" is longer than the rest of the original training; "P30/kF90"
is pruned at an epoch divided by the speedup k. Cells are means and standard deviations over seeds.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from analysis.draw.drawing import Sheet, abreast
from analysis.draw.learning_curves import learning_curves
from analysis.draw.looks import METHOD_LABELS
from analysis.draw.panels import AXES, Axis, Panel
from analysis.draw.papers.content import PaperChart, PaperTable, accuracy_cell, cell
from analysis.draw.papers.notes import origin_note
from analysis.draw.papers.registry import PaperFigure
from analysis.draw.papers.scenes import Source, place
from analysis.draw.papers.tables import table_of
from analysis.questions.fairness import fairness_label
from analysis.reference import compared, published
from analysis.table.columns import BadRows
from analysis.table.details import OF_RETRAIN, joined, labels
from analysis.table.text import times
from rewind_ray.store.ledger import Ledger

Cells = list[dict[str, Any]]
OF_ONE_NETWORK = ["network", "dataset", "protocol"]
PAPER = "Wang et al. 2023"

# settings

KINDS = ("step", "cosine")
"""Methods that are named by their rates."""


def one_shot(rows: pd.DataFrame) -> pd.DataFrame:
    """Measured rows of networks pruned once; the column ``share`` is what was removed."""
    kept = (rows["level"] == 1) & rows["test_accuracy"].notna() & (rows["status"] != "diverged")
    return rows[kept].assign(share=rows["prune_fraction"].round(4))


def with_settings(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with the column ``setting``."""
    groups = [group for _, group in rows.groupby(OF_ONE_NETWORK)]
    return pd.concat([group.assign(setting=_settings(group)) for group in groups])


def _settings(rows: pd.DataFrame) -> list[str]:
    """Of one network and protocol."""
    if rows["protocol"].iloc[0] == PAPER:
        return [_as_published(line) for line in rows.itertuples()]
    # Most settings fill the original training; the others are shorter or longer than it
    epochs = rows["retrain_epochs"].astype("Int64")
    spans = (rows["pruned_at"] + epochs.astype("float64")).dropna().mode()
    total = int(spans.max()) if len(spans) else 0
    words = joined(labels(rows).filter(OF_RETRAIN))
    lines = zip(rows["method"], rows["retrain_lr"], rows["pruned_at"], epochs, words, strict=True)
    return [setting_of(*line, total=total) for line in lines]


def _as_published(row: Any) -> str:
    if row.method == "scratch_e":
        return f"scratch, {row.published_setting} lr"
    return str(row.published_setting) or f"pruned, {row.method} lr {row.retrain_lr:g}"


def setting_of(
    method: str, lr: float, pruned_at: float, epochs: Any, words: str, *, total: int
) -> str:
    """As the paper writes it, where method and knobs are enough. words: of the other knobs of
    retraining. total: T, in epochs."""
    if method in ("scratch_e", "scratch_b") or (method in KINDS and pruned_at == 0):
        return f"scratch, {method if method in KINDS else 'step'} lr"
    if method not in KINDS or pd.isna(lr):
        return f"{METHOD_LABELS.get(method, method)} {words}".strip()
    if pd.isna(pruned_at) or pd.isna(epochs):
        return f"pruned, {method} lr {lr:g}"
    mantissa, _, exponent = f"{lr:.0e}".partition("e")
    rate = f"{mantissa}e{int(exponent)}"
    more = int(pruned_at) + int(epochs) - total
    if more < 0:
        return f"P{total - int(epochs)}/kF{int(epochs)}, {rate}"
    longer = f" (+{more} epochs)" if more else ""
    return f"P{int(pruned_at)}F{int(epochs) - more}, {rate}{longer}"


def of_place(rows: pd.DataFrame, network: str, dataset: str) -> pd.DataFrame:
    """The rows of this network, or all if there are none; ``setting`` then names theirs."""
    here = rows[(rows["network"] == network) & (rows["dataset"] == dataset)]
    if len(here):
        protocol = " · protocol " + here["protocol"]
        several = here["protocol"].nunique() > 1
        return here.assign(setting=here["setting"] + protocol) if several else here
    whose = [
        f" · {place(line.network, line.dataset)} {line.protocol}".rstrip()
        for line in rows.itertuples()
    ]
    return rows.assign(setting=rows["setting"] + whose)


# tables 4 to 7


def table(
    main: Source, beside: Source | None, *, number: int, network: str, dataset: str
) -> PaperTable:
    """A row a setting, a column a share of the filters; of Table 5 accuracy and trainability."""
    printed = published_rows(number)
    rows = printed
    if not main.paper:
        rows = one_shot(main.rows)
        rows = rows[(rows["structure"] == "filters") & rows["share"].notna()]
        if rows.empty:
            raise BadRows(
                "none of these rows fits: the table shows networks of whose filters a share was "
                "pruned, one-shot"
            )
        rows = of_place(with_settings(rows), network, dataset)
        if number == 5:
            rows = rows[rows["share"] == rows["share"].max()]
    missing = [] if (rows["network"] == network).any() else [place(network, dataset)]
    cells = _cells(rows.sort_values("share", kind="stable"), number, published=bool(main.paper))
    if beside:
        cells += _cells(printed, number, published=True)
    order = list(dict.fromkeys(printed["setting"])) if not missing else []
    label = fairness_label(rows.drop(columns=["share", "setting"]))
    notes = [label] if label else []
    return table_of("setting", pd.DataFrame(cells), order, main, beside, notes, missing)


def published_rows(number: int) -> pd.DataFrame:
    rows = one_shot(published("wang2023"))
    tables = rows["source"].str.extract("tables? (.*)$")[0].str.findall(r"\d+")
    return with_settings(rows[tables.map(lambda found: str(number) in found)])


def _cells(rows: pd.DataFrame, number: int, *, published: bool) -> Cells:
    cells = []
    for (setting, share), group in rows.groupby(["setting", "share"], sort=False):
        column = "top-1 accuracy (%)" if number == 5 else f"{100 * share:g}%"
        if group["source"].notna().any() and len(group) == 1:
            (line,) = group.itertuples()
            cells.append(_cell_of_sum(setting, column, line, published=published))
        else:
            cells.append(accuracy_cell(setting, column, group["test_accuracy"], published=False))
        trainability = 100 * group["trainability_accuracy"].astype("float64").mean()
        if number == 5 and pd.notna(trainability):
            text = f"{trainability:.2f}"
            cells.append(
                cell(setting, "TA (%)", text, value=trainability, n=len(group), published=published)
            )
    return cells


def _cell_of_sum(setting: str, column: str, line: Any, *, published: bool) -> dict[str, Any]:
    """Of a published row: the mean of several trials, with their standard deviation."""
    mean = 100 * line.test_accuracy
    deviation = 100 * line.test_accuracy_std
    spread = "" if pd.isna(deviation) else f" ± {deviation:.2f}"
    text = f"{mean:.2f}{spread}"
    return cell(setting, column, text, value=mean, deviation=deviation, published=published)


# table 1


def benchmark(main: Source, beside: Source | None) -> PaperTable:
    """Filter pruning of ResNet-50 on ImageNet: each work by its own base model and retraining."""
    cells: Cells = []
    missing: tuple[str, ...] = ()
    if not main.paper:
        rows = one_shot(main.rows)
        rows = rows[(rows["structure"] == "filters") & rows["speedup"].notna()]
        if rows.empty:
            raise BadRows(
                "none of these rows fits: the table shows the accuracy and speedup of networks "
                "with filters pruned"
            )
        rows = of_place(with_settings(rows), "resnet50", "imagenet")
        if not (rows["network"] == "resnet50").any():
            missing = ("ResNet-50 on ImageNet",)
        for (setting, _), group in rows.groupby(["setting", "density"], sort=False):
            speedup = float(group["speedup"].median())
            cells += _benchmark_cells(setting, speedup, group["test_accuracy"], published=False)
    if main.paper or beside:
        works = compared()
        for line in works[works["drawn_in"] == f"{PAPER}, table 1"].itertuples():
            accuracy = pd.Series([line.test_accuracy])
            cells += _benchmark_cells(line.work, line.speedup, accuracy, published=True)
    notes = (*origin_note(main, beside), "Base models and retraining differ from work to work.")
    return PaperTable(
        head="method",
        columns=("pruned acc. (%)", "speedup"),
        cells=pd.DataFrame(cells),
        notes=notes,
        missing=missing,
    )


def _benchmark_cells(name: str, speedup: float, accuracies: pd.Series, *, published: bool) -> Cells:
    row = f"{name}, {times(speedup)}"
    return [
        accuracy_cell(row, "pruned acc. (%)", accuracies, published=published),
        cell(row, "speedup", times(speedup), value=speedup, published=published),
    ]


# learning curves


def curves(main: Source, beside: Source | None) -> PaperChart:
    """Test accuracy in every epoch after pruning, at the highest share pruned.

    One panel with the settings that fill the original training, one with those that go on. The
    paper publishes no curves but where some of them end: Table 5.
    """
    if main.paper:
        ends = _ends(published_rows(5), several=True)
        panel = _curve_panel(place("resnet34", "imagenet100"), ends, log=True)
        words = "Each mark is the end of a training of its own; the curves aren't published."
        return PaperChart(
            sheets=[Sheet(rows=[[panel]])],
            notes=(" ".join([*origin_note(main, beside), words]),),
            missing=("the curves, of which only the ends are published",),
        )
    if not main.storage:
        raise BadRows(
            "a table of rows holds no learning curves: give the storage root that it comes from"
        )
    rows = one_shot(main.rows)
    filters = rows[rows["structure"] == "filters"]
    rows = rows if filters.empty else filters
    if rows.empty:
        raise BadRows("none of these rows fits: the figure shows networks pruned once")
    rows = with_settings(rows)
    rows = rows[rows["density"] <= rows.groupby(OF_ONE_NETWORK)["density"].transform("min") * 1.01]
    rows = rows.sort_values("train_epochs").drop_duplicates("stage_id", keep="last")
    lines = learning_curves(Ledger(main.storage), rows)
    lines = lines[(lines["level"] > 0) & lines["test_accuracy"].notna()]
    if lines.empty:
        raise BadRows(f"{main.storage} holds no metrics of epochs after pruning")
    settings = rows.set_index("stage_id")[["setting", *OF_ONE_NETWORK]]
    lines = lines.join(settings, on="chain")
    printed = _ends(published_rows(5), several=False) if beside else None
    panels = []
    for (network, dataset, protocol), group in lines.groupby(OF_ONE_NETWORK):
        title = place(network, dataset) + (f"\nprotocol {protocol}" if protocol else "")
        theirs = printed if (network, dataset) == ("resnet34", "imagenet100") else None
        longer = group["setting"].str.contains(" epochs)", regex=False)
        for kept, words in ((~longer, ""), (longer, ", with more epochs")):
            if kept.any():
                panels.append(
                    _curve_panel(title + words, _medians(group[kept]), theirs, log=bool(words))
                )
    label = fairness_label(rows.drop(columns=["share", "setting"]))
    words = "Medians over seeds; shading from the lowest to the highest."
    laid = any(panel.points["published"].any() for panel in panels)
    caption = " ".join([*origin_note(main, beside, shown=laid), words])
    notes = (caption, *([label] if label else []))
    return PaperChart(sheets=[Sheet(rows=abreast(panels, 2))], notes=notes)


def _medians(lines: pd.DataFrame) -> pd.DataFrame:
    found = lines.groupby(["setting", "epoch"])["test_accuracy"].agg(["median", "min", "max"])
    found = found.set_axis(["y", "low", "high"], axis="columns").reset_index()
    return found.rename(columns={"setting": "line", "epoch": "x"}).assign(published=False)


def _ends(rows: pd.DataFrame, *, several: bool) -> pd.DataFrame:
    """Where published trainings ended. several: what went on is one line with what it began as."""
    setting = rows["setting"]
    return pd.DataFrame(
        {
            "line": setting.str.replace(r" \(\+.*", "", regex=True) if several else setting,
            "x": rows["retrain_epochs"].astype("float64"),
            "y": rows["test_accuracy"],
            "low": rows["test_accuracy_low"].fillna(rows["test_accuracy"]),
            "high": rows["test_accuracy_high"].fillna(rows["test_accuracy"]),
            "published": True,
        }
    )


def _curve_panel(
    title: str, own: pd.DataFrame, ends: pd.DataFrame | None = None, *, log: bool
) -> Panel:
    points = own[own["x"] > 0] if log else own
    if ends is not None:
        theirs = ends[ends["line"].isin(points["line"])]
        points = pd.concat([points, theirs], ignore_index=True)
    x = Axis(label="epochs of retraining", log=log)
    return Panel(
        title=title, points=points, x=x, y=AXES["test_accuracy"], continuous=len(own) > FEW
    )


FEW = 30
"""Points that are all marked."""


FIGURES = {
    "wang2023.table1": PaperFigure(
        says="benchmark of filter pruning, ResNet-50 on ImageNet", make=benchmark
    ),
    "wang2023.table4": PaperFigure(
        says="ResNet-34 on ImageNet-100: when to prune, from which rate to retrain",
        make=partial(table, number=4, network="resnet34", dataset="imagenet100"),
    ),
    "wang2023.table5": PaperFigure(
        says="ResNet-34, 95% of the filters: small rates catch up with more epochs",
        make=partial(table, number=5, network="resnet34", dataset="imagenet100"),
    ),
    "wang2023.table6": PaperFigure(
        says="ResNet-56 on CIFAR-10: scratch and pruned, stepwise and cosine",
        make=partial(table, number=6, network="resnet56", dataset="cifar10"),
    ),
    "wang2023.table7": PaperFigure(
        says="VGG-19 on CIFAR-100: scratch and pruned, stepwise and cosine",
        make=partial(table, number=7, network="vgg19", dataset="cifar100"),
    ),
    "wang2023.curves": PaperFigure(
        says="learning curves after pruning; from a storage root", make=curves
    ),
}

"""The papers' figures against plain computations on what the papers published."""

import io
import re
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.container import ErrorbarContainer
from PIL import Image

from analysis.commands.figure import figure_command
from analysis.draw.drawing import draw, write_figures
from analysis.draw.papers import FIGURES, make, published_source
from analysis.draw.papers import content as papers_content
from analysis.draw.papers.content import SIZES, SMALL, PaperChart, as_table, as_text, write_content
from analysis.draw.papers.scenes import Source
from analysis.draw.papers.wang2023 import setting_of
from analysis.reference.facts import facts
from analysis.table.columns import BadRows
from analysis.table.details import variants
from analysis.table.rows import read_rows, write_rows
from rewind_ray.protocols import digits
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.store.ledger import Ledger

LABELS = {
    "finetune": "fine-tuning",
    "lottery": "weight rewinding",
    "lr_finetune": "learning-rate rewinding",
    "lr_lottery": "low-LR weight rewinding",
    "reinit": "reinitialisation",
}
MAIN = ("finetune", "lottery", "lr_finetune")
TITLES = {
    "resnet20": "ResNet-20 · CIFAR-10",
    "resnet34": "ResNet-34 · ImageNet",
    "resnet50": "ResNet-50 · ImageNet",
    "resnet56": "ResNet-56 · CIFAR-10",
    "resnet110": "ResNet-110 · CIFAR-10",
    "gnmt": "GNMT · WMT16 EN-DE",
}


@cache
def content(name):
    return make(name, None)


@cache
def trials():
    """As published; BLEU as a fraction."""
    table = facts("renda2020_trials.parquet")
    scale = np.where(table["network"] == "gnmt", 0.01, 1)
    return table.assign(test_acc=table["test_acc"] * scale, val_acc=table["val_acc"] * scale)


@cache
def dense_accuracy(network):
    table = facts("renda2020_baselines.parquet")
    accuracy = table.loc[table["network"] == network, "test_acc"].mean()
    return accuracy / 100 if network == "gnmt" else accuracy


def by_time(network, prune_method, iterative, *, with_flops=False):
    """Medians and extremes by method, density and retraining time."""
    table = trials()
    if with_flops:
        dense = facts("renda2020_baselines.parquet").groupby("network")["flops"].first()
        table = table[table["flops"].notna()]
        table = table.assign(speedup=table["network"].map(dense) / table["flops"])
    else:
        table = table.assign(speedup=np.nan)
    table = table[
        (table["network"] == network)
        & (table["prune_method"] == prune_method)
        & (table["is_iterative"] == iterative)
    ]
    density = table["density"].map(lambda value: float(f"{value:.4f}"))
    groups = table.groupby(["retrain_method", density, "retrain_time"])
    found = groups.agg(
        test=("test_acc", "median"),
        low=("test_acc", "min"),
        high=("test_acc", "max"),
        val=("val_acc", "median"),
        speedup=("speedup", "median"),
        least=("speedup", "min"),
        most=("speedup", "max"),
    )
    dense = dense_accuracy(network)
    found[["test", "low", "high"]] -= dense
    return found.reset_index()


def panel_of(name, *words):
    """The lines of the csv whose panel's title has all these words."""
    table = as_table(content(name))
    told = (table["sheet"] + ", " + table["panel"]).str.split(", | · |: ")
    kept = told.map(lambda parts: set(words) <= set(parts))
    assert kept.any(), words
    return table[kept]


def check(drawn, expected, method, x="density"):
    """expected: x, test, low, high of a method's line."""
    line = drawn[(drawn["kind"] == "line") & (drawn["line"] == LABELS[method])].sort_values("x")
    at = 1 / expected[x] if x == "density" else expected[x]
    expected = expected.assign(x=at).sort_values("x")
    assert len(line) == len(expected)
    np.testing.assert_allclose(line["x"], expected["x"], rtol=3e-3)
    for ours, theirs in (("y", "test"), ("low", "low"), ("high", "high")):
        np.testing.assert_allclose(line[ours], expected[theirs], atol=1e-9)


# every figure


def number_of_small_panels(scenes):
    """Compressions of which some method, at some time, isn't below the axis."""
    count = 0
    for network, prune_method, iterative, lowest in scenes:
        best = by_time(network, prune_method, iterative).groupby("density")["test"].max()
        count += int((best >= lowest).sum())
    return count


PANELS = {
    "renda2020.fig1": 5,
    "renda2020.fig2": 3,
    "renda2020.fig3": 6,
    "renda2020.fig4": 4,
    "renda2020.fig5": 3,
    "renda2020.fig6": 3,
    "renda2020.fig7": 11,
    "renda2020.fig8": 5,
    "renda2020.fig9": number_of_small_panels(
        (network, "Unstructured", iterative, lowest)
        for iterative in (False, True)
        for network, lowest in (
            *(("resnet20", -0.03), ("resnet56", -0.03), ("resnet110", -0.03)),
            *(("resnet50", -0.05), ("gnmt", -0.06)),
        )
    ),
    "renda2020.fig10": 30,
    "renda2020.fig11": 4,
    "renda2020.fig12": 4,
    "mikler2022.fig1": 2,
    "mikler2022.fig2": 2,
    "mikler2022.fig3": 1,
    "mikler2022.fig4": 1,
    "mikler2022.fig5": 2,
    "mikler2022.fig6": 1,
    "wang2023.curves": 1,
}
"""A paper's figure -> its panels, with those of its text."""


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_from_published_rows(name, tmp_path, monkeypatch):
    """Once, for it takes long; lines of a panel must differ in grey as well."""
    kept = []

    def write(figures, out, dpi):
        kept.extend(figures)
        write_figures(figures, out, dpi)

    monkeypatch.setattr(papers_content, "write_figures", write)
    shown = content(name)
    if isinstance(shown, PaperChart) and len(shown.sheets) > 2:
        shown = replace(shown, sheets=[shown.sheets[0], shown.sheets[-1]])
    write_content(shown, str(tmp_path / "figure.png"), dpi=30)
    with Image.open(tmp_path / "figure.png") as image:
        grey = np.asarray(image.convert("L"))
    assert grey.min() < 100
    assert (grey == 255).mean() > 0.5
    (figure,) = kept
    if isinstance(shown, PaperChart):
        assert len(content(name).panels) == PANELS[name]
        assert len(figure.axes) == len(shown.panels)
    else:
        assert name not in PANELS
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        curves = [
            handle[0]
            for handle, label in zip(handles, labels, strict=True)
            if isinstance(handle, ErrorbarContainer) and not label.endswith(("2018", "2019"))
        ]
        looks = {(line.get_marker(), str(line._dash_pattern)) for line in curves}
        assert len(looks) == len({line.get_marker() for line in curves}) == len(curves) > 0


@pytest.mark.parametrize("name", ["renda2020.fig1", "renda2020.fig3", "mikler2022.fig5"])
def test_a_caption_says_what_the_rows_are_however_they_came(name, tmp_path):
    """The same published rows, under their paper's name and read from a file."""
    theirs = content(name).notes
    path = str(tmp_path / "rows.parquet")
    write_rows(published_source(name.partition(".")[0]).rows, path)
    own = make(name, Source(rows=read_rows(path))).notes
    assert theirs[1:] == own[1:]
    origin = theirs[0].removesuffix(own[0])
    assert own[0] and origin != theirs[0]
    assert own[0].startswith("Published" if name.startswith("mikler") else "Medians over seeds")


# Renda's figures


@pytest.mark.parametrize(
    ("name", "network", "prune_method", "iterative", "words"),
    [
        ("renda2020.fig1", "resnet56", "Unstructured", False, ["unstructured", "one-shot"]),
        ("renda2020.fig1", "resnet34", "Structured-A", False, ["filters ResNet-34-A", "one-shot"]),
        ("renda2020.fig1", "gnmt", "Unstructured", False, ["unstructured", "one-shot"]),
        ("renda2020.fig2", "resnet50", "Unstructured", True, ["unstructured", "iterative"]),
        ("renda2020.fig7", "resnet110", "Structured-B", False, ["filters ResNet-110-B"]),
        ("renda2020.fig8", "resnet20", "Unstructured", True, ["unstructured", "iterative"]),
    ],
)
def test_the_time_of_the_best_validation_accuracy_is_shown(
    name, network, prune_method, iterative, words
):
    drawn = panel_of(name, *TITLES[network].split(" · "), *words)
    table = by_time(network, prune_method, iterative)
    best = table.sort_values(["val", "retrain_time"], ascending=[False, True])
    best = best.drop_duplicates(["retrain_method", "density"])
    shown = {
        "renda2020.fig7": tuple(LABELS),
        "renda2020.fig8": (*MAIN, "lr_lottery"),
    }.get(name, MAIN)
    assert set(drawn.loc[drawn["kind"] == "line", "line"]) == {LABELS[name] for name in shown}
    for method in shown:
        check(drawn, best[best["retrain_method"] == method], method)


@pytest.mark.parametrize(
    ("network", "times"),
    [
        ("resnet56", {"finetune": 182, "lottery": 150, "lr_finetune": 182}),
        ("resnet50", {"finetune": 90, "lottery": 81, "lr_finetune": 90}),
        ("gnmt", {"finetune": 5, "lottery": 4.5, "lr_finetune": 5}),
    ],
)
def test_the_algorithms_retrain_for_their_share(network, times):
    drawn = panel_of("renda2020.fig6", *TITLES[network].split(" · "))
    alone = panel_of("renda2020.fig5", *TITLES[network].split(" · "))
    assert set(alone.loc[alone["kind"] == "line", "line"]) == {LABELS["lr_finetune"]}
    table = by_time(network, "Unstructured", True)
    for method, time in times.items():
        at = table[(table["retrain_method"] == method) & (table["retrain_time"] == time)]
        check(drawn, at, method)
        if method == "lr_finetune":
            check(alone, at, method)


@pytest.mark.parametrize("network", ["resnet56", "resnet50", "gnmt"])
@pytest.mark.parametrize(("words", "drop"), [("no drop", 0.0005), ("drop of 1 ", 0.01)])
def test_curves_are_at_the_highest_compression_within_the_drop(network, words, drop):
    table = by_time(network, "Unstructured", False)
    table = table[table["retrain_method"].isin(MAIN)]
    lowest = table.loc[table["test"] >= -drop, "density"].min()
    unit = "" if words == "no drop" else ("BLEU" if network == "gnmt" else "point")
    drawn = panel_of("renda2020.fig3", *TITLES[network].split(" · "), words + unit)
    (title,) = set(drawn["panel"])
    assert float(re.search(r"([\d.]+)×", title)[1]) == pytest.approx(1 / lowest, rel=5e-3)
    for method in MAIN:
        at = table[(table["retrain_method"] == method) & (table["density"] == lowest)]
        check(drawn, at, method, x="retrain_time")


def test_the_safe_zone_is_computed_and_published():
    (title,) = {
        panel.title for panel in content("renda2020.fig3").panels if "no drop: 3.05" in panel.title
    }
    panel = next(panel for panel in content("renda2020.fig3").panels if panel.title == title)
    zones = {zone.filled: (zone.start / 90, zone.end / 90) for zone in panel.zones}
    assert zones[False] == pytest.approx((0.25, 0.9))
    # By hand: at 10% ResNet-50's fine-tuning is ahead at 3.05×, at 100% weight rewinding is behind
    assert zones[True] == pytest.approx((0.2, 0.9))


def test_times_of_the_translation_are_epochs():
    for name in ("renda2020.fig3", "renda2020.fig9"):
        drawn = as_table(content(name))
        gnmt = (drawn["sheet"] + drawn["panel"]).str.contains("GNMT")
        assert sorted(set(drawn.loc[gnmt & (drawn["kind"] == "line"), "x"])) == [
            half / 2 for half in range(1, 11)
        ]


def test_a_small_panel_shows_every_time():
    table = by_time("resnet110", "Structured-A", False)
    ratio = 1 / table["density"].min()
    drawn = panel_of("renda2020.fig10", "filters ResNet-110-A", f"{ratio:.2f}×")
    for method in LABELS:
        at = table[(table["retrain_method"] == method) & (table["density"] * ratio < 1.0001)]
        check(drawn, at, method, x="retrain_time")


@pytest.mark.parametrize("network", ["resnet20", "resnet56", "resnet110", "resnet50"])
def test_speedups_are_those_of_trials_with_known_flops(network):
    table = by_time(network, "Unstructured", True, with_flops=True)
    best = table.sort_values(["val", "retrain_time"], ascending=[False, True])
    best = best.drop_duplicates(["retrain_method", "density"]).sort_values("density")
    tuned = best[best["retrain_method"] == "finetune"]
    words = TITLES[network].split(" · ")
    for method in MAIN:
        at = best[best["retrain_method"] == method].reset_index(drop=True)
        speedups = {"test": at["speedup"], "low": at["least"], "high": at["most"]}
        check(panel_of("renda2020.fig11", *words), at.assign(**speedups), method)
        over = {"test": "speedup", "low": "most", "high": "least"}
        ratios = {name: speedups[name] / tuned[over[name]].to_numpy() for name in over}
        check(panel_of("renda2020.fig12", *words), at.assign(**ratios), method)


def test_what_the_paper_prints_of_resnet50():
    """§3: no loss at 5.96×. App. F: speedups of 4.8× and 1.7×."""
    drawn = panel_of("renda2020.fig5", "ResNet-50")
    lines = drawn[drawn["kind"] == "line"]
    lines = lines.set_index(lines["x"].round(2))
    assert lines.loc[5.96, "y"] == pytest.approx(-0.00001, abs=1e-5)
    assert lines.loc[5.96, "retrain_epochs"] == 90
    assert lines["published"].all()
    assert lines.loc[7.45, "y"] < -0.002
    speedups = panel_of("renda2020.fig11", "ResNet-50").set_index(["line", "x"])["y"]
    at = {(line, round(x, 2)): y for (line, x), y in speedups.items()}
    assert at["learning-rate rewinding", 5.96] == pytest.approx(4.83, abs=0.005)
    assert at["fine-tuning", 1.95] == pytest.approx(1.71, abs=0.005)


def test_dots_are_where_other_works_are():
    dots = as_table(content("renda2020.fig2"))
    dots = dots[dots["kind"] == "compared"]
    assert dots["line"].value_counts().to_dict() == {
        "Carreira-Perpiñán & Idelbayev 2018": 4,
        "Zhu & Gupta 2018": 3,
        "He et al. 2018": 1,
    }
    amc = dots[dots["line"] == "He et al. 2018"].iloc[0]
    assert (amc["x"], amc["y"]) == pytest.approx((1 / 0.195, -0.0002))  # App. C
    assert "compared" not in set(as_table(content("renda2020.fig1"))["kind"])


def test_table_2_computes_what_is_printed():
    cells = content("renda2020.table2").cells.set_index(["row", "column"])
    for name in ("ResNet-20 · CIFAR-10", "ResNet-56 · CIFAR-10", "ResNet-50 · ImageNet"):
        assert (
            cells.loc[(name, "test accuracy (%)"), "text"]
            == cells.loc[(name, "as printed"), "text"]
        )
    assert cells.loc[("ResNet-34 · ImageNet", "test accuracy (%)"), "value"] == pytest.approx(
        73.50, abs=0.005
    )
    assert cells.loc[("GNMT · WMT16 EN-DE", "epochs"), "value"] == 5


# Mikler's and Wang's


def test_all_of_miklers_points_are_drawn():
    points = facts("mikler2022_figures.csv")
    points = points[points["method"] != "baseline"]
    names = {
        "finetuning": "fine-tuning",
        "weight_rewinding": "weight rewinding",
        "lr_rewinding": "learning-rate rewinding",
    }
    for figure, group in points[points["figure"] < 6].groupby("figure"):
        drawn = as_table(content(f"mikler2022.fig{figure}"))
        drawn = drawn[drawn["kind"] == "line"]
        kind = drawn["panel"].str.extract("(one-shot|iterative)")[0]
        key = [kind, drawn["line"], drawn["x"].map("{:.3f}".format)]
        ours = drawn.set_index(pd.MultiIndex.from_arrays(key))
        assert len(ours) == len(group)
        for point in group.itertuples():
            panel = "iterative" if point.panel == "iterative" else "one-shot"
            ratio = f"{1 / (1 - point.sparsity):.3f}"
            line = ours.loc[(panel, names[point.method], ratio)]
            assert line["y"] == pytest.approx(point.accuracy / 100, abs=1e-6)
            if point.ci_drawn == "yes":
                assert line["low"] == pytest.approx(point.ci_low / 100, abs=1e-6)
                assert line["high"] == pytest.approx(point.ci_high / 100, abs=1e-6)


def test_two_step_sizes_are_two_lines():
    lines = as_table(content("mikler2022.fig6"))
    sizes = lines[lines["kind"] == "line"].groupby("line").size().to_dict()
    assert sizes == {
        "learning-rate rewinding, 20 % a step": 10,
        "learning-rate rewinding, 30 % a step": 13,
    }


@pytest.mark.parametrize("number", [1, 2, 4, 5])
def test_miklers_tables_are_as_printed(number):
    printed = facts("mikler2022_tables.csv")
    printed = printed[
        (printed["table"] == number)
        & (printed["value"] != "–")
        & (printed["column"] != "Retraining")
    ]
    cells = content(f"mikler2022.table{number}").cells
    key = ["row", "column"]
    pd.testing.assert_series_equal(
        cells.set_index(key)["text"].sort_index(),
        printed.set_index(key)["value"].sort_index(),
        check_names=False,
        check_dtype=False,
    )


@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_wangs_tables_are_as_printed(number):
    printed = facts("wang2023_tables.csv")
    printed = printed[printed["table"] == number]
    cells = content(f"wang2023.table{number}").cells
    accuracies = cells[cells["column"] != "TA (%)"]
    assert len(accuracies) == len(printed)
    for line in printed.itertuples():
        kind = (
            "scratch, step" if "120 epochs" in line.schedule else f"scratch, {line.schedule[:-3]}"
        )
        setting = f"{kind} lr" if line.method == "scratch" else line.schedule
        if line.method != "scratch" and not setting.startswith("P"):
            setting = f"pruned, {setting}"
        column = "top-1 accuracy (%)" if number == 5 else f"{100 * line.pruning_ratio:g}%"
        (cell,) = accuracies[
            (accuracies["row"] == setting) & (accuracies["column"] == column)
        ].itertuples()
        assert cell.value == pytest.approx(line.accuracy_mean, abs=1e-6)
        if pd.notna(line.accuracy_std):
            assert cell.deviation == pytest.approx(line.accuracy_std, abs=1e-3)


def test_wangs_benchmark_is_as_printed():
    printed = facts("wang2023_tables.csv")
    printed = printed[printed["table"] == 1]
    cells = content("wang2023.table1").cells
    values = cells.pivot(index="row", columns="column", values="value").astype("float64")
    pairs = set(zip(values["pruned acc. (%)"].round(2), values["speedup"], strict=True))
    assert pairs == set(zip(printed["accuracy_mean"], printed["speedup"], strict=True))


# own rows


def as_own(rows, **values):
    """Published rows, as if they were one's own."""
    ids = {name: "own-" + rows[name] for name in ("stage_id", "parent_id", "baseline_id")}
    return rows.assign(**{"protocol": "", "source": None} | ids | values)


@pytest.fixture(scope="module")
def own():
    """ResNet-56, one-shot: all densities but the lowest, worse by half a point."""
    rows = published_source("renda2020").rows
    kept = (rows["network"] == "resnet56") & (rows["schedule_kind"] != "iterative")
    kept &= rows["prune_rates"].fillna("").isin(["", "resnet56-B"]) & (rows["method"] != "reinit")
    kept &= rows["density"] > 0.12
    # As in a table whose rows all have the same rates
    rows = as_own(rows[kept], variant="", prune_rates=None)
    return Source(rows=rows.assign(test_accuracy=rows["test_accuracy"] - 0.005))


def test_an_overlay_adds_the_published_lines(own):
    alone, both = make("renda2020.fig1", own), make("renda2020.fig1", own, overlay=True)
    assert [panel.title for panel in both.panels] == [panel.title for panel in alone.panels]
    assert [panel.title.split("\n")[1] for panel in alone.panels] == [
        "unstructured, one-shot",
        "filters ResNet-56-B, one-shot",  # told by the densities
    ]
    one, two = as_table(alone), as_table(both)
    told = ["panel", "line", "x", "y"]
    theirs = two[two["published"] == True]  # noqa: E712
    pd.testing.assert_frame_equal(
        two.loc[two["published"] == False, told].reset_index(drop=True),  # noqa: E712
        one.loc[one["kind"] == "line", told].reset_index(drop=True),
    )
    published = panel_of("renda2020.fig1", "ResNet-56", "unstructured")
    published = published[published["kind"] == "line"]
    laid = theirs[theirs["panel"].str.contains("unstructured")]
    assert list(laid["y"]) == list(published["y"])
    assert len(laid) == 3 * 10
    assert (one["panel"].str.contains("unstructured") & (one["kind"] == "line")).sum() == 3 * 9


def test_levels_that_are_close_are_not_mixed():
    """ResNet-110-A's compressions are 0.1% to 1.2% apart."""
    rows = published_source("renda2020").rows
    rows = as_own(rows[rows["prune_rates"].eq("resnet110-A") | rows["level"].eq(0)])
    chart = make("renda2020.fig10", Source(rows=rows), overlay=True)
    assert len({panel.title for panel in chart.panels}) == len(chart.panels) == 5
    for panel in chart.panels:
        ours, theirs = (panel.points[panel.points["published"] == who] for who in (False, True))
        assert len(ours) == 5 * 10
        told = ["line", "x", "y"]
        pd.testing.assert_frame_equal(
            ours[told].reset_index(drop=True), theirs[told].reset_index(drop=True)
        )


def test_filters_of_other_densities_are_not_taken_for_the_papers(own):
    filters = own.rows["structure"] == "filters"
    density = own.rows["density"].mask(filters, own.rows["density"] * 0.95)
    chart = make("renda2020.fig1", Source(rows=own.rows.assign(density=density, prune_rates=None)))
    assert [panel.title.split("\n")[1] for panel in chart.panels] == ["unstructured, one-shot"]
    assert "ResNet-56 on CIFAR-10, filters ResNet-56-B, one-shot" in chart.missing


def test_published_lines_are_paler_dashed_and_hollow(own):
    chart = make("renda2020.fig1", own, overlay=True)
    figure = draw(chart.sheets, bands=False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    lines = [
        handle[0] for handle, label in zip(handles, labels, strict=True) if label in LABELS.values()
    ]
    assert len(lines) == 6
    ours, theirs = lines[:3], lines[3:]
    for mine, published in zip(ours, theirs, strict=True):
        assert mine.get_marker() == published.get_marker()
        assert mine.get_linestyle() == "-"
        assert published.get_linestyle() == "--"
        assert mine.get_markerfacecolor() == mine.get_color()
        assert published.get_markerfacecolor() == "white"
        darker, paler = (np.array(to_rgb(line.get_color())) for line in (mine, published))
        assert (paler >= darker).all() and paler.sum() > darker.sum()
    (legend,) = figure.legends
    assert {"own rows", "published"} <= {text.get_text() for text in legend.get_texts()}


def test_what_is_missing_is_told(own, tmp_path, caplog):
    write_rows(own.rows, str(tmp_path / "rows.parquet"))
    out = tmp_path / "figure.csv"
    figure_command("renda2020.fig1", str(tmp_path / "rows.parquet"), out=str(out))
    (line,) = [text for text in caplog.messages if "don't have" in text]
    for words in ("ResNet-34 on ImageNet, filters ResNet-34-A", "ResNet-50", "GNMT on WMT16 EN-DE"):
        assert words in line
    assert "ResNet-56" not in line
    assert len(pd.read_csv(io.BytesIO(out.read_bytes()))) > 20


def test_a_method_of_ones_own_is_drawn_beside_the_papers(own):
    blend = own.rows[own.rows["method"] == "lr_rewind"].assign(method="blend")
    blend = blend.assign(stage_id="blend-" + blend["stage_id"])
    chart = make("renda2020.fig1", Source(rows=pd.concat([own.rows, blend], ignore_index=True)))
    assert set(chart.panels[0].points["line"]) == {*(LABELS[name] for name in MAIN), "blend"}


def test_rows_without_anything_of_the_figure_are_refused(own):
    with pytest.raises(BadRows, match=r"ResNet-50 on ImageNet, unstructured, iterative.*here are"):
        make("renda2020.fig2", own)
    tuned = Source(rows=own.rows[own.rows["method"].isin(["dense", "finetune"])])
    with pytest.raises(BadRows, match=r"learning-rate rewinding; here are finetune"):
        make("renda2020.fig5", tuned)
    with pytest.raises(BadRows, match="level 0"):
        make("renda2020.table1", Source(rows=own.rows[own.rows["level"] > 0]))


def test_other_networks_make_the_same_figure(own):
    other = Source(rows=own.rows.assign(network="my_net", dataset="my_data"))
    chart = make("renda2020.fig3", other)
    assert {panel.title.split("\n")[0] for panel in chart.panels} == {"my_net · my_data"}
    assert any("ResNet-56 on CIFAR-10" in words for words in chart.missing)


@pytest.mark.parametrize(
    "name",
    [f"renda2020.fig{number}" for number in (2, 3, 6, 10, 12)] + ["mikler2022.fig5"],
)
def test_networks_that_nobody_published_have_nothing_laid_over(name):
    rows = published_source("renda2020").rows
    rows = rows[rows["network"].eq("resnet20") & rows["retrain_epochs"].ne(10)]
    filters = rows[rows["schedule_kind"] == "one-shot"].assign(structure="filters")
    filters = filters.assign(stage_id="filters-" + filters["stage_id"])
    rows = as_own(pd.concat([rows, filters], ignore_index=True), network="my_net")
    chart = make(name, Source(rows=rows.assign(speedup=rows["compression_ratio"])), overlay=True)
    assert (
        all(panel.title.startswith("my_net · CIFAR-10") for panel in chart.panels)
        or chart.panels[0].title == "1.25×"
    )
    assert not any(panel.points["published"].any() for panel in chart.panels)
    assert not any("Published" in words for words in chart.notes)


def test_speedups_over_fine_tuning_need_it(own):
    rows = published_source("renda2020").rows
    kept = rows["network"].isin(["resnet20", "resnet50"]) & (rows["schedule_kind"] == "iterative")
    kept &= (rows["method"] != "finetune") | (rows["network"] == "resnet20")
    chart = make("renda2020.fig12", Source(rows=as_own(rows[kept])))
    assert [panel.title.split(" ")[0] for panel in chart.panels] == ["ResNet-20"]
    assert "ResNet-50 on ImageNet, unstructured, iterative: fine-tuning" in chart.missing
    without = rows[kept & (rows["network"] == "resnet50")]
    with pytest.raises(BadRows, match="fine-tuning"):
        make("renda2020.fig12", Source(rows=as_own(without)))


def test_table_1_takes_rows_of_dense_networks_alone(make_row, make_table):
    accuracies = (0.93, 0.94)
    rows = make_table(
        make_row(method="dense", network="resnet56", seed=seed, test_accuracy=accuracy)
        for seed, accuracy in enumerate(accuracies)
    )
    table = make("renda2020.table1", Source(rows=rows), overlay=True)
    texts = table.cells.set_index(["column", "published"])["text"]
    assert texts["test accuracy (%)", False] == "93.50 ± 0.71"
    assert texts["test accuracy (%)", True] == "93.46 ± 0.21"
    assert set(table.cells["row"]) == {"ResNet-56 · CIFAR-10"}


def test_protocols_are_never_in_one_panel(own):
    other = own.rows.assign(protocol="b", stage_id="b-" + own.rows["stage_id"])
    rows = pd.concat([own.rows.assign(protocol="a"), other], ignore_index=True)
    chart = make("renda2020.fig1", Source(rows=rows))
    assert [panel.title.split("\n")[-1] for panel in chart.panels] == [
        "protocol a",
        "protocol b",
    ] * 2
    for panel in chart.panels:
        assert not panel.points.duplicated(["line", "x"]).any()


def test_own_bars_reach_from_the_lowest_seed_to_the_highest(make_row, make_table):
    accuracies = np.linspace(0.90, 0.91, 11)
    rows = [make_row(method="dense", network="resnet20", test_accuracy=0.92)]
    rows += [
        make_row(network="resnet20", seed=seed, stage_id=f"s{seed}", test_accuracy=accuracy)
        for seed, accuracy in enumerate(accuracies)
    ]
    (panel,) = make("mikler2022.fig1", Source(rows=make_table(rows))).panels
    assert panel.points[["y", "low", "high"]].iloc[0].tolist() == pytest.approx([0.905, 0.90, 0.91])


def wang_as_own():
    """The published cells of Table 4 as three seeds a setting, told as own rows tell it."""
    rows = published_source("wang2023").rows
    rows = rows[rows["source"].str.contains("4") & (rows["level"] > 0)]
    divided = rows["pruned_over_speedup"].fillna(False).astype(bool)
    pruned_at = rows["pruned_at"].mask(divided, rows["pruned_at"] / rows["speedup"]).round()
    scratch = rows["method"] == "scratch_e"
    rows = as_own(
        rows,
        method=rows["method"].mask(scratch, "step"),
        published_setting="",
        retrain_lr=rows["retrain_lr"].mask(scratch, 0.1),
        retrain_drops=scratch.map({True: "30 60 90", False: "30 60"}),
        pruned_at=pruned_at.mask(scratch, 0),
        pruned_over_speedup=False,
    )
    rows["variant"] = variants(rows)
    rows[["trials", "test_accuracy_low", "test_accuracy_high"]] = None
    seeds = [
        rows.assign(
            seed=seed,
            test_accuracy=rows["test_accuracy"] + shift,
            stage_id=rows["stage_id"] + f"-{seed}",
        )
        for seed, shift in enumerate((-0.01, 0, 0.01))
    ]
    return Source(rows=pd.concat(seeds, ignore_index=True))


def test_own_rows_make_wangs_table():
    table = make("wang2023.table4", wang_as_own(), overlay=True)
    assert not table.missing
    both = as_table(table).set_index(["setting", "column"])
    assert len(both) == 72
    assert both["own_deviation"].tolist() == pytest.approx([1.0] * 72)
    assert both["own_n"].tolist() == [3] * 72
    np.testing.assert_allclose(both["own"], both["published"], atol=1e-6)
    lines = as_text(table).splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == ["scratch, step lr"] * 2 + [
        "P15F105, 1e-1"
    ] * 2


@pytest.mark.parametrize(
    ("method", "lr", "pruned_at", "epochs", "setting"),
    [
        ("step", 0.1, 30, 90, "P30F90, 1e-1"),
        ("step", 0.0001, 90, 1515, "P90F30, 1e-4 (+1485 epochs)"),
        ("step", 0.01, 16, 90, "P30/kF90, 1e-2"),
        ("step", 0.1, 0, 120, "scratch, step lr"),
        ("cosine", 0.001, None, 120, "pruned, cosine lr 0.001"),
        ("scratch_b", None, None, 240, "scratch, step lr"),
        ("llr", None, None, 30, "LLR warmup 0"),
    ],
)
def test_settings_are_written_as_in_the_paper(method, lr, pruned_at, epochs, setting):
    assert setting_of(method, lr, pruned_at, epochs, "warmup 0", total=120) == setting


def test_learning_curves_are_medians_of_every_epoch(tmp_path, make_row, make_table):
    ledger = Ledger(str(tmp_path / "storage"))
    rows, accuracies = [], {}
    for seed in range(3):
        dense = dense_stage(digits(), seed)
        tuned = retrain_stage(dense, Prune(fraction=0.9), Retrain(method="finetune", epochs=6))
        for stage in (dense, tuned):
            ledger.write_spec(stage)
            for epoch in range(stage.train_epochs + 1):
                accuracy = 0.5 + epoch / 100 + seed / 1000
                ledger.write_metrics(stage.stage_id, epoch, {"test_accuracy": accuracy})
                accuracies[stage is tuned, seed, epoch] = accuracy
        kin = {"stage_id": tuned.stage_id, "parent_id": dense.stage_id, "seed": seed}
        rows.append(make_row(**kin, baseline_id=dense.stage_id, retrain_epochs=6))
    chart = make("wang2023.curves", Source(rows=make_table(rows), storage=ledger.uri))
    (panel,) = chart.panels
    curve = panel.points.sort_values("x")
    assert set(curve["line"]) == {"fine-tuning"}
    assert list(curve["x"]) == list(range(7))
    expected = [[accuracies[True, seed, epoch] for seed in range(3)] for epoch in range(7)]
    np.testing.assert_allclose(curve["y"], np.median(expected, axis=1))
    np.testing.assert_allclose(curve["low"], np.min(expected, axis=1))
    np.testing.assert_allclose(curve["high"], np.max(expected, axis=1))
    with pytest.raises(BadRows, match="storage root"):
        make("wang2023.curves", Source(rows=make_table(rows)))


# the command


def test_the_csv_holds_what_the_axes_hold(own):
    chart = make("renda2020.fig1", own, overlay=True)
    table = as_table(chart)
    figure = draw(chart.sheets, bands=False)
    drawn = [
        (x, y)
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        if label in LABELS.values()
        for x, y in zip(*handle[0].get_data(), strict=True)
    ]
    lines = table[table["kind"] == "line"]
    assert sorted(drawn) == sorted(zip(lines["x"], lines["y"], strict=True))


def test_a_pdf_has_a_page_for_each_sheet(tmp_path):
    path = tmp_path / "figure.pdf"
    chart = content("renda2020.fig10")
    write_content(replace(chart, sheets=chart.sheets[:3]), str(path))
    assert len(re.findall(rb"/Type /Page\b", path.read_bytes())) == 3


def test_an_unknown_figure_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'renda2020.fig13'.*renda2020.fig1,.*wang2023.curves"):
        figure_command("renda2020.fig13", "published")


def test_published_results_are_not_laid_over_themselves():
    with pytest.raises(ValueError, match="--overlay"):
        figure_command("renda2020.fig1", "published", overlay="published")


def test_the_list_has_a_line_for_each(capsys):
    figure_command(list=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FIGURES)
    assert all(len(line.split()) > 2 for line in lines)


def test_without_a_file_the_numbers_are_printed(capsys):
    figure_command("mikler2022.table5", "published")
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].split() == ["LR", "rewinding", "ResNet-110", "CIFAR-10", "89.3", "93.74"]
    figure_command("renda2020.fig11", "published")
    assert "fairness S1" in capsys.readouterr().out.splitlines()[-1]


# layout


def boxes_of(figure):
    """Text -> its box in pixels, of all that is written."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(130)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [*figure.texts, *figure.legends[0].get_texts()]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            texts += [
                tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high
            ]
    shown = [text for text in texts if text.get_visible() and text.get_text()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in shown]


@pytest.mark.parametrize("name", ["renda2020.fig2", "renda2020.fig3", "renda2020.fig10"])
def test_no_words_overlap_or_leave_the_figure(name):
    chart = content(name)
    size = SIZES.get(max(len(row) for sheet in chart.sheets for row in sheet.rows), SMALL)
    figure = draw(chart.sheets[:1], axes_inches=size, bands=False, note="\n".join(chart.notes))
    boxes = boxes_of(figure)
    assert len(boxes) > 20
    for words, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0, words
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, words
    for (one, a), (two, b) in combinations(boxes, 2):
        assert not a.overlaps(b), (one, two)

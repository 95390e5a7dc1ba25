"""Figures: what the axes hold is what the table says."""

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.draw import drawing, figures, panels
from analysis.draw import looks as line_looks
from analysis.draw.figures import (
    accuracy_against_compression,
    accuracy_against_search_cost,
    frontier,
    line_labels,
)
from analysis.questions.pareto import pareto
from analysis.table.columns import BadRows
from analysis.table.details import keep_what_differs
from analysis.table.points import dense_baselines, points_of

HEADS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture
def drawn(monkeypatch):
    """Keeps the figures instead of writing them."""
    kept = []
    monkeypatch.setattr(figures, "write_figures", lambda drawn, out: kept.extend(drawn))
    return kept


def axes_by_title(figure):
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def lines_of(axes):
    """Label -> x and y of the line; the dense line included."""
    handles, labels = axes.get_legend_handles_labels()
    lines = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
    return {label: line.get_data() for label, line in zip(labels, lines, strict=True)}


@pytest.mark.parametrize("suffix", HEADS)
def test_each_format_is_written_and_the_same_twice(tmp_path, grid, make_table, suffix):
    paths = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
    for path in paths:
        accuracy_against_compression(make_table(grid), str(path))
    one, two = (path.read_bytes() for path in paths)
    assert one.startswith(HEADS[suffix])
    assert one == two


def test_another_format_is_refused(tmp_path, grid, make_table):
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.pdf"):
        accuracy_against_compression(make_table(grid), str(tmp_path / "figure.bmp"))


def test_lines_join_the_medians(drawn, grid, make_table):
    rows = make_table(grid)
    accuracy_against_compression(rows, "figure.png")
    axes = axes_by_title(drawn[0])
    assert sorted(axes) == [
        f"resnet20 · cifar10 · unstructured · {kind}" for kind in ("iterative", "one-shot")
    ]
    lines = lines_of(axes["resnet20 · cifar10 · unstructured · one-shot"])
    assert sorted(lines) == ["dense", "fine-tuning", "weight rewinding"]
    x, y = lines["fine-tuning"]
    longest = rows[(rows["method"] == "finetune") & (rows["retrain_epochs"] == 20)]
    medians = longest.groupby("compression_ratio")["test_accuracy"].median()
    assert list(x) == list(medians.index) == [2, 4, 10]
    assert list(y) == list(medians)
    assert set(lines["dense"][1]) == {0.921}


def test_ticks_are_compressions_that_occur(drawn, grid, make_table):
    accuracy_against_compression(make_table(grid), "figure.png")
    axes = axes_by_title(drawn[0])["resnet20 · cifar10 · unstructured · one-shot"]
    drawn[0].canvas.draw()
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2.00×", "4.00×", "10.0×"]


def test_first_steps_of_chains_alone_make_no_one_shot_panel(drawn, make_row, make_table):
    rows = make_table(
        [
            make_row(stage_id="a", density=0.5, prune_fraction=0.5),
            make_row(stage_id="b", parent_id="a", level=2, density=0.25, prune_fraction=0.5),
        ]
    )
    accuracy_against_compression(rows, "figure.png")
    (axes,) = axes_by_title(drawn[0]).values()
    assert axes.get_title().endswith("iterative")
    assert list(lines_of(axes)["fine-tuning"][0]) == [2, 4]


def test_a_frontier_leaves_dominated_points_off_its_line(drawn, make_row, make_table):
    accuracies = {0.5: 0.93, 0.25: 0.90, 0.2: 0.92, 0.1: 0.91}
    rows = make_table(
        make_row(density=density, test_accuracy=accuracy)
        for density, accuracy in accuracies.items()
    )
    frontier(pareto(rows), dense_baselines(rows), "method", "compression_ratio", "figure.png")
    (axes,) = axes_by_title(drawn[0]).values()
    assert list(lines_of(axes)["fine-tuning"][0]) == [2, 5, 10]
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [list(line.get_xdata()) for line in hollow] == [[4]]


def test_search_costs_stand_side_by_side_by_compression(drawn, grid, make_table):
    accuracy_against_search_cost(make_table(grid), "figure.png")
    titles = [title.split(" · ")[-1] for title in axes_by_title(drawn[0])]
    assert titles == [
        "iterative\n2.00×",
        "iterative\n4.00×",
        "iterative\n8.00×",
        "one-shot\n2.00×",
        "one-shot\n4.00×",
        "one-shot\n10.0×",
    ]


def test_no_two_lines_look_the_same(drawn, make_row, make_table):
    methods = [*line_looks.METHOD_LABELS, "my_own", "another"]
    rows = make_table(make_row(method=method, stage_id=method) for method in methods)
    accuracy_against_compression(rows, "figure.png")
    (axes,) = axes_by_title(drawn[0]).values()
    handles, labels = axes.get_legend_handles_labels()
    lines = [handle[0] for handle, label in zip(handles, labels, strict=True) if label != "dense"]
    assert len(lines) == len(methods)
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}
    in_grey = {(line.get_marker(), str(line._dash_pattern)) for line in lines}
    assert len(looks) == len(in_grey) == len(methods)


@pytest.mark.parametrize("n", [4, 30])
def test_a_few_variants_share_their_methods_colour_and_nothing_else(n):
    labels = [f"{method}, alpha {k}" for method in ("blend", "fine-tuning") for k in range(n)]
    looks = line_looks.looks([pd.DataFrame({"line": labels})])
    for method in ("blend", "fine-tuning"):
        mine = [looks[label] for label in labels if label.startswith(method)]
        assert len({look["color"] for look in mine}) == (1 if n == 4 else len(line_looks.COLOURS))
        assert len({(look["marker"], str(look["linestyle"])) for look in mine}) == n


@pytest.mark.parametrize("share", ["", "row", "all"])
def test_a_long_title_stays_on_the_paper_and_off_its_neighbour(share):
    points = pd.DataFrame({"line": ["fine-tuning"], "x": [2.0], "y": [0.9]})
    points = points.assign(low=0.9, high=0.9)
    panel = panels.Panel(
        title=" ".join(["vgg19 · cifar100 · filters"] * 4),
        points=points,
        x=panels.AXES["compression_ratio"],
        y=panels.accuracy_axis("accuracy"),
    )
    figure = drawing.draw([drawing.Sheet(rows=[[panel] * 3], share=share)])
    canvas = FigureCanvasAgg(figure)
    boxes = [axes.title.get_window_extent(canvas.get_renderer()) for axes in figure.axes]
    assert boxes[0].x0 >= 0 and boxes[-1].x1 <= figure.bbox.x1
    for left, right in pairwise(boxes):
        assert left.x1 < right.x0


def test_many_variants_keep_off_the_colours_of_other_methods():
    many = [f"step decay, P{k}" for k in range(20)]
    looks = line_looks.looks([pd.DataFrame({"line": [*many, "Scratch-E", "cosine decay"]})])
    taken = {looks[label]["color"] for label in ("Scratch-E", "cosine decay")}
    assert taken.isdisjoint(looks[label]["color"] for label in many)


def test_networks_without_search_costs_have_no_empty_panels(drawn, make_row, make_table):
    networks = ("resnet20", "resnet56")
    rows = make_table(make_row(network=name, stage_id=name, density=0.5) for name in networks)
    rows["search_cost_epochs"] = rows["search_cost_epochs"].where(rows["network"] == "resnet20")
    accuracy_against_search_cost(rows, "figure.png")
    assert [axes.get_title().split(" ")[0] for axes in drawn[0].axes] == ["resnet20"]
    with pytest.raises(BadRows):
        accuracy_against_search_cost(rows.assign(search_cost_epochs=None), "figure.png")


def test_search_costs_are_shown_where_several_lines_meet(drawn, make_row, make_table):
    """finetune alone was tried at 20 compressions between the two that both have."""
    alone = [0.5 - 0.01 * step for step in range(1, 20)]
    rows = make_table(
        make_row(method=method, density=density, stage_id=f"{method}{density}")
        for method, densities in (("finetune", [0.5, *alone, 0.1]), ("lr_rewind", [0.5, 0.1]))
        for density in densities
    )
    accuracy_against_search_cost(rows, "figure.png")
    titles = [axes.get_title().rsplit("\n", 1)[1] for axes in drawn[0].axes]
    assert titles == ["2.00×", "10.0×"]


def test_rates_named_after_a_network_make_no_line_for_each_network(make_row, make_table):
    rows = make_table(
        make_row(
            stage_id=f"{network}{rates}",
            network=network,
            structure="filters",
            density=0.5,
            prune_rates=f"{network}-{rates}",
        )
        for network in ("resnet56", "resnet110")
        for rates in "AB"
    )
    labels = line_labels(points_of(keep_what_differs(rows)), "method")
    assert sorted(set(labels)) == ["fine-tuning, rates A", "fine-tuning, rates B"]


def test_several_criteria_and_steps_have_lines_of_their_own(drawn, make_row, make_table):
    chain = {"level": 2, "schedule_kind": "iterative"}
    rows = make_table(
        make_row(stage_id=f"{criterion}{step}", criterion=criterion, prune_fraction=step, **chain)
        for criterion in ("magnitude", "l1_filter")
        for step in (0.2, 0.5)
    )
    accuracy_against_compression(rows, "figure.png")
    (axes,) = axes_by_title(drawn[0]).values()
    assert "fine-tuning, l1 filter, 20 % a step" in lines_of(axes)
    assert len(lines_of(axes)) == 1 + 4


def test_the_band_reaches_over_all_seeds(drawn, grid, make_table):
    rows = make_table(grid)
    accuracy_against_compression(rows, "figure.png")
    axes = axes_by_title(drawn[0])["resnet20 · cifar10 · unstructured · one-shot"]
    longest = rows[(rows["level"] == 1) & (rows["retrain_epochs"] == 20)]
    extremes = longest.groupby(["method", "density"])["test_accuracy"].agg(["min", "max"])
    heights = np.concatenate([band.get_paths()[0].vertices[:, 1] for band in axes.collections])
    for value in extremes.to_numpy().ravel():
        assert np.isclose(heights, value, rtol=0, atol=1e-12).any()


def panel(**values):
    """Of one line that falls by half a point for each doubling of the compression."""
    ratios = 2.0 ** np.arange(1, 9)
    y = -0.005 * np.arange(8)
    points = pd.DataFrame({"line": "fine-tuning", "x": ratios, "y": y, "low": y, "high": y})
    axes = {"x": panels.AXES["compression_ratio"], "y": panels.AXES["accuracy_change"]}
    return panels.Panel(**{"title": "one", "points": points} | axes | values)


def test_a_cut_axis_ends_with_the_last_point_within():
    cut = panel(limits=(-0.011, 0.01))
    (axes,) = drawing.draw([drawing.Sheet(rows=[[cut]])]).axes
    assert axes.get_ylim() == (-0.011, 0.01)
    assert 8 < axes.get_xlim()[1] < 16


def test_an_axis_is_not_cut_where_most_would_be_lost():
    cut = panel(limits=(-0.001, 0.01))
    (axes,) = drawing.draw([drawing.Sheet(rows=[[cut]])]).axes
    assert axes.get_ylim()[0] < -0.035
    assert axes.get_xlim()[1] > 256


def test_a_sheet_of_one_scale_has_it_in_every_panel():
    low = panel(limits=None)
    high = panel(points=low.points.assign(y=low.points["y"] + 0.01, x=low.points["x"] * 2))
    figure = drawing.draw([drawing.Sheet(rows=[[low, high], [high]], share="all")])
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    labelled = [bool(axes.get_xlabel()) for axes in figure.axes]
    assert labelled == [False, True, True]  # nothing stands below these two


def test_the_first_variant_of_a_method_looks_like_it():
    both = panel().points
    lines = pd.concat(
        [
            both.assign(line=f"{method}{step}")
            for method in ("weight rewinding", "learning-rate rewinding")
            for step in ("", ", 20 % a step", ", 30 % a step")[method != "weight rewinding" :]
        ]
    )
    (axes,) = drawing.draw([drawing.Sheet(rows=[[panel(points=lines)]])]).axes
    handles, labels = axes.get_legend_handles_labels()
    colours = {label: handle[0].get_color() for handle, label in zip(handles, labels, strict=True)}
    known = list(line_looks.METHOD_LABELS.values())
    for label, method in (
        ("weight rewinding", "weight rewinding"),
        ("learning-rate rewinding, 20 % a step", "learning-rate rewinding"),
    ):
        assert colours[label] == line_looks.COLOURS[known.index(method)]
    looks = {(handle[0].get_color(), handle[0].get_marker()) for handle in handles}
    assert len(looks) == len(labels) == 5


def test_a_pdf_has_pages(tmp_path):
    drawn = [drawing.draw([drawing.Sheet(rows=[[panel()]])]) for _ in range(2)]
    drawing.write_figures(drawn, str(tmp_path / "figure.pdf"))
    pages = re.findall(rb"/Type /Page\b", (tmp_path / "figure.pdf").read_bytes())
    assert len(pages) == 2


@pytest.mark.parametrize("value", ["-2.50", "100", "resnet56-B"])
def test_a_drawn_table_says_what_is_printed(value):
    text = f"method  change\nblend   {value}"
    figure = drawing.draw_text(text)
    assert [line.get_text() for line in figure.texts] == text.split("\n")


def test_texts_are_as_wide_as_measured():
    figure = Figure(figsize=(6, 1), dpi=300)
    text = figure.text(0, 0, "Carreira-Perpiñán & Idelbayev 2018", fontsize=8)
    width = text.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / 300
    assert width <= drawing.text_width(text.get_text(), 8) <= 1.06 * width

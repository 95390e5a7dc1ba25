"""Fronts and hypervolumes against brute force and areas worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.questions.fronts import OBJECTIVES, hypervolumes, nondominated
from analysis.table.points import PANEL, points_of

VALUE = st.integers(0, 4).map(float) | st.floats(0, 1)  # few values: many ties
NAMES = ["test_accuracy", "compression_ratio", "search_cost_epochs"]


def beats(one, other, maximise):
    gains = [(a - b) * (1 if more else -1) for a, b, more in zip(one, other, maximise, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


@given(
    st.lists(st.tuples(VALUE, VALUE, VALUE, st.sampled_from("ab")), min_size=1, max_size=25),
    st.lists(st.booleans(), min_size=2, max_size=3),
)
def test_nondominated_is_what_brute_force_finds(lines, maximise):
    names = NAMES[: len(maximise)]
    points = pd.DataFrame(lines, columns=[*NAMES, "method"])
    found = nondominated(points, dict(zip(names, maximise, strict=True)), ["method"])
    expected = [
        not any(
            other.method == one.method
            and beats([other[n] for n in names], [one[n] for n in names], maximise)
            for _, other in points.iterrows()
        )
        for _, one in points.iterrows()
    ]
    assert list(found) == expected


def test_a_third_objective_keeps_what_is_cheap():
    points = pd.DataFrame(
        {
            "test_accuracy": [0.93, 0.92, 0.91, 0.90],
            "compression_ratio": [5.0, 10.0, 10.0, 5.0],
            "search_cost_epochs": [100, 100, 20, 200],
        }
    )
    two = {name: OBJECTIVES[name] for name in NAMES[:2]}
    three = {name: OBJECTIVES[name] for name in NAMES}
    assert list(nondominated(points, two, [])) == [True, True, False, False]
    assert list(nondominated(points, three, [])) == [True, True, True, False]


def test_a_point_without_an_objective_does_not_compete():
    points = pd.DataFrame(
        {"test_accuracy": [0.99, 0.9, np.nan], "speedup": [np.nan, 2.0, 9.0], "method": "slr"}
    )
    found = nondominated(points, {"test_accuracy": True, "speedup": True}, ["method"])
    assert list(found) == [False, True, False]


def test_no_points_have_no_front():
    points = pd.DataFrame({"test_accuracy": [], "speedup": []}, dtype=float)
    assert len(nondominated(points, {"test_accuracy": True, "speedup": True}, [])) == 0


# Hypervolume


def area(points, x):
    (line,) = hypervolumes(points, ["method"], x).itertuples()
    return line.hypervolume


def test_the_area_of_a_staircase(make_row, make_table):
    # doublings 1, 2, 3; the dip at 4x lies under the point at 8x
    accuracies = {0.5: 0.9, 0.25: 0.5, 0.125: 0.6}
    rows = make_table(make_row(density=d, test_accuracy=a) for d, a in accuracies.items())
    points = points_of(rows)
    assert area(points, "compression_ratio") == pytest.approx(1 * 0.9 + 2 * 0.6)
    assert area(points, "speedup") == pytest.approx(1 * 0.9 + 2 * 0.6)
    # of the dense FLOPs 1/2, 1/4 and 1/8 remain; saved of the highest, 1/2: 0, 1/2, 3/4
    assert area(points, "flops_remaining") == pytest.approx(0.6 * 0.75, abs=1e-3)


@given(st.lists(st.tuples(st.floats(1, 64), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_hypervolume_is_the_integral_of_the_best_accuracy(pairs):
    points = pd.DataFrame(pairs, columns=["compression_ratio", "test_accuracy"])
    points[[*PANEL, "method"]] = "same"
    edges = np.unique([0.0, *np.log2(points["compression_ratio"])])
    heights = [
        points.loc[np.log2(points["compression_ratio"]) >= edge, "test_accuracy"].max()
        for edge in edges[1:]
    ]
    expected = float(np.sum(np.diff(edges) * heights))
    assert area(points, "compression_ratio") == pytest.approx(expected, abs=1e-12)


def test_costs_are_shares_of_each_panels_highest(make_row, make_table):
    rows = make_table(
        make_row(
            stage_id=f"{network}{epochs}",
            network=network,
            retrain_epochs=epochs,
            search_cost_epochs=scale * epochs,
            test_accuracy=0.9 if epochs == 40 else 0.8,
        )
        for network, scale in (("resnet20", 1), ("resnet56", 7))
        for epochs in (10, 40)
    )
    found = hypervolumes(points_of(rows), ["method"], "search_cost_epochs")
    assert list(found["hypervolume"]) == pytest.approx([0.8 * 0.75] * 2)


def test_methods_and_seeds_have_areas_of_their_own(grid, make_table):
    rows = make_table(grid)
    pruned = rows[(rows["level"] == 1) & (rows["retrain_epochs"] == 20)]
    found = hypervolumes(pruned, ["method", "seed"])
    assert len(found) == 2 * 3
    steps = np.log2([2, 4, 10])
    for line in found.itertuples():
        gain = 0.01 if line.method == "weight_rewind" else 0
        best = [0.86 + gain + 0.08 * d + 20 / 4000 + line.seed / 500 for d in (0.5, 0.25, 0.1)]
        assert line.hypervolume == pytest.approx(np.sum(np.diff([0, *steps]) * best))

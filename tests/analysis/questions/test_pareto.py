"""The frontier against brute force, and against tables worked out by hand."""

import numpy as np
import pytest

from analysis.questions.fronts import OBJECTIVES
from analysis.questions.pareto import AGAINST, BY, pareto
from analysis.table.columns import BadRows


def brute_force(x, accuracy, more_is_better):
    """By the definition: nothing else is as good in both and better in one."""
    gain = x if more_is_better else [-value for value in x]
    pairs = list(zip(gain, accuracy, strict=True))
    return [not any(a >= x and b >= y and (a > x or b > y) for a, b in pairs) for x, y in pairs]


def kept(points, name):
    return sorted(points.loc[points["nondominated"], name])


def test_a_curve_that_dips_loses_the_dip(make_row, make_table):
    accuracies = {0.5: 0.93, 0.25: 0.90, 0.2: 0.92, 0.1: 0.91}
    rows = make_table(
        make_row(density=density, test_accuracy=accuracy)
        for density, accuracy in accuracies.items()
    )
    assert kept(pareto(rows), "density") == [0.1, 0.2, 0.5]


def test_methods_compete_only_where_asked(make_row, make_table):
    rows = make_table(
        make_row(method=method, density=density, test_accuracy=accuracy)
        for method, density, accuracy in [
            ("finetune", 0.5, 0.90),
            ("finetune", 0.1, 0.80),
            ("lr_rewind", 0.5, 0.91),
            ("lr_rewind", 0.1, 0.85),
        ]
    )
    assert kept(pareto(rows), "method") == ["finetune"] * 2 + ["lr_rewind"] * 2
    assert kept(pareto(rows, by="criterion"), "method") == ["lr_rewind"] * 2
    assert kept(pareto(rows, by="density"), "method") == ["lr_rewind"] * 2


@pytest.mark.parametrize("column", ["network", "dataset", "structure", "schedule_kind"])
def test_panels_never_compete(make_row, make_table, column):
    rows = make_table(
        [
            make_row(stage_id="a", density=0.1, test_accuracy=0.9),
            make_row(stage_id="b", density=0.2, test_accuracy=0.8, **{column: "other"}),
        ]
    )
    for by in BY:
        assert pareto(rows, by=by)["nondominated"].all()


def test_search_cost_weighs_all_retraining_times(make_row, make_table):
    accuracies = {10: 0.90, 20: 0.89, 40: 0.92}
    rows = make_table(
        make_row(retrain_epochs=epochs, test_accuracy=accuracy, val_accuracy=accuracy)
        for epochs, accuracy in accuracies.items()
    )
    assert kept(
        pareto(rows, objectives=("search_cost_epochs", "test_accuracy")), "retrain_epochs"
    ) == [10, 40]
    assert list(pareto(rows)["retrain_epochs"]) == [40]
    assert list(pareto(rows, by="retrain_epochs")["retrain_epochs"]) == [10, 20, 40]


@pytest.mark.parametrize("x", AGAINST)
def test_every_frontier_of_the_grid_is_brute_forces(grid, make_table, x):
    points = pareto(make_table(grid), objectives=(x, "test_accuracy"))
    for _, group in points.groupby(["schedule_kind", "method"]):
        expected = brute_force(list(group[x]), list(group["test_accuracy"]), OBJECTIVES[x])
        assert list(group["nondominated"]) == expected


def test_points_without_a_value_are_left_out_and_told(make_row, make_table, caplog):
    rows = make_table([make_row(stage_id="a", density=0.1), make_row(stage_id="b", density=0.2)])
    rows.loc[0, "speedup"] = np.nan
    assert list(pareto(rows, objectives=("speedup", "test_accuracy"))["density"]) == [0.2]
    assert "1 of 2 points have no speedup or test_accuracy" in caplog.text


def test_nothing_to_weigh(make_row, make_table):
    with pytest.raises(BadRows, match="no pruned row has compression_ratio and test_accuracy"):
        pareto(make_table([make_row(status="diverged")]))


def test_unknown_choices_list_the_known(grid, make_table):
    with pytest.raises(ValueError, match=r"unknown --by 'mehtod'; known: network, .*method"):
        pareto(make_table(grid), by="mehtod")
    with pytest.raises(ValueError, match="unknown --objectives 'sparsity'; known: test_accuracy"):
        pareto(make_table(grid), objectives=("sparsity", "test_accuracy"))


@pytest.mark.parametrize("objectives", [(), ("speedup",), ("speedup", "speedup")])
def test_objectives_are_two_or_three_different_ones(make_row, make_table, objectives):
    with pytest.raises(ValueError, match="give two or three different ones"):
        pareto(make_table([make_row()]), objectives=objectives)


def test_three_objectives_against_brute_force(make_row, make_table):
    rng = np.random.default_rng(3)
    rows = make_table(
        make_row(
            density=density,
            prune_fraction=1 - density,
            retrain_epochs=epochs,
            test_accuracy=round(rng.uniform(0.8, 0.9), 2),
            search_cost_epochs=epochs,
        )
        for density in (0.5, 0.4, 0.3, 0.2, 0.1)
        for epochs in (10, 20, 30, 40)
    )
    names = ("test_accuracy", "compression_ratio", "search_cost_epochs")
    points = pareto(rows, objectives=names)
    values = points[list(names)].to_numpy() * [1, 1, -1]
    expected = [
        not any((other >= one).all() and (other > one).any() for other in values) for one in values
    ]
    assert list(points["nondominated"]) == expected and 0 < sum(expected) < len(expected)


def test_all_settings_compete_where_asked(make_row, make_table):
    rows = make_table(
        make_row(retrain_epochs=epochs, val_accuracy=val, test_accuracy=test)
        for epochs, val, test in [(10, 0.9, 0.91), (20, 0.91, 0.9)]
    )
    assert kept(pareto(rows), "retrain_epochs") == [20]
    assert kept(pareto(rows, all_settings=True), "retrain_epochs") == [10]

"""Attainment curves against their definition, and trials against the points made of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.questions.attainment import CURVES, attained, attainment, trials_of
from analysis.table.columns import BadRows
from analysis.table.points import POINT, choose_retrain_epochs, points_of

COARSE = st.integers(0, 4).map(float)
LINE = st.tuples(COARSE | st.floats(0, 1), COARSE | st.floats(0, 1), st.integers(0, 10))


def at_least_as_good(x, y, more_is_better):
    return x >= y if more_is_better else x <= y


def attains(points, goal, more_is_better):
    """Some point is at least as good as the goal in both."""
    return any(
        at_least_as_good(x, goal[0], more_is_better) and accuracy >= goal[1]
        for x, accuracy in points
    )


@given(st.lists(LINE, min_size=1, max_size=25), st.booleans())
def test_a_curve_bounds_what_that_many_seeds_attain(lines, more_is_better):
    values = np.array([line[:2] for line in lines])
    seeds = np.array([line[2] for line in lines])
    curves = attained(values, seeds, more_is_better=more_is_better)
    by_seed = [values[seeds == seed] for seed in np.unique(seeds)]
    n = len(by_seed)
    goals = [(x, accuracy) for x in np.unique(values[:, 0]) for accuracy in np.unique(values[:, 1])]
    for curve, needed in zip(CURVES, (1, -(-n // 2), n), strict=True):
        corners = curves[curves["curve"] == curve]
        assert set(corners["attained_by"]) <= {needed} and set(corners["n_seeds"]) <= {n}
        pairs = corners[["x", "test_accuracy"]].to_numpy()
        for goal in goals:
            count = sum(attains(points, goal, more_is_better) for points in by_seed)
            assert attains(pairs, goal, more_is_better) == (count >= needed)
        for corner in pairs:  # and none is there for nothing
            others = [pair for pair in pairs if (pair != corner).any()]
            assert not attains(others, corner, more_is_better)


def test_three_seeds_by_hand(make_row, make_table):
    accuracies = {0.5: [0.94, 0.93, 0.92], 0.25: [0.90, 0.92, 0.91]}
    rows = make_table(
        make_row(density=density, seed=seed, test_accuracy=accuracy)
        for density, of_seeds in accuracies.items()
        for seed, accuracy in enumerate(of_seeds)
    )
    corners = attainment(rows)
    found = {
        curve: list(
            zip(part["compression_ratio"], part["test_accuracy"], part["attained_by"], strict=True)
        )
        for curve, part in corners.groupby("curve")
    }
    assert found == {
        "best": [(2, 0.94, 1), (4, 0.92, 1)],
        "median": [(2, 0.93, 2), (4, 0.91, 2)],
        "worst": [(2, 0.92, 3), (4, 0.90, 3)],
    }
    assert set(corners["n_seeds"]) == {3} and set(corners["method"]) == {"finetune"}


def test_curves_are_in_order_of_x_and_of_each_method(grid, make_table):
    corners = attainment(make_table(grid), x="search_cost_epochs")
    groups = corners.groupby(["schedule_kind", "method", "curve"])
    assert len(groups) == 3 * 3
    for _, part in groups:
        assert part["search_cost_epochs"].is_monotonic_increasing
        assert part["test_accuracy"].is_monotonic_increasing  # cheaper only at a price


def test_a_seed_that_diverged_everywhere_is_no_seed(make_row, make_table):
    rows = make_table(
        [
            make_row(seed=0, test_accuracy=0.9),
            make_row(seed=1, test_accuracy=0.8),
            make_row(seed=2, test_accuracy=0.1, status="diverged"),
        ]
    )
    corners = attainment(rows)
    assert set(corners["n_seeds"]) == {2}
    assert list(corners["test_accuracy"]) == [0.9, 0.9, 0.8]


def test_nothing_to_attain(make_row, make_table):
    with pytest.raises(BadRows, match="no row of a single trial has both"):
        attainment(make_table([make_row(status="diverged")]))


def test_unknown_choices_list_the_known(grid, make_table):
    with pytest.raises(ValueError, match=r"unknown by 'mehtod'; known: network, .*method"):
        attainment(make_table(grid), by="mehtod")
    with pytest.raises(ValueError, match="unknown x 'sparsity'; known: compression_ratio"):
        attainment(make_table(grid), x="sparsity")


# Trials


@pytest.mark.parametrize("chosen", [True, False])
def test_points_are_the_medians_of_their_trials(grid, make_table, chosen):
    rows = make_table(grid)
    points = points_of(rows)
    if chosen:
        points = choose_retrain_epochs(points)
    trials = trials_of(rows, chosen=chosen)
    medians = trials.groupby(POINT, dropna=False)["test_accuracy"].agg(["median", "size"])
    found = points.set_index(POINT)
    assert len(trials) == 3 * len(points)
    assert (medians["size"] == 3).all()
    aligned = medians["median"].reindex(found.index)
    np.testing.assert_array_equal(aligned, found["test_accuracy"])


def test_trials_that_diverged_stay_without_a_measure(make_row, make_table):
    rows = make_table([make_row(seed=0), make_row(seed=1, status="diverged")])
    trials = trials_of(rows, chosen=True)
    assert list(trials["test_accuracy"].isna()) == [False, True]


def test_rows_that_sum_up_trials_are_left_out_and_told(make_row, make_table, caplog):
    rows = make_table([make_row(seed=0), make_row(seed=1, density=0.2)])
    rows["trials"] = [None, 12]
    assert list(trials_of(rows, chosen=True)["density"]) == [0.1]
    assert "1 rows" in caplog.text


def test_a_published_row_that_names_no_number_of_trials_is_no_trial(make_row, make_table):
    rows = make_table([make_row(seed=0), make_row(seed=1, density=0.2)])
    rows["source"] = [None, "a paper, table 5"]
    assert list(trials_of(rows, chosen=True)["density"]) == [0.1]
    rows["trials"] = [None, 1]
    assert len(trials_of(rows, chosen=True)) == 2


def test_densities_of_one_level_are_one_point(make_row, make_table):
    rows = make_table(
        make_row(seed=seed, stage_id=f"s{seed}", density=density, prune_fraction=0.7)
        for seed, density in enumerate([0.3000, 0.3010, 0.2998])
    )
    assert set(trials_of(rows, chosen=True)["density"]) == {0.3000}

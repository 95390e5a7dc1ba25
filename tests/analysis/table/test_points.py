"""Points against numpy, and against a table worked out by hand."""

import numpy as np
import pytest

from analysis.table.columns import BadRows
from analysis.table.points import (
    choose_retrain_epochs,
    dense_baselines,
    density_levels,
    points_of,
)


def test_medians_and_spread_are_numpys(grid, make_table):
    rows = make_table(grid)
    points = points_of(rows)
    one_shot = rows[rows["level"] == 1]
    picked = points[(points["schedule_kind"] == "one-shot")]
    assert len(picked) == 2 * 3 * 2  # methods, densities, retraining times
    for point in picked.itertuples():
        same = one_shot[
            (one_shot["method"] == point.method)
            & (one_shot["density"] == point.density)
            & (one_shot["retrain_epochs"] == point.retrain_epochs)
        ]
        change = same["test_accuracy"] - same["baseline_test_accuracy"]
        assert point.n_seeds == 3
        assert point.test_accuracy == np.median(same["test_accuracy"])
        assert point.test_accuracy_min == np.min(same["test_accuracy"])
        assert point.test_accuracy_max == np.max(same["test_accuracy"])
        assert point.val_accuracy == np.median(same["val_accuracy"])
        assert point.accuracy_change == np.median(change)
        assert point.compression_ratio == np.median(same["compression_ratio"])
        assert point.search_cost_flops == np.median(same["search_cost_flops"])


def test_an_iterative_curve_starts_at_its_shared_first_level(grid, make_table):
    points = points_of(make_table(grid))
    iterative = points[points["schedule_kind"] == "iterative"]
    assert list(iterative.sort_values("level")["density"]) == [0.5, 0.25, 0.125]
    assert iterative["prune_fraction"].nunique() == 1


def test_change_is_paired_by_seed(make_row, make_table):
    # seed by seed: -0.10, -0.02, -0.03; the medians by themselves: 0.90 and 0.95
    accuracies = {0: (0.85, 0.95), 1: (0.94, 0.96), 2: (0.90, 0.93)}
    rows = [
        make_row(seed=seed, test_accuracy=pruned, baseline_test_accuracy=dense)
        for seed, (pruned, dense) in accuracies.items()
    ]
    (point,) = points_of(make_table(rows)).itertuples()
    assert point.accuracy_change == pytest.approx(-0.03)
    assert point.test_accuracy - point.baseline_test_accuracy == pytest.approx(-0.05)


def test_diverged_rows_are_counted_but_not_in_the_median(make_row, make_table):
    accuracies = [0.90, 0.80, 0.70, 0.10]
    rows = [make_row(seed=seed, test_accuracy=value) for seed, value in enumerate(accuracies[:3])]
    rows.append(make_row(seed=3, test_accuracy=0.10, status="diverged"))
    rows.append(make_row(seed=4, test_accuracy=None, status="diverged"))
    (point,) = points_of(make_table(rows)).itertuples()
    assert (point.test_accuracy, point.test_accuracy_min) == (0.80, 0.70)
    assert (point.n_seeds, point.n_diverged) == (3, 2)


def test_a_point_whose_every_seed_diverged_stays_without_accuracy(make_row, make_table):
    (point,) = points_of(make_table([make_row(status="diverged")])).itertuples()
    assert np.isnan(point.test_accuracy)
    assert (point.n_seeds, point.n_diverged, point.compression_ratio) == (0, 1, 10.0)


@pytest.mark.parametrize(
    ("densities", "sizes"),
    [
        ([0.107370, 0.107374], [2]),  # 0.004 % apart
        ([0.9574, 0.9562], [1, 1]),  # the rates of two powers of Li et al. on ResNet-110
        ([0.30000, 0.30010, 0.30020, 0.30030], [2, 2]),  # no creeping: 0.1 % from end to end
    ],
)
def test_densities_that_differ_in_the_fifth_digit_are_one_level(
    make_row, make_table, densities, sizes
):
    rows = [
        make_row(seed=seed, stage_id=f"s{seed}", density=density, prune_fraction=None)
        for seed, density in enumerate(densities)
    ]
    assert sorted(points_of(make_table(rows))["n_seeds"], reverse=True) == sizes


def test_what_a_fraction_came_to_is_one_level(make_row, make_table):
    # filters weigh differently: 2 % apart, told to prune the same
    densities = [0.300, 0.303, 0.306]
    rows = [
        make_row(seed=seed, stage_id=f"s{seed}", density=density, prune_fraction=0.7)
        for seed, density in enumerate(densities)
    ]
    (point,) = points_of(make_table(rows)).itertuples()
    assert (point.n_seeds, point.density) == (3, 0.303)


def test_levels_are_told_apart_within_each_group_only(make_row, make_table):
    rows = make_table(
        make_row(stage_id=f"{method}{density}", method=method, density=density, prune_fraction=0.7)
        for method, density in [("finetune", 0.300), ("lr_rewind", 0.301), ("finetune", 0.301)]
    )
    assert list(density_levels(rows, ["method"])) == pytest.approx([0.3005, 0.301, 0.3005])


@pytest.mark.parametrize(
    "column", ["network", "dataset", "structure", "criterion", "method", "schedule_kind"]
)
def test_what_differs_is_never_pooled(make_row, make_table, column):
    rows = [make_row(stage_id="a"), make_row(stage_id="b", seed=1, **{column: "other"})]
    assert len(points_of(make_table(rows))) == 2


def test_several_rows_of_one_seed_are_refused(make_row, make_table):
    with pytest.raises(BadRows, match=r"1 points hold several rows of one seed, as stages a and b"):
        points_of(make_table([make_row(stage_id="a"), make_row(stage_id="b")]))


@pytest.mark.parametrize("detail", ["protocol", "variant"])
def test_details_keep_rows_of_one_seed_apart(make_row, make_table, detail):
    rows = make_table([make_row(stage_id="a"), make_row(stage_id="b")])
    rows[detail] = ["one", "other"]
    assert list(points_of(rows)["n_seeds"]) == [1, 1]


def test_a_published_row_counts_as_the_trials_it_sums_up(make_row, make_table):
    rows = make_table([make_row(test_accuracy=0.9)])
    rows["trials"], rows["test_accuracy_low"], rows["test_accuracy_high"] = 12, 0.88, 0.91
    (point,) = points_of(rows).itertuples()
    assert (point.n_seeds, point.test_accuracy_min, point.test_accuracy_max) == (12, 0.88, 0.91)


def test_baselines_alone_make_no_point(make_row, make_table):
    with pytest.raises(BadRows, match="no pruned network among these 1 rows"):
        points_of(make_table([make_row(method="dense")]))


# choosing the retraining time


def rivals(make_row, make_table, accuracies):
    """One seed, one row a retraining time: {epochs: (validation, test)}."""
    return points_of(
        make_table(
            make_row(retrain_epochs=epochs, val_accuracy=validation, test_accuracy=test)
            for epochs, (validation, test) in accuracies.items()
        )
    )


def test_validation_chooses_and_test_is_reported(make_row, make_table):
    points = rivals(make_row, make_table, {10: (0.80, 0.99), 20: (0.90, 0.70), 30: (0.85, 0.95)})
    (chosen,) = choose_retrain_epochs(points).itertuples()
    assert (chosen.retrain_epochs, chosen.test_accuracy) == (20, 0.70)
    assert chosen.chosen_by == "val_accuracy"


def test_of_equals_the_shortest(make_row, make_table):
    points = rivals(make_row, make_table, {30: (0.9, 0.8), 10: (0.9, 0.7), 20: (0.9, 0.9)})
    assert list(choose_retrain_epochs(points)["retrain_epochs"]) == [10]


def test_without_validation_the_test_set_chooses_and_that_is_told(make_row, make_table, caplog):
    points = rivals(make_row, make_table, {10: (None, 0.8), 20: (0.9, 0.7)})
    (chosen,) = choose_retrain_epochs(points).itertuples()
    assert (chosen.retrain_epochs, chosen.chosen_by) == (10, "test_accuracy")
    assert "chosen by test accuracy" in caplog.text


def test_no_choice_needs_no_judge(make_row, make_table, caplog):
    chosen = choose_retrain_epochs(rivals(make_row, make_table, {10: (None, 0.8)}))
    assert chosen["chosen_by"].isna().all()
    assert not caplog.text


def test_each_method_and_compression_chooses_for_itself(grid, make_table):
    chosen = choose_retrain_epochs(points_of(make_table(grid)))
    one_shot = chosen[chosen["schedule_kind"] == "one-shot"]
    assert len(one_shot) == 2 * 3
    assert set(one_shot["retrain_epochs"]) == {20}  # longer is better in this grid


def test_a_retraining_time_that_diverged_is_not_chosen(make_row, make_table):
    rows = [
        make_row(retrain_epochs=10, val_accuracy=0.8),
        make_row(retrain_epochs=20, val_accuracy=0.9, status="diverged"),
    ]
    assert list(choose_retrain_epochs(points_of(make_table(rows)))["retrain_epochs"]) == [10]


# dense networks


def test_each_dense_network_counts_once(grid, make_table):
    dense = dense_baselines(make_table(grid))
    assert list(dense["schedule_kind"]) == ["iterative", "one-shot"]
    for line in dense.itertuples():
        assert (line.test_accuracy_min, line.test_accuracy, line.test_accuracy_max) == (
            0.92,
            0.921,
            0.922,
        )
        assert line.n_seeds == 3

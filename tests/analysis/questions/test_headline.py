"""Headline numbers against loops over the rows, and by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.questions.headline import (
    costs_at_headlines,
    headlines,
    outperforming,
    safe_zone,
)
from analysis.table.points import choose_retrain_epochs, points_of
from tests.analysis.conftest import row, table

LEVELS = (0.5, 0.2, 0.1, 0.05)
TIMES = (10, 20, 30, 40)  # of the 40 epochs of the dense network


def rows_of(accuracy):
    """accuracy: (method, density, t, seed) -> test accuracy; the same is its validation's."""
    dense = [row(method="dense", seed=seed, test_accuracy=0.92) for seed in range(3)]
    pruned = [
        row(
            method=method,
            density=density,
            retrain_epochs=t,
            seed=seed,
            stage_id=f"{method}-{density}-{t}-{seed}",
            val_accuracy=accuracy(method, density, t, seed),
            test_accuracy=accuracy(method, density, t, seed),
            prune_fraction=1 - density,
        )
        for method in ("finetune", "weight_rewind", "lr_rewind")
        for density in LEVELS
        for t in TIMES
        for seed in range(3)
    ]
    return table([*dense, *pruned])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), drop=st.sampled_from([0.0, 0.0005, 0.01, 0.03]))
def test_the_highest_compression_is_the_one_a_loop_finds(seed, drop):
    rng = np.random.default_rng(seed)
    rows = rows_of(lambda *_: round(float(rng.uniform(0.86, 0.94)), 4))
    points = points_of(rows)
    found = headlines(rows, (drop,)).set_index("method")
    chosen = choose_retrain_epochs(points)
    for method in ("finetune", "weight_rewind", "lr_rewind"):
        kept = [
            point.compression_ratio
            for point in chosen.itertuples()
            if point.method == method and point.accuracy_change >= -drop
        ]
        if not kept:
            assert np.isnan(found.loc[method, "compression_ratio"])
            continue
        assert found.loc[method, "compression_ratio"] == max(kept)
        failures = sum(
            point.accuracy_change < -drop and point.compression_ratio < max(kept)
            for point in chosen.itertuples()
            if point.method == method
        )
        assert found.loc[method, "n_lower_failures"] == failures


def test_a_drop_below_what_papers_print_is_none():
    rows = rows_of(lambda method, density, t, seed: 0.92 - (0.0004 if density > 0.1 else 0.0006))
    lines = headlines(rows, (0.0005, 0.01)).set_index(["method", "max_drop"])
    assert lines.loc[("finetune", 0.0005), "compression_ratio"] == 5
    assert lines.loc[("finetune", 0.01), "compression_ratio"] == 20


def test_speedup_over_finetune_is_at_the_same_compression(make_row, make_table):
    rows = [
        make_row(method=method, level=2, density=0.25, prune_fraction=0.5, speedup=speedup)
        for method, speedup in [("finetune", 2.0), ("lr_rewind", 3.0)]
    ]
    lines = headlines(make_table(rows), (0.5,)).set_index("method")
    assert lines["speedup_over_finetune"].to_dict() == {"finetune": 1.0, "lr_rewind": 1.5}


def test_costs_are_those_at_the_highest_compression_any_method_reaches_at_any_time():
    def accuracy(method, density, t, seed):
        only = (method, density, t) == ("weight_rewind", 0.1, 20)
        return 0.92 if only or density > 0.2 else 0.915 if density > 0.05 else 0.5

    points = costs_at_headlines(points_of(rows_of(accuracy)), (0.0005, 0.01))
    assert set(points.loc[points["max_drop"] == 0.0005, "density"]) == {0.1}
    assert len(points) == 2 * 3 * len(TIMES)  # all methods and times at 10x, for both drops


# the safe zone


def lead(method, t, wins):
    return 0.91 if method == "finetune" or t not in wins[method] else 0.92


@pytest.mark.parametrize(
    ("weight", "rate", "zone"),
    [
        (TIMES, TIMES, (0.25, 1.0)),
        ((10, 20, 30), (20, 30, 40), (0.5, 0.75)),
        ((20, 40), TIMES, (0.5, 0.5)),  # two runs of one time each: the first
        ((10,), (40,), None),
        ((), TIMES, None),
    ],
)
def test_the_zone_is_where_both_lead(weight, rate, zone):
    wins = {"weight_rewind": weight, "lr_rewind": rate}
    rows = rows_of(lambda method, density, t, seed: lead(method, t, wins))
    at_headlines = costs_at_headlines(points_of(rows), (0.01,))
    assert safe_zone(outperforming(at_headlines)) == zone


def test_the_zone_is_what_networks_have_in_common():
    wide = {"weight_rewind": (10, 20, 30), "lr_rewind": TIMES}
    narrow = {"weight_rewind": (20, 30, 40), "lr_rewind": TIMES}
    one = rows_of(lambda method, density, t, seed: lead(method, t, wide))
    other = rows_of(lambda method, density, t, seed: lead(method, t, narrow))
    renamed = other.assign(
        network="resnet56",
        stage_id="x" + other["stage_id"],
        baseline_id="x" + other["baseline_id"],
        parent_id="x" + other["parent_id"],
    )
    rows = pd.concat([one, renamed], ignore_index=True)
    at_headlines = costs_at_headlines(points_of(rows), (0.01,))
    assert safe_zone(outperforming(at_headlines)) == (0.5, 0.75)


def test_without_finetuning_there_is_no_zone_to_tell(make_row, make_table):
    rows = make_table([make_row(method="dense"), make_row(method="lr_rewind")])
    leads = outperforming(costs_at_headlines(points_of(rows), (0.5,)))
    assert leads.empty and safe_zone(leads) is None


# Where the grid ends, and what single seeds reach


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), drop=st.sampled_from([0.0, 0.01, 0.03]))
def test_grid_ends_and_single_seeds_are_those_a_loop_finds(seed, drop):
    rng = np.random.default_rng(seed)
    rows = rows_of(lambda *_: round(float(rng.uniform(0.86, 0.94)), 4))
    found = headlines(rows, (drop,)).set_index("method")
    chosen = choose_retrain_epochs(points_of(rows))
    for method, line in found.iterrows():
        times = {
            round(point.density, 6): point.retrain_epochs
            for point in chosen.itertuples()
            if point.method == method
        }
        reached = []
        for number in range(3):
            mine = rows[(rows["method"] == method) & (rows["seed"] == number)]
            kept = [
                each.compression_ratio
                for each in mine.itertuples()
                if each.retrain_epochs == times[round(each.density, 6)]
                and each.test_accuracy - each.baseline_test_accuracy >= -drop
            ]
            reached.append(max(kept, default=None))
        some = [ratio for ratio in reached if ratio is not None]
        assert line["n_seeds_none"] == 3 - len(some)
        if some:
            assert line["highest_seed"] == pytest.approx(max(some))
            assert line["highest_seed_at_least"] == (max(some) == pytest.approx(20))
        if len(some) == 3:
            assert line["lowest_seed"] == pytest.approx(min(some))
        else:
            assert np.isnan(line["lowest_seed"])
        assert bool(line["at_least"]) == (line["compression_ratio"] == pytest.approx(20))


def test_a_compression_at_which_all_diverged_was_tried():
    rows = rows_of(lambda *_: 0.92)
    pruned_most = rows["density"] == 0.05
    rows.loc[pruned_most, "status"] = "diverged"
    lines = headlines(rows, (0.0005,))
    assert lines["compression_ratio"].tolist() == [10.0] * 3
    assert not lines["at_least"].any()


def test_metrics_are_never_averaged():
    rows = rows_of(lambda *_: 0.92)
    other = rows.assign(
        metric="bleu",
        test_accuracy=rows["test_accuracy"] / 2,
        baseline_test_accuracy=rows["baseline_test_accuracy"] / 2,
        **{name: "b" + rows[name] for name in ("stage_id", "parent_id", "baseline_id")},
    )
    both = pd.concat([rows, other], ignore_index=True)
    points = points_of(both)
    assert points.groupby("metric")["test_accuracy"].agg(["min", "max"]).to_numpy().tolist() == [
        [0.92, 0.92],
        [0.46, 0.46],
    ]
    assert headlines(both, (0.01,)).groupby("metric").size().tolist() == [3, 3]

"""Claims on rows whose truth is known; false alarms are in test_false_alarms.py."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.questions.claims import judge
from analysis.table.columns import BadRows
from analysis.table.details import keep_what_differs
from tests.analysis.conftest import row, table

LEVELS = (0.5, 0.2, 0.1, 0.05)


def rows_of(means, deviation=0.002, seeds=3, draw=0):
    """One retraining time, all of T; means: method -> mean accuracy."""
    rng = np.random.default_rng(draw)
    dense = [row(method="dense", seed=seed) for seed in range(seeds)]
    pruned = [
        row(
            method=method,
            density=density,
            seed=seed,
            retrain_epochs=40,
            prune_fraction=1 - density,
            test_accuracy=mean + rng.normal(0, deviation),
            val_accuracy=0.9,
        )
        for method, mean in means.items()
        for density in LEVELS
        for seed in range(seeds)
    ]
    return table([*dense, *pruned])


def verdict_of(rows, claim, method=None):
    scenarios, _ = judge(rows)
    picked = scenarios[scenarios["claim"] == claim]
    if method:
        picked = picked[picked["method"] == method]
    (verdict,) = set(picked["verdict"])
    return verdict


@pytest.mark.parametrize(
    ("finetune", "verdict"), [(0.88, "supported"), (0.92, "contradicted"), (0.9, "equivalent")]
)
def test_finetuning_against_rewinding(finetune, verdict):
    rows = rows_of({"finetune": finetune, "weight_rewind": 0.9})
    assert verdict_of(rows, "finetune_is_worse") == verdict


@pytest.mark.parametrize(
    ("lr_rewind", "deviation", "verdict"),
    [
        (0.92, 0.002, "supported"),
        (0.9, 0.002, "equivalent"),
        (0.87, 0.002, "contradicted"),
        (0.9, 0.03, "not decided"),  # too much noise to say "not worse by 0.5 points"
    ],
)
def test_at_least_as_good(lr_rewind, deviation, verdict):
    found = [
        verdict_of(
            rows_of({"lr_rewind": lr_rewind, "weight_rewind": 0.9}, deviation, seeds=5, draw=draw),
            "lr_rewind_at_least_as_good",
        )
        for draw in range(5)
    ]
    assert found.count(verdict) >= 4  # chance may have one of five


def test_at_least_as_good_and_its_reverse_are_not_both_supported():
    for gain in (0.0, 0.002, -0.002):
        verdicts = [
            verdict_of(
                rows_of({"lr_rewind": 0.9 + sign * gain, "weight_rewind": 0.9}, 0.0005, seeds=5),
                "lr_rewind_at_least_as_good",
            )
            for sign in (1, -1)
        ]
        assert verdicts == ["equivalent", "equivalent"]


def test_the_margin_decides_what_is_equivalent():
    rows = rows_of({"lr_rewind": 0.898, "weight_rewind": 0.9}, 0.0005, seeds=5)
    found = {
        margin: judge(rows, margin)[0].set_index("claim").loc["lr_rewind_at_least_as_good"]
        for margin in (0.005, 0.0005)
    }
    assert found[0.005]["verdict"] == "equivalent" and found[0.0005]["verdict"] == "contradicted"


def test_one_seed_without_a_spread_decides_nothing():
    rows = rows_of({"lr_rewind": 0.95, "weight_rewind": 0.9, "finetune": 0.5}, seeds=1)
    scenarios, _ = judge(rows)
    assert set(scenarios["verdict"]) == {"not decided"}
    assert scenarios["low"].isna().all() and (scenarios["p"] == 1).all()


def test_a_published_single_trial_has_no_spread():
    rows = rows_of({"lr_rewind": 0.85, "weight_rewind": 0.9}, seeds=1)
    trials = {"weight_rewind": 2, "lr_rewind": 1}
    rows["trials"] = rows["method"].map(trials).astype("Int64")
    several = rows["method"] == "weight_rewind"
    rows["test_accuracy_low"] = (rows["test_accuracy"] - 0.001).where(several)
    rows["test_accuracy_high"] = (rows["test_accuracy"] + 0.001).where(several)
    assert verdict_of(rows, "lr_rewind_at_least_as_good") == "not decided"


def test_published_sums_of_trials_are_judged_by_their_spread():
    rows = rows_of({"lr_rewind": 0.85, "weight_rewind": 0.9}, seeds=1)
    rows["trials"] = pd.Series(3, index=rows.index, dtype="Int64")
    rows["test_accuracy_std"] = 0.002
    scenarios, _ = judge(rows)
    line = scenarios.set_index("claim").loc["lr_rewind_at_least_as_good"]
    assert (line["verdict"], line["design"], line["freedom"]) == ("contradicted", "summed", 2)
    assert line["error"] == pytest.approx(0.002 * np.sqrt(2 / 3))


def test_a_scenario_is_tested_as_scipy_does_on_the_seeds_means():
    rows = rows_of({"finetune": 0.9, "lr_rewind": 0.902})
    scenarios, lines = judge(rows)
    line = scenarios.set_index("claim").loc["finetune_is_worse"]
    means = rows[rows["level"] > 0].groupby(["method", "seed"])["test_accuracy"].mean().unstack()
    expected = stats.ttest_rel(means.loc["lr_rewind"], means.loc["finetune"])
    assert line["p"] == pytest.approx(expected.pvalue)
    assert (line["n_a"], line["n_points"], line["n_places"]) == (3, len(LEVELS), len(LEVELS))
    of_claim = lines[lines["claim"] == "finetune_is_worse"]
    assert of_claim["difference"].mean() == pytest.approx(line["difference"])
    assert of_claim["difference"].min() == line["worst_difference"]


def test_diverged_trials_are_left_out_and_counted():
    rows = rows_of({"finetune": 0.9, "lr_rewind": 0.902}, seeds=4)
    lost = (rows["method"] == "finetune") & (rows["seed"] == 2) & np.isclose(rows["density"], 0.05)
    rows.loc[lost, "status"] = "diverged"
    line = judge(rows)[0].set_index("claim").loc["finetune_is_worse"]
    assert (line["n_diverged"], line["n_diverged_other"]) == (0, 1)
    assert (line["n_a"], line["n_points"], line["n_places"]) == (4, 4, 3)


def test_a_compression_where_a_method_always_diverged_is_not_passed_over():
    rows = rows_of({"finetune": 0.9, "lr_rewind": 0.902}, seeds=4)
    lost = (rows["method"] == "lr_rewind") & np.isclose(rows["density"], 0.05)
    rows.loc[lost, "status"] = "diverged"
    scenarios, lines = judge(rows)
    line = scenarios.set_index("claim").loc["finetune_is_worse"]
    assert (line["n_diverged"], line["n_a"], line["n_points"], line["n_places"]) == (4, 4, 4, 3)
    assert lines.loc[lines["claim"] == "finetune_is_worse", "difference"].isna().sum() == 1
    rows.loc[rows["method"] == "lr_rewind", "status"] = "diverged"
    with pytest.raises(BadRows):
        judge(rows)


@pytest.mark.parametrize(
    ("longer", "verdict"),
    [(0.92, "supported"), (0.9, "equivalent"), (0.85, "not decided"), (None, None)],
)
def test_a_smaller_rate_given_more_time(make_row, make_table, longer, verdict):
    settings = [(0.1, 10, 0.9), (0.01, 10, 0.8), (0.01, 40, longer)]
    rows = make_table(
        make_row(
            stage_id=f"{lr}-{epochs}-{seed}",
            method="step",
            seed=seed,
            retrain_lr=lr,
            retrain_epochs=epochs,
            test_accuracy=accuracy + seed / 1000 + seed * epochs / 1e5,
        )
        for lr, epochs, accuracy in settings
        if accuracy
        for seed in range(3)
    )
    rows = keep_what_differs(rows)
    if verdict is None:  # nobody trained longer
        with pytest.raises(BadRows):
            judge(rows)
    else:
        assert verdict_of(rows, "larger_rate_is_faster") == verdict


def test_networks_are_judged_apart():
    good = rows_of({"lr_rewind": 0.92, "weight_rewind": 0.9})
    bad = rows_of({"lr_rewind": 0.88, "weight_rewind": 0.9})
    bad["network"] = "wrn_16_8"
    bad[["stage_id", "baseline_id"]] = "w" + bad[["stage_id", "baseline_id"]]
    scenarios, _ = judge(pd.concat([good, bad], ignore_index=True))
    claim = scenarios[scenarios["claim"] == "lr_rewind_at_least_as_good"]
    assert dict(zip(claim["network"], claim["verdict"], strict=True)) == {
        "resnet20": "supported",
        "wrn_16_8": "contradicted",
    }


def test_rows_that_no_claim_is_about(make_row, make_table):
    with pytest.raises(BadRows, match="no claim can be judged on these rows"):
        judge(make_table([make_row(method="slr")]))

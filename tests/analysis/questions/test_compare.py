"""Comparisons against scipy, against tables worked out by hand, and on the published trials."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.commands.compare import compare_command, compare_text
from analysis.questions.compare import WORTH, compare
from analysis.questions.judge import MARGIN
from analysis.reference import published
from analysis.table.columns import BadRows
from analysis.table.details import keep_what_differs
from analysis.table.rows import write_rows

GAINS = [0.004, 0.006, 0.003, 0.005, 0.007, 0.002, 0.004, 0.005]
"""Of lr_rewind over finetune by seed; the seeds themselves differ far more."""


def two_methods(make_row, gains, **values):
    """One compression; seeds 1 point apart."""
    return [
        make_row(
            method=method,
            seed=seed,
            test_accuracy=0.80 + seed / 100 + (gain if method == "lr_rewind" else 0),
            **values,
        )
        for seed, gain in enumerate(gains)
        for method in ("finetune", "lr_rewind")
    ]


def only(table):
    (line,) = table.itertuples()
    return line


# One comparison


def test_pairing_shows_what_seeds_hide(make_row, make_table):
    rows = make_table(two_methods(make_row, GAINS))
    line = only(compare(rows).scenarios)
    assert (line.a, line.b, line.design, line.n_a) == ("finetune", "lr_rewind", "paired", 8)
    assert line.difference == pytest.approx(-np.mean(GAINS))
    assert line.difference_median == pytest.approx(-np.median(GAINS))
    assert line.mean_b - line.mean_a == pytest.approx(np.mean(GAINS))
    expected = stats.ttest_1samp(np.negative(GAINS), 0)
    assert line.p == line.p_holm == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (line.low, line.high) == pytest.approx((interval.low, interval.high))
    assert line.p_exact == 2 / 2**8  # all of one sign
    assert line.better == "lr_rewind" and line.metric == "accuracy"
    unbiased = 1 - 3 / (4 * 7 - 1)  # Hedges' usual approximation
    g = -np.mean(GAINS) / np.std(GAINS, ddof=1) * unbiased
    assert line.hedges_g == pytest.approx(g, rel=1e-3)
    assert np.isnan(line.cliffs_delta)


def test_an_unknown_dense_network_is_never_paired(make_row, make_table):
    rows = make_table(two_methods(make_row, GAINS, baseline_id="published"))
    line = only(compare(rows).scenarios)
    assert (line.design, line.n_a, line.n_b) == ("unpaired", 8, 8)
    a = np.array([0.80 + seed / 100 for seed in range(8)])
    welch = stats.ttest_ind(a, a + GAINS, equal_var=False)
    assert line.p == pytest.approx(2 * stats.t.sf(abs(welch.statistic), 7))
    whole = np.rint(1000 * a), np.rint(1000 * (a + GAINS))  # scipy's ties are exact ones
    exact = stats.permutation_test(
        whole, lambda x, y, axis: x.mean(axis) - y.mean(axis), n_resamples=np.inf, vectorized=True
    )
    assert line.p_exact == pytest.approx(exact.pvalue)
    assert line.cliffs_delta == pytest.approx(-8 / 64)  # each seed beats only its own and below
    assert line.better == "" and not line.could_show  # 2.4 points between seeds hide 0.5
    assert line.seeds_needed > 100


def test_no_shared_dense_network_is_not_paired_either(make_row, make_table):
    rows = [
        make_row(method=method, seed=seed + shift, test_accuracy=0.9 + seed / 1000)
        for method, shift in (("finetune", 0), ("lr_rewind", 10))
        for seed in range(4)
    ]
    line = only(compare(make_table(rows)).scenarios)
    assert (line.design, line.n_a, line.n_b, line.difference) == ("unpaired", 4, 4, 0)


def test_only_seeds_of_both_are_paired(make_row, make_table):
    rows = make_table(two_methods(make_row, GAINS))
    line = only(compare(rows[~((rows["seed"] > 5) & (rows["method"] == "finetune"))]).scenarios)
    assert (line.design, line.n_a, line.n_b) == ("paired", 6, 6)
    assert line.difference == pytest.approx(-np.mean(GAINS[:6]))


def test_what_three_seeds_could_not_have_shown_is_named(make_row, make_table):
    gains = [0.004, -0.012, 0.009]
    line = only(compare(make_table(two_methods(make_row, gains)), worth=0.004).scenarios)
    assert (line.better, line.equivalent, line.could_show) == ("", False, False)
    assert line.p_exact >= 0.25 and line.detectable > 0.03
    # spread 1.1 points: 0.4 points are 0.37 standard deviations
    deviation = np.std(gains, ddof=1)
    assert stats.nct.sf(
        stats.t.isf(0.025, line.seeds_needed - 1),
        line.seeds_needed - 1,
        0.004 / deviation * np.sqrt(line.seeds_needed),
    ) == pytest.approx(0.8, abs=0.01)
    assert f"about {line.seeds_needed:.0f} seeds" in line.verdict
    assert "0.5 points could not have been shown" in line.verdict


def test_equivalence_is_said_within_the_margin_only(make_row, make_table):
    rows = make_table(two_methods(make_row, [0.001, -0.001, 0.0005, -0.0002, 0.0012, -0.0004]))
    line = only(compare(rows).scenarios)
    assert line.equivalent and line.relation == "equivalent" and "within 0.5 points" in line.verdict
    line = only(compare(rows, margin=0.0001).scenarios)
    assert not line.equivalent and line.relation == "undecided"


def test_better_by_less_than_the_margin_is_both(make_row, make_table):
    line = only(compare(make_table(two_methods(make_row, GAINS)), margin=0.01).scenarios)
    assert line.better == "lr_rewind" and line.equivalent and "within 1 points" in line.verdict


def test_a_single_seed_has_neither_interval_nor_needs(make_row, make_table):
    line = only(compare(make_table(two_methods(make_row, GAINS[:1]))).scenarios)
    assert (line.n_a, line.p, line.relation, line.could_show) == (1, 1, "undecided", False)
    assert np.isnan([line.low, line.high, line.seeds_needed]).all()
    assert "a single seed" in line.verdict


def test_a_single_trial_against_several(make_row, make_table):
    rows = make_table(two_methods(make_row, GAINS[:3], baseline_id="published"))
    line = only(compare(rows[(rows["seed"] == 0) | (rows["method"] == "finetune")]).scenarios)
    assert (line.n_a, line.n_b, line.p, line.relation) == (3, 1, 1, "undecided")
    assert np.isnan([line.low, line.seeds_needed]).all()


def test_seeds_without_any_spread_are_no_certainty(make_row, make_table):
    line = only(compare(make_table(two_methods(make_row, [0.02] * 3))).scenarios)
    assert (line.p, line.better) == (0.25, "") and np.isnan(line.low)


def test_diverged_trials_are_left_out_and_told(make_row, make_table):
    rows = make_table(two_methods(make_row, GAINS))
    rows.loc[rows["method"].eq("lr_rewind") & rows["seed"].eq(0), "status"] = "diverged"
    line = only(compare(rows).scenarios)
    assert (line.n_a, line.n_diverged_a, line.n_diverged_b) == (7, 0, 1)
    assert line.difference == pytest.approx(-np.mean(GAINS[1:]))
    assert line.verdict.endswith("; 1 of lr_rewind diverged")


def test_a_method_that_always_diverged_is_told(make_row, make_table):
    rows = [
        *two_methods(make_row, GAINS),
        *(make_row(seed=seed, density=0.02, test_accuracy=0.7) for seed in range(3)),
        *(
            make_row(method="lr_rewind", seed=seed, density=0.02, status="diverged")
            for seed in range(3)
        ),
    ]
    lines = compare(make_table(rows)).scenarios
    assert list(lines["n_a"]) == [8, 0]
    assert np.isnan(lines["p"].iloc[1])
    assert lines["p_holm"].iloc[0] == lines["p"].iloc[0]  # what isn't there isn't corrected for
    assert lines["n_diverged_b"].iloc[1] == 3 and "diverged" in lines["verdict"].iloc[1]


# Which are compared


def test_all_comparisons_are_corrected_for_together(make_row, make_table):
    rows = [
        row
        for density, sign in ((0.5, 1), (0.2, -1), (0.1, 1))
        for row in two_methods(make_row, [sign * gain for gain in GAINS], density=density)
    ]
    lines = compare(make_table(rows)).scenarios
    assert list(lines["compression_ratio"]) == [2, 5, 10]
    p = stats.ttest_1samp(GAINS, 0).pvalue
    assert list(lines["p_holm"]) == pytest.approx([3 * p] * 3)
    assert list(lines["p_bh"]) == pytest.approx([p] * 3)
    assert list(lines["better"]) == ["lr_rewind", "finetune", "lr_rewind"]


@pytest.mark.parametrize(
    "column", ["network", "dataset", "structure", "schedule_kind", "criterion"]
)
def test_what_differs_never_meets(make_row, make_table, column):
    rows = [
        make_row(method="finetune", **{column: "one"}),
        make_row(method="lr_rewind", **{column: "other"}),
    ]
    with pytest.raises(BadRows, match="no two of these methods meet: at one compression of one"):
        compare(make_table(rows))


def retrained(make_row):
    """lr_rewind validates best at 20 epochs, where it tests worst; finetune at 10."""
    validation = {("finetune", 10): 0.9, ("finetune", 20): 0.8}
    validation |= {("lr_rewind", 10): 0.8, ("lr_rewind", 20): 0.9}
    test = {("finetune", 10): 0.91, ("finetune", 20): 0.95}
    test |= {("lr_rewind", 10): 0.96, ("lr_rewind", 20): 0.92}
    return [
        make_row(
            stage_id=f"{method}-{epochs}-{seed}",
            method=method,
            retrain_epochs=epochs,
            seed=seed,
            val_accuracy=value,
            test_accuracy=test[method, epochs],
        )
        for (method, epochs), value in validation.items()
        for seed in range(3)
    ]


def test_validation_chooses_the_retraining_time_of_each(make_row, make_table):
    line = only(compare(make_table(retrained(make_row))).scenarios)
    assert (line.retrain_epochs_a, line.retrain_epochs_b) == (10, 20)
    assert line.difference == pytest.approx(0.91 - 0.92)


def test_equal_epochs_compares_at_each(make_row, make_table):
    lines = compare(make_table(retrained(make_row)), equal_epochs=True).scenarios
    assert list(lines["retrain_epochs_a"]) == list(lines["retrain_epochs_b"]) == [10, 20]
    assert list(lines["difference"]) == pytest.approx([0.91 - 0.96, 0.95 - 0.92])


def with_knobs(make_row, make_table, cases):
    """A row a (method, knobs) and seed."""
    return keep_what_differs(
        make_table(
            make_row(method=method, seed=seed, stage_id=f"{method}{knobs}{seed}", **knobs)
            for method, knobs in cases
            for seed in range(2)
        )
    )


def test_knobs_of_a_method_make_it_several(make_row, make_table):
    blends = [("blend", {"retrain_alpha": alpha}) for alpha in (0, 1)]
    rows = with_knobs(make_row, make_table, [*blends, ("lr_rewind", {})])
    every = [
        ("blend (alpha 0)", "blend (alpha 1)"),
        ("blend (alpha 0)", "lr_rewind"),
        ("blend (alpha 1)", "lr_rewind"),
    ]

    def pairs(*methods):
        return list(compare(rows, methods).scenarios[["a", "b"]].itertuples(index=False, name=None))

    assert pairs() == pairs("blend") == pairs("blend", "lr_rewind") == every
    assert pairs("blend (alpha 1)", "lr_rewind") == every[2:]
    assert pairs("lr_rewind") == [(b, a) for a, b in every[1:]]


def test_rates_that_several_methods_have_are_no_knob(make_row, make_table):
    a, b = {"prune_rates": "resnet56-A"}, {"prune_rates": "resnet56-B"}
    cases = [("finetune", a), ("finetune", b), ("lr_rewind", a)]
    cases.append(("lr_rewind", b | {"retrain_rates_from": 3}))
    lines = compare(with_knobs(make_row, make_table, cases)).scenarios
    found = list(lines[["a", "b", "setting"]].itertuples(index=False, name=None))
    assert found == [
        ("finetune", "lr_rewind", "resnet56-A"),
        ("finetune", "lr_rewind (rates from 3)", "resnet56-B"),
    ]


def test_unknown_methods_list_the_known(grid, make_table):
    with pytest.raises(ValueError, match="unknown --methods 'slr'; there: finetune, weight_rewind"):
        compare(make_table(grid), ["slr"])


@pytest.mark.parametrize("worth", [0, -0.1, 1, float("nan")])
def test_a_worth_that_is_none(grid, make_table, worth):
    with pytest.raises(ValueError, match="allowed: above 0, below 1"):
        compare(make_table(grid), worth=worth)


def test_one_method_alone(make_row, make_table):
    with pytest.raises(BadRows, match="nothing to compare: all rows are of finetune"):
        compare(make_table([make_row()]))


def test_sums_of_trials_alone():
    rows = published("wang2023")
    with pytest.raises(BadRows, match=f"each of the {len(rows)} rows"):
        compare(rows)


def test_two_fractions_of_one_level_are_refused(make_row, make_table):
    rows = [
        make_row(method=method, density=density, stage_id=f"{method}{density}")
        for method in ("finetune", "lr_rewind")
        for density in (0.3, 0.30001)
    ]
    with pytest.raises(BadRows, match=r"several trials of seed 0 at density 0\.3"):
        compare(make_table(rows))


def test_rows_without_any_accuracy(make_row, make_table):
    rows = [make_row(method=m, status="diverged") for m in ("finetune", "lr_rewind")]
    with pytest.raises(BadRows, match="no two of these methods have a test_accuracy"):
        compare(make_table(rows))


# Overall


def test_more_compressions_of_the_same_seeds_are_no_more_evidence(make_row, make_table):
    for densities in ([0.5], [0.5, 0.4, 0.3, 0.2, 0.1, 0.05]):
        rows = [
            row
            for density in densities
            for row in two_methods(make_row, GAINS[:5], density=density)
        ]
        line = only(compare(make_table(rows)).overall)
        assert (line.scenarios, line.behind, line.ahead) == (len(densities), len(densities), 0)
        assert (line.n_a, line.freedom) == (5, 4)
        assert line.p == pytest.approx(stats.ttest_1samp(GAINS[:5], 0).pvalue)


def test_other_networks_are_more_evidence(make_row, make_table):
    rows = [
        row
        for network in ("resnet20", "resnet56")
        for row in two_methods(make_row, GAINS[:4], network=network)
    ]
    for row, network in zip(rows, ["resnet20"] * 8 + ["resnet56"] * 8, strict=True):
        object.__setattr__(row, "baseline_id", f"{network}-{row.seed}")
    line = only(compare(make_table(rows)).overall)
    assert (line.n_a, line.better) == (8, "lr_rewind")
    assert line.p == pytest.approx(stats.ttest_1samp(GAINS[:4] * 2, 0).pvalue)


def test_unpaired_all_trials_of_a_seed_count_once(make_row, make_table):
    gains = [0.1, 0.12, 0.11, 0.13]
    lines = [
        only(
            compare(
                make_table(
                    row
                    for density in densities
                    for row in two_methods(
                        make_row, gains, density=density, baseline_id="published"
                    )
                )
            ).overall
        )
        for densities in ([0.5], [0.5, 0.2, 0.1])
    ]
    assert [line.design for line in lines] == ["unpaired"] * 2
    assert [(line.n_a, line.n_b, line.freedom) for line in lines] == [(4, 4, 3)] * 2
    assert lines[0].p == pytest.approx(lines[1].p)
    assert lines[1].better == "lr_rewind"


def test_unpaired_networks_are_compared_each_within_itself(make_row, make_table):
    """30 points between networks are no scatter between methods."""
    rows = [
        make_row(
            method=method,
            seed=seed,
            network=network,
            baseline_id=network,
            test_accuracy=level + seed / 1000 + (0.01 if method == "lr_rewind" else 0),
        )
        for network, level in (("resnet20", 0.9), ("resnet56", 0.6))
        for method in ("finetune", "lr_rewind")
        for seed in range(3)
    ]
    line = only(compare(make_table(rows)).overall)
    assert (line.n_a, line.n_b, line.better) == (6, 6, "lr_rewind")
    assert line.difference == pytest.approx(-0.01)
    # of each network 0.1 points between seeds, 3 against 3; half the weight each
    assert line.error == pytest.approx(np.sqrt(2 * 0.25 * 2 * 0.001**2 / 3))
    assert line.freedom == pytest.approx(4)


def test_different_metrics_are_never_averaged(make_row, make_table):
    rows = [
        *two_methods(make_row, [0.002, 0.001, 0.0015]),
        *two_methods(make_row, [0.02, 0.01, 0.015], network="gnmt", metric="bleu"),
    ]
    for row in rows[6:]:
        object.__setattr__(row, "baseline_id", f"gnmt-{row.seed}")
        object.__setattr__(row, "stage_id", f"gnmt-{row.stage_id}")
    table = compare(make_table(rows)).overall.set_index("metric")
    assert table["difference"].to_dict() == pytest.approx({"accuracy": -0.0015, "bleu": -0.015})
    assert "0.5 BLEU" in table.loc["bleu", "verdict"] or "BLEU" in table.loc["bleu", "verdict"]
    assert "BLEU" not in table.loc["accuracy", "verdict"]


# The published trials


@pytest.fixture(scope="module")
def renda():
    return published("renda2020")


def test_rendas_trials_overall(renda):
    methods = ["finetune", "lr_rewind", "weight_rewind"]
    compared = compare(renda, methods)
    by_pair = compared.overall.set_index(["a", "b", "metric", "design"])
    # Renda et al. 2020, §3: weight rewinding beats fine-tuning, learning-rate rewinding both
    for design in ("paired", "unpaired"):
        for other in ("lr_rewind", "weight_rewind"):
            assert by_pair.loc[("finetune", other, "accuracy", design), "better"] == other
        assert (
            by_pair.loc[("lr_rewind", "weight_rewind", "accuracy", design), "difference"] > 0.0015
        )
    assert by_pair.loc[("finetune", "lr_rewind", "bleu", "paired"), "better"] == "lr_rewind"
    # but on images the rewindings are within half a point of each other
    rewindings = by_pair.loc[("lr_rewind", "weight_rewind", "accuracy")]
    assert rewindings["equivalent"].all()
    # issue: +0.15 points and +1.77 BLEU were printed as +0.82 of nothing
    bleu = by_pair.loc[("lr_rewind", "weight_rewind", "bleu", "paired"), "difference"]
    assert bleu == pytest.approx(0.0177, abs=5e-5)
    # and with three trials hardly a scenario by itself, corrected for their number
    assert (compared.scenarios["better"] != "").mean() < 0.01


def test_rendas_trials_of_one_dense_network_are_paired(renda):
    lines = compare(renda, ["lr_rewind", "weight_rewind"]).scenarios
    images = lines[lines["network"] != "gnmt"]
    by_kind = images.groupby("schedule_kind")["design"].agg(set)
    assert by_kind["one-shot"] == {"paired"} and by_kind["iterative"] == {"unpaired"}
    point = lines[
        (lines["network"] == "resnet20")
        & (lines["schedule_kind"] == "one-shot")
        & lines["compression_ratio"].between(9, 10)
    ]
    line = only(point)
    trials = renda[
        (renda["network"] == "resnet20")
        & (renda["schedule_kind"] == "one-shot")
        & (renda["structure"] == "unstructured")
        & np.isclose(renda["compression_ratio"], line.compression_ratio, rtol=1e-3)
    ]
    best = {}
    for side, method in (("a", "lr_rewind"), ("b", "weight_rewind")):
        of_method = trials[trials["method"] == method].groupby("retrain_epochs")
        best[side] = of_method["val_accuracy"].median().idxmax()
        chosen = of_method.get_group(best[side])
        assert getattr(line, f"mean_{side}") == pytest.approx(chosen["test_accuracy"].mean())
    assert (line.retrain_epochs_a, line.retrain_epochs_b) == (best["a"], best["b"])


# The command


@pytest.fixture
def source(tmp_path, make_row, make_table):
    rows = [row for density in (0.5, 0.1) for row in two_methods(make_row, GAINS, density=density)]
    rows += [make_row(method="slr", seed=seed, test_accuracy=0.8) for seed in range(2)]
    path = str(tmp_path / "rows.parquet")
    write_rows(make_table(rows), path)
    return path


def test_a_single_pair_shows_every_scenario(source, capsys):
    compare_command(source, methods=("finetune", "lr_rewind"))
    out = capsys.readouterr().out
    assert out.startswith("overall, accuracy: lr_rewind better")
    assert "resnet20 · cifar10 · unstructured · one-shot\ncompression" in out
    (line,) = (line for line in out.splitlines() if "10.0×" in line)
    assert line.split()[:5] == ["10.0×", "10", "83.50", "83.95", "8"]
    assert line.endswith("lr_rewind better")
    assert "2 show a difference" in out and "0.5 points" in out


def test_several_pairs_show_each_overall_and_what_was_shown(source, capsys):
    compare_command(source)
    out = capsys.readouterr().out
    overall = out.partition("\n\n")[0].splitlines()
    assert [line.split()[:2] for line in overall[1:]] == [
        ["finetune", "lr_rewind"],
        ["finetune", "slr"],
        ["lr_rewind", "slr"],
    ]
    assert "no difference shown" in overall[2]
    assert out.count("lr_rewind better") == 1 + 2  # overall, and both compressions
    assert max(map(len, out.splitlines())) <= 160


def test_json_is_all_there_is_on_stdout(source, capsys):
    compare_command(source, worth="1pt", json=True)
    content = json.loads(capsys.readouterr().out)
    assert (content["alpha"], content["worth"], content["equal_epochs"]) == (0.05, 0.01, False)
    assert len(content["comparisons"]) == 2 + 1 + 1 and len(content["overall"]) == 3
    assert content["margin"] == 0.005 and content["comparisons"][0]["relation"] == "worse"


def test_the_margin_can_be_set_and_is_printed(source, capsys):
    compare_command(source, methods=("finetune", "lr_rewind"), margin="2pt")
    out = capsys.readouterr().out
    assert "within the margin of 2 points" in out and "equivalent within 2 points" in out
    with pytest.raises(ValueError, match="much"):
        compare_command(source, margin="much")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_out_holds_every_comparison(source, tmp_path, suffix, capsys):
    out = tmp_path / f"compared{suffix}"
    compare_command(source, out=str(out))
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert len(table) == 4 and table["verdict"].str.len().min() > 20


def test_an_unknown_output_format_is_refused_before_any_work():
    with pytest.raises(ValueError, match=r"f\.png has no known ending; allowed: \.csv"):
        compare_command("none.csv", out="f.png")


def test_rows_of_all_methods_diverged_seeds_and_no_rates_print(
    make_row, make_table, tmp_path, capsys
):
    rows = make_table(two_methods(make_row, GAINS[:3]))
    rows["prune_fraction"] = None
    rows.loc[0, "status"] = "diverged"
    path = str(tmp_path / "rows.csv")
    write_rows(rows, path)
    compare_command(path)
    assert "1 diverged" in capsys.readouterr().out


@pytest.mark.parametrize("paper", ["mikler2022", "wang2023"])
def test_published_medians_and_means_are_never_compared_as_trials(paper):
    with pytest.raises(BadRows, match="sums up"):
        compare(published(paper))


def test_sums_beside_single_trials_are_left_out_and_counted(make_row, make_table):
    rows = make_table(
        make_row(method=method, seed=seed, density=density, stage_id=f"{method}{seed}{density}")
        for method in ("finetune", "lr_rewind")
        for seed in range(3)
        for density in (0.5, 0.1)
    )
    published_ones = rows["density"] == 0.1
    rows["source"] = rows["source"].where(~published_ones, "a paper, table 5")
    compared = compare(rows)
    assert compared.left_out == 6 and len(compared.scenarios) == 1
    assert "Left out: 6 published rows" in compare_text(compared, MARGIN, WORTH).replace("\n", " ")
    rows["trials"] = 1
    assert compare(rows).left_out == 0

"""The engine against scipy's tests, against cases worked out by hand, and its false alarms."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.questions.judge import (
    MARGIN,
    complete,
    estimates,
    judge_pairs,
    judged,
    known_dense,
    summed_estimates,
)
from analysis.table.metrics import amount, margin_of

SEEDS = st.integers(2, 6)


def trials(side_a, side_b, *, paired, comparison=0, stratum=0):
    """side_a, side_b: (seeds, places), NaN where nothing was trained."""
    parts = []
    for side, values in (("a", side_a), ("b", side_b)):
        seed, place = np.indices(np.shape(values))
        parts.append(
            pd.DataFrame(
                {
                    "comparison": comparison,
                    "stratum": stratum,
                    "place": place.ravel(),
                    "side": side,
                    "seed": seed.ravel(),
                    "dense": seed.ravel() if paired else None,
                    "value": np.ravel(values),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def line_of(side_a, side_b, *, paired, margin=MARGIN):
    found = estimates(trials(side_a, side_b, paired=paired))
    (line,) = judged(found, margin, together=False).itertuples()
    return line


# Per seed first


@given(SEEDS, st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_pairs_are_scipys_t_test_of_the_seeds_means(n, places, draw):
    rng = np.random.default_rng(draw)
    a, b = rng.normal(0.9, 0.01, (2, n, places))
    line = line_of(a, b, paired=True)
    expected = stats.ttest_1samp((a - b).mean(axis=1), 0)
    assert (line.design, line.n_a, line.n_b, line.n_places) == ("paired", n, n, places)
    assert line.difference == pytest.approx((a - b).mean())
    assert (line.p, line.freedom) == pytest.approx((expected.pvalue, n - 1))
    interval = expected.confidence_interval(0.95)
    assert (line.low, line.high) == pytest.approx((interval.low, interval.high))
    for shift, p in ((MARGIN, line.p_not_worse), (-MARGIN, None)):
        sided = stats.ttest_1samp((a - b).mean(axis=1) + shift, 0, alternative="greater")
        if p is not None:
            assert p == pytest.approx(min(1, 2 * sided.pvalue))


def test_trials_without_a_common_dense_network_have_welchs_error():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.9, 0.01, (3, 4)), rng.normal(0.9, 0.02, (5, 4))
    line = line_of(a, b, paired=False)
    welch = stats.ttest_ind(a.mean(axis=1), b.mean(axis=1), equal_var=False)
    assert (line.design, line.n_a, line.n_b, line.freedom) == ("unpaired", 3, 5, 2)
    assert line.difference / line.error == pytest.approx(welch.statistic)
    assert line.p == pytest.approx(2 * stats.t.sf(abs(welch.statistic), 2))  # Hsu 1938
    assert line.p > welch.pvalue


def test_more_compressions_of_the_same_seeds_are_no_more_evidence():
    of_seed = np.array([[0.010], [0.004], [0.007]])
    one = line_of(0.9 + of_seed, np.full((3, 1), 0.9), paired=True)
    ten = line_of(0.9 + of_seed.repeat(10, axis=1), np.full((3, 10), 0.9), paired=True)
    assert (ten.p, ten.low, ten.high) == pytest.approx((one.p, one.low, one.high))


def test_one_shared_network_of_many_is_no_pair():
    table = trials([[0.9], [0.91], [0.92]], [[0.8], [0.81], [0.82]], paired=True)
    table.loc[(table["side"] == "b") & (table["seed"] > 0), "dense"] += 10
    (line,) = judged(estimates(table), together=False).itertuples()
    assert (line.design, line.n_a, line.n_b) == ("unpaired", 3, 3)


def test_only_seeds_that_both_sides_have_are_pairs():
    table = trials([[0.9], [0.92], [0.91]], [[0.8], [0.83], [0.8]], paired=True)
    table = table[~((table["side"] == "b") & (table["seed"] == 1))]
    (line,) = judged(estimates(table), together=False).itertuples()
    assert (line.n_a, line.difference) == (2, pytest.approx(0.105))


# What is missing


def test_a_missing_compression_is_no_difference_between_methods():
    """Accuracy falls by 40 points over compressions; the methods don't differ at any."""
    level = np.array([0.9, 0.8, 0.7, 0.5])
    rng = np.random.default_rng(0)
    a, b = level + rng.normal(0, 1e-4, (2, 5, 4))
    for side in (a, b):
        side[3, 3] = np.nan  # one seed lacks the hardest of one method
        for paired in (True, False):
            line = line_of(a, b, paired=paired)
            assert abs(line.difference) < 1e-3 and line.n_places == 3
            assert (line.n_a, line.n_b) == (5, 5)


def test_a_seed_with_hardly_anything_is_left_out_rather_than_the_rest():
    a = np.full((4, 6), 0.9) + np.arange(4)[:, None] / 100
    a[3, 1:] = np.nan
    line = line_of(a, np.full((4, 6), 0.8), paired=True)
    assert (line.n_a, line.n_places) == (3, 6)


def test_trials_that_share_no_compression_don_t_hide_those_that_do():
    nothing = np.nan
    a = [[0.9, nothing], [nothing, nothing], [nothing, 0.8], [nothing, nothing]]
    b = [[nothing, nothing], [0.8, nothing], [nothing, nothing], [nothing, 0.7]]
    line = line_of(a, b, paired=False)
    assert (line.n_a, line.n_b, line.n_places) == (1, 1, 1)
    assert line.difference == pytest.approx(0.1)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**16 - 1))
@settings(deadline=None, max_examples=60)
def test_what_is_kept_is_a_complete_block(n, places, mask):
    seed, place = np.indices((n, places))
    there = np.array([mask >> bit & 1 for bit in range(n * places)], dtype=bool)
    cells = pd.DataFrame(
        {"comparison": 0, "stratum": 0, "place": place.ravel(), "unit": seed.ravel()}
    )[there]
    kept = complete(cells)
    assert len(kept) == kept["unit"].nunique() * kept["place"].nunique()
    if there.all():
        assert len(kept) == n * places
    assert (len(kept) > 0) == bool(there.any())


def test_a_side_without_anything_is_not_compared():
    table = trials([[0.9], [0.8]], [[np.nan], [np.nan]], paired=True)
    assert estimates(table).empty


def test_two_values_of_one_seed_are_refused():
    table = trials([[0.9], [0.8]], [[0.9], [0.8]], paired=True)
    with pytest.raises(ValueError, match="two values at one place"):
        estimates(pd.concat([table, table]))


# Few seeds, ties


def test_one_seed_shows_nothing():
    found = judge_pairs([0.99], [0.5])
    assert (found.relation, found.p, found.p_equivalent) == ("undecided", 1, 1)
    assert np.isnan([found.low, found.high, found.seeds_needed]).all()
    assert np.isinf(found.detectable)


@pytest.mark.parametrize(("n", "relation"), [(2, "undecided"), (5, "undecided"), (6, "better")])
def test_equal_differences_are_as_certain_as_a_permutation_test(n, relation):
    """Accuracies are counts of images: the same difference thrice is no certainty."""
    found = judge_pairs([0.93, 0.95] * 3, [0.92, 0.94] * 3)
    few = judge_pairs(([0.93, 0.95] * 3)[:n], ([0.92, 0.94] * 3)[:n])
    assert few.relation == relation and few.p == pytest.approx(2 / 2**n)
    assert (found.low, found.high) == pytest.approx((0.01, 0.01))


def test_identical_values_are_never_a_difference():
    for n in (1, 2, 3, 5, 10):
        found = judge_pairs([0.9] * n, [0.9] * n)
        assert found.p == 1 and found.relation == ("equivalent" if n > 5 else "undecided")


def test_pairs_have_to_be_pairs():
    with pytest.raises(ValueError, match="3 and 2"):
        judge_pairs([1, 2, 3], [1, 2])


# One interval, all verdicts


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(-0.02, 0.02), min_size=3, max_size=8, unique=True),
    st.sampled_from([0.001, 0.005, 0.02]),
)
def test_every_verdict_is_read_off_the_interval(differences, margin):
    found = judge_pairs(differences, [0.0] * len(differences), margin)
    if np.std(differences) < 1e-6:
        return
    inside = -margin < found.low and found.high < margin
    expected = (
        "better"
        if found.low > 0
        else "worse"
        if found.high < 0
        else "equivalent"
        if inside
        else "at least as good"
        if found.low > -margin
        else "at most as good"
        if found.high < margin
        else "undecided"
    )
    assert found.relation == expected and found.equivalent == inside


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(*[st.floats(0.5, 1)] * 2), min_size=2, max_size=6, unique=True))
def test_the_other_way_round_is_the_opposite(pairs):
    a, b = zip(*pairs, strict=True)
    one, other = judge_pairs(a, b), judge_pairs(b, a)
    assert one.p == pytest.approx(other.p) and one.difference == pytest.approx(-other.difference)
    opposite = {"better": "worse", "at least as good": "at most as good"}
    opposite |= {name: key for key, name in opposite.items()}
    assert opposite.get(one.relation, one.relation) == other.relation


# Published sums


def test_sums_of_trials_are_taken_to_go_together():
    places = pd.DataFrame(
        {
            "comparison": 0,
            "mean_a": [0.9, 0.8],
            "mean_b": [0.88, 0.77],
            "deviation_a": [0.01, 0.02],
            "deviation_b": [0.01, 0.01],
            "n_a": [3, 3],
            "n_b": [2, 4],
        }
    )
    (line,) = summed_estimates(places).itertuples()
    errors = np.sqrt([0.01**2 / 3 + 0.01**2 / 2, 0.02**2 / 3 + 0.01**2 / 4])
    assert (line.difference, line.error) == pytest.approx((0.025, errors.mean()))
    assert line.freedom == 1
    alone = summed_estimates(places.assign(n_b=1))
    (found,) = judged(alone, together=False).itertuples()
    assert (found.relation, found.p) == ("undecided", 1)


# Metrics, margins, dense networks


@pytest.mark.parametrize("text", ["0.5pt", "0.5 points", "0.005", "5e-3"])
def test_a_margin_in_points_or_as_a_fraction(text):
    assert margin_of(text) == pytest.approx(0.005)


@pytest.mark.parametrize("text", ["0.5", "1", "0", "-0.1", "60pt", "much", "", "nan", "1.2.3pt"])
def test_a_margin_that_is_none(text):
    with pytest.raises(ValueError, match=r"0\.5pt"):
        margin_of(text)


def test_bleu_is_no_accuracy():
    assert [amount(0.005, name) for name in ("accuracy", "bleu")] == ["0.5 points", "0.5 BLEU"]


def test_a_dense_network_that_several_seeds_name_is_unknown(make_row, make_table):
    rows = make_table(
        make_row(seed=seed, baseline_id="one" if seed < 2 else "own") for seed in range(3)
    )
    assert list(known_dense(rows).isna()) == [True, True, False]


@pytest.mark.parametrize("n", [2, 3, 6])
def test_fewer_than_three_units_are_never_equivalent(n):
    """Nearly equal differences: the interval is far inside the margin, whatever n is."""
    wobble = [0.00001 * (-1) ** number for number in range(n)]
    found = judge_pairs([0.9 + each for each in wobble], [0.9] * n)
    assert found.p_equivalent < 0.05
    assert found.equivalent == (n >= 3) == (found.relation == "equivalent")

"""Statistics against scipy, brute force, simulation and numbers printed in textbooks."""

from functools import partial
from itertools import combinations, product
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.reference import published
from analysis.statistics import (
    FEWEST_TO_BOOTSTRAP,
    INTERVALS,
    MOST_REASSIGNMENTS,
    MOST_SEEDS,
    benjamini_hochberg,
    bootstrap,
    central_80,
    cliffs_delta,
    fewest_seeds,
    hedges_g,
    holm,
    min_max,
    paired_test,
    rank_p,
    rank_sum_p,
    seeds_needed,
    smallest_p,
    smallest_stratified_p,
    stacked,
    stratified_p,
    t_p,
    t_power,
    unpaired_test,
    welch_p,
)

IMAGES = 360  # accuracies are counts of images: many ties, none exact in binary
ACCURACY = st.integers(IMAGES - 20, IMAGES).map(lambda right: right / IMAGES)


def samples(least, most):
    return st.lists(ACCURACY, min_size=least, max_size=most)


DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48.0])
"""Cross- less self-fertilised maize, eighths of an inch; Fisher 1935, The Design of Experiments."""

SLEEP = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
SLEEP_2 = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
"""Hours gained with two drugs; Student 1908."""

# Intervals


def test_min_max_is_of_each_sample():
    low, high = min_max(np.array([[0.3, 0.1, 0.2], [0.5, 0.5, 0.4]]))
    assert (list(low), list(high)) == ([0.1, 0.4], [0.3, 0.5])


def test_miklers_bars_are_percentiles_of_trials_that_his_test_set_allows():
    rows = published("mikler2022")
    two = rows[(rows["trials"] == 2) & rows["test_accuracy_low"].notna()]
    assert len(two) >= 100
    median, low, high = (
        two[name].to_numpy()
        for name in ("test_accuracy", "test_accuracy_low", "test_accuracy_high")
    )
    images = 10_000
    reach = (high - low) / 2 / 0.8  # of the trials around their median
    trials = np.column_stack([median - reach, median + reach])
    np.testing.assert_allclose(trials * images, np.rint(trials * images), atol=0.06)
    np.testing.assert_allclose(
        central_80(np.rint(trials * images) / images), [low, high], atol=1e-5
    )
    # taken for the extremes, or for a normal interval, the bars hardly ever fit the test set
    for factor in (1, 1.2816, 3.078):
        wrong = (median - (high - low) / 2 / factor) * images
        assert np.mean(np.abs(wrong - np.rint(wrong)) < 0.06) < 0.2


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_bootstrap_of_the_median_is_efrons(confidence):
    # Efron 1979: a resample's median is at most the k-th value if at least half its values are
    n = 11
    sample = np.random.default_rng(0).random(n)
    tail = (1 - confidence) / 2
    k = next(k for k in range(1, n + 1) if stats.binom.sf(n // 2, n, k / n) >= tail)
    low, high = bootstrap(sample[None], confidence)
    ordered = np.sort(sample)
    assert (low[0], high[0]) == (ordered[k - 1], ordered[n - k])


def test_the_bootstrap_covers_the_median():
    drawn = np.random.default_rng(1).standard_normal((500, FEWEST_TO_BOOTSTRAP))
    low, high = bootstrap(drawn)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.925, abs=0.035)


@pytest.mark.parametrize("n", [1, 3, FEWEST_TO_BOOTSTRAP - 1])
def test_too_few_seeds_have_no_bootstrap_interval(n):
    low, high = bootstrap(np.zeros((2, n)))
    assert np.isnan([*low, *high]).all() and low.shape == (2,)


@pytest.mark.parametrize("kind", list(INTERVALS))
def test_every_interval_holds_the_median(kind):
    drawn = np.random.default_rng(0).random((20, 9))
    low, high = INTERVALS[kind](drawn)
    medians = np.median(drawn, axis=1)
    assert ((low <= medians) & (medians <= high)).all()


def test_stacked_gathers_each_group_in_order():
    rng = np.random.default_rng(0)
    groups, values = rng.integers(0, 9, 40), rng.random(40)
    found = {
        number: list(row)
        for numbers, rows in stacked(values, groups)
        for number, row in zip(numbers, rows, strict=True)
    }
    assert found == pd.Series(values).groupby(groups).agg(list).to_dict()


# Tests


def mean_of(x, axis):
    return np.mean(x, axis=axis)


def difference_of_means(x, y, axis):
    return np.mean(x, axis=axis) - np.mean(y, axis=axis)


def whole(accuracies):
    """Exact in binary, for scipy: it takes ties that differ in the last digit for different."""
    return np.rint(np.array(accuracies) * IMAGES)


@given(st.lists(st.tuples(ACCURACY, ACCURACY), min_size=2, max_size=7))
@settings(max_examples=60)
def test_the_paired_test_is_scipys(pairs):
    a, b = np.array(pairs).T
    expected = stats.permutation_test(
        (whole(a) - whole(b),),
        mean_of,
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert paired_test((a - b)[None]).p[0] == pytest.approx(min(1, expected.pvalue))


@given(samples(2, 5), samples(2, 4))
@settings(max_examples=60)
def test_the_unpaired_test_is_scipys(a, b):
    expected = stats.permutation_test(
        (whole(a), whole(b)), difference_of_means, n_resamples=np.inf, vectorized=True
    )
    found = unpaired_test(np.array([a]), np.array([b])).p[0]
    assert found == pytest.approx(min(1, expected.pvalue))


def test_fishers_own_example():
    # 863 of 32,768 ways to a sum of 314 or more: 5.267% on both sides (Fisher 1935, §21)
    assert paired_test(DARWIN[None]).p[0] == 2 * 863 / 2**15


def test_beyond_full_enumeration_the_test_is_drawn():
    differences = np.random.default_rng(3).integers(-20, 28, 40).astype(float)
    assert 2 ** len(differences) > MOST_REASSIGNMENTS
    shares, reach = np.ones(1), 0
    for difference in np.abs(differences.astype(int)):  # the exact distribution of the sum
        step = np.zeros(2 * difference + 1)
        step[0] += 0.5
        step[-1] += 0.5
        shares, reach = np.convolve(shares, step), reach + difference
    sums = np.arange(-reach, reach + 1)
    exact = shares[np.abs(sums) >= abs(differences.sum())].sum()
    assert paired_test(differences[None]).p[0] == pytest.approx(exact, rel=0.1)


def test_unpaired_beyond_full_enumeration():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.6, 1, (1, 14)), rng.normal(0, 1, (1, 15))
    assert comb(29, 14) > MOST_REASSIGNMENTS
    assert unpaired_test(a, b).p[0] == pytest.approx(stats.ttest_ind(a[0], b[0]).pvalue, rel=0.15)


def test_three_pairs_can_show_nothing():
    tested = paired_test(np.array([[5.0, 6.0, 7.0]]))
    assert (tested.p[0], tested.confidence) == (0.25, 0.75)
    assert (tested.low[0], tested.high[0]) == (5, 7)


def test_one_pair_says_nothing():
    tested = paired_test(np.array([[5.0]]))
    assert (tested.p[0], tested.confidence) == (1, 0)


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=9), st.floats(-1.5, 1.5))
@settings(max_examples=150)
def test_the_paired_interval_holds_the_shifts_not_rejected(differences, shift):
    drawn = np.array([differences])
    tested = paired_test(drawn)
    inside = tested.low[0] <= shift <= tested.high[0]
    if min(abs(shift - tested.low[0]), abs(shift - tested.high[0])) > 1e-7:
        assert inside == (paired_test(drawn - shift).p[0] > 0.05)
    assert tested.confidence >= 0.95


@given(
    st.lists(st.floats(-1, 1), min_size=4, max_size=5),
    st.lists(st.floats(-1, 1), min_size=4, max_size=5),
    st.floats(-2.5, 2.5),
)
@settings(max_examples=150)
def test_the_unpaired_interval_holds_the_shifts_not_rejected(a, b, shift):
    first, second = np.array([a]), np.array([b])
    tested = unpaired_test(first, second)
    inside = tested.low[0] <= shift <= tested.high[0]
    if min(abs(shift - tested.low[0]), abs(shift - tested.high[0])) > 1e-7:
        assert inside == (unpaired_test(first - shift, second).p[0] > 0.05)
    assert tested.confidence >= 0.95


def test_intervals_cover_as_they_say():
    rng = np.random.default_rng(2)
    for drawn in (rng.standard_normal((4000, 8)), rng.standard_cauchy((4000, 8))):
        tested = paired_test(drawn)
        covered = np.mean((tested.low <= 0) & (tested.high >= 0))
        assert covered == pytest.approx(tested.confidence, abs=0.012)


def test_many_comparisons_at_once_are_each_by_itself():
    drawn = np.random.default_rng(0).standard_normal((700, 14))  # more than fit in one piece
    together = paired_test(drawn)
    for index in (0, 511, 512, 699):
        alone = paired_test(drawn[[index]])
        assert together.p[index] == alone.p[0]
        assert together.low[index] == pytest.approx(alone.low[0])
        assert together.high[index] == pytest.approx(alone.high[0])


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=7))
@settings(max_examples=60)
def test_the_signed_rank_test_is_scipys_also_with_ties_and_zeros(differences):
    kept = [difference for difference in differences if difference]
    if len(kept) < 2:
        assert rank_p(np.array([differences]) / IMAGES)[0] == 1
        return
    ranks = stats.rankdata(np.abs(kept)) * np.sign(kept)
    expected = stats.permutation_test(
        (ranks,), mean_of, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    found = rank_p(np.array([differences]) / IMAGES)[0]
    assert found == pytest.approx(min(1, expected.pvalue))


def test_rank_tests_without_ties_are_wilcoxons():
    rng = np.random.default_rng(0)
    for n in (4, 6, 9):
        a, b = rng.random(n), rng.random(n + 1 if n < 9 else n)
        paired = stats.wilcoxon(a, method="exact").pvalue
        assert rank_p(a[None])[0] == pytest.approx(paired)
        unpaired = stats.mannwhitneyu(a, b, method="exact").pvalue
        assert rank_sum_p(a[None], b[None])[0] == pytest.approx(unpaired)


def test_students_own_example():
    # R's documentation of the data prints both
    assert t_p((SLEEP - SLEEP_2)[None])[0] == pytest.approx(0.002833, abs=1e-6)
    assert welch_p(SLEEP[None], SLEEP_2[None])[0] == pytest.approx(0.07939, abs=1e-5)


def test_equal_differences_are_no_certainty():
    same = np.array([[0.93, 0.95, 0.91]]) - np.array([[0.92, 0.94, 0.90]])
    assert np.isnan(t_p(same)).all()
    assert np.isnan(welch_p(np.full((1, 3), 0.1 + 0.2), np.array([[0.1, 0.2, 0.3]]))).all()


def strata_by_enumeration(strata):
    """The share of all relabellings, within each stratum, as far out on the nearer side, twice."""
    sums = []
    for a, b in strata:
        pooled = [*a, *b]
        sums.append([sum(chosen) for chosen in combinations(pooled, len(a))])
    observed = sum(sum(a) for a, _ in strata)
    totals = np.array([sum(parts) for parts in product(*sums)])
    return min(1, 2 * min(np.mean(totals >= observed), np.mean(totals <= observed)))


SCORES = st.lists(st.integers(-6, 6).map(float), min_size=1, max_size=3)


@given(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=3))
@settings(max_examples=60)
def test_the_stratified_test_is_brute_forces(strata):
    arrays = [(np.array(a), np.array(b)) for a, b in strata]
    assert stratified_p(arrays) == pytest.approx(strata_by_enumeration(strata))


def test_one_stratum_is_the_unpaired_test():
    a, b = np.array([3.0, 7, 9, 4]), np.array([1.0, 2, 5, 6])
    assert stratified_p([(a, b)]) == pytest.approx(unpaired_test(a[None], b[None]).p[0])


# Effect sizes


def test_hedges_g_is_unbiased_and_three_seeds_need_it():
    effect = 1.5
    drawn = np.random.default_rng(0).normal(effect, 1, (200_000, 5))
    assert hedges_g(drawn).mean() == pytest.approx(effect, abs=0.02)
    # Hedges 1981: the factor for 2 degrees of freedom is Gamma(1) / Gamma(1/2)
    three = np.array([[1.0, 2.0, 3.0]])
    assert hedges_g(three)[0] == pytest.approx(2 / np.sqrt(np.pi))


def test_hedges_g_needs_spread():
    assert np.isnan(hedges_g(np.full((1, 4), 0.1 + 0.2))).all()
    assert np.isnan(hedges_g(np.array([[0.1, 0.2]]))).all()


@given(samples(1, 5), samples(1, 5))
def test_cliffs_delta_counts(a, b):
    wins = sum(x > y for x in whole(a) for y in whole(b))
    losses = sum(x < y for x in whole(a) for y in whole(b))
    found = cliffs_delta(np.array([a]), np.array([b]))[0]
    assert found == pytest.approx((wins - losses) / (len(a) * len(b)))


# Many comparisons


def closed_testing(p):
    """Each hypothesis falls when all sets that hold it fall by Bonferroni (Marcus et al. 1976)."""
    sets = [s for size in range(1, len(p) + 1) for s in combinations(range(len(p)), size)]
    by_set = {s: min(1, len(s) * min(p[i] for i in s)) for s in sets}
    return [max(value for s, value in by_set.items() if i in s) for i in range(len(p))]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing(p):
    assert holm(p) == pytest.approx(closed_testing(p))


def test_holm_by_hand():
    assert holm([0.01, 0.04, np.nan, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True
    )


BENJAMINI_HOCHBERG = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
    *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
]
"""The example of Benjamini & Hochberg 1995, §3.2: Bonferroni rejects 3, their procedure 4."""


def test_the_example_of_benjamini_and_hochberg():
    assert (benjamini_hochberg(BENJAMINI_HOCHBERG) <= 0.05).sum() == 4
    assert (holm(BENJAMINI_HOCHBERG) <= 0.05).sum() == 3


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_benjamini_hochberg_by_its_definition(p):
    def adjusted(value):
        return min(len(p) * q / sum(x <= q for x in p) for q in p if q >= value)

    found = benjamini_hochberg([*p, np.nan])
    assert found[:-1] == pytest.approx([min(1, adjusted(value)) for value in p])
    assert np.isnan(found[-1])


def test_nothing_to_correct():
    assert np.isnan(holm([np.nan])).all() and np.isnan(benjamini_hochberg([np.nan])).all()


# What could be shown


@pytest.mark.parametrize("n", [1, 2, 3, 6, 10])
def test_no_data_reaches_below_the_smallest_p(n):
    apart = np.arange(1.0, n + 1)[None]
    assert paired_test(apart).p[0] == smallest_p(n) == min(1, 2 / 2**n)
    assert unpaired_test(apart + 100, apart).p[0] == pytest.approx(
        float(smallest_p(n, n)), rel=1e-4
    )
    more = np.arange(1.0, n + 2)[None]
    assert unpaired_test(apart + 100, more).p[0] == pytest.approx(
        float(smallest_p(n, n + 1)), rel=1e-4
    )


def test_the_smallest_p_of_strata():
    strata = [(np.array([8.0, 9.0]), np.array([1.0, 2.0]))] * 2
    assert stratified_p(strata) == pytest.approx(smallest_stratified_p([(2, 2)] * 2))


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("alpha", [0.3, 0.05, 0.05 / 4, 0.05 / 480])
def test_fewest_seeds_reach_alpha_and_one_less_does_not(paired, alpha):
    n = fewest_seeds(alpha, paired=paired)
    reach = [float(smallest_p(k, None if paired else k)) for k in (n - 1, n)]
    assert reach[1] <= alpha < reach[0]


def test_power_as_published():
    # Cohen 1988, exercise 2.5, p. 47, as the R package pwr prints it
    assert t_power(60, 0.2, 0.1, paired=True) == pytest.approx(0.4555818, abs=1e-7)
    assert seeds_needed(0.2, 1, alpha=0.1, power=0.4555) == 60
    # G*Power's sizes for matched pairs with Cohen's small, medium and large effect
    assert list(seeds_needed([0.2, 0.5, 0.8], 1)) == [199, 34, 15]
    # and of each of two independent groups; Cohen 1992, table 2: 393, 64, 26
    assert list(seeds_needed([0.2, 0.5, 0.8], 1, paired=False)) == [394, 64, 26]


@pytest.mark.parametrize("effect", [0.7, 1.2, 2.0])
@pytest.mark.parametrize("paired", [True, False])
def test_that_many_seeds_find_it_in_a_simulation(effect, paired):
    rng = np.random.default_rng(0)
    n = int(seeds_needed(effect, 1, paired=paired))
    if paired:
        test = partial(stats.ttest_1samp, popmean=0, axis=1)
        found = test(rng.normal(effect, 1, (40_000, n))).pvalue <= 0.05
    else:
        a, b = rng.normal(effect, 1, (40_000, n)), rng.standard_normal((40_000, n))
        found = stats.ttest_ind(a, b, axis=1).pvalue <= 0.05
    power = float(t_power(n, effect, 0.05, paired=paired))
    assert found.mean() == pytest.approx(power, abs=0.008)
    assert t_power(n - 1, effect, 0.05, paired=paired) < 0.8 <= power


def test_the_permutation_test_needs_hardly_more():
    n = int(seeds_needed(1.0, 1))
    drawn = np.random.default_rng(0).normal(1, 1, (3000, n))
    assert (paired_test(drawn).p <= 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_power_of_many_seeds_is_scipys_noncentral_t():
    n, effect, alpha = np.array([150, 202, 500, 900]), 0.15, 0.001
    limit, shift = stats.t.isf(alpha / 2, n - 1), effect * np.sqrt(n)
    expected = stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)
    np.testing.assert_allclose(t_power(n, effect, alpha, paired=True), expected, atol=1e-4)


def test_extremes_of_the_seeds_needed():
    found = seeds_needed(0.003, [0.0, 1e-17, 1e-4, 0.05, 1.0, np.nan])
    assert list(found[:3]) == [2, 2, 2]
    assert 2000 < found[3] < MOST_SEEDS
    assert np.isinf(found[4]) and np.isnan(found[5])


def test_no_difference_takes_no_number_of_seeds():
    with pytest.raises(ValueError, match="difference is 0; allowed: above 0"):
        seeds_needed([0.1, 0.0], 1.0)

"""Statistics against scipy, brute force, simulation and numbers printed in textbooks."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.questions.statistics import (
    MOST_SEEDS,
    benjamini_hochberg,
    cliffs_delta,
    detectable,
    exact_p,
    hedges_g,
    holm,
    seeds_needed,
    stacked,
    t_power,
)
from analysis.reference import published

IMAGES = 360  # accuracies are counts of images: many ties, none exact in binary
ACCURACY = st.integers(IMAGES - 20, IMAGES).map(lambda right: right / IMAGES)


def samples(least, most):
    return st.lists(ACCURACY, min_size=least, max_size=most)


DARWIN = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48.0])
"""Cross- less self-fertilised maize, eighths of an inch; Fisher 1935, The Design of Experiments."""

# Intervals


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
    bars = np.quantile(np.rint(trials * images) / images, [0.1, 0.9], axis=1)
    np.testing.assert_allclose(bars, [low, high], atol=1e-5)
    # taken for the extremes, or for a normal interval, the bars hardly ever fit the test set
    for factor in (1, 1.2816, 3.078):
        wrong = (median - (high - low) / 2 / factor) * images
        assert np.mean(np.abs(wrong - np.rint(wrong)) < 0.06) < 0.2


def test_stacked_gathers_each_group_in_order():
    rng = np.random.default_rng(0)
    groups, values = rng.integers(0, 9, 40), rng.random(40)
    found = {
        number: list(row)
        for numbers, rows in stacked(values, groups)
        for number, row in zip(numbers, rows, strict=True)
    }
    assert found == pd.Series(values).groupby(groups).agg(list).to_dict()


# A check that takes no normal distribution


def whole(accuracies):
    """Exact in binary."""
    return np.rint(np.array(accuracies) * IMAGES)


def two_sided(below, above):
    return min(1, 2 * min(np.mean(below), np.mean(above)))


def test_fishers_own_example():
    # 863 of 32,768 ways to a sum of 314 or more: 5.267% on both sides (Fisher 1935, §21)
    p = exact_p(DARWIN[None], np.zeros((1, len(DARWIN))), paired=True)[0]
    assert p == pytest.approx(2 * 863 / 2**15, rel=0.1)  # drawn, being more than RESAMPLED


@given(st.lists(st.tuples(ACCURACY, ACCURACY), min_size=2, max_size=7))
@settings(max_examples=40)
def test_the_paired_permutation_test_by_enumeration(pairs):
    a, b = np.array(pairs).T
    d = whole(a) - whole(b)
    sums = np.array([np.dot(signs, d) for signs in product((1, -1), repeat=len(d))])
    expected = two_sided(sums <= d.sum(), sums >= d.sum())
    assert exact_p(a[None], b[None], paired=True)[0] == pytest.approx(expected)


@given(samples(2, 5), samples(2, 4))
@settings(max_examples=40)
def test_the_unpaired_permutation_test_by_enumeration(a, b):
    pooled = [*whole(a), *whole(b)]
    sums = np.array([sum(chosen) for chosen in combinations(pooled, len(a))])
    expected = two_sided(sums <= whole(a).sum(), sums >= whole(a).sum())
    found = exact_p(np.array([a]), np.array([b]), paired=False)[0]
    assert found == pytest.approx(expected)


def test_a_single_trial_has_no_permutation_test():
    assert list(exact_p(np.ones((2, 1)), np.zeros((2, 1)), paired=True)) == [1, 1]


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


def test_power_as_published():
    # Cohen 1988, exercise 2.5, p. 47, as the R package pwr prints it
    assert t_power(60, 0.2, 0.1) == pytest.approx(0.4555818, abs=1e-7)
    assert seeds_needed(0.2, 1, alpha=0.1, power=0.4555) == 60
    # G*Power's sizes for matched pairs with Cohen's small, medium and large effect
    assert list(seeds_needed([0.2, 0.5, 0.8], 1)) == [199, 34, 15]


@pytest.mark.parametrize("effect", [0.7, 1.2, 2.0])
def test_that_many_seeds_find_it_in_a_simulation(effect):
    rng = np.random.default_rng(0)
    n = int(seeds_needed(effect, 1))
    drawn = rng.normal(effect, 1, (40_000, n))
    found = stats.ttest_1samp(drawn, 0, axis=1).pvalue <= 0.05
    assert found.mean() == pytest.approx(float(t_power(n, effect)), abs=0.008)
    assert t_power(n - 1, effect) < 0.8 <= t_power(n, effect)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 40])
def test_what_is_detectable_is_found_with_that_power(n, alpha):
    error = 0.7
    least = float(detectable([error], [n - 1], alpha)[0])
    assert t_power(n, least / (error * np.sqrt(n)), alpha) == pytest.approx(0.8, abs=1e-6)


def test_nothing_is_detectable_with_one_seed_nor_known_without_a_spread():
    one, unknown = detectable([0.1, np.nan], [0, 2])
    assert np.isinf(one) and np.isnan(unknown)


def test_power_of_many_seeds_is_scipys_noncentral_t():
    n, effect, alpha = np.array([150, 202, 500, 900]), 0.15, 0.001
    limit, shift = stats.t.isf(alpha / 2, n - 1), effect * np.sqrt(n)
    expected = stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)
    np.testing.assert_allclose(t_power(n, effect, alpha), expected, atol=1e-4)


def test_extremes_of_the_seeds_needed():
    found = seeds_needed(0.003, [0.0, 1e-17, 1e-4, 0.05, 1.0, np.nan])
    assert list(found[:3]) == [2, 2, 2]
    assert 2000 < found[3] < MOST_SEEDS
    assert np.isinf(found[4]) and np.isnan(found[5])


def test_no_difference_takes_no_number_of_seeds():
    with pytest.raises(ValueError, match="difference is 0; allowed: above 0"):
        seeds_needed([0.1, 0.0], 1.0)

"""What a handful of seeds can tell: intervals, tests, effect sizes, and how many seeds it takes.

Pure functions. Many samples of one size are the rows of a matrix, (m, n): m samples of n seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import comb, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal, special, stats

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.8

# Intervals of one sample


def min_max(samples: Floats) -> tuple[Floats, Floats]:
    """What the plots of Renda et al. 2020 show, of three trials (§2.5)."""
    return samples.min(axis=-1), samples.max(axis=-1)


def central_80(samples: Floats) -> tuple[Floats, Floats]:
    """The 10th and 90th percentile, between the trials linearly: the bars of Mikler 2022.

    He calls them 80% confidence intervals (§6) and doesn't say how they were computed. His points
    of two trials tell: with these percentiles all of them come from accuracies that are whole
    numbers of his 10,000 test images, with any other rule hardly one does (docs/statistics.md).
    So they say where 80% of the trials lie, not how sure the median is.
    """
    low, high = np.quantile(samples, [0.1, 0.9], axis=-1)
    return low, high


FEWEST_TO_BOOTSTRAP = 8
RESAMPLES = 9999


def bootstrap(samples: Floats, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """Percentile bootstrap of the median; NaN below FEWEST_TO_BOOTSTRAP seeds: too few.

    From 8 seeds on its 95% intervals cover the median in 91 to 96% of samples; with 3 in 75%, with
    7 in 88%. Those of the mean take 20 seeds to come as near, by percentiles or BCa, and BCa gains
    nothing with the median, which isn't smooth (docs/statistics.md).
    """
    if samples.shape[-1] < FEWEST_TO_BOOTSTRAP:
        nothing = np.full(samples.shape[:-1], np.nan)
        return nothing, nothing
    found = stats.bootstrap(
        (samples,),
        np.median,
        axis=-1,
        n_resamples=RESAMPLES,
        batch=max(1, MOST_CELLS // max(1, samples.size)),
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return found.low, found.high


INTERVALS: dict[str, Callable[[Floats], tuple[Floats, Floats]]] = {
    "min-max": min_max,
    "80%": central_80,
    "bootstrap": bootstrap,
}
"""(m, n) samples -> (m,) low, (m,) high."""


def stacked(
    values: ArrayLike, groups: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """The values of each group as a row: for each size n of groups, ((m,) numbers, (m, n))."""
    order = np.argsort(groups, kind="stable")
    ordered = np.asarray(values, dtype=np.float64)[order]
    numbers, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    for size in np.unique(sizes):
        chosen = sizes == size
        yield numbers[chosen], ordered[starts[chosen, None] + np.arange(size)]


# Tests of two methods, exact where that is feasible

MOST_REASSIGNMENTS = 2**16
"""Beyond, that many are drawn at random; the test stays valid, its p no finer than 2 / 2**16."""
MOST_CELLS = 2**23
"""Numbers worked on at once, to bound memory."""
TIED = 1e-9
"""Values that are no further apart are the same: 0.93 - 0.92 and 0.02 - 0.01."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """Of m comparisons, each by itself."""

    p: Floats
    """(m,), two-sided."""
    low: Floats
    """(m,), of the interval of the mean difference."""
    high: Floats
    confidence: float
    """Of these intervals: as asked, or the most that so few seeds allow."""


def paired_test(differences: Floats, confidence: float = CONFIDENCE) -> Tested:
    """Permutation test of paired differences (m, n): each might as well have the other sign.

    The statistic is the mean. Its interval holds the shifts that the test doesn't reject: by
    Hartigan 1969 these lie between order statistics of the means of all subsets of differences
    (2^n - 1 of them). So p <= 0.05 means that the 95% interval leaves out 0, and the other way
    round. It takes differences that are symmetric about their centre, nothing more.
    """
    subsets = _subsets(differences.shape[-1])
    return _tested(differences, subsets, subsets.sum(axis=0), confidence)


def unpaired_test(a: Floats, b: Floats, confidence: float = CONFIDENCE) -> Tested:
    """Permutation test of the difference of means of (m, n_a) and (m, n_b): a's less b's.

    Each trial might as well be the other method's. The interval as in paired_test: its ends are
    order statistics of the differences of means of all equally large subsets of a and of b.
    """
    swaps = _swaps(a.shape[-1], b.shape[-1])
    return _tested(np.hstack([a, b]), swaps, (swaps > 0).sum(axis=0), confidence)


def _tested(
    samples: Floats, reassignments: Floats, sizes: NDArray[np.int64], confidence: float
) -> Tested:
    """samples: (m, n); reassignments: (n, k), those that change something; sizes: (k,).

    A reassignment turns the statistic over where the mean of what it touches is below zero.
    """
    assert len(samples) > 0
    number = len(sizes) + 1
    outside = max(1, int(number * (1 - confidence) / 2 + 1e-9))
    at_once = max(1, MOST_CELLS // number)
    p, low, high = [], [], []
    for start in range(0, len(samples), at_once):
        sums = samples[start : start + at_once] @ reassignments
        below, above = (sums <= TIED).sum(axis=1), (sums >= -TIED).sum(axis=1)
        p.append(np.minimum(1, 2 * (1 + np.minimum(below, above)) / number))
        means = sums / sizes
        means.partition([outside - 1, len(sizes) - outside], axis=1)
        low.append(means[:, outside - 1])
        high.append(means[:, len(sizes) - outside])
    return Tested(
        p=np.concatenate(p),
        low=np.concatenate(low),
        high=np.concatenate(high),
        confidence=1 - 2 * outside / number,
    )


@cache
def _subsets(n: int) -> Floats:
    """(n, k): each column marks a subset that isn't empty."""
    if 2**n <= MOST_REASSIGNMENTS:
        marks = (np.arange(1, 2**n) >> np.arange(n)[:, None]) & 1
    else:
        marks = np.random.default_rng(0).integers(0, 2, (n, MOST_REASSIGNMENTS - 1))
        marks = marks[:, marks.any(axis=0)]
    return marks.astype(np.float64)


@cache
def _swaps(n_a: int, n_b: int) -> Floats:
    """(n_a + n_b, k): each column has 1 for those of a that become b's, -1 for those of b that
    become a's, equally many."""
    n = n_a + n_b
    if comb(n, n_a) <= MOST_REASSIGNMENTS:
        becomes_a = np.zeros((comb(n, n_a), n), dtype=bool)
        chosen = np.array(list(combinations(range(n), n_a)))
        np.put_along_axis(becomes_a, chosen, True, axis=1)
    else:
        labels = np.tile(np.arange(n) < n_a, (MOST_REASSIGNMENTS - 1, 1))
        becomes_a = np.random.default_rng(0).permuted(labels, axis=1)
    swaps = (np.arange(n) < n_a).astype(np.float64) - becomes_a
    return swaps[swaps.any(axis=1)].T


def rank_p(differences: Floats) -> Floats:
    """Wilcoxon's signed-rank test of (m, n) paired differences, exact also with ties; two-sided.

    Differences of zero say nothing and are left out (Wilcoxon 1945).
    """
    zero = np.abs(differences) <= TIED
    ranks = _ranks(np.where(zero, 0, np.abs(differences))) - zero.sum(axis=-1, keepdims=True)
    return paired_test(np.where(zero, 0, np.sign(differences) * ranks)).p


def rank_sum_p(a: Floats, b: Floats) -> Floats:
    """Mann and Whitney's test of (m, n_a) against (m, n_b), exact also with ties; two-sided."""
    ranks = _ranks(np.hstack([a, b]))
    return unpaired_test(ranks[:, : a.shape[-1]], ranks[:, a.shape[-1] :]).p


def _ranks(samples: Floats) -> Floats:
    """(m, n), from 1 up within each sample; tied values share the mean of their ranks."""
    order = samples.argsort(axis=-1)
    apart = np.diff(np.take_along_axis(samples, order, axis=-1), axis=-1, prepend=-np.inf) > TIED
    levels = np.empty(samples.shape)
    np.put_along_axis(levels, order, apart.cumsum(axis=-1), axis=-1)
    return np.asarray(stats.rankdata(levels, axis=-1))


def t_p(differences: Floats) -> Floats:
    """Student's paired t test of (m, n): takes normally distributed differences; two-sided.

    NaN where all differences are the same: accuracies are counts of images, so that happens by
    chance, and means no certainty.
    """
    spread = np.ptp(differences, axis=-1) > TIED
    p = np.full(len(differences), np.nan)
    p[spread] = stats.ttest_1samp(differences[spread], 0, axis=-1).pvalue
    return p


def welch_p(a: Floats, b: Floats) -> Floats:
    """Welch's t test of (m, n_a) against (m, n_b); NaN where either doesn't vary."""
    spread = (np.ptp(a, axis=-1) > TIED) & (np.ptp(b, axis=-1) > TIED)
    p = np.full(len(a), np.nan)
    p[spread] = stats.ttest_ind(a[spread], b[spread], axis=-1, equal_var=False).pvalue
    return p


def stratified_p(strata: list[tuple[Floats, Floats]]) -> float:
    """Permutation test of the sum of a's scores: labels change within strata only; two-sided.

    Each stratum: scores of a's trials and of b's, whole numbers. The distributions of the strata's
    sums are convolved, so the p of few trials in many strata is exact too.
    """
    shares, place = np.ones(1), 0
    for a, b in strata:
        lost = np.append(np.concatenate([a, b]) @ _swaps(len(a), len(b)), 0)
        sums = np.rint(lost.max() - lost).astype(np.int64)  # from the lowest up
        shares = signal.convolve(shares, np.bincount(sums) / len(sums)).clip(0)  # long ones by FFT
        place += sums[-1]
    return float(min(1, 2 * min(shares[: place + 1].sum(), shares[place:].sum())))


# Effect sizes


def hedges_g(differences: Floats) -> Floats:
    """(m, n) paired differences -> mean / standard deviation, without its bias in small samples.

    Hedges 1981: n = 3 alone would make it 1.77 times too large. NaN where nothing varies.
    """
    freedom = differences.shape[-1] - 1
    if freedom < 2:
        return np.full(len(differences), np.nan)
    log = special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)
    unbiased = np.exp(log) / np.sqrt(freedom / 2)
    deviation = differences.std(axis=-1, ddof=1)
    vary = np.ptp(differences, axis=-1) > TIED
    standardised = differences.mean(axis=-1) / np.where(vary, deviation, np.nan)
    return np.asarray(unbiased * standardised)


def cliffs_delta(a: Floats, b: Floats) -> Floats:
    """(m, n_a), (m, n_b) -> how much more often a trial of a beats one of b than loses; -1 to 1."""
    apart = a[:, :, None] - b[:, None, :]
    return np.asarray(np.where(np.abs(apart) > TIED, np.sign(apart), 0).mean(axis=(1, 2)))


# Many comparisons


def holm(p: ArrayLike) -> Floats:
    """Adjusted p: those up to alpha hold together with an error of at most alpha (Holm 1979).

    Whatever depends on whatever. NaN are no comparisons and stay NaN.
    """
    given = np.asarray(p, dtype=np.float64)
    adjusted = np.full(given.shape, np.nan)
    there = np.flatnonzero(~np.isnan(given))
    order = there[np.argsort(given[there])]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * given[order]))
    return adjusted


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Adjusted p: of those up to alpha a share of at most alpha is expected to be wrong.

    Benjamini & Hochberg 1995. NaN are no comparisons and stay NaN.
    """
    given = np.asarray(p, dtype=np.float64)
    adjusted = np.full(given.shape, np.nan)
    there = ~np.isnan(given)
    adjusted[there] = stats.false_discovery_control(given[there]) if there.any() else np.nan
    return adjusted


# What could be shown


def smallest_p(n: ArrayLike, n_b: ArrayLike | None = None) -> Floats:
    """That a permutation test of n pairs, or of n against n_b trials, can come to: 2 / 2^n, or
    2 / C(n + n_b, n). With 3 pairs that is 0.25, whatever the difference."""
    size = np.asarray(n, dtype=np.float64)
    ways = 2.0**size if n_b is None else special.comb(size + np.asarray(n_b), size)
    return np.asarray(np.minimum(1, 2 / np.minimum(ways, MOST_REASSIGNMENTS)))


def smallest_stratified_p(sizes: list[tuple[int, int]]) -> float:
    """Of ``stratified_p``, for strata of n_a against n_b trials."""
    ways = [min(comb(n_a + n_b, n_a), MOST_REASSIGNMENTS) for n_a, n_b in sizes]
    return min(1.0, 2 / prod(ways))


def fewest_seeds(alpha: float, *, paired: bool) -> int:
    """Seeds (each method's, if not paired) from which on a permutation test can reach alpha."""
    n = 2
    while 2 / (2**n if paired else comb(2 * n, n)) > alpha:
        n += 1
    return n


def t_power(n: ArrayLike, effect: ArrayLike, alpha: float, *, paired: bool) -> Floats:
    """That a two-sided t test of n pairs, or of n against n trials, finds ``effect``: difference /
    standard deviation of the paired differences, or of the trials of one method."""
    size, effect = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.abs(effect))
    freedom = size - 1 if paired else 2 * size - 2
    shift = np.minimum(effect, LARGEST_EFFECT) * np.sqrt(size if paired else size / 2)
    limit = stats.t.isf(alpha / 2, freedom)
    few = freedom < 200
    # Abramowitz & Stegun 1964, 26.7.10: within 1e-4 from 200 on, where scipy becomes slow
    scale = np.sqrt(1 + limit**2 / (2 * freedom))
    centred = limit * (1 - 1 / (4 * freedom))
    many = stats.norm.sf((centred - shift) / scale) + stats.norm.cdf((-centred - shift) / scale)
    exact = freedom[few], shift[few]
    right = stats.nct.sf(limit[few], *exact)
    left = np.nan_to_num(stats.nct.cdf(-limit[few], *exact))  # scipy: NaN, far out
    power = np.array(many)
    power[few] = right + left
    return power


LARGEST_EFFECT = 1e4
"""scipy's noncentral t fails beyond; any test finds it."""
MOST_SEEDS = 10_000


def seeds_needed(
    difference: ArrayLike,
    deviation: ArrayLike,
    alpha: float = ALPHA,
    power: float = POWER,
    *,
    paired: bool = True,
) -> Floats:
    """Seeds that find a difference with this power, by the noncentral t distribution.

    deviation: of the paired differences; unpaired: of one method's trials, and the seeds are each
    method's. Infinite beyond MOST_SEEDS; NaN where the deviation is. Raises ValueError unless the
    difference is positive.
    """
    smallest = float(np.min(difference))
    if not smallest > 0:
        raise ValueError(f"the difference is {smallest:g}; allowed: above 0")
    spread = np.asarray(deviation, dtype=np.float64)
    effect = difference / np.maximum(spread, np.asarray(difference) / LARGEST_EFFECT)
    asked = np.atleast_1d(effect)

    def too_few(n: Floats) -> NDArray[np.bool_]:
        among = ~np.isnan(asked) & (n <= MOST_SEEDS)
        found = np.zeros(n.shape, dtype=bool)
        found[among] = t_power(n[among], asked[among], alpha, paired=paired) < power
        return found

    enough = np.full(asked.shape, 2.0)
    while (short := too_few(enough)).any():  # doubling: scipy is slow far beyond what is needed
        enough[short] *= 2
    not_enough = np.where(enough > 2, enough / 2, 1)
    while (enough - not_enough > 1).any():
        middle = (enough + not_enough) // 2
        short = too_few(np.maximum(middle, 2)) | (middle < 2)
        not_enough, enough = np.where(short, middle, not_enough), np.where(short, enough, middle)
    seeds = np.where(enough > MOST_SEEDS, np.inf, enough)
    return np.asarray(np.where(np.isnan(effect), np.nan, seeds.reshape(effect.shape)))

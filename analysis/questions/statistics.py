"""Effect sizes, a permutation test, corrections for many comparisons, power.

Pure functions. Many samples of one size are the rows of a matrix, (m, n): m samples of n seeds.
Whether a is better than b is decided in ``analysis.questions.judge``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from scipy.optimize import elementwise

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.8

MOST_CELLS = 2**23
"""Numbers worked on at once, to bound memory."""
TIE_DIGITS = 9
TIED = 10.0**-TIE_DIGITS
"""Values that are no further apart are the same: 0.93 - 0.92 and 0.02 - 0.01."""


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


# A check that takes no normal distribution

RESAMPLED = 2**14
"""Reassignments counted; where there are more, that many are drawn, always the same ones."""


def exact_p(a: Floats, b: Floats, *, paired: bool) -> Floats:
    """Permutation test of the difference of means, (m, n_a) against (m, n_b); two-sided.

    Paired, each difference might as well have the other sign; unpaired, each trial might as well
    be the other method's. At least 2 / 2^n, or 2 / C(n_a + n_b, n_a): with 3 pairs 0.25. Where a
    side is a single trial it isn't computed: 1.
    """
    if min(a.shape[1], b.shape[1]) < 2:
        return np.ones(len(a))
    found = stats.permutation_test(
        [a - b] if paired else [a, b],
        _mean if paired else _gap,
        permutation_type="samples" if paired else "independent",
        n_resamples=RESAMPLED,
        batch=max(1, MOST_CELLS // max(1, a.size + b.size)),
        vectorized=True,
        axis=1,
        rng=np.random.default_rng(0),
    )
    return np.asarray(found.pvalue)


def _mean(differences: Floats, axis: int) -> Floats:
    """Rounded, as scipy takes what ties but for the last digit for different."""
    return np.asarray(differences.mean(axis=axis).round(TIE_DIGITS))


def _gap(a: Floats, b: Floats, axis: int) -> Floats:
    return np.asarray((a.mean(axis=axis) - b.mean(axis=axis)).round(TIE_DIGITS))


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

LARGEST_EFFECT = 1e4
"""scipy's noncentral t fails beyond; any test finds it."""
MOST_SEEDS = 10_000


def t_power(n: ArrayLike, effect: ArrayLike, alpha: float = ALPHA) -> Floats:
    """That a two-sided t test of n differences finds ``effect``: mean / standard deviation."""
    size, effect = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.abs(effect))
    freedom = size - 1
    shift = np.minimum(effect, LARGEST_EFFECT) * np.sqrt(size)
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


def detectable(
    error: ArrayLike, freedom: ArrayLike, alpha: float = ALPHA, power: float = POWER
) -> Floats:
    """The smallest true difference that a two-sided t test finds with this power.

    error: standard error of the difference, with its degrees of freedom. Infinite where a single
    seed leaves none; NaN where the error is not known.
    """
    errors, freedoms = np.broadcast_arrays(
        np.asarray(error, dtype=np.float64), np.asarray(freedom, dtype=np.float64)
    )
    several, place = np.unique(freedoms, return_inverse=True)
    size = np.where(several > 0, several, 1) + 1
    ends = np.zeros(len(several)), np.full(len(several), LARGEST_EFFECT)
    found = elementwise.find_root(
        lambda effect, n: t_power(n, effect, alpha) - power, ends, args=(size,)
    )
    shifts = np.where(several > 0, found.x * np.sqrt(size), np.inf)[place].reshape(freedoms.shape)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(freedoms > 0, shifts * errors, np.inf))


def seeds_needed(
    difference: ArrayLike, deviation: ArrayLike, alpha: float = ALPHA, power: float = POWER
) -> Floats:
    """Seeds that find a difference with this power, by the noncentral t distribution.

    deviation: of the differences between seeds; of two unpaired sides of n seeds each, that of
    sqrt(n) times the standard error. Infinite beyond MOST_SEEDS; NaN where the deviation is.
    Raises ValueError unless the difference is positive.
    """
    smallest = float(np.min(difference))
    if not smallest > 0:
        raise ValueError(f"the difference is {smallest:g}; allowed: above 0")
    spread = np.asarray(deviation, dtype=np.float64)
    effect = difference / np.maximum(spread, np.asarray(difference) / LARGEST_EFFECT)
    asked = np.atleast_1d(effect)

    def lacking(n: Floats, effect: Floats) -> Floats:
        return t_power(n, effect, alpha) - power

    fewest, most = np.full(asked.shape, 2.0), np.full(asked.shape, float(MOST_SEEDS))
    enough, hopeless = lacking(fewest, asked) >= 0, lacking(most, asked) < 0
    between = ~(enough | hopeless | np.isnan(asked))
    seeds = np.where(np.isnan(asked), np.nan, np.where(enough, fewest, np.inf))
    ends = fewest[between], most[between]
    found = elementwise.find_root(lacking, ends, args=(asked[between],))
    seeds[between] = np.ceil(found.x - ROUNDING)
    return np.asarray(seeds.reshape(effect.shape))


ROUNDING = 1e-9
"""Of a number of seeds, which is found as if it needn't be whole."""

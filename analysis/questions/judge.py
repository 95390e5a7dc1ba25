"""Is a better than b, over the same seeds? The one engine that decides it, for every command.

1. Per seed first. All that was trained from one dense network (or, where that isn't known, with one
   seed) is one *unit*: its compressions and scenarios go up and down together, so their differences
   are averaged before anything is tested, and never counted as independent.
2. Units that share a dense network are pairs. Where none is shared the two sides are compared
   unpaired.
3. One 95% interval of the mean difference, by Student's t. Of n pairs: n - 1 degrees of freedom.
   Unpaired: Welch's error, and one degree of freedom less than the smaller side has trials, which
   keeps the level for any spreads (Hsu 1938; Mickey & Brown 1966). Welch's own degrees of freedom
   don't: 10% false alarms instead of 5% with 2 against 5 trials.
4. All that is said is read off this interval: better, worse, equivalent within the margin, at least
   as good. So the chance that anything said of a comparison is wrong is 5% at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.questions.statistics import ALPHA, TIED, Floats, detectable, holm, seeds_needed
from analysis.table.groups import group_numbers, with_several

MARGIN = 0.005
"""As good as: not worse by more than this, a fraction; 0.5 points of accuracy, or 0.5 BLEU. Ours:
half of the smaller drop that Renda et al. 2020, §4, look at. The papers give none."""

FEWEST_EQUIVALENT = 3
"""Units on each side, for two methods to be called equivalent. Two that agree by chance have a
narrow interval; with one degree of freedom that happens too easily to say that nothing differs."""

RELATIONS = ("better", "worse", "equivalent", "at least as good", "at most as good", "undecided")
"""Of a to b; the first that holds."""


# Which dense network a trial started from


def known_dense(rows: pd.DataFrame) -> pd.Series:
    """``baseline_id``, missing where rows of several seeds name the same one: it isn't known then
    which of a seed's trials started alike."""
    several = with_several(group_numbers(rows, ["baseline_id"]), rows["seed"])
    return rows["baseline_id"].mask(several)


# From trials to units


TRIALS = ["comparison", "stratum", "place", "side", "seed", "dense", "value"]
"""A line a trial. ``comparison``: number of what is judged; ``side``: a or b; ``place``: where a
and b meet, as a compression; ``stratum``: trials of several have nothing in common, as networks;
``dense``: the dense network, missing if unknown; ``value``: a fraction, NaN if diverged."""

ESTIMATE = ["design", "n_a", "n_b", "n_places", "mean_a", "mean_b"]
ESTIMATE += ["difference", "error", "freedom", "deviation"]
"""Columns of an estimate: ``difference`` of a less b, its standard ``error`` with its degrees of
``freedom``, the ``deviation`` between units. ``n_a``, ``n_b``: units; ``n_places``: places."""


def estimates(trials: pd.DataFrame) -> pd.DataFrame:
    """The mean difference of each comparison, indexed by its number; columns ESTIMATE.

    trials: columns TRIALS. Units are averaged over the places that all of them have: one that
    lacks some is left out, or else these places are, so that no difference between places is taken
    for one between methods. A comparison in which one side has nothing is not there.
    """
    there = trials.loc[trials["value"].notna(), TRIALS]
    pairs = _pairs(there)
    is_paired = there["comparison"].isin(_paired(there, pairs))
    pairs = pairs[pairs["comparison"].isin(there.loc[is_paired, "comparison"])]
    return pd.concat([_paired_estimates(pairs), _unpaired_estimates(there[~is_paired])])


def _pairs(trials: pd.DataFrame) -> pd.DataFrame:
    """A line two trials from one dense network at one place; columns a and b."""
    known = trials[trials["dense"].notna()]
    codes, units = pd.factorize(known["dense"])  # text is slow to merge on
    known = known.assign(dense=codes)
    keys = ["comparison", "stratum", "place", "dense"]
    sides = [known.loc[known["side"] == side, [*keys, "value"]] for side in ("a", "b")]
    met = sides[0].merge(sides[1], on=keys, suffixes=("_a", "_b"))
    met = met.rename(columns={"value_a": "a", "value_b": "b", "dense": "unit"})
    return met.assign(unit=units.take(met["unit"]))


def _paired(trials: pd.DataFrame, pairs: pd.DataFrame) -> pd.Index:
    """The comparisons with at least two pairs, or one where no side has more without it."""
    units = pairs.drop_duplicates(["comparison", "stratum", "unit"])
    n_pairs = units.groupby("comparison").size()
    sizes = trials.groupby(["comparison", "side"])["seed"].nunique().unstack("side")
    fewest = sizes.reindex(columns=["a", "b"]).min(axis="columns").reindex(n_pairs.index)
    return n_pairs.index[(n_pairs > 1) | (fewest < 2)]


def _paired_estimates(pairs: pd.DataFrame) -> pd.DataFrame:
    cells = complete(pairs)
    units = cells.groupby(["comparison", "stratum", "unit"])[["a", "b"]].mean()
    units["difference"] = units["a"] - units["b"]
    of = units.groupby(level="comparison")
    n = of.size()
    deviation = of["difference"].std()
    return pd.DataFrame(
        {
            "design": "paired",
            "n_a": n,
            "n_b": n,
            "n_places": _number_of_places(cells),
            "mean_a": of["a"].mean(),
            "mean_b": of["b"].mean(),
            "difference": of["difference"].mean(),
            "error": deviation / np.sqrt(n),
            "freedom": (n - 1).astype("float64"),
            "deviation": deviation,
        },
        columns=ESTIMATE,
    )


def _unpaired_estimates(trials: pd.DataFrame) -> pd.DataFrame:
    """Strata with a single trial on a side have no spread: they are left out where others have
    one. Each stratum weighs as many units as its smaller side has."""
    cells = complete(trials.assign(unit=trials["side"] + trials["seed"].astype("str")))
    strata = ["comparison", "stratum"]
    units = cells.groupby([*strata, "side", "seed"])["value"].mean()
    table = units.groupby(level=[*strata, "side"]).agg(["size", "mean", "var"]).unstack("side")
    table = table.reindex(columns=pd.MultiIndex.from_product([["size", "mean", "var"], ["a", "b"]]))
    table = table[table["size"].notna().all(axis="columns")]
    sizes, means, variances = table["size"], table["mean"], table["var"]
    smaller = sizes.min(axis="columns")
    several = (smaller > 1).groupby(level="comparison").transform("any")
    kept = (smaller > 1) | ~several
    sizes, means, variances, smaller = (part[kept] for part in (sizes, means, variances, smaller))
    total = smaller.groupby(level="comparison").transform("sum")
    weight = smaller / total
    squared = weight**2 * (variances["a"] / sizes["a"] + variances["b"] / sizes["b"])
    parts = pd.DataFrame(
        {
            "n_a": sizes["a"],
            "n_b": sizes["b"],
            "mean_a": weight * means["a"],
            "mean_b": weight * means["b"],
            "squared": squared,
            "of_freedom": squared**2 / (smaller - 1).replace(0, np.nan),
            "smaller": smaller,
        }
    )
    sums = parts.groupby(level="comparison").sum(min_count=1)
    error = np.sqrt(sums["squared"])
    spread = error > TIED
    freedom = (sums["squared"] ** 2 / sums["of_freedom"]).where(spread, sums["smaller"] - 1)
    table = sums.assign(
        design="unpaired",
        n_a=sums["n_a"].astype("int64"),
        n_b=sums["n_b"].astype("int64"),
        n_places=_number_of_places(cells).reindex(sums.index),
        difference=sums["mean_a"] - sums["mean_b"],
        error=error,
        freedom=freedom,
        deviation=error * np.sqrt(sums["smaller"]),
    )
    return table[ESTIMATE]


def _number_of_places(cells: pd.DataFrame) -> pd.Series:
    return cells.drop_duplicates(["comparison", "stratum", "place"]).groupby("comparison").size()


def complete(cells: pd.DataFrame) -> pd.DataFrame:
    """Of each comparison and stratum the cells of a block in which all units have all places.

    cells: columns comparison, stratum, place, unit. The block with the most (units - 1) x places;
    what is missing decides, never a value. Raises ValueError where a unit has a place twice.
    """
    keys = ["comparison", "stratum", "place", "unit"]
    if cells.duplicated(keys + ["side"] * ("side" in cells)).any():
        raise ValueError("a unit has two values at one place")
    group = group_numbers(cells, ["comparison", "stratum"])
    number = cells.groupby(group)[["place", "unit"]].transform("nunique")
    full = number["place"] * number["unit"] == group.groupby(group).transform("size")
    if full.all():
        return cells
    kept = full.to_numpy().copy()
    for _, positions in pd.Series(np.flatnonzero(~kept)).groupby(group[~full].to_numpy()):
        part = cells.iloc[positions.to_numpy()]
        kept[positions.to_numpy()] = _in_block(part)
    return cells[kept]


def _in_block(cells: pd.DataFrame) -> NDArray[np.bool_]:
    """Which of one group's cells are in the block. Looked at are the units with most places, ever
    more of them, and all units that have a place, of each place."""
    units, unit = np.unique(cells["unit"].astype("str"), return_inverse=True)
    places, place = np.unique(cells["place"], return_inverse=True)
    there = np.zeros((len(units), len(places)), dtype=bool)
    there[unit, place] = True
    order = np.argsort(-there.sum(axis=1), kind="stable")
    candidates = [order[:k] for k in range(1, len(order) + 1)]
    candidates += [np.flatnonzero(at_place) for at_place in there.T]
    side_of = np.array([name[:1] for name in units])
    best, chosen = -1, (candidates[0], there[candidates[0]].all(axis=0))
    for members in candidates:
        common = there[members].all(axis=0)
        sizes = [len(members)]
        if "side" in cells:
            sizes = [int((side_of[members] == side).sum()) for side in "ab"]
        score = (min(sizes) - 1) * int(common.sum()) if min(sizes) and common.any() else -1
        if score > best or (score == best > 0 and len(members) > len(chosen[0])):
            best, chosen = score, (members, common)
    members, common = chosen
    return np.isin(unit, members) & np.asarray(common)[place]


def summed_estimates(places: pd.DataFrame) -> pd.DataFrame:
    """The same of published rows that sum up several trials each: which trial is which isn't known.

    places: comparison, mean_a, mean_b, deviation_a, deviation_b (between trials), n_a, n_b. All
    places of a comparison are taken to go up and down together, so the error of the mean is the
    mean of the errors, its greatest possible value (Minkowski). Degrees of freedom are those of
    the smallest side anywhere. Places with a single trial on a side have no spread: left out where
    others have one.
    """
    spread = (places[["n_a", "n_b"]] > 1).all(axis="columns")
    spread &= places[["deviation_a", "deviation_b"]].notna().all(axis="columns")
    kept = spread | ~spread.groupby(places["comparison"]).transform("any")
    used = places[kept]
    smaller = used[["n_a", "n_b"]].min(axis="columns")
    squared = used["deviation_a"] ** 2 / used["n_a"] + used["deviation_b"] ** 2 / used["n_b"]
    table = used.assign(smaller=smaller, error=np.sqrt(squared).where(spread))
    of = table.groupby("comparison")
    n = of["smaller"].min()
    error = of["error"].mean()
    return pd.DataFrame(
        {
            "design": "summed",
            "n_a": of["n_a"].min(),
            "n_b": of["n_b"].min(),
            "n_places": of.size(),
            "mean_a": of["mean_a"].mean(),
            "mean_b": of["mean_b"].mean(),
            "difference": of["mean_a"].mean() - of["mean_b"].mean(),
            "error": error,
            "freedom": (n - 1).astype("float64").where(error.notna(), 0.0),
            "deviation": error * np.sqrt(n),
        },
        columns=ESTIMATE,
    )


# From units to verdicts


def judged(
    found: pd.DataFrame, margin: float = MARGIN, *, worth: float | None = None, together: bool
) -> pd.DataFrame:
    """``found`` (columns ESTIMATE, in any order or number of lines) with what it shows.

    - ``low``, ``high``: 95% interval of the difference; NaN where no spread is known
    - ``p``: of no difference, two-sided; ``p_not_worse``, ``p_not_better``, ``p_equivalent``: of a
      being worse by the margin or more, better by it or more, either. They too are twice a
      one-sided p, so that all of them are at most 0.05 exactly where the interval says so
    - ``p_holm`` and so on: corrected for the number of lines (Holm), where ``together``
    - ``equivalent``: both directions are inside the margin (two one-sided tests, Schuirmann 1987),
      of at least FEWEST_EQUIVALENT units on each side
    - ``relation``: one of RELATIONS
    - ``detectable``: the true difference that as many seeds would show with 80% power
    - ``seeds_needed``: to show a difference of ``worth`` (default: the margin) with that power
    """
    lines = found.assign(freedom=found["freedom"].astype("float64"))
    difference, error = (lines[name].to_numpy(dtype=np.float64) for name in ("difference", "error"))
    freedom = lines["freedom"].to_numpy(dtype=np.float64)
    alike = smallest_p(lines)
    above = {
        "zero": _p_above(difference, error, freedom, alike),
        "least": _p_above(difference + margin, error, freedom, alike),
    }
    below = {
        "zero": _p_above(-difference, error, freedom, alike),
        "most": _p_above(margin - difference, error, freedom, alike),
    }
    tests = {
        "p": np.minimum(above["zero"], below["zero"]),
        "p_not_worse": above["least"],
        "p_not_better": below["most"],
        "p_equivalent": np.maximum(above["least"], below["most"]),
    }
    reach = _reach(error, freedom, alike)
    lines = lines.assign(**tests, low=difference - reach, high=difference + reach)
    number = max(1, int(lines["p"].notna().sum())) if together else 1
    shown = {name: (holm(p) if together else p) <= ALPHA for name, p in tests.items()}
    fewest = lines[["n_a", "n_b"]].min(axis="columns").to_numpy()
    shown["p_equivalent"] = shown["p_equivalent"] & (fewest >= FEWEST_EQUIVALENT)
    if together:
        lines = lines.assign(p_holm=holm(tests["p"]), p_equivalent_holm=holm(tests["p_equivalent"]))
    holds = [shown["p"] & (difference > 0), shown["p"] & (difference < 0)]
    holds += [shown["p_equivalent"], shown["p_not_worse"], shown["p_not_better"]]
    spread = (lines["error"] > TIED) | ~(freedom > 0)
    deviation = lines["deviation"].where(lines["error"] > TIED).to_numpy(dtype=np.float64)
    return lines.assign(
        equivalent=shown["p_equivalent"],
        relation=np.select(holds, RELATIONS[:-1], RELATIONS[-1]),
        detectable=np.where(spread, detectable(error, freedom, ALPHA / number), np.nan),
        seeds_needed=seeds_needed(margin if worth is None else worth, deviation, ALPHA / number),
    )


def smallest_p(lines: pd.DataFrame) -> Floats:
    """Two-sided, of an exact permutation test of that many units: what is certain where all units
    show the same difference, so that their spread can't be judged."""
    sizes = zip(lines["design"], lines["n_a"].fillna(0), lines["n_b"].fillna(0), strict=True)
    return np.array(
        [
            1.0
            if min(a, b) < 1
            else 2 / (2 ** int(a) if design == "paired" else comb(int(a + b), int(a)))
            for design, a, b in sizes
        ]
    )


def _p_above(difference: Floats, error: Floats, freedom: Floats, alike: Floats) -> Floats:
    """Twice the p of a difference of zero or less, at most 1. NaN where there is no difference;
    1 where a single unit shows no spread."""
    spread = (error > TIED) & (freedom > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_t = 2 * stats.t.sf(difference / error, freedom)
    several = (error <= TIED) & (freedom > 0) & (difference > TIED)
    p = np.where(spread, by_t, np.where(several, alike, 1.0))
    return np.asarray(np.where(np.isnan(difference), np.nan, np.minimum(1, p)))


def _reach(error: Floats, freedom: Floats, alike: Floats) -> Floats:
    """Half the width of the 95% interval; NaN where so few units allow none."""
    with np.errstate(invalid="ignore"):
        reach = stats.t.ppf(1 - ALPHA / 2, np.where(freedom > 0, freedom, np.nan)) * error
    return np.asarray(np.where((error <= TIED) & ~(alike <= ALPHA), np.nan, reach))


# A single comparison


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Of one comparison; differences as fractions, a's less b's. See ``judged``."""

    n: int
    """Pairs."""
    difference: float
    low: float
    high: float
    p: float
    p_equivalent: float
    relation: str
    equivalent: bool
    detectable: float
    seeds_needed: float


def judge_pairs(
    a: Sequence[float], b: Sequence[float], margin: float = MARGIN, *, number: int = 1
) -> Judged:
    """a, b: of each unit the mean over all that it was measured at. Raises ValueError without any.

    number: of comparisons that this is one of; ``seeds_needed`` and ``detectable`` allow for it.
    """
    if len(a) != len(b) or not len(a):
        raise ValueError(f"{len(a)} and {len(b)} values aren't pairs")
    trials = pd.DataFrame(
        {
            "comparison": 0,
            "stratum": 0,
            "place": 0,
            "side": ["a"] * len(a) + ["b"] * len(b),
            "seed": [*range(len(a)), *range(len(b))],
            "dense": [*range(len(a)), *range(len(b))],
            "value": [*a, *b],
        }
    )
    found = estimates(trials)
    (line,) = judged(found, margin, together=False).itertuples()
    (error,), (freedom,) = found["error"], found["freedom"]
    at_level = ALPHA / number
    deviation = line.deviation if line.error > TIED else np.nan
    return Judged(
        n=int(line.n_a),
        difference=float(line.difference),
        low=float(line.low),
        high=float(line.high),
        p=float(line.p),
        p_equivalent=float(line.p_equivalent),
        relation=str(line.relation),
        equivalent=bool(line.equivalent),
        detectable=float(detectable(np.array([error]), np.array([freedom]), at_level)[0]),
        seeds_needed=float(seeds_needed(margin, np.array([deviation]), at_level)[0]),
    )

"""Two methods over the same seeds: how far apart, how sure, and what could have been shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.attainment import trials_of
from analysis.columns import BadRows
from analysis.headline import with_step
from analysis.points import PANEL, density_levels, group_numbers
from analysis.statistics import (
    ALPHA,
    MOST_SEEDS,
    Floats,
    Tested,
    benjamini_hochberg,
    cliffs_delta,
    fewest_seeds,
    hedges_g,
    holm,
    paired_test,
    rank_p,
    rank_sum_p,
    seeds_needed,
    smallest_p,
    smallest_stratified_p,
    stacked,
    stratified_p,
    t_p,
    unpaired_test,
    welch_p,
)

SCENARIO = [*PANEL, "criterion", "setting", "step", "density"]
"""What two methods have in common where they are compared. ``setting``: the part of ``variant``
that several methods have, as rates of pruning; ``step``: the prune fraction of a chain."""

STRATUM = ["network", "dataset", "protocol"]
"""Trials that differ in these have nothing to do with each other."""

DIGITS = 9
"""Of accuracies; what differs further behind is rounding, and tied."""

WORTH = 0.003
"""A difference worth finding, as a fraction: 0.3 points. How many seeds it takes is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Accuracies and differences are fractions; differences are a's less b's."""

    scenarios: pd.DataFrame
    """A line a pair of methods and scenario."""
    overall: pd.DataFrame
    """A line a pair of methods; paired and unpaired scenarios apart."""


def compare(
    rows: pd.DataFrame,
    methods: Sequence[str] = (),
    *,
    worth: float = WORTH,
    equal_epochs: bool = False,
) -> Comparison:
    """All pairs among ``methods``; of one, its pairs with the others; of none, all there are.

    They are compared at the retraining times that validation accuracy chose for each, or, with
    ``equal_epochs``, at every one that both have. Trials are paired where their dense network is
    the same and known; a scenario without such pairs is compared unpaired. Diverged trials are
    left out and counted.

    Raises ValueError for an unknown method, BadRows where no two methods meet.
    """
    if not 0 < worth < 1:
        raise ValueError(f"a difference worth finding is {worth:g}; allowed: above 0, below 1")
    trials = labelled(trials_of(rows, chosen=not equal_epochs), rows, equal_epochs=equal_epochs)
    pairs = pairs_of(trials, methods)
    if not pairs:
        raise BadRows(f"nothing to compare: all rows are of {', '.join(set(trials['contender']))}")
    lines = meetings(trials, pairs)
    if lines.empty:
        equally = " and retraining time" if equal_epochs else ""
        raise BadRows(
            f"no two of these methods meet: at one compression{equally} of one "
            f"{', '.join(PANEL)}, criterion"
        )
    matched, loose = matches(lines, trials)
    scenarios = judged(lines.join(measured(matched, loose)), worth)
    return Comparison(
        scenarios=scenarios.drop(columns=["pair", "scenario"]),
        overall=overall(scenarios, matched, loose),
    )


# Which trials meet


def labelled(trials: pd.DataFrame, rows: pd.DataFrame, *, equal_epochs: bool) -> pd.DataFrame:
    """``trials`` with ``setting``, ``contender`` (method and own knobs), ``scenario`` (a number),
    and ``dense``: the dense network a trial started from, missing if unknown."""
    split = settings(trials)
    plain = split["knobs"] == ""
    named = with_step(trials).assign(
        setting=split["setting"],
        contender=trials["method"].where(plain, trials["method"] + " (" + split["knobs"] + ")"),
    )
    within = [*SCENARIO[:-1], *(["retrain_epochs"] if equal_epochs else [])]
    named["density"] = density_levels(named, within)
    seeds_of_one = rows.groupby("baseline_id")["seed"].nunique()
    for_all_seeds = named["baseline_id"].map(seeds_of_one) > 1
    named = named.assign(
        scenario=group_numbers(named, [*within, "density"]),
        dense=named["baseline_id"].mask(for_all_seeds),
    )
    _refuse_repeated(named)
    return named


def _refuse_repeated(trials: pd.DataFrame) -> None:
    twice = trials[trials.duplicated(["scenario", "contender", "seed"], keep=False)]
    if twice.empty:
        return
    first = twice.iloc[0]
    raise BadRows(
        f"{first.contender} has several trials of seed {first.seed} at density {first.density:.4g} "
        f"({', '.join(twice.stage_id.head(2))}), pruned by fractions so close that they count as "
        "one: leave one of them out"
    )


def settings(trials: pd.DataFrame) -> pd.DataFrame:
    """The parts of each trial's ``variant``: in ``setting`` those that several methods of its
    panel have, in ``knobs`` its own method's."""
    kind = [*PANEL, "method", "variant"]
    distinct = trials[kind].drop_duplicates()
    parts = distinct.assign(part=distinct["variant"].str.split(", ")).explode("part")
    several = parts.groupby([*PANEL, "part"], dropna=False)["method"].transform("nunique") > 1
    split = pd.DataFrame(
        {
            name: parts["part"].where(which, "").groupby(level=0).agg(_joined)
            for name, which in (("setting", several), ("knobs", ~several))
        }
    )
    number = group_numbers(trials, kind)
    return split.set_axis(number[split.index]).loc[number].set_axis(trials.index)


def _joined(parts: pd.Series) -> str:
    return ", ".join(filter(None, parts))


def pairs_of(trials: pd.DataFrame, methods: Sequence[str]) -> list[tuple[str, str]]:
    """Of contenders; a method stands for all its variants."""
    of_method = trials.groupby("contender")["method"].first()
    known = list(of_method.index)
    for name in methods:
        if name not in {*known, *of_method}:
            there = ", ".join(sorted({*known, *of_method}))
            raise ValueError(f"unknown --methods {name!r}; there: {there}")
    asked = list(
        dict.fromkeys(
            contender
            for name in methods
            for contender in known
            if name in (contender, of_method[contender])
        )
    )
    if len(set(methods)) == 1:
        others = [contender for contender in known if contender not in asked]
        return [*combinations(asked, 2), *((a, b) for a in asked for b in others)]
    return list(combinations(asked or known, 2))


def meetings(trials: pd.DataFrame, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """A line a pair and scenario that both have rows in: what it is, and who diverged."""
    counts = (
        trials.assign(n_diverged=trials["status"] == "diverged")
        .groupby(["scenario", "contender"])
        .agg(retrain_epochs=("retrain_epochs", "first"), n_diverged=("n_diverged", "sum"))
        .reset_index()
    )
    sides = [
        counts.rename(
            columns={name: f"{name}_{side}" for name in ("retrain_epochs", "n_diverged")}
        ).rename(columns={"contender": side})
        for side in ("a", "b")
    ]
    met = pd.DataFrame(pairs, columns=["a", "b"]).reset_index(names="pair")
    met = met.merge(sides[0], on="a").merge(sides[1], on=["scenario", "b"])
    told = trials.groupby("scenario").agg(
        **{name: (name, "first") for name in [*SCENARIO, "level"]},
        compression_ratio=("compression_ratio", "median"),
    )
    order = ["pair", *PANEL, "criterion", "setting", "step", "compression_ratio"]
    lines = met.join(told, on="scenario")
    lines = lines.sort_values([*order, "retrain_epochs_a"], ignore_index=True)
    epochs = ["retrain_epochs_a", "retrain_epochs_b"]
    diverged = ["n_diverged_a", "n_diverged_b"]
    first = ["pair", "a", "b", *SCENARIO, "level", "compression_ratio"]
    return lines[[*first, *epochs, *diverged, "scenario"]]


def matches(lines: pd.DataFrame, trials: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The accuracies that ``lines`` compare; ``line`` is the position there.

    Paired: a line two trials on one dense network, with line, dense, a, b. Unpaired, for lines
    without such: a line a trial, with line, side (a or b), accuracy, and whose it is.
    """
    there = trials[trials["test_accuracy"].notna()].rename(columns={"test_accuracy": "accuracy"})
    there = there[["scenario", "contender", "dense", *STRATUM, "seed", "accuracy"]]
    sides = [
        lines[["scenario", side]]
        .rename(columns={side: "contender"})
        .reset_index(names="line")
        .merge(there, on=["scenario", "contender"])
        .assign(side=side)
        for side in ("a", "b")
    ]
    known = [side.loc[side["dense"].notna(), ["line", "dense", "accuracy"]] for side in sides]
    matched = known[0].merge(known[1], on=["line", "dense"], suffixes=("_a", "_b"))
    matched = matched.rename(columns={"accuracy_a": "a", "accuracy_b": "b"})
    loose = pd.concat(sides, ignore_index=True)
    both = loose["line"].isin(sides[0]["line"]) & loose["line"].isin(sides[1]["line"])
    return matched, loose[both & ~loose["line"].isin(matched["line"])].reset_index(drop=True)


# What they show


def measured(matched: pd.DataFrame, loose: pd.DataFrame) -> pd.DataFrame:
    """By line: design, sizes, means, difference, interval, p, effect size, spread."""
    blocks = [*paired_blocks(matched), *unpaired_blocks(loose)]
    return pd.concat(blocks).reindex(columns=MEASURED) if blocks else pd.DataFrame(columns=MEASURED)


MEASURED = [
    "design",
    "n_a",
    "n_b",
    "mean_a",
    "mean_b",
    "difference",
    "difference_low",
    "difference_high",
    "confidence",
    "difference_median",
    "deviation",
    "hedges_g",
    "cliffs_delta",
    "p",
    "p_ranks",
    "p_t",
    "smallest_p",
]


def paired_blocks(matched: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Lines with equally many pairs together."""
    lines = matched["line"].to_numpy()
    of_a, of_b = (stacked(matched[side], lines) for side in ("a", "b"))
    for (numbers, a), (_, b) in zip(of_a, of_b, strict=True):
        differences = a - b
        n = differences.shape[1]
        yield numbers_of(numbers, a, b, paired_test(differences)).assign(
            design="paired",
            difference_median=np.median(differences, axis=1),
            deviation=differences.std(axis=1, ddof=1) if n > 1 else np.nan,
            p_ranks=rank_p(differences),
            p_t=t_p(differences) if n > 1 else np.nan,
            smallest_p=float(smallest_p(n)),
            hedges_g=hedges_g(differences),
        )


def unpaired_blocks(loose: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Lines with equally many trials of a, and of b, together."""
    if loose.empty:
        return
    for (n_a, n_b), these in pd.crosstab(loose["line"], loose["side"]).groupby(["a", "b"]):
        chosen = loose[loose["line"].isin(these.index)]
        stacks = []
        for side in ("a", "b"):
            part = chosen[chosen["side"] == side]
            stacks += list(stacked(part["accuracy"], part["line"].to_numpy()))
        (numbers, a), (_, b) = stacks
        varies = n_a > 1 and n_b > 1
        variance = a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1) if varies else np.nan
        yield numbers_of(numbers, a, b, unpaired_test(a, b)).assign(
            design="unpaired",
            difference_median=np.median(a, axis=1) - np.median(b, axis=1),
            deviation=np.sqrt(variance / 2),
            p_ranks=rank_sum_p(a, b),
            p_t=welch_p(a, b) if varies else np.nan,
            smallest_p=float(smallest_p(n_a, n_b)),
            cliffs_delta=cliffs_delta(a, b),
        )


def numbers_of(lines: Any, a: Floats, b: Floats, tested: Tested) -> pd.DataFrame:
    """The interval is NaN where a single pair, or trial against trial, says nothing."""
    says = tested.confidence > 0
    return pd.DataFrame(
        {
            "n_a": a.shape[1],
            "n_b": b.shape[1],
            "mean_a": a.mean(axis=1),
            "mean_b": b.mean(axis=1),
            "difference": a.mean(axis=1) - b.mean(axis=1),
            "difference_low": tested.low if says else np.nan,
            "difference_high": tested.high if says else np.nan,
            "confidence": tested.confidence if says else np.nan,
            "p": tested.p,
        },
        index=lines,
    )


def judged(lines: pd.DataFrame, worth: float) -> pd.DataFrame:
    """``lines`` corrected for their number, with ``better``, ``could_show``, ``seeds_needed`` and
    the ``verdict`` in words.

    ``better`` is a method's name or empty. ``could_show``: some outcome of that many seeds would
    have been significant after correction, those of the other lines being at best so too.
    """
    number = max(1, int(lines["p"].notna().sum()))
    corrected = lines.assign(
        n_a=lines["n_a"].fillna(0).astype("int64"),
        n_b=lines["n_b"].fillna(0).astype("int64"),
        p_holm=holm(lines["p"]),
        p_bh=benjamini_hochberg(lines["p"]),
        p_t_holm=holm(lines["p_t"]),
        could_show=holm(lines["smallest_p"]) <= ALPHA,
        seeds_needed=np.nan,
    )
    for design, among in corrected.groupby("design"):
        paired = design == "paired"
        fewest = fewest_seeds(ALPHA / number, paired=paired)
        found = seeds_needed(worth, among["deviation"], ALPHA / number, paired=paired)
        corrected.loc[among.index, "seeds_needed"] = np.maximum(found, fewest)
    ahead = corrected["a"].where(corrected["difference"] > 0, corrected["b"])
    corrected["better"] = ahead.where(corrected["p_holm"] <= ALPHA, "")
    words = [verdict(line, worth) for line in corrected.itertuples(index=False)]
    return corrected.drop(columns="smallest_p").assign(verdict=words)


def verdict(line: Any, worth: float) -> str:
    """A line in a sentence, in points."""
    diverged = [
        f"{count} of {name} diverged"
        for name, count in ((line.a, line.n_diverged_a), (line.b, line.n_diverged_b))
        if count
    ]
    if pd.isna(line.p):
        return "; ".join(["not compared: one has no accuracy here", *diverged])
    away, numbers = in_points(line.difference), p_text(line)
    if not pd.isna(line.confidence):
        low, high = in_points(line.difference_low), in_points(line.difference_high)
        numbers = f"{line.confidence:.0%} CI {low} to {high}, {numbers}"
    if line.better:
        parts = [f"{line.better} better by {away.lstrip('+-')} points ({numbers})"]
    else:
        parts = [f"no difference shown: {away} points ({numbers})"]
        if not line.could_show:
            parts.append(f"could not have been shown with {sizes(line)}")
        if line.p_t_holm <= ALPHA:
            parts.append(f"were the differences normal, p={line.p_t_holm:.2g} corrected")
        if line.seeds_needed > min(line.n_a, line.n_b):
            parts.append(f"{100 * worth:g} points would need {seeds_text(line.seeds_needed)}")
    return "; ".join([*parts, *diverged])


def in_points(difference: float) -> str:
    """0.0042 is +0.42."""
    return f"{round(100 * difference, 2) + 0:+.2f}"


def p_text(line: Any) -> str:
    """p by itself, and corrected for all comparisons, where that is another."""
    corrected = f", {line.p_holm:.2g} corrected" if line.p_holm != line.p else ""
    return f"p={line.p:.2g}{corrected}"


def sizes(line: Any) -> str:
    if line.design == "unpaired":
        return f"{line.n_a} against {line.n_b} trials"
    return "1 seed" if line.n_a == 1 else f"{line.n_a} seeds"


def seeds_text(seeds: float) -> str:
    return f"more than {MOST_SEEDS} seeds" if np.isinf(seeds) else f"about {seeds:.0f} seeds"


# All scenarios of a pair together


def overall(scenarios: pd.DataFrame, matched: pd.DataFrame, loose: pd.DataFrame) -> pd.DataFrame:
    """A line a pair and design: over all its scenarios, each counting the same.

    Tested is ``lead``: how often a is ahead less how often b is, as a share; of each dense network
    in each scenario, or unpaired of each trial against each in its scenario. What depends on each
    other changes sides together: all scenarios of a dense network; unpaired, all of a method's
    trials of one network and seed. ``n`` counts these. ``ahead`` and ``behind`` count scenarios by
    their mean difference, of which ``difference`` is the mean.
    """
    compared = scenarios[scenarios["p"].notna()]
    if compared.empty:
        raise BadRows("no two of these methods have a test_accuracy at one compression")
    parts = []
    for (_, design), lines in compared.groupby(["pair", "design"]):
        trials = matched if design == "paired" else loose
        tested = paired_lead if design == "paired" else unpaired_lead
        parts.append(
            lines.iloc[[0]][["a", "b", "design"]].assign(
                scenarios=len(lines),
                ahead=int((lines["difference"].round(DIGITS) > 0).sum()),
                behind=int((lines["difference"].round(DIGITS) < 0).sum()),
                difference=lines["difference"].mean(),
                **tested(trials[trials["line"].isin(lines.index)]),
            )
        )
    table = pd.concat(parts, ignore_index=True)
    table = table.assign(p_holm=holm(table["p"]), could_show=holm(table["smallest_p"]) <= ALPHA)
    leader = table["a"].where(table["lead"] > 0, table["b"])
    table["better"] = leader.where(table["p_holm"] <= ALPHA, "")
    words = [overall_verdict(line) for line in table.itertuples(index=False)]
    return table.drop(columns="smallest_p").assign(verdict=words)


def paired_lead(matched: pd.DataFrame) -> dict[str, float]:
    signs = np.sign((matched["a"] - matched["b"]).round(DIGITS))
    of_dense = signs.groupby(matched["dense"]).sum().to_numpy()
    n = len(of_dense)
    p = float(paired_test(of_dense[None]).p[0])
    return {"lead": signs.mean(), "n": n, "p": p, "smallest_p": float(smallest_p(n))}


def unpaired_lead(loose: pd.DataFrame) -> dict[str, float]:
    """A trial's score: how many trials of its line are below it, less how many above."""
    lines = loose["line"]
    sizes = lines.groupby(lines).transform("size")
    scores = 2 * loose["accuracy"].round(DIGITS).groupby(lines).rank() - sizes - 1
    theirs = scores.groupby([*(loose[name] for name in [*STRATUM, "side", "seed"])]).sum()
    strata = [
        tuple(of_network.xs(side, level="side").to_numpy() for side in ("a", "b"))
        for _, of_network in theirs.groupby(level=STRATUM)
    ]
    of_side = pd.crosstab(lines, loose["side"])
    return {
        "lead": float(scores[loose["side"] == "a"].sum() / (of_side["a"] * of_side["b"]).sum()),
        "n": len(theirs),
        "p": stratified_p(strata),
        "smallest_p": smallest_stratified_p([(len(a), len(b)) for a, b in strata]),
    }


def units(design: str) -> str:
    """What ``n`` of a line of ``overall`` counts."""
    return "dense networks" if design == "paired" else "trials"


def overall_verdict(line: Any) -> str:
    counted = (
        f"{line.a} ahead in {line.ahead}, behind in {line.behind} of {line.scenarios} scenarios, "
        f"on average by {in_points(line.difference)} points ({p_text(line)}, "
        f"{line.n} {units(line.design)})"
    )
    if line.better:
        return f"{line.better} better overall: {counted}"
    if line.could_show:
        return f"no difference shown overall: {counted}"
    return f"no difference shown overall, nor could it have been: {counted}"

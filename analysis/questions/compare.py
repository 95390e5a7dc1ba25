"""Two methods over the same seeds: how far apart, how sure, and what could have been shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from analysis.questions.attainment import trials_of
from analysis.questions.headline import with_step
from analysis.questions.judge import ESTIMATE, MARGIN, estimates, judged, known_dense
from analysis.questions.statistics import (
    MOST_SEEDS,
    benjamini_hochberg,
    cliffs_delta,
    exact_p,
    hedges_g,
    stacked,
)
from analysis.table.columns import BadRows
from analysis.table.details import joined, shown_labels
from analysis.table.groups import group_numbers
from analysis.table.metrics import amount, unit_of
from analysis.table.points import PANEL, density_levels, pruned_rows, sums_up
from rewind_ray.errors import UserError

SCENARIO = [*PANEL, "criterion", "setting", "step", "density"]
"""What two methods have in common where they are compared. ``setting``: the knobs
that several methods have, as rates of pruning; ``step``: the prune fraction of a chain."""

STRATUM = ["network", "dataset", "protocol"]
"""Trials that differ in these have nothing to do with each other."""

DIGITS = 9
"""Of accuracies; what differs further behind is rounding, and tied."""

WORTH = 0.003
"""A difference worth finding, as a fraction: 0.3 points. ``seeds_needed`` is for this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Accuracies and differences are fractions; differences are a's less b's."""

    scenarios: pd.DataFrame
    """A line a pair of methods and scenario."""
    overall: pd.DataFrame
    """A line a pair of methods and metric; paired and unpaired scenarios apart."""
    left_out: int = 0
    """Pruned rows that sum up several trials, or don't say how many, and so weren't compared."""


def compare(
    rows: pd.DataFrame,
    methods: Sequence[str] = (),
    *,
    margin: float = MARGIN,
    worth: float = WORTH,
    equal_epochs: bool = False,
) -> Comparison:
    """All pairs among ``methods``; of one, its pairs with the others; of none, all there are.

    They are compared at the retraining times that validation accuracy chose for each, or, with
    ``equal_epochs``, at every one that both have. Trials are paired where their dense network is
    the same and known; a scenario without such pairs is compared unpaired. Diverged trials are
    left out and counted. What is shown is decided by ``questions.judge``, corrected for the number
    of lines.

    Raises UserError for an unknown method, BadRows where no two methods meet.
    """
    if not 0 < worth < 1:
        raise UserError(f"a difference worth finding is {worth:g}; allowed: above 0, below 1")
    trials = trials_of(rows, chosen=not equal_epochs)
    if trials.empty:
        raise BadRows(
            f"nothing to compare: each of the {len(rows)} rows is of a dense network, or sums up "
            "several trials or an unknown number of them, and a test needs single ones; "
            "rewind-ray analysis claims judges sums"
        )
    trials = labelled(trials, equal_epochs=equal_epochs)
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
    met = meeting_trials(lines, trials)
    found = estimates(met.assign(comparison=met["line"], place=0, stratum=0))
    scenarios = described(lines, found, met, margin, worth)
    return Comparison(
        scenarios=scenarios.drop(columns=["pair", "scenario"]),
        overall=overall(scenarios, met, margin, worth),
        left_out=int(sums_up(pruned_rows(rows)).sum()),
    )


def left_out_text(number: int) -> str:
    """Empty without any."""
    if not number:
        return ""
    return (
        f"Left out: {number:,} published rows that sum up several trials, or don't say how many; "
        "a test needs single trials."
    )


# Which trials meet


def labelled(trials: pd.DataFrame, *, equal_epochs: bool) -> pd.DataFrame:
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
    named = named.assign(
        scenario=group_numbers(named, [*within, "density"]),
        dense=known_dense(named),
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
    """The knobs of each trial in which its kind differs, as text: in ``setting`` those that
    several methods of its panel have, in ``knobs`` its own method's."""
    published = trials["published_setting"]
    shown = shown_labels(trials).mask(published != "", "").assign(published_setting=published)
    panel = [trials[name] for name in PANEL]
    several = pd.DataFrame(
        {
            name: trials["method"].groupby([*panel, shown[name]], dropna=False).transform("nunique")
            > 1
            for name in shown
        }
    )
    return pd.DataFrame(
        {"setting": joined(shown.where(several, "")), "knobs": joined(shown.where(~several, ""))}
    )


def pairs_of(trials: pd.DataFrame, methods: Sequence[str]) -> list[tuple[str, str]]:
    """Of contenders; a method stands for all its variants."""
    of_method = trials.groupby("contender")["method"].first()
    known = list(of_method.index)
    for name in methods:
        if name not in {*known, *of_method}:
            there = ", ".join(sorted({*known, *of_method}))
            raise UserError(f"unknown --methods {name!r}; there: {there}")
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
    scenarios = trials.groupby("scenario").agg(
        **{name: (name, "first") for name in [*SCENARIO, "level"]},
        compression_ratio=("compression_ratio", "median"),
    )
    order = ["pair", *PANEL, "criterion", "setting", "step", "compression_ratio"]
    lines = met.join(scenarios, on="scenario")
    lines = lines.sort_values([*order, "retrain_epochs_a"], ignore_index=True)
    epochs = ["retrain_epochs_a", "retrain_epochs_b"]
    diverged = ["n_diverged_a", "n_diverged_b"]
    first = ["pair", "a", "b", *SCENARIO, "level", "compression_ratio"]
    return lines[[*first, *epochs, *diverged, "scenario"]]


def meeting_trials(lines: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that ``lines`` compare, as ``judge`` takes them; ``line`` is the position
    there and ``of_network`` the number of what STRATUM names."""
    there = trials.assign(of_network=group_numbers(trials, STRATUM)).rename(
        columns={"test_accuracy": "value"}
    )
    there = there[["scenario", "contender", "dense", "of_network", "seed", "value"]]
    sides = [
        lines[["scenario", side]]
        .rename(columns={side: "contender"})
        .reset_index(names="line")
        .merge(there, on=["scenario", "contender"])
        .assign(side=side)
        for side in ("a", "b")
    ]
    return pd.concat(sides, ignore_index=True)


# What they show


def described(
    lines: pd.DataFrame, found: pd.DataFrame, met: pd.DataFrame, margin: float, worth: float
) -> pd.DataFrame:
    """``lines`` with what they show; where one side has no accuracy nothing is compared."""
    named = lines.join(found.reindex(columns=ESTIMATE))
    named = named.assign(**{n: named[n].fillna(0).astype("int64") for n in ("n_a", "n_b")})
    table = judged(named, margin, worth=worth, together=True)
    table = table.join(extras(met, found)).assign(p_bh=benjamini_hochberg(table["p"]))
    return worded(table, margin, worth, verdict)


def worded(table: pd.DataFrame, margin: float, worth: float, verdict: Any) -> pd.DataFrame:
    """``table`` with ``better`` (a method's name or empty), ``could_show`` (a difference as large
    as the margin, with 80% power) and the ``verdict`` in words."""
    relation = table["relation"]
    better = table["a"].where(relation == "better", table["b"].where(relation == "worse", ""))
    named = table.assign(better=better, could_show=table["detectable"] <= margin)
    words = [verdict(line, margin, worth) for line in named.itertuples(index=False)]
    return named.assign(verdict=words)


def extras(met: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """By line, beside the judgement: medians, effect sizes, and a p that takes no normal
    distribution."""
    parts = [pd.DataFrame(columns=EXTRAS, dtype="float64")]
    there = met[met["value"].notna()]
    for design, of in found.groupby("design"):
        chosen = there[there["line"].isin(of.index)]
        keys = ["line", "dense" if design == "paired" else "seed"]
        if design == "paired":
            both = chosen.groupby(keys)["side"].transform("nunique") > 1
            chosen = chosen[both]
        chosen = chosen.sort_values(keys)
        for (n_a, n_b), these in of.groupby(["n_a", "n_b"]):
            among = chosen[chosen["line"].isin(these.index)]
            (numbers, a), (_, b) = (
                block for side in ("a", "b") for block in stacked(*_of_side(among, side))
            )
            paired = design == "paired"
            differences = a - b if paired else None
            table = pd.DataFrame(
                {
                    "difference_median": np.median(a, axis=1) - np.median(b, axis=1)
                    if differences is None
                    else np.median(differences, axis=1),
                    "p_exact": exact_p(a, b, paired=paired),
                    "hedges_g": np.nan if differences is None else hedges_g(differences),
                    "cliffs_delta": cliffs_delta(a, b) if differences is None else np.nan,
                },
                index=numbers,
            )
            assert a.shape[1] == n_a and b.shape[1] == n_b
            parts.append(table)
    return pd.concat([part for part in parts if len(part)] or parts)


EXTRAS = ["difference_median", "p_exact", "hedges_g", "cliffs_delta"]


def _of_side(trials: pd.DataFrame, side: str) -> tuple[pd.Series, Any]:
    part = trials[trials["side"] == side]
    return part["value"], part["line"].to_numpy()


def verdict(line: Any, margin: float, worth: float) -> str:
    """A line in a sentence, in points."""
    diverged = [
        f"{count} of {name} diverged"
        for name, count in ((line.a, line.n_diverged_a), (line.b, line.n_diverged_b))
        if count
    ]
    if pd.isna(line.p):
        return "; ".join(["not compared: one has no accuracy here", *diverged])
    return "; ".join([shown_text(line, margin, worth, sizes(line)), *diverged])


def shown_text(line: Any, margin: float, worth: float, size: str) -> str:
    """What a line of ``judged`` shows and doesn't, with its numbers and what it would take."""
    unit = unit_of(line.metric)
    numbers = f"{in_points(line.difference)} {unit}"
    if not pd.isna(line.low):
        numbers += f", 95% CI {in_points(line.low)} to {in_points(line.high)}"
    numbers = f"({numbers}, {p_text(line)}, {size})"
    within = f"equivalent within {amount(margin, line.metric)}"
    if line.better:
        also = f", {within} all the same" if line.equivalent else ""
        return f"{line.better} better{also} {numbers}"
    if line.equivalent:
        return f"{within} {numbers}"
    parts = [f"no difference shown {numbers}"]
    behind = {"at least as good": (line.a, line.b), "at most as good": (line.b, line.a)}
    if line.relation in behind:
        first, other = behind[line.relation]
        parts.append(f"{first} less than {amount(margin, line.metric)} behind {other}")
    if not line.could_show:
        parts.append(could_not(line, margin))
    if line.seeds_needed > min(line.n_a, line.n_b):
        parts.append(f"{amount(worth, line.metric)} would take {seeds_text(line.seeds_needed)}")
    return "; ".join(parts)


def outcome_text(line: Any, margin: float, better: str | None = None) -> str:
    """What a line shows, in a few words. better: what the better method is called, if not so."""
    within = f"equivalent within {amount(margin, line.metric)}"
    if line.better:
        return f"{better or line.better} better" + (f", {within}" if line.equivalent else "")
    if line.equivalent:
        return within
    return "no difference shown" + ("" if line.could_show else ": too few seeds")


def could_not(line: Any, margin: float) -> str:
    """What so few seeds could not have shown."""
    if np.isinf(line.detectable):
        return "a single seed on a side can't show any difference"
    if pd.isna(line.detectable):
        return "no spread to judge by"
    return (
        f"{amount(margin, line.metric)} could not have been shown reliably, only from "
        f"{100 * line.detectable:.2g} up"
    )


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


def overall(
    scenarios: pd.DataFrame, met: pd.DataFrame, margin: float, worth: float
) -> pd.DataFrame:
    """A line a pair, metric and design: over all its scenarios.

    Units are dense networks, or unpaired a network's trials of one seed; each counts the same,
    with its mean over the scenarios that all units of its network have. Different metrics are
    never averaged. ``scenarios`` counts them, ``ahead`` and ``behind`` by the sign of their mean
    difference.
    """
    compared = scenarios[scenarios["p"].notna()]
    if compared.empty:
        raise BadRows("no two of these methods have a test_accuracy at one compression")
    keys = ["pair", "metric", "design"]
    compared = compared.sort_values(keys)
    compared = compared.assign(comparison=group_numbers(compared, keys))
    signs = compared["difference"].round(DIGITS)
    of_pairs = compared.assign(ahead=signs > 0, behind=signs < 0).groupby("comparison")
    counts = of_pairs.agg(
        a=("a", "first"),
        b=("b", "first"),
        metric=("metric", "first"),
        scenarios=("a", "size"),
        ahead=("ahead", "sum"),
        behind=("behind", "sum"),
    )
    trials = met.merge(compared[["comparison", "design"]], left_on="line", right_index=True)
    # where a scenario alone has no pairs, its trials aren't paired with those of another either
    trials["dense"] = trials["dense"].where(trials["design"] == "paired")
    found = estimates(trials.assign(place=trials["line"], stratum=trials["of_network"]))
    table = judged(counts.join(found), margin, worth=worth, together=True)
    return worded(table, margin, worth, overall_verdict).reset_index(drop=True)


def units(design: str) -> str:
    """What ``n_a`` and ``n_b`` of a line of ``overall`` count."""
    return "dense networks" if design == "paired" else "trials"


def over(line: Any) -> str:
    """18 dense networks, or 12 against 12 trials."""
    if line.design == "unpaired":
        return sizes(line)
    return "1 dense network" if line.n_a == 1 else f"{line.n_a} dense networks"


def overall_verdict(line: Any, margin: float, worth: float) -> str:
    counted = f"{line.a} ahead in {line.ahead}, behind in {line.behind} of {line.scenarios}"
    shown = shown_text(line, margin, worth, over(line))
    return f"overall, {line.metric}: {shown}; {counted} scenarios"

"""The papers' claims, judged on the rows at hand.

Each claim says that one method is better than another, or at least as good, in scenarios that are
judged one by one: supported, contradicted, equivalent within the margin, or not decided. The mean
difference over a scenario's compressions is judged as everything is, by ``questions.judge``: per
seed first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.questions.headline import (
    CURVE,
    NO_DROP,
    REWINDINGS,
    SMALL_DROP,
    costs_at_headlines,
    with_step,
)
from analysis.questions.judge import (
    ESTIMATE,
    MARGIN,
    estimates,
    judged,
    known_dense,
    summed_estimates,
)
from analysis.table.columns import BadRows
from analysis.table.details import labels
from analysis.table.groups import group_numbers
from analysis.table.metrics import amount
from analysis.table.points import (
    PANEL,
    POINT,
    choose_retrain_epochs,
    density_levels,
    points_and_trials,
    sums_up,
    trials_of,
)

SAFE_ZONE = (0.25, 0.90)
"""Of the original training; Renda et al. 2020, §4."""

VERDICTS = ("supported", "equivalent", "contradicted", "not decided")

MEETING = [*PANEL, "criterion", "step", "density"]
"""Where two points are compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Points that sides of comparisons are picked from."""

    all: pd.DataFrame
    chosen: pd.DataFrame
    """Each method at its retraining time of the best validation accuracy."""
    at_headlines: pd.DataFrame
    """One-shot and unstructured, at the headline compressions, at all retraining times."""


Pick = Callable[[Candidates], pd.DataFrame]
"""The points of one side of a comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """``better`` is said to beat ``worse``, or with ``strict=False`` to be at least as good: not
    worse by as much as the margin."""

    text: str
    source: str
    better: Pick
    worse: Pick
    strict: bool = True
    refutable: bool = True
    """False where rows can fail to show it, but can't show the opposite."""
    at_equal_cost: bool = False
    """Compared at each retraining time, instead of at the one chosen by validation accuracy."""


def candidates_of(points: pd.DataFrame) -> Candidates:
    one_shot = points[
        (points["schedule_kind"] == "one-shot") & (points["structure"] == "unstructured")
    ]
    at_headlines = one_shot
    if len(one_shot):
        at_headlines = costs_at_headlines(one_shot, (NO_DROP, SMALL_DROP))
        at_headlines = at_headlines.drop_duplicates([*CURVE, "density", "retrain_epochs"])
    return Candidates(all=points, chosen=choose_retrain_epochs(points), at_headlines=at_headlines)


def chosen(*methods: str) -> Pick:
    """Each method at its retraining time of the best validation accuracy."""

    def pick(points: Candidates) -> pd.DataFrame:
        return points.chosen[points.chosen["method"].isin(methods)]

    return pick


def in_safe_zone(*methods: str) -> Pick:
    """One-shot and unstructured, at the headline compressions, retrained for 25% to 90% of T."""

    def pick(points: Candidates) -> pd.DataFrame:
        found = points.at_headlines[points.at_headlines["method"].isin(methods)]
        share = found["retrain_epochs"] / found["dense_epochs"]
        return found[share.between(*SAFE_ZONE).fillna(False)]

    return pick


def for_the_whole_time(method: str) -> Pick:
    """Retrained for as long as the dense network was trained."""

    def pick(points: Candidates) -> pd.DataFrame:
        whole = points.all["retrain_epochs"] == points.all["dense_epochs"]
        return points.all[(points.all["method"] == method) & whole]

    return pick


def of_rates(kept: Callable[[pd.DataFrame], pd.Series]) -> Pick:
    """Retraining with a given top rate, where a point of another rate was trained longer.

    ``variant`` becomes the epoch at which was pruned, so that only what started alike is compared.
    """

    def pick(points: Candidates) -> pd.DataFrame:
        known = points.all["retrain_lr"].notna() & points.all["retrain_epochs"].notna()
        rated = points.all[known]
        rated = rated.assign(rate=rated["retrain_lr"], variant=rated["start"])
        among = rated.groupby([*MEETING, "variant", "method"], dropna=False)
        rated = rated.assign(top=among["rate"].transform("max"))
        return rated[kept(rated)].groupby([*MEETING, "variant", "method"], dropna=False).head(1)

    return pick


def top_rate(points: pd.DataFrame) -> pd.Series:
    """The highest rate, retrained for the shortest time."""
    epochs = points["retrain_epochs"].where(points["rate"] == points["top"])
    return epochs == _within(points, epochs).transform("min")


def lower_rate(points: pd.DataFrame) -> pd.Series:
    """Below the highest rate, retrained for the longest time, and longer than with the highest."""
    epochs = points["retrain_epochs"].where(points["rate"] < points["top"])
    longest = epochs == _within(points, epochs).transform("max")
    shortest = points["retrain_epochs"].where(points["rate"] == points["top"])
    return longest & (epochs > _within(points, shortest).transform("min"))


def _within(points: pd.DataFrame, values: pd.Series) -> pd.api.typing.SeriesGroupBy:
    return values.groupby([points[name] for name in [*MEETING, "variant", "method"]], dropna=False)


OTHERS = ("finetune", "weight_rewind", "low_lr_weight_rewind", "reinit")

CLAIMS: dict[str, Claim] = {
    "finetune_is_worse": Claim(
        text="Fine-tuning is worse than both rewindings",
        source="Renda et al. 2020, §3, takeaway; claim 1 of Mikler 2022, §3",
        better=chosen(*REWINDINGS),
        worse=chosen("finetune"),
    ),
    "lr_rewind_at_least_as_good": Claim(
        text="Learning-rate rewinding is at least as good as weight rewinding in all scenarios",
        source="Renda et al. 2020, §3, takeaway; claim 2 of Mikler 2022, §3",
        better=chosen("lr_rewind"),
        worse=chosen("weight_rewind"),
        strict=False,
    ),
    "safe_zone": Claim(
        text="Retrained for 25% to 90% of the original training, both rewindings beat fine-tuning "
        "of equal search cost",
        source="Renda et al. 2020, §4",
        better=in_safe_zone(*REWINDINGS),
        worse=in_safe_zone("finetune"),
        at_equal_cost=True,
    ),
    "whole_time_is_best": Claim(
        text="Learning-rate rewinding for the whole original training time is at least as good as "
        "any other method at its best retraining time",
        source="Renda et al. 2020, §4, takeaway",
        better=for_the_whole_time("lr_rewind"),
        worse=chosen(*OTHERS),
        strict=False,
    ),
    "larger_rate_is_faster": Claim(
        text="A larger learning rate only converges faster: with a smaller one, retraining longer "
        "gets at least as far",
        source="Wang et al. 2023, Table 5",
        better=of_rates(lower_rate),
        worse=of_rates(top_rate),
        strict=False,
        refutable=False,
    ),
}


OF_VERDICT = ["claim", *PANEL, "criterion", "variant", "step", "method", "method_other"]
"""What a verdict is about."""


OF_POINT = [
    *POINT,
    *("step", "compression_ratio", "dense_epochs", "retrain_lr"),
    *("test_accuracy", "val_accuracy", "accuracy_change"),
    *("test_accuracy_mean", "test_accuracy_std", "n_seeds", "n_diverged"),
]
"""Columns of the points that claims look at, of some eighty."""

OF_JUDGED = ["baseline_id", "seed", "test_accuracy", "trials", "source", "test_accuracy_std"]
"""Columns of the trials that verdicts rest on."""


def judge(rows: pd.DataFrame, margin: float = MARGIN) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every claim in every scenario, and the points that the verdicts rest on.

    The first table has one line a claim, scenario and pair of methods (OF_VERDICT): ``verdict``,
    one of VERDICTS, what ``judge.judged`` says of the mean difference over its points, and how
    many points there are: ``n_points``, of which ``n_places`` are judged, because all units have
    them. The second has one line a point compared, with its mean difference; points are not judged
    one by one. Differences are fractions. Raises BadRows if there is no pruned network among the
    rows.
    """
    points, trials = numbered(rows)
    candidates = candidates_of(points)
    parts = [_compared(name, claim, candidates) for name, claim in CLAIMS.items()]
    parts = [part for part in parts if part["difference"].notna().any()]
    if not parts:
        raise BadRows(
            "no claim can be judged on these rows: none has two methods at the same compression "
            f"of one network; the claims compare {', '.join([*REWINDINGS, *OTHERS[:1]])} and others"
        )
    lines = pd.concat(parts, ignore_index=True)
    lines["comparison"] = group_numbers(lines, OF_VERDICT)
    lines = lines[lines.groupby("comparison")["difference"].transform("count") > 0]
    table = judged(estimated(lines, trials), margin, together=False)
    places = lines.groupby("comparison").agg(
        **{name: (name, "first") for name in [*OF_VERDICT, "strict", "refutable"]},
        n_points=("point", "size"),
        n_diverged=("n_diverged", "sum"),
        n_diverged_other=("n_diverged_other", "sum"),
        worst_difference=("difference", "min"),
        best_difference=("difference", "max"),
    )
    table = places.join(table)
    table["verdict"] = verdicts(table)
    first = [*OF_VERDICT, "strict", "verdict", "n_points"]
    table = table[[*first, *(name for name in table if name not in first)]]
    return (
        table.drop(columns=["refutable"]).reset_index(drop=True),
        lines.drop(columns=["comparison", "point", "point_other", "refutable"]),
    )


def numbered(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points and the trials they are of, with OF_JUDGED and ``dense``; ``point`` is a point's
    number.

    Of the points OF_POINT and ``start``, in words the epoch at which each was pruned, empty at the
    end of the dense training. The ``density`` is that of their level, so that methods meet.
    """
    points, trials = points_and_trials(rows, OF_JUDGED)
    trials = trials.assign(dense=known_dense(trials))
    starts = labels(points)["pruned_at"].str.replace("from", "pruned at", n=1)
    points = with_step(points)[OF_POINT].assign(point=np.arange(len(points)), start=starts)
    points["density"] = density_levels(points, [*PANEL, "criterion", "step"])
    return points, trials


def _compared(name: str, claim: Claim, points: Candidates) -> pd.DataFrame:
    """A line a pair of points that the claim is about; without a difference where one side has
    only diverged trials."""
    keys = [*MEETING, *(["retrain_epochs"] if claim.at_equal_cost else [])]
    kept = [*MEETING, "variant", "method", "retrain_epochs", "point"]
    kept += ["test_accuracy_mean", "test_accuracy_std", "n_seeds", "n_diverged"]
    sides = [pick(points) for pick in (claim.better, claim.worse)]
    # where all trials diverged there is no accuracy, but a point that shouldn't go unnoticed
    better, worse = (
        side.loc[side["test_accuracy_mean"].notna() | (side["n_diverged"] > 0), kept]
        for side in sides
    )
    pairs = better.merge(worse, on=keys, suffixes=("", "_other"))
    if claim.at_equal_cost:
        pairs["retrain_epochs_other"] = pairs["retrain_epochs"]
    variants, others = pairs["variant"], pairs["variant_other"]
    pairs = pairs[(variants == others) | (variants == "") | (others == "")]
    return pairs.assign(
        claim=name,
        strict=claim.strict,
        refutable=claim.refutable,
        variant=pairs["variant"].where(pairs["variant"] != "", pairs["variant_other"]),
        difference=pairs["test_accuracy_mean"] - pairs["test_accuracy_mean_other"],
    )


def estimated(lines: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The mean difference of each comparison; lines with published sums of trials take the sums."""
    trials = trials_of(trials, lines[["point", "point_other"]].to_numpy())
    summed = trials.loc[sums_up(trials), "point"].unique()
    by_sum = lines["point"].isin(summed) | lines["point_other"].isin(summed)
    by_sum = by_sum.groupby(lines["comparison"]).transform("any")
    sides = [
        lines.loc[~by_sum, ["comparison", point]]
        .reset_index(names="place")
        .rename(columns={point: "point"})
        .assign(side=side)
        for side, point in (("a", "point"), ("b", "point_other"))
    ]
    singles = trials[["point", "seed", "dense", "test_accuracy"]]
    met = pd.concat(sides, ignore_index=True).merge(singles, on="point")
    met = met.assign(stratum=0).rename(columns={"test_accuracy": "value"})
    names = {"test_accuracy_mean": "mean", "test_accuracy_std": "deviation", "n_seeds": "n"}
    of_a = {name: f"{short}_a" for name, short in names.items()}
    of_b = {f"{name}_other": f"{short}_b" for name, short in names.items()}
    places = lines.loc[by_sum, ["comparison", *of_a, *of_b]].rename(columns=of_a | of_b)
    places = places.dropna(subset=["mean_a", "mean_b"])
    found = [
        part
        for part in (
            estimates(met) if len(met) else pd.DataFrame(columns=ESTIMATE),
            summed_estimates(places) if len(places) else pd.DataFrame(columns=ESTIMATE),
        )
        if len(part)
    ]
    return pd.concat(found)


def verdicts(table: pd.DataFrame) -> pd.Series:
    """VERDICTS of lines of ``judged``.

    "Better" is supported where a is better and contradicted where it is worse, however little.
    "At least as good" is meant up to the margin: what is inside it in both directions is
    equivalent, whichever of the two the claim names first.
    """
    relation, strict = table["relation"], table["strict"].astype(bool)
    holds = [
        ~strict & table["equivalent"],
        (relation == "better") | (~strict & (relation == "at least as good")),
        (relation == "worse") & table["refutable"],
        relation == "equivalent",
    ]
    order = ["equivalent", "supported", "contradicted", "equivalent"]
    return pd.Series(np.select(holds, order, "not decided"), index=table.index)


# In words


def verdict_text(line: Any, margin: float) -> str:
    """equivalent within 0.5 points"""
    if line.verdict == "equivalent":
        return f"equivalent within {amount(margin, line.metric)}"
    return str(line.verdict)


def points_text(line: Any) -> str:
    """10, or 9 of 10 where one lacks seeds that the others have."""
    if line.n_places == line.n_points:
        return str(line.n_points)
    return f"{line.n_places} of {line.n_points}"


def seeds_of(line: Any) -> str:
    """3, if paired; else 3+3."""
    return str(line.n_a) if line.design == "paired" else f"{line.n_a}+{line.n_b}"

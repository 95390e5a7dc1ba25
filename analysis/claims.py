"""The papers' claims, judged on the rows at hand: supported, contradicted or not decided.

Each claim says that one group of points is better than another, or at least as good, in scenarios
that are judged one by one. A difference of means at one compression is tested by Student's t, with
the deviation between seeds pooled over all points of the scenario at that compression: three seeds
alone can't tell anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.columns import BadRows
from analysis.headline import (
    CURVE,
    NO_DROP,
    REWINDINGS,
    SMALL_DROP,
    costs_at_headlines,
    dense_epochs_of,
    with_step,
)
from analysis.points import PANEL, choose_retrain_epochs, density_levels, points_of

ALPHA = 0.05
MARGIN = 0.005
"""As good as: not worse by more than this. Half of the smaller drop that Renda et al. look at."""
SAFE_ZONE = (0.25, 0.90)
"""Of the original training; Renda et al. 2020, §4."""

VERDICTS = ("supported", "contradicted", "not decided")

PLACE = [*PANEL, "criterion", "step", "density"]
"""Where two points are compared."""

Pick = Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]
"""Points and rows -> the points of one side of a comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """``better`` is said to beat ``worse``, or with ``strict=False`` to be at least as good."""

    text: str
    source: str
    better: Pick
    worse: Pick
    strict: bool = True
    refutable: bool = True
    """False where rows can fail to show it, but can't show the opposite."""
    at_equal_cost: bool = False
    """Compared at each retraining time, instead of at the one chosen by validation accuracy."""


def chosen(*methods: str) -> Pick:
    """Each method at its retraining time of the best validation accuracy."""

    def pick(points: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        return choose_retrain_epochs(points[points["method"].isin(methods)])

    return pick


def in_safe_zone(*methods: str) -> Pick:
    """One-shot and unstructured, at the headline compressions, retrained for 25% to 90% of T."""

    def pick(points: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        one_shot = points[
            (points["schedule_kind"] == "one-shot") & (points["structure"] == "unstructured")
        ]
        if one_shot.empty:
            return one_shot
        at_headlines = costs_at_headlines(one_shot, (NO_DROP, SMALL_DROP))
        at_headlines = at_headlines.drop_duplicates([*CURVE, "density", "retrain_epochs"])
        share = at_headlines["retrain_epochs"] / dense_epochs(at_headlines, rows)
        inside = share.between(*SAFE_ZONE).fillna(False)
        return at_headlines[at_headlines["method"].isin(methods) & inside]

    return pick


def for_the_whole_time(method: str) -> Pick:
    """Retrained for as long as the dense network was trained."""

    def pick(points: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        whole = points["retrain_epochs"] == dense_epochs(points, rows)
        return points[(points["method"] == method) & whole]

    return pick


def dense_epochs(points: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """T of each point's dense network."""
    by_data = dense_epochs_of(rows).to_dict()
    pairs = zip(points["network"], points["dataset"], strict=True)
    return pd.Series(
        [by_data.get(pair, np.nan) for pair in pairs], index=points.index, dtype="float64"
    )


def of_rates(kept: Callable[[pd.DataFrame], pd.Series]) -> Pick:
    """Retraining with a given top rate, where a point of another rate was trained longer.

    ``variant`` becomes the epoch at which was pruned, so that only what started alike is compared.
    """

    def pick(points: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
        rates = points["variant"].str.extract(RATE)[0].astype("float64")
        start = points["variant"].str.extract(START)[0]
        told = points.assign(rate=rates, variant=("pruned at epoch " + start).fillna(""))
        told = told[rates.notna() & points["retrain_epochs"].notna()]
        among = told.groupby([*PLACE, "variant", "method"], dropna=False)
        told = told.assign(top=among["rate"].transform("max"))
        return told[kept(told)].groupby([*PLACE, "variant", "method"], dropna=False).head(1)

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
    return values.groupby([points[name] for name in [*PLACE, "variant", "method"]], dropna=False)


RATE = r"(?:\blr |F\d+, )([0-9.]+(?:e-?\d+)?)"
START = r"(?:from epoch |\bP)(\d+(?:/k)?)"
"""Of variants, one's own and Wang et al.'s ("P30F90, 1e-2")."""

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


def judge(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every claim in every scenario, and what the verdicts rest on.

    The first table has one line a claim, scenario (PANEL, criterion, variant, step) and pair of
    methods: ``verdict``, ``n_points`` compared, of which ``n_supported`` and ``n_contradicted``,
    and the mean ``difference`` with its 90% interval, as fractions. The second has one line a
    point compared. Raises BadRows if there is no pruned network among the rows.
    """
    points = with_step(points_of(rows))
    points = points.assign(
        density=density_levels(points, [*PANEL, "criterion", "step"]),
    )
    deviations = pooled_deviations(points)
    parts = [_compared(name, claim, points, rows) for name, claim in CLAIMS.items()]
    parts = [part for part in parts if not part.empty]
    if not parts:
        raise BadRows(
            "no claim can be judged on these rows: none has two methods at the same compression "
            f"of one network; the claims compare {', '.join([*REWINDINGS, *OTHERS[:1]])} and others"
        )
    lines = tested(pd.concat(parts, ignore_index=True), deviations)
    return verdicts(lines), lines


def pooled_deviations(points: pd.DataFrame) -> pd.DataFrame:
    """The deviation between seeds and its degrees of freedom, at each place.

    Where a place has no point of two seeds, all of its panel's points are pooled.
    """
    known = points[points["n_seeds"].ge(2) & points["test_accuracy_std"].notna()]
    freedom = (known["n_seeds"] - 1).astype("float64")
    squares = known["test_accuracy_std"] ** 2 * freedom
    sums = known[PLACE].assign(squares=squares, freedom=freedom)
    here = sums.groupby(PLACE, dropna=False)[["squares", "freedom"]].sum()
    panel = sums.groupby(PANEL, dropna=False)[["squares", "freedom"]].sum()
    places = points[PLACE].drop_duplicates(ignore_index=True)
    near = places.merge(here.reset_index(), how="left", on=PLACE)
    far = places[PANEL].merge(panel.reset_index(), how="left", on=PANEL)
    squares, freedom = (near[name].fillna(far[name]) for name in ("squares", "freedom"))
    return places.assign(deviation=np.sqrt(squares / freedom), freedom=freedom)


def _compared(name: str, claim: Claim, points: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """A line a pair of points that the claim is about."""
    keys = [*PLACE, "retrain_epochs"] if claim.at_equal_cost else PLACE
    kept = [*PLACE, "variant", "method", "retrain_epochs", "test_accuracy_mean", "n_seeds"]
    sides = [pick(points, rows) for pick in (claim.better, claim.worse)]
    better, worse = (side.loc[side["test_accuracy_mean"].notna(), kept] for side in sides)
    pairs = better.merge(worse, on=keys, suffixes=("", "_other"))
    if claim.at_equal_cost:
        pairs["retrain_epochs_other"] = pairs["retrain_epochs"]
    variants, others = pairs["variant"], pairs["variant_other"]
    pairs = pairs[(variants == others) | (variants == "") | (others == "")]
    variant = pairs["variant"].where(pairs["variant"] != "", pairs["variant_other"])
    return pairs.assign(claim=name, strict=claim.strict, refutable=claim.refutable, variant=variant)


def tested(pairs: pd.DataFrame, deviations: pd.DataFrame) -> pd.DataFrame:
    """``pairs`` with the difference, its standard error, one-sided p values and a verdict."""
    lines = pairs.merge(deviations, how="left", on=PLACE)
    difference = lines["test_accuracy_mean"] - lines["test_accuracy_mean_other"]
    error = lines["deviation"] * np.sqrt(1 / lines["n_seeds"] + 1 / lines["n_seeds_other"])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (difference / error).to_numpy()
    p_for = pd.Series(stats.t.sf(t, lines["freedom"]), index=lines.index)
    p_against = pd.Series(stats.t.cdf(t, lines["freedom"]), index=lines.index)
    reach = stats.t.ppf(1 - ALPHA, lines["freedom"]) * error
    as_good = ~lines["strict"] & (difference - reach >= -MARGIN)
    verdict = np.select(
        [(p_against < ALPHA) & (~lines["strict"] | (p_for >= ALPHA)), (p_for < ALPHA) | as_good],
        ["contradicted", "supported"],
        "not decided",
    )
    verdict = np.where(lines["refutable"] | (verdict != "contradicted"), verdict, "not decided")
    return lines.assign(
        difference=difference, error=error, p_for=p_for, p_against=p_against, verdict=verdict
    )


def verdicts(lines: pd.DataFrame) -> pd.DataFrame:
    """One line a scenario. Contradicted: more points contradict than ALPHA of them would by
    chance (binomial). Else supported: the mean difference is above 0, or with claims that aren't
    strict not below -MARGIN, at the level ALPHA. Else not decided.

    Points of one iterative chain aren't independent, so the level is a nominal one.
    """
    scenario = ["claim", *PANEL, "criterion", "variant", "step", "method", "method_other"]
    grouped = lines.assign(
        supported=lines["verdict"] == "supported",
        contradicted=lines["verdict"] == "contradicted",
        squared_error=lines["error"] ** 2,
    ).groupby(scenario, dropna=False, sort=False)
    table = grouped.agg(
        strict=("strict", "first"),
        n_points=("difference", "size"),
        n_supported=("supported", "sum"),
        n_contradicted=("contradicted", "sum"),
        difference=("difference", "mean"),
        worst_difference=("difference", "min"),
        best_difference=("difference", "max"),
        squared_error=("squared_error", lambda values: values.sum(skipna=False)),
    ).reset_index()
    error = np.sqrt(table["squared_error"]) / table["n_points"]
    reach = stats.norm.ppf(1 - ALPHA) * error
    by_chance = stats.binom.sf(table["n_contradicted"] - 1, table["n_points"], ALPHA)
    contradicted = (table["n_contradicted"] > 0) & (by_chance < ALPHA)
    least = np.where(table["strict"], 0.0, -MARGIN)
    supported = table["difference"] - reach > least
    table["verdict"] = np.select([contradicted, supported], VERDICTS[1::-1], VERDICTS[2])
    table["difference_low"] = table["difference"] - reach
    table["difference_high"] = table["difference"] + reach
    return table.drop(columns="squared_error")

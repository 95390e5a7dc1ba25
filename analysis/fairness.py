"""How fair a comparison is: the comparison setups of Wang et al. 2023, as far as rows tell.

A setup is a tuple of named conditions, a condition a pure function of two groups of rows. What the
rows don't tell is never taken for granted: the finding then says "can't be told".
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from analysis.columns import BadRows
from analysis.details import ALIKE, NO_KNOBS
from analysis.points import FRACTION_DIGITS, POINT, density_levels, group_numbers
from analysis.rows import with_shared_first_levels
from analysis.tables import count, panel_name, percent, times
from rewind_ray.retraining import FACTOR, METHODS, WARMUP

log = logging.getLogger(__name__)

SAME_RATE = 0.005  # relative; papers print compression and speedup to three digits
SAME_ACCURACY = 0.0005  # papers print percent to one or two digits

HOLDS, FAILS, UNKNOWN = "holds", "fails", "can't be told"
WEAKEST_FIRST = (FAILS, UNKNOWN, HOLDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What the rows say about a condition."""

    status: str
    """HOLDS, FAILS or UNKNOWN."""
    words: str
    """Why, with the values."""


# two groups


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A model that was pruned: a dense network at an epoch of its training."""

    baseline_id: str
    pruned_at: float | None
    """Epoch; None: at the end, T; 0: it was not trained, the weights are fresh."""
    test_accuracy: float | None
    """None if unknown, or not trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """The rows of a group at one compression. A None among epochs: some row doesn't tell."""

    compression_ratio: float
    speedup: float
    """NaN if unknown."""
    bases: Mapping[float, frozenset[Base]]
    """Of each retraining time; UNTOLD is one of its own."""
    retrain_epochs: frozenset[float | None]
    """After the last pruning."""
    pruning_epochs: frozenset[float | None]
    """Between the first and the last pruning."""
    pretrain_epochs: frozenset[float | None]
    total_epochs: frozenset[float | None]
    """Pretraining, pruning and retraining."""
    total_cost: tuple[float, ...] | None
    """The same in multiply-adds over those of a dense epoch, a retraining time each, rising; None
    if unknown."""
    seeds: int
    """Fewest that a retraining time has."""

    @property
    def all_bases(self) -> frozenset[Base]:
        return frozenset().union(*self.bases.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Knobs:
    """What a variant tells, part by part."""

    pruning: tuple[str, ...] = ()
    rates: Mapping[str, str]
    """lr, drops, factor, warmup, where given."""
    retraining: tuple[str, ...] = ()
    """What else is told of the retraining, and what this module can't read."""
    unread: tuple[str, ...] = ()
    """The latter."""
    pruned_at: int | None = None
    """Epoch of the dense training."""
    over_speedup: bool = False
    """It is to be divided by the speedup."""
    after: str | None = None
    """Digest of the earlier steps, where they differ from the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Rows that one line of a figure would show."""

    network: str
    dataset: str
    protocol: str
    structure: str
    schedule_kind: str
    prune_fraction: float | None
    """Of iterative pruning."""
    criterion: str
    method: str
    variant: str
    published: bool
    """By others: what the variant leaves out isn't told."""
    knobs: Knobs
    by_compression: Mapping[int, Cell]
    """Those of two groups with the same key have the same compression."""
    by_speedup: Mapping[int, Cell]

    @property
    def place(self) -> tuple[str, str]:
        return self.network, self.dataset

    @property
    def pruning(self) -> tuple[str, str, tuple[str, ...]]:
        return self.structure, self.criterion, self.knobs.pruning


def shared(a: Group, b: Group) -> list[tuple[Cell, Cell]]:
    """The cells at the same compressions or, where there is none, at the same speedups."""
    for of_a, of_b in (
        (a.by_compression, b.by_compression),
        (a.by_speedup, b.by_speedup),
    ):
        found = [(cell, of_b[key]) for key, cell in of_a.items() if key in of_b]
        if found:
            return found
    return []


# conditions


def same_data_and_network(a: Group, b: Group) -> Finding:
    if a.place == b.place:
        return Finding(status=HOLDS, words=panel_name(a.place))
    words = f"data and networks differ: {panel_name(a.place)} vs {panel_name(b.place)}"
    return Finding(status=FAILS, words=words)


def same_rate(a: Group, b: Group) -> Finding:
    """At least one compression or speedup, to SAME_RATE, at which both were measured."""
    found = shared(a, b)
    if found:
        compressions = any(key in b.by_compression for key in a.by_compression)
        what = "compressions" if compressions else "speedups"
        return Finding(status=HOLDS, words=f"{len(found)} {what} in common")
    spans = " vs ".join(
        _span(cell.compression_ratio for cell in group.by_compression.values()) for group in (a, b)
    )
    return Finding(status=FAILS, words=f"no compression or speedup in common: {spans}")


def same_base_model(a: Group, b: Group) -> Finding:
    """The same dense networks, pruned at the same epoch of their training.

    At each retraining time that both have or, where there is none, in all.
    """

    def judge(of_a: Cell, of_b: Cell) -> str:
        if of_a.bases == of_b.bases:
            return HOLDS
        both = of_a.bases.keys() & of_b.bases.keys()
        if both:
            same = all(of_a.bases[epochs] == of_b.bases[epochs] for epochs in both)
        else:
            same = of_a.all_bases == of_b.all_bases
        return HOLDS if same else FAILS

    return _over_cells(a, b, judge, _base_words)


def same_retraining_epochs(a: Group, b: Group) -> Finding:
    """Where several retraining times were tried, the same ones."""
    return _same_epochs(a, b, "retraining", "retrain_epochs")


def same_retraining_rates(a: Group, b: Group) -> Finding:
    """The same rule for the learning rates, with the same knobs, for the same epochs."""
    epochs, rule = same_retraining_epochs(a, b), _same_rule(a, b)
    if epochs.status == rule.status == HOLDS:
        return Finding(status=HOLDS, words=f"{rule.words}; {epochs.words}")
    return _weakest(epochs, rule)


def same_pruning_epochs(a: Group, b: Group) -> Finding:
    """Of all training between the first and the last pruning."""
    return _same_epochs(a, b, "pruning", "pruning_epochs")


def same_pruning_rates(a: Group, b: Group) -> Finding:
    """Iterative: those of the retraining between the prunings. One-shot: there are none."""
    epochs = same_pruning_epochs(a, b)
    if epochs.status != HOLDS:
        return epochs
    if all(cell.pruning_epochs == {0} for cells in shared(a, b) for cell in cells):
        return Finding(status=HOLDS, words="nothing is trained while pruning")
    if a.knobs.after != b.knobs.after:
        return Finding(status=UNKNOWN, words="the learning rates of the steps before the last")
    return same_retraining_rates(a, b)


def same_total_epochs(a: Group, b: Group) -> Finding:
    """Of pretraining, pruning and retraining."""
    return _same_epochs(a, b, "total", "total_epochs")


def same_total_flops(a: Group, b: Group) -> Finding:
    """To half an epoch, for epochs are whole: of the dense network where the pretraining differs,
    else of the pruned one."""

    def judge(of_a: Cell, of_b: Cell) -> str:
        if of_a.total_cost is None or of_b.total_cost is None:
            return UNKNOWN
        if len(of_a.total_cost) != len(of_b.total_cost):
            return FAILS
        epoch = 1.0
        if of_a.pretrain_epochs == of_b.pretrain_epochs:
            epoch = max(1 / cell.speedup for cell in (of_a, of_b))
        costs = zip(of_a.total_cost, of_b.total_cost, strict=True)
        near = all(abs(x - y) <= epoch / 2 for x, y in costs)
        return HOLDS if near else FAILS

    def tell(status: str, of_a: Cell, of_b: Cell) -> str:
        differ = " differ" if status == FAILS else ""
        costs = " vs ".join(_few_costs(cell.total_cost) for cell in (of_a, of_b))
        return f"the total FLOPs{differ}: {costs} dense epochs"

    return _over_cells(a, b, judge, tell)


CONDITIONS: dict[str, Callable[[Group, Group], Finding]] = {
    "same data and network": same_data_and_network,
    "same compression or speedup": same_rate,
    "same base models": same_base_model,
    "same retraining epochs": same_retraining_epochs,
    "same retraining learning rates": same_retraining_rates,
    "same pruning epochs": same_pruning_epochs,
    "same pruning learning rates": same_pruning_rates,
    "same total epochs": same_total_epochs,
    "same total FLOPs": same_total_flops,
}

_S1 = ("same data and network", "same compression or speedup")
_S2 = (*_S1, "same base models")
_S32 = (*_S2, "same retraining learning rates")

# Wang et al. 2023, slides, "Pruning History 101"; their "finetuning" is called retraining here
SETUPS: dict[str, tuple[str, ...]] = {
    "S1": _S1,
    "S2": _S2,
    "S3.1": (*_S2, "same retraining epochs"),
    "S3.2": _S32,
    "S4.1": (*_S32, "same pruning epochs"),
    "S4.2": (*_S32, "same pruning learning rates"),
    "SX-A": (*_S1, "same total epochs"),
    "SX-B": (*_S1, "same total FLOPs"),
}

LADDER = ("S1", "S2", "S3.1", "S3.2", "S4.1", "S4.2")
"""Each satisfies those before it: what has the same learning rates has the same epochs."""

BESIDE = ("SX-A", "SX-B")
"""They ask for nothing but S1 and the whole cost, so a base model needn't be shared."""

SHORT = {
    "S1": "same network, data and compression",
    "S2": "same base models",
    "S3.1": "same base models, same retraining epochs",
    "S3.2": "same base models, same retraining epochs and learning rates",
    "S4.1": "same base models, same retraining, same pruning epochs",
    "S4.2": "same base models, same retraining, same pruning",
    "SX-A": "same total epochs",
    "SX-B": "same total FLOPs",
}


# verdicts


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two groups, and how fairly their rows compare them."""

    a: Group
    b: Group
    setup: str
    """Strictest of LADDER that is satisfied; empty if none is."""
    beside: tuple[str, ...]
    """Those of BESIDE that are satisfied."""
    next_setup: str | None
    """What comes after ``setup`` in LADDER."""
    broken: str | None
    """The condition that keeps it from being satisfied, a key of CONDITIONS."""
    breaks: Finding | None
    """What is found of that."""
    findings: Mapping[str, Finding]
    """Of each condition."""
    compressions: tuple[float, ...]
    """At which both were measured, rising; of ``a`` where only the speedups are the same."""
    shared_baselines: int
    """Base models of both, at any of these compressions."""
    seeds: tuple[int, int]
    """Fewest that a compression and retraining time rests on."""

    @property
    def rank(self) -> tuple[int, bool]:
        """Higher is stricter."""
        told = self.breaks is None or self.breaks.status == UNKNOWN
        return (LADDER.index(self.setup) + 1 if self.setup else 0), told


def judge_pair(a: Group, b: Group) -> Pair:
    findings = {name: condition(a, b) for name, condition in CONDITIONS.items()}
    satisfied = {name: all(findings[c].status == HOLDS for c in SETUPS[name]) for name in SETUPS}
    reached = 0
    while reached < len(LADDER) and satisfied[LADDER[reached]]:
        reached += 1
    next_setup = LADDER[reached] if reached < len(LADDER) else None
    broken = None
    if next_setup:
        broken = next(name for name in SETUPS[next_setup] if findings[name].status != HOLDS)
    cells = shared(a, b)
    return Pair(
        a=a,
        b=b,
        setup=LADDER[reached - 1] if reached else "",
        beside=tuple(name for name in BESIDE if satisfied[name]),
        next_setup=next_setup,
        broken=broken,
        breaks=findings[broken] if broken else None,
        findings=findings,
        compressions=tuple(sorted(of_a.compression_ratio for of_a, _ in cells)),
        shared_baselines=len(frozenset().union(*(x.all_bases & y.all_bases for x, y in cells))),
        seeds=(
            min((of_a.seeds for of_a, _ in cells), default=0),
            min((of_b.seeds for _, of_b in cells), default=0),
        ),
    )


def fairness(rows: pd.DataFrame) -> list[Pair]:
    """Every pair of groups that is compared, the strictest first.

    Compared are, on one network and data set, groups of one structure and kind of schedule,
    whatever else differs, protocols too; and groups that differ in nothing but structure, or in
    nothing but the schedule. Rows without test accuracy and diverged ones are left out.
    """
    by_place: dict[tuple[str, str], list[Group]] = {}
    for group in groups_of(_prepared(rows)):
        by_place.setdefault(group.place, []).append(group)
    pairs = [
        judge_pair(a, b)
        for groups in by_place.values()
        for a, b in combinations(groups, 2)
        if _in_one_panel(a, b) or _differ_in_one(a, b)
    ]
    return sorted(pairs, key=lambda pair: pair.rank, reverse=True)


def _in_one_panel(a: Group, b: Group) -> bool:
    return (a.structure, a.schedule_kind) == (b.structure, b.schedule_kind)


def _differ_in_one(a: Group, b: Group) -> bool:
    """In structure or in schedule_kind and nothing else; a structure has knobs of its own."""
    retrained = [
        (x.protocol, x.criterion, x.method, x.knobs.rates, x.knobs.retraining, x.knobs.pruned_at)
        for x in (a, b)
    ]
    one = (a.structure == b.structure) != (a.schedule_kind == b.schedule_kind)
    return one and retrained[0] == retrained[1]


def pair_record(pair: Pair) -> dict[str, Any]:
    """A pair as plain data, for JSON and tables; in ``a`` and ``b`` the columns of GROUP."""
    breaks = pair.breaks
    return {
        "network": pair.a.network,
        "dataset": pair.a.dataset,
        "a": {name: getattr(pair.a, name) for name in GROUP if name not in ALIKE},
        "b": {name: getattr(pair.b, name) for name in GROUP if name not in ALIKE},
        "label": label_of_pair(pair),
        "setup": pair.setup or None,
        "beside": list(pair.beside),
        "next_setup": pair.next_setup,
        "broken": pair.broken,
        "broken_status": breaks.status if breaks else None,
        "broken_words": breaks.words if breaks else None,
        "compressions": list(pair.compressions),
        "shared_baselines": pair.shared_baselines,
        "seeds_a": pair.seeds[0],
        "seeds_b": pair.seeds[1],
        "conditions": {
            name: {"status": found.status, "words": found.words}
            for name, found in pair.findings.items()
        },
    }


# labels


def label_of_pair(pair: Pair) -> str:
    """As ``fairness S3.2: same base models, ...``, short enough to stand under a figure."""
    if not pair.setup:
        assert pair.breaks is not None
        return f"fairness: no setup ({pair.breaks.words})"
    return _label([pair])


def fairness_label(rows: pd.DataFrame) -> str:
    """What holds for every comparison that a figure or table of these rows makes.

    Where not all rows are shown, pass ``drawn(rows, points)``.
    """
    return label_of_pairs(fairness(rows))


def label_of_pairs(pairs: list[Pair]) -> str:
    """Of the pairs within a panel, or of all if there is none such; empty if there is no pair.

    Pairs that share no compression are counted, and decide only where no pair does.
    """
    pairs = [pair for pair in pairs if _in_one_panel(pair.a, pair.b)] or pairs
    if not pairs:
        return ""
    comparable = [pair for pair in pairs if pair.setup] or pairs
    if len(pairs) == 1 or not comparable[0].setup:
        return label_of_pair(comparable[0])
    notes = [f"weakest of {len(comparable)} pairs"] if len(comparable) > 1 else []
    if len(comparable) < len(pairs):
        notes.append(f"{len(pairs) - len(comparable)} more share no compression")
    return _label(comparable, notes)


def _label(pairs: list[Pair], notes: Iterable[str] = ()) -> str:
    weakest = min(pairs, key=lambda pair: pair.rank)
    setups = [weakest.setup]
    if weakest.setup in ("S1", "S2"):  # later ones say more than the whole cost
        setups += [name for name in BESIDE if all(name in pair.beside for pair in pairs)]
    text = f"fairness {', '.join(setups)}: {', '.join(SHORT[name] for name in setups)}"
    unknown = []
    if weakest.breaks and weakest.breaks.status == UNKNOWN:
        unknown = [f"{weakest.next_setup} can't be told: {weakest.breaks.words}"]
    noted = "; ".join([*unknown, *notes])
    return f"{text} ({noted})" if noted else text


def drawn(rows: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """The rows behind ``points``, which were made of ``rows``, and the dense ones.

    Where a figure shows the retraining time chosen for each method, the comparison it makes is of
    these rows, not of all that were tried.
    """
    pruned = with_shared_first_levels(rows)
    pruned = pruned[pruned["level"] > 0].reset_index(drop=True)
    keys = pruned[POINT].assign(
        prune_fraction=pruned["prune_fraction"].round(FRACTION_DIGITS),
        density=density_levels(pruned, POINT[:-1]),
    )
    numbers = group_numbers(pd.concat([keys, points[POINT]], ignore_index=True), POINT).to_numpy()
    shown = np.isin(numbers[: len(keys)], numbers[len(keys) :])
    return pd.concat([rows[rows["level"] == 0], pruned[shown]], ignore_index=True)


# the cross test


PLACE = ["network", "dataset", "protocol", "schedule_kind", "prune_fraction"]
"""Within which A is compared with B, and F_A with F_B."""

FOUR = ["a_fa", "a_fb", "b_fa", "b_fb"]

CROSS_COLUMNS = [
    *PLACE,
    *("a", "b", "compression_ratio", "f_a", "f_b"),
    *FOUR,
    *(f"n_{cell}" for cell in FOUR),
    *("chosen_by", "ranking_fa", "ranking_fb", "depends", "beyond_spread"),
    *("n_retrainings", "n_a_ahead", "n_b_ahead"),
]


def cross_tests(rows: pd.DataFrame) -> pd.DataFrame:
    """Whether the ranking of two ways of pruning, A and B, depends on the retraining.

    A way of pruning is structure, criterion and knobs; a retraining F is method, knobs and epochs.
    One line for each A, B and compression at which both were retrained in two same ways or more.
    F_A is the one that A is best with by median validation accuracy (by test accuracy where a
    validation accuracy is missing), F_B the best of the others for B. Columns besides PLACE:

    ``a``, ``b``, ``f_a``, ``f_b``: their names; ``a_fb``: median test accuracy of A with F_B, and
    so on; ``n_a_fb``: its seeds; ``chosen_by``: what F_A and F_B were chosen by;
    ``ranking_fa``, ``ranking_fb``: A, B or tie (closer than SAME_ACCURACY) with F_A and with F_B;
    ``depends``: A is ahead with the one and B with the other; ``beyond_spread``: each of the four
    has two seeds or more, and those of A and B don't overlap, neither with F_A nor with F_B;
    ``n_retrainings``, ``n_a_ahead``, ``n_b_ahead``: of all the same ways, not only these two.
    """
    both = _retrained_alike(_prepared(rows))
    best = both.sort_values("judged_a", ascending=False, kind="stable").drop_duplicates("key")
    others = both.drop(index=best.index).sort_values("judged_b", ascending=False, kind="stable")
    with_fa = best.set_index("key")
    with_fb = others.drop_duplicates("key").set_index("key")
    with_fa = with_fa.loc[with_fb.index]
    ahead = pd.DataFrame({name: both["ranking"] == name for name in ("A", "B")})
    ahead = ahead.groupby(both["key"]).agg(["sum", "size"]).loc[with_fb.index]
    rankings = with_fa["ranking"] + with_fb["ranking"]
    table = with_fa[[*PLACE, "a", "b", "compression_ratio"]].assign(
        f_a=with_fa["retraining"],
        f_b=with_fb["retraining"],
        a_fa=with_fa["test_a"],
        a_fb=with_fb["test_a"],
        b_fa=with_fa["test_b"],
        b_fb=with_fb["test_b"],
        n_a_fa=with_fa["n_a"],
        n_a_fb=with_fb["n_a"],
        n_b_fa=with_fa["n_b"],
        n_b_fb=with_fb["n_b"],
        chosen_by=with_fa["chosen_by"],
        ranking_fa=with_fa["ranking"],
        ranking_fb=with_fb["ranking"],
        depends=rankings.isin(["AB", "BA"]),
        beyond_spread=with_fa["apart"] & with_fb["apart"],
        n_retrainings=ahead["A", "size"],
        n_a_ahead=ahead["A", "sum"],
        n_b_ahead=ahead["B", "sum"],
    )
    order = [*PLACE, "a", "b", "compression_ratio"]
    return table[CROSS_COLUMNS].sort_values(order, ignore_index=True)


def _retrained_alike(prepared: pd.DataFrame) -> pd.DataFrame:
    """One line for each A, B, compression and retraining that both had; ``key`` numbers the first
    three."""
    epochs = prepared["retrain_epochs"].fillna(UNTOLD)
    points = prepared.assign(epochs=epochs).groupby(["group", "level", "epochs"], as_index=False)
    table = points.agg(
        test=("test_accuracy", "median"),
        val=("val_accuracy", "median"),
        low=("test_accuracy_min", "min"),
        high=("test_accuracy_max", "max"),
        n=("trials", "sum"),
        compression_ratio=("compression_ratio", "median"),
    )
    groups = prepared.drop_duplicates("group").set_index("group")
    knobs = groups["knobs"].map(read_variant)
    names = groups[PLACE].assign(
        place=group_numbers(groups, PLACE),
        pruning=[
            ", ".join([structure, criterion, *parts.pruning])
            for structure, criterion, parts in zip(
                groups["structure"], groups["criterion"], knobs, strict=True
            )
        ],
        way=[
            ", ".join(filter(None, [method, retraining_of(variant)]))
            for method, variant in zip(groups["method"], groups["knobs"], strict=True)
        ],
        told=[
            method not in NEED_RATE or "lr" in parts.rates
            for method, parts in zip(groups["method"], knobs, strict=True)
        ],
    )
    table = table.join(names[names["told"]], on="group", how="inner")
    same = ["place", "level", "way", "epochs"]
    both = table.merge(table, on=same, suffixes=("_a", "_b"))
    both = both[both["pruning_a"] < both["pruning_b"]].reset_index(drop=True)
    lengths = [f", {count(t)} epochs" if t != UNTOLD else "" for t in both["epochs"]]
    key = group_numbers(both, ["place", "level", "pruning_a", "pruning_b"])
    unjudged = both[["val_a", "val_b"]].isna().any(axis="columns").groupby(key).transform("any")
    difference = both["test_a"] - both["test_b"]
    tie = difference.abs() < SAME_ACCURACY
    ranking = np.select([tie, difference > 0], ["tie", "A"], default="B")
    return both.rename(columns={f"{name}_a": name for name in PLACE}).assign(
        key=key,
        a=both["pruning_a"],
        b=both["pruning_b"],
        compression_ratio=both["compression_ratio_a"],
        retraining=both["way"] + pd.Series(lengths, index=both.index, dtype="str"),
        chosen_by=unjudged.map({True: "test_accuracy", False: "val_accuracy"}),
        judged_a=both["test_a"].where(unjudged, both["val_a"]),
        judged_b=both["test_b"].where(unjudged, both["val_b"]),
        ranking=pd.Series(ranking, index=both.index, dtype="str"),
        apart=((both["low_a"] > both["high_b"]) | (both["low_b"] > both["high_a"]))
        & (both[["n_a", "n_b"]] > 1).all(axis="columns"),
    )


# from rows to groups

UNTOLD = -1.0

NEEDED = [
    *("stage_id", "parent_id", "baseline_id", "network", "dataset", "protocol", "structure"),
    *("schedule_kind", "prune_fraction", "criterion", "method", "variant", "level", "density"),
    *("compression_ratio", "speedup", "retrain_epochs", "train_epochs", "rewind_epoch"),
    *("search_cost_epochs", "search_cost_flops", "flops_dense", "flops_remaining", "trials"),
    *("baseline_test_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high"),
    *("val_accuracy", "status", "source", "knobs"),
]
"""Columns that a verdict rests on."""

GROUP = [
    *ALIKE,
    *("protocol", "structure", "schedule_kind", "prune_fraction", "criterion", "method", "variant"),
]

RATE_KNOBS = ("lr", "drops", "factor", "warmup")
RETRAINING_KNOBS = ("restore momentum", "alpha", "speedup")
PRUNING_KNOBS = ("keep layers", "scope", "layers", "power", "shrink")
NAMED_RATES = re.compile(r"\w+-[A-Z]")  # of Li et al. 2017: resnet56-A
WHEN = re.compile(r"P(\d+)(/k)?F\d+")  # Wang et al. 2023, Table 4: P30F90, P30/kF90
RATE = re.compile(r"(\d+e-\d+)(?: \(\+\d+ epochs\))?")  # 1e-2, 1e-2 (+60 epochs)


def read_variant(variant: str) -> Knobs:
    """What ``details.details_of`` wrote, and the settings of Wang et al. 2023, in parts.

    The latter name the first rate and not the epochs at which it drops: they stay ``unread`` too.
    """
    pruning, rates, retraining, unread = [], {}, [], []
    pruned_at, over_speedup, after = None, False, None
    for part in filter(None, variant.split(", ")):
        name, _, value = part.partition(" ")
        when, rate = WHEN.fullmatch(part), RATE.fullmatch(part)
        if name in RATE_KNOBS and value:
            rates[name] = value
        elif part.startswith(PRUNING_KNOBS) or NAMED_RATES.fullmatch(part):
            pruning.append(part)
        elif part.startswith("from epoch "):
            pruned_at = int(part.removeprefix("from epoch "))
        elif name == "after":
            after = value
        elif part.startswith(RETRAINING_KNOBS):
            retraining.append(part)
        else:
            retraining.append(part)
            unread.append(part)
            if when:
                pruned_at, over_speedup = int(when[1]), bool(when[2])
            if rate:
                rates["lr"] = f"{float(rate[1]):g}"
    return Knobs(
        pruning=tuple(pruning),
        rates=rates,
        retraining=tuple(retraining),
        unread=tuple(unread),
        pruned_at=pruned_at,
        over_speedup=over_speedup,
        after=after,
    )


def retraining_of(variant: str) -> str:
    """What of a variant is not about pruning."""
    pruning = read_variant(variant).pruning
    return ", ".join(part for part in variant.split(", ") if part not in pruning)


def _prepared(rows: pd.DataFrame) -> pd.DataFrame:
    """The pruned rows that were measured, with what the conditions ask for.

    ``group``, ``level`` (of compression) and ``speedup_level`` are numbers: rows with the same
    level have the same compression, within a network and data set. Raises BadRows if there is none.
    """
    pruned = with_shared_first_levels(rows[NEEDED])
    pruned = pruned[pruned["level"] > 0]
    measured = pruned["test_accuracy"].notna() & (pruned["status"] != "diverged")
    if not measured.any():
        raise BadRows(
            f"{len(pruned)} of these {len(rows)} rows are of pruned networks, and none of them has "
            "a test_accuracy without having diverged: there is nothing to compare"
        )
    if not measured.all():
        log.info(
            "left out %d of %d rows, diverged or without test accuracy",
            (~measured).sum(),
            len(pruned),
        )
    pruned = pruned[measured].reset_index(drop=True)
    texts = ["structure", "schedule_kind", "criterion"]
    one_shot = pruned["schedule_kind"] != "iterative"
    fractions = pruned["prune_fraction"].round(FRACTION_DIGITS)
    test = pruned["test_accuracy"]
    pruned = pruned.assign(
        **pruned[texts].fillna("unknown"),
        source=pruned["source"].fillna(""),
        knobs=pruned["knobs"].fillna(pruned["variant"]).where(pruned["knobs"] != NO_KNOBS, ""),
        trials=pruned["trials"].fillna(1).astype("int64"),
        test_accuracy_min=pruned["test_accuracy_low"].fillna(test),
        test_accuracy_max=pruned["test_accuracy_high"].fillna(test),
    )
    group = group_numbers(pruned.assign(prune_fraction=fractions.mask(one_shot)), GROUP)
    density = density_levels(pruned.assign(group=group), ["group"])
    pruned = pruned.assign(group=group, density=density, **_epochs(pruned, rows))
    pruned = pruned.assign(prune_fraction=fractions.mask(one_shot))
    place = group_numbers(pruned, ALIKE)
    speedup = pruned["speedup"].groupby(group_numbers(pruned, ["group", "density"]))
    return pruned.assign(
        level=rate_numbers(1 / density, place),
        speedup_level=rate_numbers(speedup.transform("median"), place),
    )


def rate_numbers(rates: pd.Series, place: pd.Series) -> pd.Series:
    """Numbers: those of two rates of a place are the same where the rates are, to SAME_RATE.

    -1 where the rate is unknown. A number reaches from its lowest rate up, so it can't creep.
    """
    frame = pd.DataFrame({"place": place, "rate": rates})
    pair = group_numbers(frame, ["place", "rate"])
    distinct = frame.assign(pair=pair).drop_duplicates("pair").sort_values(["place", "rate"])
    number, lowest, last, found = -1, math.inf, None, {}
    for where, rate, index in distinct.dropna().itertuples(index=False):
        if where != last or rate > lowest * (1 + SAME_RATE):
            number, lowest, last = number + 1, rate, where
        found[index] = number
    return pair.map(found).fillna(-1).astype("int64")


def _epochs(pruned: pd.DataFrame, rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Per row: pruned_at, pretrain_epochs, pruning_epochs, retrain_epochs, total_epochs,
    total_cost; NaN where the rows don't tell.

    Fresh weights count as pruned before training: training from scratch has no base model and no
    pretraining (Wang et al. 2023, Table 4).
    """
    codes, variants = pd.factorize(pruned["knobs"])
    knobs = [read_variant(text) for text in variants]
    told = np.array([found.pruned_at for found in knobs], dtype=np.float64)[codes]
    over = np.array([found.over_speedup for found in knobs], dtype=bool)[codes]
    at = pd.Series(told, pruned.index).where(~over, told / pruned["speedup"])
    at = at.mask(pruned["method"].isin(FRESH), 0.0)
    pretrain = at.fillna(_dense_epochs(pruned, rows))
    searched = pruned["search_cost_epochs"].astype("float64")
    trained = pruned["train_epochs"].where(pruned["retrain_epochs"].notna()).astype("float64")
    found = {
        "pruned_at": at,
        "pretrain_epochs": pretrain,
        "pruning_epochs": searched - trained,
        "retrain_epochs": trained,
        "total_epochs": pretrain + searched,
    }
    rounded = {name: values.round(EPOCH_DIGITS) for name, values in found.items()}
    return rounded | {"total_cost": pretrain + _search_cost(pruned)}


FRESH = [name for name, method in METHODS.items() if method.weights == "fresh"]
EPOCH_DIGITS = 6
FORWARD_AND_BACKWARD = 3  # forward passes that an example costs; see search_cost_flops


def _dense_epochs(pruned: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """Per row T, the length of the dense training: k + t where the chain's rows rewind, else that
    of the longest dense row.

    NaN where several lengths were pruned and the variant, which must tell from which learning rate
    the method starts, doesn't: it was left out as common to all rows of the kind.
    """
    dense = rows.loc[rows["level"] == 0, ["baseline_id", "train_epochs"]]
    ids = pd.concat([pruned["baseline_id"], dense["baseline_id"]], ignore_index=True)
    codes = pd.Series(pd.factorize(ids)[0])
    of_pruned, of_dense = codes[: len(pruned)], codes[len(pruned) :].to_numpy()
    rewound = (pruned["rewind_epoch"] + pruned["retrain_epochs"]).astype("float64")
    lengths = dense["train_epochs"].groupby(of_dense).agg(["max", "nunique"])
    known = rewound.groupby(of_pruned).max().dropna()
    found = of_pruned.map(known).fillna(of_pruned.map(lengths["max"]))
    blank = pruned["method"].isin(NEED_RATE) & (pruned["knobs"] == "")
    return found.mask(blank & (of_pruned.map(lengths["nunique"]) > 1))


def _search_cost(pruned: pd.DataFrame) -> pd.Series:
    """Per row search_cost_flops over those of a dense epoch; NaN if unknown.

    At level 1 by the speedup; later by the examples of an epoch, which rows of level 1 tell.
    """
    first = pruned["level"] == 1
    epochs = pruned["search_cost_epochs"].astype("float64")
    passes = pruned["search_cost_flops"] / FORWARD_AND_BACKWARD
    examples = (passes / (pruned["flops_remaining"].astype("float64") * epochs)).where(first)
    examples = examples.groupby(group_numbers(pruned, [*ALIKE, "protocol"])).transform("median")
    later = passes / (pruned["flops_dense"].astype("float64") * examples)
    return (epochs / pruned["speedup"]).where(first, later)


def groups_of(prepared: pd.DataFrame) -> list[Group]:
    """In the order of their columns."""
    cells = group_numbers(prepared, ["group", "level"])
    facts = _cells(prepared, cells)
    where = prepared[["group", "level", "speedup_level"]].assign(cell=cells).drop_duplicates("cell")
    by_compression: dict[int, dict[int, Cell]] = {}
    by_speedup: dict[int, dict[int, Cell]] = {}
    for group, level, speedup_level, cell in where.itertuples(index=False):
        by_compression.setdefault(group, {})[level] = facts[cell]
        by_speedup.setdefault(group, {})
        if speedup_level >= 0:
            by_speedup[group].setdefault(speedup_level, facts[cell])
    names = prepared.drop_duplicates("group").sort_values(GROUP)
    return [
        Group(
            **{name: line[name] for name in GROUP if name != "prune_fraction"},
            prune_fraction=None if pd.isna(line["prune_fraction"]) else line["prune_fraction"],
            published=line["source"] != "",
            knobs=read_variant(line["knobs"]),
            by_compression=by_compression[line["group"]],
            by_speedup=by_speedup[line["group"]],
        )
        for line in names[[*GROUP, "knobs", "source", "group"]].to_dict("records")
    ]


def _cells(prepared: pd.DataFrame, cells: pd.Series) -> list[Cell]:
    """Cell number ``i`` is the ``i``-th."""
    rates = prepared[["compression_ratio", "speedup"]].groupby(cells).median()
    tried = [cells, prepared["retrain_epochs"].fillna(UNTOLD)]
    total_cost = prepared["total_cost"].groupby(tried).median()
    total_cost = total_cost.mask(prepared["total_cost"].isna().groupby(tried).any())
    seeds = prepared["trials"].groupby(tried).sum().groupby(level=0).min()
    epochs = {
        name: _distinct(cells, prepared[name])
        for name in ("retrain_epochs", "pruning_epochs", "pretrain_epochs", "total_epochs")
    }
    return [
        Cell(
            compression_ratio=compression_ratio,
            speedup=speedup,
            bases=bases,
            total_cost=None if any(map(math.isnan, costs)) else tuple(sorted(costs)),
            seeds=least,
            **{name: found[number] for name, found in epochs.items()},
        )
        for number, compression_ratio, speedup, bases, costs, least in zip(
            rates.index,
            rates["compression_ratio"].tolist(),
            rates["speedup"].tolist(),
            _bases(prepared, cells),
            total_cost.groupby(level=0).agg(list),
            seeds.tolist(),
            strict=True,
        )
    ]


def _bases(prepared: pd.DataFrame, cells: pd.Series) -> list[dict[float, frozenset[Base]]]:
    """Of each cell. One training pruned at two epochs has two accuracies, told or not."""
    key = ["baseline_id", "pruned_at", "baseline_test_accuracy"]
    only = prepared.groupby(group_numbers(prepared, key[:2]))[key[2]].transform("first")
    accuracy = prepared[key[2]].fillna(only).mask(prepared["pruned_at"] == 0)
    told = prepared[key].assign(baseline_test_accuracy=accuracy)
    numbers = group_numbers(told, key)
    lines = told.assign(number=numbers).drop_duplicates("number").sort_values("number")
    bases = [
        Base(baseline_id=name, pruned_at=_known(epoch), test_accuracy=_known(accuracy))
        for name, epoch, accuracy in lines[key].itertuples(index=False)
    ]
    tried = prepared[["retrain_epochs"]].fillna(UNTOLD).assign(cell=cells)
    times = group_numbers(tried, ["cell", "retrain_epochs"])
    known: dict[frozenset[int], frozenset[Base]] = {}  # few, so that equal ones are one object
    found: list[dict[float, frozenset[Base]]] = [{} for _ in range(cells.nunique())]
    places = tried.drop_duplicates()[["cell", "retrain_epochs"]].itertuples(index=False)
    for (cell, epochs), together in zip(places, _together(times, numbers), strict=True):
        among = frozenset(together)
        if among not in known:
            known[among] = frozenset(bases[number] for number in among)
        found[cell][epochs] = known[among]
    return found


def _distinct(cells: pd.Series, epochs: pd.Series) -> list[frozenset[float | None]]:
    return [frozenset(map(_known, found)) for found in _together(cells, epochs)]


def _together(cells: pd.Series, values: pd.Series) -> list[list[Any]]:
    """For each cell its distinct values."""
    pairs = pd.DataFrame({"cell": cells, "value": values}).drop_duplicates()
    found: list[list[Any]] = [[] for _ in range(int(cells.max()) + 1)] if len(cells) else []
    for cell, value in zip(pairs["cell"].tolist(), pairs["value"].tolist(), strict=True):
        found[cell].append(value)
    return found


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


# learning rates

RULES = {
    "last": "the last rate, fixed",
    "rewound": "the schedule from T - t on",
    "original": "the schedule from its start",
    "stretched": "the whole schedule, stretched",
    "cosine": "a cosine down to 0",
    "linear": "linear down to 0",
    "adapted linear": "linear down to 0 from an adapted rate",
    "step": "steps down from a given rate",
}
"""In words, the keys of ``rewind_ray.retraining.RATES``."""

ABSOLUTE = ("last", "cosine", "linear", "step")
"""Those that a given lr frees from the original schedule."""

NEED_RATE = [name for name, method in METHODS.items() if "lr" in method.needs]


def _same_rule(a: Group, b: Group) -> Finding:
    """The learning rates of the last retraining, its length left out."""
    alike = (a.protocol, a.method, a.variant) == (b.protocol, b.method, b.variant)
    if alike and a.pruning == b.pruning and a.schedule_kind == b.schedule_kind:
        return Finding(status=HOLDS, words=f"both {a.method}")
    unknown = [group.method for group in (a, b) if group.method not in METHODS]
    if unknown:
        return Finding(status=UNKNOWN, words=f"the learning rates of {unknown[0]}")
    rule_a, rule_b = METHODS[a.method].rate, METHODS[b.method].rate
    if rule_a != rule_b:
        words = f"the learning rates differ: {RULES[rule_a]} vs {RULES[rule_b]}"
        return Finding(status=FAILS, words=words)
    return _weakest(*(_same_knob(a, b, name) for name in RATE_KNOBS), _same_origin(a, b, rule_a))


def _same_knob(a: Group, b: Group, name: str) -> Finding:
    value_a, value_b = _rate_knob(a, name), _rate_knob(b, name)
    words = f"{name} {value_a} vs {value_b}"
    if NOT_TOLD in (value_a, value_b) or (value_a != value_b and ORIGINAL in (value_a, value_b)):
        return Finding(status=UNKNOWN, words=f"the learning rates: {words}")
    if value_a != value_b:
        return Finding(status=FAILS, words=f"the learning rates differ: {words}")
    return Finding(status=HOLDS, words=f"{name} {value_a}")


ORIGINAL = "of the original schedule"
NOT_TOLD = "unknown"


def _rate_knob(group: Group, name: str) -> str:
    method = METHODS[group.method]
    warmup = WARMUP if "warmup" in method.takes else 0
    default = {"lr": ORIGINAL, "drops": "none", "factor": f"{FACTOR:g}", "warmup": f"{warmup:g}"}
    blank = "lr" in method.needs and "lr" not in group.knobs.rates
    silent = blank or (group.published and name != "lr")
    has = name in (*method.needs, *method.takes)
    return group.knobs.rates.get(name, NOT_TOLD if silent and has else default[name])


def _same_origin(a: Group, b: Group, rule: str) -> Finding:
    """What the rule starts from, where no knob tells it."""
    if a.knobs.unread != b.knobs.unread:
        words = " vs ".join(", ".join(group.knobs.unread) or "nothing" for group in (a, b))
        return Finding(
            status=UNKNOWN, words=f"what the variants say of the learning rates: {words}"
        )
    given = rule in ABSOLUTE and "lr" in a.knobs.rates and "lr" in b.knobs.rates
    if a.protocol != b.protocol and not given:
        words = f"the original learning rates of {a.protocol or 'own'} vs {b.protocol or 'own'}"
        return Finding(status=UNKNOWN, words=words)
    if rule == "adapted linear" and a.pruning != b.pruning:
        return Finding(status=UNKNOWN, words="the rates adapted to what was pruned")
    return Finding(status=HOLDS, words=RULES[rule])


# findings


def _over_cells(
    a: Group,
    b: Group,
    judge: Callable[[Cell, Cell], str],
    tell: Callable[[str, Cell, Cell], str],
) -> Finding:
    """The weakest status of all shared cells, in the words of the first that has it."""
    cells = shared(a, b)
    statuses = [judge(of_a, of_b) for of_a, of_b in cells]
    if not statuses:
        return Finding(status=UNKNOWN, words="nothing at the same compression or speedup")
    status = min(statuses, key=WEAKEST_FIRST.index)
    words = tell(status, *cells[statuses.index(status)])
    number = statuses.count(status)
    if status != HOLDS and number < len(cells):
        words += f" (at {number} of {len(cells)} compressions)"
    return Finding(status=status, words=words)


def _weakest(*findings: Finding) -> Finding:
    """The first of those that fail, else of those that can't be told, else of all."""
    return min(findings, key=lambda finding: WEAKEST_FIRST.index(finding.status))


def _same_epochs(a: Group, b: Group, what: str, name: str) -> Finding:
    """``name``: a field of Cell."""
    epochs_of: Callable[[Cell], frozenset[float | None]] = attrgetter(name)

    def judge(of_a: Cell, of_b: Cell) -> str:
        epochs_a, epochs_b = epochs_of(of_a), epochs_of(of_b)
        if None in epochs_a or None in epochs_b:
            return UNKNOWN
        return HOLDS if epochs_a == epochs_b else FAILS

    def tell(status: str, of_a: Cell, of_b: Cell) -> str:
        if status == HOLDS:
            return f"{what} epochs {_few_epochs(epochs_of(of_a))}"
        differ = " differ" if status == FAILS else ""
        return f"the {what} epochs{differ}: " + " vs ".join(
            _few_epochs(epochs_of(cell)) for cell in (of_a, of_b)
        )

    return _over_cells(a, b, judge, tell)


# words

SHOWN = 4  # values of a list


def _few(texts: Iterable[str]) -> str:
    """1, 2, 3, ..., 10"""
    listed = list(texts)
    if len(listed) > SHOWN:
        listed = [*listed[: SHOWN - 1], "...", listed[-1]]
    return ", ".join(listed)


def _few_epochs(epochs: frozenset[float | None]) -> str:
    known = [count(epoch) for epoch in sorted(epoch for epoch in epochs if epoch is not None)]
    return _few([*known, *(["unknown"] if None in epochs else [])])


def _few_costs(costs: Iterable[float] | None) -> str:
    return "unknown" if costs is None else _few(f"{cost:.4g}" for cost in costs)


def _span(rates: Iterable[float]) -> str:
    """2.00×-8.00×"""
    found = sorted(rates)
    return "-".join(dict.fromkeys(map(times, (found[0], found[-1]))))


def _base_words(status: str, of_a: Cell, of_b: Cell) -> str:
    bases_a, bases_b = of_a.all_bases, of_b.all_bases
    ids_a, ids_b = ({base.baseline_id for base in bases} for bases in (bases_a, bases_b))
    if status == HOLDS:
        return f"{len(ids_a)} baseline{'s' if len(ids_a) > 1 else ''} shared"
    if bases_a == bases_b:
        words = "not the same ones at each retraining time"
    elif bases_a & bases_b:
        words = f"{len(bases_a & bases_b)} of {len(bases_a | bases_b)} baselines shared"
    else:
        early = any(base.pruned_at is not None for base in bases_a | bases_b)
        if early or ids_a & ids_b:
            words = f"{_moment(bases_a)} vs {_moment(bases_b)}"
        else:
            words = f"accuracy {_base_accuracy(bases_a)} vs {_base_accuracy(bases_b)}"
        words += ", of one dense training" if ids_a & ids_b else ", no shared baseline_id"
    return f"the base models differ: {words}"


def _base_accuracy(bases: Iterable[Base]) -> str:
    """Median in percent."""
    known = [base.test_accuracy for base in bases if base.test_accuracy is not None]
    return percent(float(np.median(known))) if known else "unknown"


def _moment(bases: frozenset[Base]) -> str:
    """pruned at epoch 30; pruned at its end (accuracy 84.56); fresh weights"""
    epochs = sorted({base.pruned_at for base in bases if base.pruned_at})
    moments = ["fresh weights"] if any(base.pruned_at == 0 for base in bases) else []
    moments += [f"pruned at epoch {_few(map(count, epochs))}"] if epochs else []
    if any(base.pruned_at is None for base in bases):
        moments.append(f"pruned at its end (accuracy {_base_accuracy(bases)})")
    return " and ".join(moments)

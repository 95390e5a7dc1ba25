"""Groups of rows, which are compared in pairs, and what is known of each at each compression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.questions.fairness.prepared import GROUP
from analysis.table.details import OF_RETRAIN
from analysis.table.groups import group_numbers

UNKNOWN_EPOCHS = -1.0


BESIDE = ("pruning", "start", "earlier_steps", "published_setting", "source")
"""Columns of a group's rows that are the same in all, beside GROUP and knobs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """A model that was pruned: a dense network at an epoch of its training."""

    baseline_id: str
    pruned_at: float | None
    """Epoch; None: at the end, T; 0: it was not trained, the weights are fresh."""
    test_accuracy: float | None
    """None if unknown, or not trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AtCompression:
    """The rows of a group at one compression. A None among epochs: unknown for some row."""

    compression_ratio: float
    speedup: float
    """NaN if unknown."""
    bases: Mapping[float, frozenset[Base]]
    """Of each retraining time; UNKNOWN_EPOCHS is one of its own."""
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
    """By others: what the variant leaves out is unknown."""
    pruning_knobs: str
    """The knobs of pruning, in words."""
    knobs: Mapping[str, Any]
    """Of retraining: column -> value, None if left out or unknown."""
    start: str
    """In words, the epoch at which was pruned, unless that is the end of the dense training."""
    earlier_steps: str | None
    """Digest of the steps before the last, where they were made in another way."""
    setting: str
    """What a paper calls its pruning and retraining; empty for one's own."""
    by_compression: Mapping[int, AtCompression]
    """Those of two groups with the same key have the same compression."""
    by_speedup: Mapping[int, AtCompression]

    @property
    def place(self) -> tuple[str, str]:
        return self.network, self.dataset

    @property
    def pruning(self) -> tuple[str, str, str]:
        return self.structure, self.criterion, self.pruning_knobs


def shared(a: Group, b: Group) -> list[tuple[AtCompression, AtCompression]]:
    """The cells at the same compressions or, where there is none, at the same speedups."""
    for of_a, of_b in (
        (a.by_compression, b.by_compression),
        (a.by_speedup, b.by_speedup),
    ):
        found = [(cell, of_b[key]) for key, cell in of_a.items() if key in of_b]
        if found:
            return found
    return []


def groups_of(prepared: pd.DataFrame) -> list[Group]:
    """In the order of their columns."""
    cells = group_numbers(prepared, ["group", "level"])
    facts = _cells(prepared, cells)
    where = prepared[["group", "level", "speedup_level"]].assign(cell=cells).drop_duplicates("cell")
    by_compression: dict[int, dict[int, AtCompression]] = {}
    by_speedup: dict[int, dict[int, AtCompression]] = {}
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
            pruning_knobs=line["pruning"],
            knobs={name: None if pd.isna(line[name]) else line[name] for name in OF_RETRAIN},
            earlier_steps=None if pd.isna(line["earlier_steps"]) else line["earlier_steps"],
            start=line["start"],
            setting=line["published_setting"],
            by_compression=by_compression[line["group"]],
            by_speedup=by_speedup[line["group"]],
        )
        for line in names[[*GROUP, *OF_RETRAIN, *BESIDE, "group"]].to_dict("records")
    ]


def _cells(prepared: pd.DataFrame, cells: pd.Series) -> list[AtCompression]:
    """AtCompression number ``i`` is the ``i``-th."""
    rates = prepared[["compression_ratio", "speedup"]].groupby(cells).median()
    tried = [cells, prepared["retrain_epochs"].fillna(UNKNOWN_EPOCHS)]
    total_cost = prepared["total_cost"].groupby(tried).median()
    total_cost = total_cost.mask(prepared["total_cost"].isna().groupby(tried).any())
    seeds = prepared["trials"].groupby(tried).sum().groupby(level=0).min()
    epochs = {
        name: _distinct(cells, prepared[name])
        for name in ("retrain_epochs", "pruning_epochs", "pretrain_epochs", "total_epochs")
    }
    return [
        AtCompression(
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
    """Of each cell. One training pruned at two epochs has two accuracies, known or not."""
    key = ["baseline_id", "pruned_at", "baseline_test_accuracy"]
    only = prepared.groupby(group_numbers(prepared, key[:2]))[key[2]].transform("first")
    accuracy = prepared[key[2]].fillna(only).mask(prepared["pruned_at"] == 0)
    bases_of = prepared[key].assign(baseline_test_accuracy=accuracy)
    numbers = group_numbers(bases_of, key)
    lines = bases_of.assign(number=numbers).drop_duplicates("number").sort_values("number")
    bases = [
        Base(baseline_id=name, pruned_at=_known(epoch), test_accuracy=_known(accuracy))
        for name, epoch, accuracy in lines[key].itertuples(index=False)
    ]
    tried = prepared[["retrain_epochs"]].fillna(UNKNOWN_EPOCHS).assign(cell=cells)
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

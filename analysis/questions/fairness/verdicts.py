"""How fairly two groups are compared: the strictest setup that they satisfy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from analysis.questions.fairness.conditions import CONDITIONS
from analysis.questions.fairness.findings import HOLDS, UNKNOWN, Finding
from analysis.questions.fairness.groups import Group, groups_of, shared
from analysis.questions.fairness.prepared import prepare
from analysis.questions.fairness.setups import BESIDE, LADDER, SETUPS


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
        nothing_fails = self.breaks is None or self.breaks.status == UNKNOWN
        return (LADDER.index(self.setup) + 1 if self.setup else 0), nothing_fails


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
    for group in groups_of(prepare(rows)):
        by_place.setdefault(group.place, []).append(group)
    pairs = [
        judge_pair(a, b)
        for groups in by_place.values()
        for a, b in combinations(groups, 2)
        if in_one_panel(a, b) or _differ_in_one(a, b)
    ]
    return sorted(pairs, key=lambda pair: pair.rank, reverse=True)


def in_one_panel(a: Group, b: Group) -> bool:
    return (a.structure, a.schedule_kind) == (b.structure, b.schedule_kind)


def _differ_in_one(a: Group, b: Group) -> bool:
    """In structure or in schedule_kind and nothing else; a structure has knobs of its own."""
    retrained = [(x.protocol, x.criterion, x.method, x.knobs, x.start, x.setting) for x in (a, b)]
    one = (a.structure == b.structure) != (a.schedule_kind == b.schedule_kind)
    return one and retrained[0] == retrained[1]

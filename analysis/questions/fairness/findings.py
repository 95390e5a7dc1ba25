"""What is found of a condition, and the weakest of several findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.questions.fairness.groups import Cell, Group, shared

HOLDS, FAILS, UNKNOWN = "holds", "fails", "can't be told"
WEAKEST_FIRST = (FAILS, UNKNOWN, HOLDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What the rows say about a condition."""

    status: str
    """HOLDS, FAILS or UNKNOWN."""
    words: str
    """Why, with the values."""


def over_cells(
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


def weakest(*findings: Finding) -> Finding:
    """The first of those that fail, else of those that can't be told, else of all."""
    return min(findings, key=lambda finding: WEAKEST_FIRST.index(finding.status))

"""What is found of a condition, and the weakest of several findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.questions.fairness.groups import AtCompression, Group, shared

HOLDS, FAILS, UNKNOWN = "holds", "fails", "unknown"
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
    judge: Callable[[AtCompression, AtCompression], str],
    words_of: Callable[[str, AtCompression, AtCompression], str],
) -> Finding:
    """The weakest status of all shared cells, in the words of the first that has it."""
    cells = shared(a, b)
    statuses = [judge(of_a, of_b) for of_a, of_b in cells]
    if not statuses:
        return Finding(status=UNKNOWN, words="nothing at the same compression or speedup")
    status = min(statuses, key=WEAKEST_FIRST.index)
    words = words_of(status, *cells[statuses.index(status)])
    number = statuses.count(status)
    if status != HOLDS and number < len(cells):
        words += f" (at {number} of {len(cells)} compressions)"
    return Finding(status=status, words=words)


def weakest(*findings: Finding) -> Finding:
    """The first of those that fail, else of the unknown ones, else of all."""
    return min(findings, key=lambda finding: WEAKEST_FIRST.index(finding.status))

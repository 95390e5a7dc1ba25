"""The commands of ``python -m analysis``: each reads rows, calls a module of the same name, and
shows what it found."""

from __future__ import annotations

COMMANDS = (
    "rows",
    "pareto",
    "search-cost",
    "headline",
    "compare",
    "claims",
    "fairness",
    "reference",
    "figure",
    "report",
)

"""The commands of ``python -m analysis``: each reads rows, calls a module of the same name, and
shows what it found."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

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


def command_named(name: str) -> Callable[..., None]:
    """Loaded when asked for: some take seconds."""
    module = name.replace("-", "_")
    function: Callable[..., None] = getattr(
        import_module(f"analysis.commands.{module}"), f"{module}_command"
    )
    return function

"""The commands of ``python -m analysis``: each reads rows, calls a module of the same name, and
shows what it found."""

from __future__ import annotations

from collections.abc import Callable

from analysis.commands.claims import claims_command
from analysis.commands.headline import headline_command
from analysis.commands.pareto import pareto_command
from analysis.commands.reference import reference_command
from analysis.commands.rows import rows_command
from analysis.commands.search_cost import search_cost_command

COMMANDS: dict[str, Callable[..., None]] = {
    "rows": rows_command,
    "pareto": pareto_command,
    "search-cost": search_cost_command,
    "headline": headline_command,
    "claims": claims_command,
    "reference": reference_command,
}

"""What the papers' modules hand over: a figure's name, what it shows, and how it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.draw.papers.content import Content
from analysis.draw.papers.scenes import Source

Make = Callable[[Source, Source | None], Content]
"""From rows, and where own ones are overlaid with published ones, from these too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperFigure:
    """A figure or a table of a paper."""

    says: str
    """One line."""
    make: Make

"""What a section of the report is made of: words, tables and charts, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """A paragraph."""

    text: str
    kind: str = ""
    """``note``: smaller; ``warning``: something is missing or not to be relied on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """A list of short statements."""

    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """Commands to copy, one a line."""

    text: str


CellText = str | tuple[str, str]
"""A text, or what counts and, in small letters under it, what belongs to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The first column names the line. A line of one cell is a heading of those under it."""

    caption: str
    columns: tuple[str, ...]
    lines: tuple[tuple[CellText, ...], ...]
    numeric: frozenset[str] = frozenset()
    """Columns that are set flush right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Drawn in the browser from the data that the page carries."""

    kind: str
    """``frontier``, ``cost``, ``curves`` or ``table``."""


Block = Words | Facts | Code | Table | Chart


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    id: str
    """For links to it."""
    title: str
    blocks: tuple[Block, ...]

"""Layers by name."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

NAMES_SHOWN = 6
"""Layers that an error message lists."""


def layer_name(parameter_name: str) -> str:
    """Of the module that the kernel belongs to."""
    return parameter_name.removesuffix(".weight")


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Parameters whose layer's name fits the pattern (``fnmatch``; * also matches dots).

    An empty pattern fits all.
    """
    return [name for name in names if not pattern or fnmatchcase(layer_name(name), pattern)]


def some_layers(names: Iterable[str]) -> str:
    """A few layers' names, for an error message."""
    layers = [layer_name(name) for name in names]
    more = ", ..." if len(layers) > NAMES_SHOWN else ""
    return (", ".join(layers[:NAMES_SHOWN]) or "none") + more

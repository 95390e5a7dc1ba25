"""What a pruning step removes from, and how much: what every structure's functions are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from rewind_ray.pruning.masks import Mask, unchanged
from rewind_ray.structures import Structure

Split = Callable[[Tensor], Tensor]
"""A contiguous tensor of a kernel's shape -> a view of it with the units first: (units, ...)."""
Reduction = Callable[[Tensor, Tensor | int], Tensor]
"""Scores (units, weights of each), 0 where pruned, and how many of them count, (units,) or one
number for all -> importance of the units, (units,)."""


def mean(scores: Tensor, count: Tensor | int) -> Tensor:
    """Whatever a unit's size (Mikler 2022, figure 3: mean |w|)."""
    return scores.sum(dim=1) / count


def total(scores: Tensor, count: Tensor | int) -> Tensor:
    return scores.sum(dim=1)


def root_of_total(scores: Tensor, count: Tensor | int) -> Tensor:
    return scores.sum(dim=1).sqrt()


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """What is to be removed, and from what."""

    scores: dict[str, Tensor]
    """Importance of the weights, shaped like the mask; the least important go."""
    mask: Mask
    names: list[str]
    """Layers that are pruned, in the order of the modules."""
    structure: Structure
    split: Split
    fraction: float | None = None
    """Share of ``start`` that is gone afterwards; None where the structure says how much."""
    start: Mask
    """The mask that the pruning step began with: ``mask``, unless it takes several rounds."""
    keep_layers: bool = False
    reduce: Reduction = mean
    close: Callable[[Mask], Mask] = unchanged
    """Takes from a mask what pruned channels leave without use, see ``channels.Channels``. It must
    take no less from a mask with fewer channels."""

    def count(self, before: int, left: int) -> int:
        """How many of ``left`` are to go, of what ``before`` the step were as many."""
        assert self.fraction is not None
        return round(self.fraction * before) - (before - left)

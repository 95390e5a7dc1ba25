"""Removing units of several weights, such as filters, over all layers together or of each."""

from __future__ import annotations

from bisect import bisect_left
from math import ceil

import torch
from torch import Tensor

from rewind_ray.pruning.masks import Mask, any_left, unpruned
from rewind_ray.pruning.removal import Reduction, Removal, Split

SHARE_DIGITS = 9
"""0.07 * 100 is 7.000000000000001, and still 7 filters."""


def units_of_all(removal: Removal) -> Mask:
    """The mask without its least important units, ``round(fraction * unpruned)`` weights at most.

    A unit's importance is the criterion's reduction of the scores of its weights that are left.
    Units go from the least important on, ties by position, up to the first that would exceed the
    count; Mikler 2022's code (pruning/tools.py) cuts at a percentile of the weights, "at most this
    many percentage of weights". What ``removal.close`` takes along counts as removed.
    """
    mask, split = removal.mask, removal.split
    count = removal.count(unpruned(removal.start), unpruned(mask))
    units: list[Tensor] = []
    importances: list[Tensor] = []
    for name in removal.names:
        left = split(mask[name]).flatten(1).sum(dim=1)
        importance = importance_of(
            removal.scores[name], mask[name], split, removal.reduce, left.clamp(min=1)
        )
        positions = left.nonzero().squeeze(1)
        if removal.keep_layers and len(positions):
            positions = positions[positions != positions[importance[positions].argmax()]]
        units.append(positions)
        importances.append(importance[positions])
    ranks = torch.argsort(torch.argsort(torch.cat(importances), stable=True))
    parts = torch.split(ranks, [len(positions) for positions in units])

    def without(number: int) -> Mask:
        pruned = dict(mask)
        for name, positions, rank in zip(removal.names, units, parts, strict=True):
            pruned[name] = without_units(mask[name], positions[rank < number], split)
        return removal.close(pruned)

    def exceeds(number: int) -> bool:
        return unpruned(mask) - unpruned(without(number)) > count

    return without(bisect_left(range(1, len(ranks) + 1), True, key=exceeds))


def units_of_each(removal: Removal) -> Mask:
    """The mask without ``ceil(fraction * units left)`` units of each of the named layers.

    But at least one unit stays in each, whatever ``keep_layers``. Both rules are those of the code
    that Wang et al. 2023 refer to (Regularization-Pruning, pruner/meta_pruner.py); with them the
    FLOPs of filter pruning are those of their Table 4.
    """
    assert removal.fraction is not None
    pruned = {name: kept.clone() for name, kept in removal.mask.items()}
    for name in removal.names:
        kept = removal.mask[name]
        before = units_left(removal.start[name], removal.split)
        gone = before - units_left(kept, removal.split)
        if gone == before:
            continue
        count = min(ceil(round(removal.fraction * before, SHARE_DIGITS)), before - 1) - gone
        least = least_units(
            removal.scores[name], kept, max(count, 0), removal.split, removal.reduce
        )
        pruned[name] = without_units(kept, least, removal.split)
    return removal.close(pruned)


def units_left(kept: Tensor, split: Split) -> int:
    """Units with any weight left."""
    return int(any_left(split(kept)).sum())


def least_units(
    scores: Tensor,
    kept: Tensor,
    count: int,
    split: Split,
    reduce: Reduction,
    keep_one: bool = False,
) -> Tensor:
    """Positions of the ``count`` least important units of a layer; ties by position. -> (count,)

    scores, kept: of the kernel's shape. Pruned weights count, as zeros: within a layer the least
    mean |w| is then the least L1 norm, the order of Li et al. 2017, §3.1. Only units that are left
    are looked at; with ``keep_one`` the most important of them (of equal ones the first) stays.
    """
    units = split(kept).flatten(1)
    positions = any_left(units).nonzero().squeeze(1)
    importance = importance_of(scores, kept, split, reduce, units.shape[1])[positions]
    if keep_one and len(positions):
        spared = torch.arange(len(positions), device=kept.device) != importance.argmax()
        positions, importance = positions[spared], importance[spared]
    return positions[torch.argsort(importance, stable=True)[:count]]


def importance_of(
    scores: Tensor, kept: Tensor, split: Split, reduce: Reduction, count: Tensor | int
) -> Tensor:
    """Of each unit, -> (units,). count: how many of its weights count, see ``Reduction``."""
    return reduce(split((scores * kept).contiguous()).flatten(1), count)


def without_units(kept: Tensor, positions: Tensor, split: Split) -> Tensor:
    """A mask like ``kept``, the units at these positions gone."""
    left = kept.clone(memory_format=torch.contiguous_format)
    split(left)[positions] = False
    return left


def spread(values: Tensor, shape: tuple[int, ...], split: Split) -> Tensor:
    """Every unit's value on each of its weights. values: (units,); shape: the kernel's."""
    over = torch.empty(shape, dtype=values.dtype, device=values.device)
    units = split(over)
    units.copy_(values.view(-1, *[1] * (units.dim() - 1)).expand_as(units))
    return over

"""Removing the same share of every layer, or of those that a pattern names."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from math import ceil

import torch
from torch import Tensor

from rewind_ray.pruning.masks import Mask
from rewind_ray.pruning.unstructured import remove_weights

SHARE_DIGITS = 9
"""0.07 * 100 is 7.000000000000001, and still 7 filters."""


def layer_name(parameter_name: str) -> str:
    """Of the module that the kernel belongs to."""
    return parameter_name.removesuffix(".weight")


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Parameters whose layer's name fits the pattern (``fnmatch``; * also matches dots).

    An empty pattern fits all.
    """
    return [name for name in names if not pattern or fnmatchcase(layer_name(name), pattern)]


def remove_weights_of_each(
    scores: dict[str, Tensor], mask: Mask, names: list[str], fraction: float, keep_layers: bool
) -> Mask:
    """Without ``round(fraction * unpruned)`` weights of each of the named layers."""
    pruned = {name: kept.clone() for name, kept in mask.items()}
    for name in names:
        layer = {name: mask[name]}
        count = round(fraction * int(mask[name].sum()))
        pruned |= remove_weights(scores, layer, count, keep_layers)
    return pruned


def remove_filters_of_each(
    scores: dict[str, Tensor], mask: Mask, names: list[str], fraction: float, keep_layers: bool
) -> Mask:
    """Without ``ceil(fraction * filters left)`` filters of each of the named convolutions.

    But at least one filter stays in each, whatever ``keep_layers``. Both rules are those of the
    code that Wang et al. 2023 refer to (Regularization-Pruning, pruner/meta_pruner.py); with them
    the FLOPs are those of their Table 4.
    """
    pruned = {name: kept.clone() for name, kept in mask.items()}
    for name in names:
        left = filters_left(mask[name])
        if mask[name].dim() == 4 and left:
            count = min(ceil(round(fraction * left, SHARE_DIGITS)), left - 1)
            pruned[name][least_filters(scores[name], mask[name], count, keep_one=False)] = False
    return pruned


def filters_left(kept: Tensor) -> int:
    """Filters with any weight left. kept: (out, in, kh, kw)."""
    return int(kept.flatten(1).any(dim=1).sum())


def least_filters(scores: Tensor, kept: Tensor, count: int, keep_one: bool) -> Tensor:
    """Positions of the ``count`` filters of least mean score; ties by position. -> (count,)

    scores, kept: (out, in, kh, kw). Within a layer the least mean |w| is the least L1 norm, the
    order of Li et al. 2017, §3.1. Only filters that are left are looked at; with ``keep_one``
    the most important of them (of equal ones the first) stays.
    """
    positions = kept.flatten(1).any(dim=1).nonzero().squeeze(1)
    importance = (scores * kept).flatten(1).mean(dim=1)[positions]
    if keep_one and len(positions):
        spared = torch.arange(len(positions), device=kept.device) != importance.argmax()
        positions, importance = positions[spared], importance[spared]
    return positions[torch.argsort(importance, stable=True)[:count]]

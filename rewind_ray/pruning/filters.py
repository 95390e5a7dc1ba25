"""Removing whole convolution filters and dense inputs, over all layers together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import torch
from torch import Tensor

from rewind_ray.pruning.masks import Mask, unchanged, unpruned


def remove_filters(
    scores: dict[str, Tensor],
    mask: Mask,
    count: int,
    keep_layers: bool,
    close: Callable[[Mask], Mask] = unchanged,
) -> Mask:
    """The mask without its least important units, at most ``count`` weights in all.

    A unit is a filter (one output channel) of a convolution, or the weights of a dense layer on
    one of its inputs: Keras' kernels have the shape (inputs, outputs), and Mikler 2022's code
    (pruning/tools.py) prunes their rows, so no class is ever cut off. A unit's importance is the
    mean score of its weights that are left (figure 3: mean |w|). Units go from the least important
    on, ties by position, up to the first that would exceed ``count``; his code cuts at a percentile
    of the weights, "at most this many percentage of weights".

    close: takes from a mask what pruned filters leave without use, see ``shrink.Channels``; these
    weights count as removed. It must take no less from a mask with fewer filters.
    """
    units: list[tuple[str, Tensor]] = []
    importances: list[Tensor] = []
    for name, kept in mask.items():
        if kept.dim() not in (2, 4):
            continue
        left = by_unit(kept).sum(dim=1)
        importance = by_unit(scores[name] * kept).sum(dim=1) / left.clamp(min=1)
        positions = left.nonzero().squeeze(1)
        if keep_layers and len(positions):
            positions = positions[positions != positions[importance[positions].argmax()]]
        units.append((name, positions))
        importances.append(importance[positions])
    ranks = torch.argsort(torch.argsort(torch.cat(importances), stable=True))
    parts = torch.split(ranks, [len(positions) for _, positions in units])

    def without(number: int) -> Mask:
        pruned = dict(mask)
        for (name, positions), rank in zip(units, parts, strict=True):
            pruned[name] = mask[name].clone()
            gone = positions[rank < number]
            pruned[name][gone if mask[name].dim() == 4 else (slice(None), gone)] = False
        return close(pruned)

    def exceeds(number: int) -> bool:
        return unpruned(mask) - unpruned(without(number)) > count

    return without(bisect_left(range(1, len(ranks) + 1), True, key=exceeds))


def by_unit(tensor: Tensor) -> Tensor:
    """A kernel with its units first: (out, in, kh, kw) -> (out, in * kh * kw), of a dense
    layer (out, in) -> (in, out)."""
    return tensor.flatten(1) if tensor.dim() == 4 else tensor.T

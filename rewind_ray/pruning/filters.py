"""Removing whole convolution filters and dense inputs, over all layers together."""

from __future__ import annotations

import torch
from torch import Tensor

from rewind_ray.pruning.masks import Mask


def remove_filters(scores: dict[str, Tensor], mask: Mask, count: int, keep_layers: bool) -> Mask:
    """The mask without its least important units, at most ``count`` weights in all.

    A unit is a filter (one output channel) of a convolution, or the weights of a dense layer on
    one of its inputs: Keras' kernels have the shape (inputs, outputs), and Mikler 2022's code
    (pruning/tools.py) prunes their rows, so no class is ever cut off. A unit's importance is the
    mean score of its weights (figure 3: mean |w|). Units go from the least important on, ties by
    position, up to the first that would exceed ``count``; his code cuts at a percentile of the
    weights, "at most this many percentage of weights".
    """
    units: list[tuple[str, int]] = []
    importances: list[Tensor] = []
    for name, kept in mask.items():
        if kept.dim() not in (2, 4):
            continue
        alive = by_unit(kept).any(dim=1)
        importance = by_unit(scores[name]).mean(dim=1)
        positions = alive.nonzero().squeeze(1)
        if keep_layers and len(positions):
            positions = positions[positions != positions[importance[positions].argmax()]]
        units += [(name, int(position)) for position in positions]
        importances.append(importance[positions])
    order = torch.argsort(torch.cat(importances), stable=True).tolist()
    pruned = {name: kept.clone() for name, kept in mask.items()}
    removed = 0
    for index in order:
        name, position = units[index]
        unit = (position,) if pruned[name].dim() == 4 else (slice(None), position)
        size = int(pruned[name][unit].sum())
        if removed + size > count:
            break
        pruned[name][unit] = False
        removed += size
    return pruned


def by_unit(tensor: Tensor) -> Tensor:
    """A kernel with its units as rows: (out, in, kh, kw) -> (out, in * kh * kw), of a dense layer
    (out, in) -> (in, out)."""
    return tensor.flatten(1) if tensor.dim() == 4 else tensor.T

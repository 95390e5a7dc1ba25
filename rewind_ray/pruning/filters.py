"""Removing whole convolution filters, over all layers together."""

from __future__ import annotations

import torch
from torch import Tensor

from rewind_ray.pruning.masks import Mask


def remove_filters(scores: dict[str, Tensor], mask: Mask, count: int, keep_layers: bool) -> Mask:
    """The mask without its least important filters, about ``count`` weights in all.

    A filter is one output channel of a convolution, its importance the mean score of its weights
    (Mikler 2022, §2.1 and figure 3: mean |w|). Filters go from the least important on, ties by
    position, as long as the number of removed weights comes nearer to ``count``. Dense layers
    have no filters (their outputs are the classes), but their weights count as prunable.
    """
    filters: list[tuple[str, int]] = []
    importances: list[Tensor] = []
    for name, kept in mask.items():
        if kept.dim() != 4:
            continue
        alive = kept.flatten(1).any(dim=1)
        importance = scores[name].flatten(1).mean(dim=1)
        positions = alive.nonzero().squeeze(1)
        if keep_layers and len(positions):
            positions = positions[positions != positions[importance[positions].argmax()]]
        filters += [(name, int(position)) for position in positions]
        importances.append(importance[positions])
    order = torch.argsort(torch.cat(importances), stable=True).tolist()
    pruned = {name: kept.clone() for name, kept in mask.items()}
    removed = 0
    for index in order:
        name, position = filters[index]
        size = int(pruned[name][position].sum())
        if abs(removed + size - count) > abs(removed - count):
            break
        pruned[name][position] = False
        removed += size
    return pruned

"""Removing whole convolution filters, over all layers together."""

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
    """The mask without its least important filters, about ``count`` weights in all.

    A filter is one output channel of a convolution, its importance the mean score of its weights
    that are left (Mikler 2022, §2.1 and figure 3: mean |w|). Filters go from the least important
    on, ties by position, as long as the number of removed weights comes nearer to ``count``.
    Dense layers have no filters (their outputs are the classes), but their weights count as
    prunable.

    close: takes from a mask what pruned filters leave without use, see ``shrink.Channels``; these
    weights count as removed. It must take no less from a mask with fewer filters.
    """
    filters: list[tuple[str, Tensor]] = []
    importances: list[Tensor] = []
    for name, kept in mask.items():
        if kept.dim() != 4:
            continue
        left = kept.flatten(1).sum(dim=1)
        importance = (scores[name] * kept).flatten(1).sum(dim=1) / left.clamp(min=1)
        positions = left.nonzero().squeeze(1)
        if keep_layers and len(positions):
            positions = positions[positions != positions[importance[positions].argmax()]]
        filters.append((name, positions))
        importances.append(importance[positions])
    ranks = torch.argsort(torch.argsort(torch.cat(importances), stable=True))
    parts = torch.split(ranks, [len(positions) for _, positions in filters])

    def without(number: int) -> Mask:
        pruned = dict(mask)
        for (name, positions), rank in zip(filters, parts, strict=True):
            pruned[name] = mask[name].clone()
            pruned[name][positions[rank < number]] = False
        return close(pruned)

    def missed(number: int) -> int:
        """By how much too few weights are removed; below 0: too many."""
        return count - (unpruned(mask) - unpruned(without(number)))

    number = bisect_left(range(len(ranks)), True, key=lambda number: missed(number) <= 0)
    if number and abs(missed(number - 1)) < abs(missed(number)):
        number -= 1
    return without(number)

"""Removing single weights, over all layers together or the same share of each."""

from __future__ import annotations

import torch
from torch import Tensor

from rewind_ray.pruning.masks import Mask, unpruned
from rewind_ray.pruning.removal import Removal


def weights_of_all(removal: Removal) -> Mask:
    """The mask without ``round(fraction * unpruned)`` weights of all layers together."""
    count = removal.count(unpruned(removal.start), unpruned(removal.mask))
    return remove_weights(removal.scores, removal.mask, count, removal.keep_layers)


def weights_of_each(removal: Removal) -> Mask:
    """The mask without ``round(fraction * unpruned)`` weights of each of the named layers."""
    pruned = {name: kept.clone() for name, kept in removal.mask.items()}
    for name in removal.names:
        kept = removal.mask[name]
        count = removal.count(int(removal.start[name].sum()), int(kept.sum()))
        pruned |= remove_weights(removal.scores, {name: kept}, count, removal.keep_layers)
    return pruned


def remove_weights(scores: dict[str, Tensor], mask: Mask, count: int, keep_layers: bool) -> Mask:
    """The mask without the ``count`` least important of its weights; ties go by position.

    scores: importance of every weight, shaped like the mask. With ``keep_layers`` the most
    important weight of every layer stays, and others go in its place. Only kept weights are
    compared, so masks of a chain are nested.
    """
    flat_scores = torch.cat([scores[name].flatten() for name in mask])
    flat_kept = torch.cat([kept.flatten() for kept in mask.values()])
    if keep_layers:
        removable = flat_kept.clone()
        removable[_best_of_each_layer(scores, mask)] = False
    else:
        removable = flat_kept
    candidates = removable.nonzero().squeeze(1)
    count = min(count, len(candidates))
    flat_kept = flat_kept.clone()
    flat_kept[candidates[_smallest(flat_scores[candidates], count)]] = False
    sizes = [kept.numel() for kept in mask.values()]
    parts = torch.split(flat_kept, sizes)
    return {
        name: part.view_as(kept) for (name, kept), part in zip(mask.items(), parts, strict=True)
    }


def _smallest(scores: Tensor, count: int) -> Tensor:
    """Positions of the ``count`` smallest scores; of equal ones the first. (N,) -> (count,)"""
    if count == 0:
        return torch.empty(0, dtype=torch.long, device=scores.device)
    threshold = scores.kthvalue(count).values
    below = (scores < threshold).nonzero().squeeze(1)
    tied = (scores == threshold).nonzero().squeeze(1)
    return torch.cat([below, tied[: count - len(below)]])


def _best_of_each_layer(scores: dict[str, Tensor], mask: Mask) -> Tensor:
    """Position, over all layers, of every layer's most important kept weight."""
    best = []
    offset = 0
    for name, kept in mask.items():
        if kept.any():
            of_kept = scores[name].flatten().masked_fill(~kept.flatten(), float("-inf"))
            best.append(offset + int(of_kept.argmax()))
        offset += kept.numel()
    device = next(iter(mask.values())).device
    return torch.tensor(best, dtype=torch.long, device=device)

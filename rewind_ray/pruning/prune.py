"""One pruning step: from a network and its mask to the next mask."""

from __future__ import annotations

import torch
from torch import nn

from rewind_ray.pruning.criteria import CRITERIA
from rewind_ray.pruning.filters import remove_filters
from rewind_ray.pruning.masks import Mask, unpruned
from rewind_ray.pruning.unstructured import remove_weights
from rewind_ray.spec import Prune

REMOVERS = {
    "unstructured": remove_weights,
    "filters": remove_filters,
}


@torch.no_grad()
def pruned_mask(parameters: dict[str, nn.Parameter], mask: Mask, prune: Prune) -> Mask:
    """The mask after removing ``round(fraction * unpruned)`` weights, the least important first.

    Unstructured pruning removes exactly that many; filters come as near to it as whole filters
    can. Raises ValueError if nothing would be left.
    """
    check_prune(prune)
    scores = {name: CRITERIA[prune.criterion](parameters[name]) for name in mask}
    left = unpruned(mask)
    count = round(prune.fraction * left)
    pruned = REMOVERS[prune.structure](scores, mask, count, prune.keep_layers)
    if count >= left or unpruned(pruned) == 0:  # the nearest to a lower count may be all filters
        raise ValueError(
            f"pruning {prune.fraction:g} of the {left} weights that are left leaves none; "
            "prune less, or stop the chain earlier"
        )
    return pruned


def check_prune(prune: Prune) -> None:
    """Raises ValueError, listing the known criteria, for an unknown one."""
    if prune.criterion not in CRITERIA:
        raise ValueError(
            f"unknown pruning criterion {prune.criterion!r}; known: {', '.join(CRITERIA)}"
        )

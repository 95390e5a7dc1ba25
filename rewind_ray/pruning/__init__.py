"""What is removed: masks, the criteria that choose it, and what it leaves of a network's cost."""

from __future__ import annotations

from rewind_ray.pruning.criteria import CRITERIA, magnitude
from rewind_ray.pruning.filters import remove_filters
from rewind_ray.pruning.masks import (
    Mask,
    apply_mask_,
    dense_mask,
    density,
    empty_layers,
    prunable_parameters,
    unpruned,
)
from rewind_ray.pruning.prune import check_prune, pruned_mask

__all__ = [
    "CRITERIA",
    "Mask",
    "apply_mask_",
    "check_prune",
    "dense_mask",
    "density",
    "empty_layers",
    "magnitude",
    "prunable_parameters",
    "pruned_mask",
    "remove_filters",
    "unpruned",
]

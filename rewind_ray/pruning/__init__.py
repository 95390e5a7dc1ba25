"""What is removed: masks, the criteria that choose it, and what it leaves of a network's cost."""

from __future__ import annotations

from rewind_ray.pruning.criteria import CRITERIA, Gradients, Scoring, magnitude, random, snip
from rewind_ray.pruning.filters import remove_filters
from rewind_ray.pruning.gradients import loss_gradients
from rewind_ray.pruning.masks import (
    Mask,
    apply_mask_,
    dense_mask,
    density,
    empty_layers,
    prunable_parameters,
    unchanged,
    unpruned,
)
from rewind_ray.pruning.prune import check_fits, check_prune, pruned_mask
from rewind_ray.pruning.rates import RATES, FilterRates

__all__ = [
    "CRITERIA",
    "RATES",
    "FilterRates",
    "Gradients",
    "Mask",
    "Scoring",
    "apply_mask_",
    "check_fits",
    "check_prune",
    "dense_mask",
    "density",
    "empty_layers",
    "loss_gradients",
    "magnitude",
    "prunable_parameters",
    "pruned_mask",
    "random",
    "remove_filters",
    "snip",
    "unchanged",
    "unpruned",
]

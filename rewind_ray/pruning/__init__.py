"""What is removed: masks, the criteria that choose it, and what it leaves of a network's cost.

masks       which weights are left, and which may be pruned
prune       one pruning step: the function that calls all of the others
criteria    the table of criteria; probe gives them gradients and what else they need of a network
units       the table of units, one a kind of structure; removal is what their functions are given:
            unstructured, whole_units, n_of_m. The structures are plain data, rewind_ray.structures
rates       shares of each layer's filters, of published tables
channels    what pruned channels take along; trace finds them in a network, cut is what goes, as
            data, and shrink takes it from tensors and networks
flops       multiply-adds, dense and with the zeros skipped
"""

from __future__ import annotations

from rewind_ray.pruning.criteria import CRITERIA, Criterion, Scoring, criteria_help
from rewind_ray.pruning.masks import (
    Mask,
    apply_mask_,
    dense_mask,
    density,
    empty_layers,
    prunable_parameters,
    unpruned,
)
from rewind_ray.pruning.probe import Probe
from rewind_ray.pruning.prune import check_fits, check_prune, pruned_mask
from rewind_ray.pruning.rates import RATES, FilterRates

__all__ = [
    "CRITERIA",
    "RATES",
    "Criterion",
    "FilterRates",
    "Mask",
    "Probe",
    "Scoring",
    "apply_mask_",
    "check_fits",
    "check_prune",
    "criteria_help",
    "dense_mask",
    "density",
    "empty_layers",
    "prunable_parameters",
    "pruned_mask",
    "unpruned",
]

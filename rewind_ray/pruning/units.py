"""The table of units: how kernels are divided into them, and which go first.

The structures that have them are in ``rewind_ray.structures``, as plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from rewind_ray.pruning.masks import Mask
from rewind_ray.pruning.n_of_m import all_but_n_of_m, check_groups
from rewind_ray.pruning.removal import Removal, Split
from rewind_ray.pruning.unstructured import weights_of_all, weights_of_each
from rewind_ray.pruning.whole_units import units_of_all, units_of_each
from rewind_ray.structures import Structure

Shapes = Mapping[str, tuple[int, ...]]


def fits_all(structure: Structure, shapes: Shapes) -> None:
    """Nothing to check."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """What is kept or removed as one."""

    split: Split
    remove: Mapping[str, Callable[[Removal], Mask]]
    """Scope, among what units are compared -> the function that removes the least important."""
    check: Callable[[Structure, Shapes], None] = fits_all
    """Raises UserError for kernels that can't be divided so; shapes: of the pruned ones."""


def each_weight(kernel: Tensor) -> Tensor:
    """-> (weights, 1)"""
    return kernel.view(-1, 1)


def each_filter(kernel: Tensor) -> Tensor:
    """(out, in, kh, kw) -> the same; of a dense kernel (out, in) its inputs, -> (in, out).

    Keras' dense kernels have the shape (inputs, outputs), and Mikler 2022's code
    (pruning/tools.py) prunes their rows, so no class is ever cut off.
    """
    return kernel.T if kernel.dim() == 2 else kernel


UNITS: dict[str, Units] = {
    "weight": Units(split=each_weight, remove={"global": weights_of_all, "layer": weights_of_each}),
    "weight of a group": Units(
        split=each_weight, remove={"layer": all_but_n_of_m}, check=check_groups
    ),
    "filter": Units(split=each_filter, remove={"global": units_of_all, "layer": units_of_each}),
}

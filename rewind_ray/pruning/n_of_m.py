"""N:M sparsity: N weights left in every M in a row, what sparse tensor cores multiply."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from rewind_ray.errors import UserError
from rewind_ray.pruning.layers import layer_name, some_layers
from rewind_ray.pruning.masks import Mask
from rewind_ray.pruning.removal import Removal
from rewind_ray.structures import Structure


def all_but_n_of_m(removal: Removal) -> Mask:
    """The mask with at most ``n`` weights left in each group of ``m``, in the named layers.

    Groups run along the input: of a dense kernel (out, in) as it is, of a convolution in the
    order (out, kh, kw, in), channels last, as NVIDIA's libraries take and prune it (Mishra et al.
    2021, §4; Wang et al. 2023, slides). The most important stay; of equal ones the first go, as
    elsewhere. What is pruned already stays pruned and counts among the removed.
    """
    assert removal.structure.group is not None
    n, m = removal.structure.group
    pruned = {name: kept.clone() for name, kept in removal.mask.items()}
    for name in removal.names:
        kept = _input_last(removal.mask[name])
        of_kept = _input_last(removal.scores[name]).masked_fill(~kept, float("-inf"))
        order = torch.argsort(of_kept.reshape(-1, m), dim=1, stable=True)
        best = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, m - n :], True)
        left = kept & best.view_as(kept)
        pruned[name] = _input_second(left).contiguous()
    return pruned


def check_groups(structure: Structure, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises UserError if groups don't divide a layer's input. shapes: of the pruned kernels."""
    assert structure.group is not None
    m = structure.group[1]
    odd = {name: size for name, shape in shapes.items() if (size := input_size(shape)) % m}
    if odd:
        name, size = next(iter(odd.items()))
        more = f" (nor are {len(odd) - 1} others)" if len(odd) > 1 else ""
        raise UserError(
            f"the input of {layer_name(name)} is {size}, which is not divisible by the {m} of "
            f"{structure.name}{more}; give a pattern of layers that leaves it out, such as "
            f"'stages.*'; the layers are {some_layers(shapes)}"
        )


def input_size(shape: tuple[int, ...]) -> int:
    """Length that groups must divide: of (out, in) and (out, in, kh, kw), ``in``."""
    return shape[1] if len(shape) > 1 else prod(shape)


def _input_last(kernel: Tensor) -> Tensor:
    """(out, in, kh, kw) -> (out, kh, kw, in)"""
    return kernel.movedim(1, -1) if kernel.dim() > 1 else kernel


def _input_second(kernel: Tensor) -> Tensor:
    """(out, kh, kw, in) -> (out, in, kh, kw)"""
    return kernel.movedim(-1, 1) if kernel.dim() > 1 else kernel

"""N:M sparsity: N weights left in every M in a row, what sparse tensor cores multiply."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from rewind_ray.pruning.masks import Mask


def n_and_m(structure: str) -> tuple[int, int] | None:
    """``"2:4"`` -> (2, 4); None for structures of another kind."""
    if ":" not in structure:
        return None
    n, m = structure.split(":")
    return int(n), int(m)


def remove_n_of_m(scores: dict[str, Tensor], mask: Mask, names: list[str], n: int, m: int) -> Mask:
    """The mask with at most ``n`` weights left in each group of ``m``, in the named layers.

    Groups run along the input: of a dense kernel (out, in) as it is, of a convolution in the
    order (out, kh, kw, in), channels last, as NVIDIA's libraries take and prune it (Mishra et al.
    2021, §4; Wang et al. 2023, slides). The most important stay; of equal ones the first go, as
    elsewhere. What is pruned already stays pruned and counts among the removed.
    """
    pruned = {name: kept.clone() for name, kept in mask.items()}
    for name in names:
        kept = _input_last(mask[name])
        of_kept = _input_last(scores[name]).masked_fill(~kept, float("-inf"))
        order = torch.argsort(of_kept.reshape(-1, m), dim=1, stable=True)
        best = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, m - n :], True)
        left = kept & best.view_as(kept)
        pruned[name] = _input_second(left).contiguous()
    return pruned


def input_size(shape: tuple[int, ...]) -> int:
    """Length that groups must divide: of (out, in) and (out, in, kh, kw), ``in``."""
    return shape[1] if len(shape) > 1 else prod(shape)


def _input_last(kernel: Tensor) -> Tensor:
    """(out, in, kh, kw) -> (out, kh, kw, in)"""
    return kernel.movedim(1, -1) if kernel.dim() > 1 else kernel


def _input_second(kernel: Tensor) -> Tensor:
    """(out, kh, kw, in) -> (out, in, kh, kw)"""
    return kernel.movedim(-1, 1) if kernel.dim() > 1 else kernel

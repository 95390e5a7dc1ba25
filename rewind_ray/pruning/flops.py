"""Multiply-adds of a network, dense and with its pruned weights skipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rewind_ray.pruning.example import fitted
from rewind_ray.pruning.masks import Mask


def multiply_adds(network: nn.Module, example: tuple[Tensor, ...]) -> dict[str, int]:
    """Module name -> multiply-adds by its own parameters in one forward pass on one example.

    example: inputs of that pass, ``network(*example)``. Counted by PyTorch, which counts a
    multiply-add as 2. BatchNorm, activations, pooling and additions are not counted, as in the
    papers.
    """
    was_training = network.training
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*fitted(example, network))
    network.train(was_training)
    root = type(network).__name__
    counts = {
        module.removeprefix(root).removeprefix("."): sum(operations.values()) // 2
        for module, operations in counter.get_flop_counts().items()
        if module != "Global"
    }
    own = dict(counts)  # counted are those of the modules inside too
    for name, count in counts.items():
        if name:
            own[name.rpartition(".")[0]] -= count
    return {name: count for name, count in own.items() if count}


def remaining_multiply_adds(dense: dict[str, int], mask: Mask) -> int:
    """The same with zeros skipped: every module's count times the density of its parameters that
    ``mask`` names. A bias's density doesn't count."""
    kept: dict[str, list[Tensor]] = {}
    for name, entries in mask.items():
        if entries.dim() > 1:
            kept.setdefault(name.rpartition(".")[0], []).append(entries)
    total = 0.0
    for module, count in dense.items():
        masks = kept.get(module, [])
        left, all_ = sum(float(m.sum()) for m in masks), sum(m.numel() for m in masks)
        total += count * left / all_ if masks else count
    return round(total)

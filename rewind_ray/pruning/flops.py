"""Multiply-adds of a network, dense and with its pruned weights skipped."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rewind_ray.pruning.example import fitted
from rewind_ray.pruning.masks import Mask


def multiply_adds(network: nn.Module, example: tuple[Tensor, ...]) -> dict[str, int]:
    """Module name -> multiply-adds of its own kernel in one forward pass on one input.

    example: the inputs of that pass. Counted by PyTorch, which counts a multiply-add as 2.
    BatchNorm, activations, pooling and additions are not counted, as in the papers.
    """
    was_training = network.training
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*fitted(example, network))
    network.train(was_training)
    root = type(network).__name__
    counts = {
        module.removeprefix(f"{root}."): sum(operations.values()) // 2
        for module, operations in counter.get_flop_counts().items()
    }
    leaves = {name for name, module in network.named_modules() if not any(module.children())}
    return {name: count for name, count in counts.items() if name in leaves}


def remaining_multiply_adds(dense: dict[str, int], mask: Mask) -> int:
    """The same with zeros skipped: every layer's count times its density."""
    total = 0.0
    for module, count in dense.items():
        kept = mask.get(f"{module}.weight")
        total += count if kept is None else count * float(kept.sum()) / kept.numel()
    return round(total)

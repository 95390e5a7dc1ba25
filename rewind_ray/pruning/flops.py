"""Multiply-adds of a network, dense and with its pruned weights skipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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
    with FlopCounterMode(display=False, custom_mapping=FUSED) as counter, torch.no_grad():
        network(*fitted(example, network))
    network.train(was_training)
    found = {
        module: sum(operations.values()) // 2
        for module, operations in counter.get_flop_counts().items()
    }
    counts, root = {"": found.pop("Global", 0)}, f"{type(network).__name__}."
    counts |= {name.removeprefix(root): n for name, n in found.items() if name.startswith(root)}
    own = dict(counts)  # counted are those of the modules inside too
    for name, count in counts.items():
        if name:
            own[nearest(name, counts)] -= count
    return {name: count for name, count in own.items() if count}


def nearest(name: str, counts: Mapping[str, int]) -> str:
    """The module around it that is called itself; a ``ModuleList`` isn't."""
    around = name.rpartition(".")[0]
    while around not in counts:
        around = around.rpartition(".")[0]
    return around


def fused_lstm_flops(
    input_shape: torch.Size, ih: torch.Size, hh: torch.Size, *others: Any, **options: Any
) -> int:
    """Of oneDNN's layer on a CPU: every weight times every row of the input, (..., features)."""
    rows = math.prod(input_shape[:-1])
    return 2 * rows * (math.prod(ih) + math.prod(hh))


def cudnn_rnn_flops(
    input_shape: torch.Size, weights: list[torch.Size], *others: Any, **options: Any
) -> int:
    """Of cuDNN's layers: the same for all weight matrices; biases have one dimension."""
    rows = math.prod(input_shape[:-1])
    return 2 * rows * sum(math.prod(shape) for shape in weights if len(shape) == 2)


FUSED: dict[Any, Any] = {
    torch.ops.aten.mkldnn_rnn_layer: fused_lstm_flops,
    torch.ops.aten._cudnn_rnn: cudnn_rnn_flops,
}
"""Operations that PyTorch's counter doesn't know."""


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

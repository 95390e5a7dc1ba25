"""A stage's optimizer: which parameters decay, and the one that the protocol names for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from rewind_ray.optimizers import keeps_state, optimizer_named
from rewind_ray.spec import Protocol


def make_optimizer(network: nn.Module, protocol: Protocol) -> torch.optim.Optimizer:
    decayed, others = decayed_parameters(network, protocol.decayed)
    groups: list[dict[str, Any]] = [
        {"params": decayed},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = optimizer_named(protocol.optimizer).build(
        [group for group in groups if group["params"]],
        lr=protocol.schedule.lr,
        weight_decay=protocol.weight_decay,
        **protocol.optimizer_settings,
    )
    for group in optimizer.param_groups:
        if group.get("fused"):
            device = group["params"][0].device
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
    return optimizer


def decayed_parameters(
    network: nn.Module, decayed: str
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters with weight decay and those without; decayed: one of ``spec.DECAYED``."""
    spared: set[nn.Parameter] = set()
    if decayed != "all":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                spared.update(module.parameters(recurse=False))
            elif decayed == "kernels":
                spared.update(p for p in module.parameters(recurse=False) if p.dim() < 2)
    parameters = list(network.parameters())
    return [p for p in parameters if p not in spared], [p for p in parameters if p in spared]


def tensors_of_a_weight(protocol: Protocol) -> int:
    """How many numbers the optimizer keeps of each weight: 1 of SGD's momentum, 2 of Adam.

    As its table says: to make one and look takes seconds of imports, before every sweep.
    """
    kept = keeps_state(protocol.optimizer, protocol.optimizer_settings)
    return optimizer_named(protocol.optimizer).tensors if kept else 0

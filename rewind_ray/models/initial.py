"""Initial weights."""

from __future__ import annotations

import math

import torch
from torch import nn


def he_uniform_(network: nn.Module, generator: torch.Generator) -> None:
    """Kernels uniform in ±sqrt(6 / fan_in) (He et al. 2015), biases 0, BatchNorm the identity.

    Mikler 2022, §4.1. Drawn on the CPU in the order of the modules, so that every device starts
    alike.
    """
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                bound = math.sqrt(6 / module.weight[0].numel())
                drawn = torch.empty(module.weight.shape, device="cpu")
                module.weight.copy_(drawn.uniform_(-bound, bound, generator=generator))
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

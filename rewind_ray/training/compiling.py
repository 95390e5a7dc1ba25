"""Forward and backward passes that PyTorch's Inductor compiles; on a CPU it needs a C++ compiler.

Operations that lie next to each other become one, which rounds less often, so a compiled stage has
other bits than an uncompiled one. Which of the two a stage is, it stays (as with its threads).
Inductor keeps what it compiles in a folder that all processes of a user share on a machine.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rewind_ray.tasks import Batch, Loss
from rewind_ray.training.update import BatchLoss

COMPILES = ("off", "auto", "on")
LONG = 10_000
"""Updates from which on a stage is compiled by ``auto``. ResNet-20 on two cores: 36 s to compile,
and 0.2 of 75 ms saved in each update, which pays after 2,400; ``python -m benchmarks.compiling``
measures both for any network."""


def is_worth_it(setting: str, updates: int) -> bool:
    """Whether a stage of so many updates is compiled. setting: one of COMPILES."""
    return setting == "on" or (setting == "auto" and updates >= LONG)


def compiled_loss(batch_loss: BatchLoss, network: nn.Module) -> BatchLoss:
    """The same loss of a compiled network. Compiles when it is first called with a shape.

    What was compiled for other networks before is forgotten: PyTorch stops compiling, without a
    word, once it has done so a number of times.
    """
    torch.compiler.reset()
    forward: Any = torch.compile(network, dynamic=False)

    def loss(_: nn.Module, batch: Batch) -> Loss | Tensor:
        return batch_loss(forward, batch)

    return loss

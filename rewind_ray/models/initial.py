"""Initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

DENSE_DEVIATION = 0.01  # vision/{gpu-src,tpu-src/models}/official/resnet/resnet_model.py
TRUNCATED_AT = 2.0  # deviations; TensorFlow's truncated_normal
TRUNCATED_DEVIATION = 0.87962566103423978
"""Of the standard normal distribution cut off at ±2."""


def he_uniform(kernel: Tensor, generator: Generator) -> Tensor:
    """Uniform in ±sqrt(6 / fan_in), so of variance 2 / fan_in (He et al. 2015)."""
    bound = math.sqrt(6 / kernel[0].numel())
    return torch.empty(kernel.shape, device="cpu").uniform_(-bound, bound, generator=generator)


def truncated_normal(kernel: Tensor, generator: Generator) -> Tensor:
    """As Renda et al. 2020's code starts: of variance 1 / fan_in, a normal distribution cut off at
    two of its deviations; a dense layer's kernel normal, of deviation 0.01.

    Theirs is ``tf.compat.v1.variance_scaling_initializer()`` with its defaults, not He's.
    """
    drawn = torch.empty(kernel.shape, device="cpu")
    if kernel.dim() == 2:
        return drawn.normal_(0.0, DENSE_DEVIATION, generator=generator)
    # By the inverse of the distribution function: a fixed number of draws a weight.
    edge = math.erf(TRUNCATED_AT / math.sqrt(2))
    drawn = drawn.double().uniform_(-edge, edge, generator=generator)
    deviation = math.sqrt(1 / kernel[0].numel()) / TRUNCATED_DEVIATION
    limit = TRUNCATED_AT * deviation
    return (torch.erfinv(drawn) * math.sqrt(2) * deviation).clamp_(-limit, limit).float()


def he_normal(kernel: Tensor, generator: Generator) -> Tensor:
    """Normal, of variance 2 / fan_in (He et al. 2015): PyTorch's ``kaiming_normal_``."""
    deviation = math.sqrt(2 / kernel[0].numel())
    return torch.empty(kernel.shape, device="cpu").normal_(0.0, deviation, generator=generator)


def torchvision_resnet(kernel: Tensor, generator: Generator) -> Tensor:
    """Convolutions normal, of variance 2 / fan_out; a dense kernel uniform in ±1 / sqrt(fan_in),
    ``nn.Linear``'s default."""
    drawn = torch.empty(kernel.shape, device="cpu")
    if kernel.dim() == 2:
        bound = 1 / math.sqrt(kernel.shape[1])
        return drawn.uniform_(-bound, bound, generator=generator)
    deviation = math.sqrt(2 / kernel[:, 0].numel())
    return drawn.normal_(0.0, deviation, generator=generator)


def uniform(kernel: Tensor, generator: Generator) -> Tensor:
    """Uniform in ±0.1, as Renda et al. 2020's GNMT starts (``gnmt/model/nmt/nmt.py``)."""
    return torch.empty(kernel.shape, device="cpu").uniform_(-0.1, 0.1, generator=generator)


DRAW: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "he_uniform": he_uniform,
    "truncated_normal": truncated_normal,
    "he_normal": he_normal,
    "torchvision_resnet": torchvision_resnet,
    "uniform": uniform,
}
"""The kinds of ``rewind_ray.spec.INITIAL_WEIGHTS``."""


def initialise_kernels_(network: nn.Module, generator: Generator, kind: str) -> None:
    """Kernels as drawn, biases 0, BatchNorm as it starts: the identity, or zero where it says so.

    Drawn on the CPU in the order of the modules, so that every device starts alike.
    """
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.copy_(DRAW[kind](module.weight, generator))
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

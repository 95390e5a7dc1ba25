"""BatchNorm with the options that the papers' codes differ in."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.errors import UserError


class BatchNorm(nn.BatchNorm2d):
    """PyTorch's; in training, if asked for, of every shard of the batch by itself.

    A TPU of 8 cores normalises an eighth of the batch on each by that eighth's own mean and
    variance, and keeps the running statistics of the first core (Renda et al. 2020's ImageNet
    networks). Evaluation is PyTorch's.
    """

    def __init__(
        self,
        num_features: int,
        decay: float,
        epsilon: float,
        shards: int = 1,
        first_scale: float = 1.0,
    ) -> None:
        """decay: of the running statistics. first_scale: what the scale starts at."""
        if shards < 1:
            raise UserError(f"batch_norm_shards is {shards}; allowed: 1 and more")
        self.shards = shards
        self.first_scale = first_scale
        super().__init__(num_features, eps=epsilon, momentum=1 - decay)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.constant_(self.weight, self.first_scale)

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C, H, W) -> the same shape."""
        if not self.training or self.shards == 1:
            return super().forward(input)
        first, *others = input.chunk(self.shards)
        normalised = [super().forward(first)]
        for shard in others:
            scale, shift = self.weight, self.bias
            normalised.append(
                F.batch_norm(shard, None, None, scale, shift, training=True, eps=self.eps)
            )
        return torch.cat(normalised)


def start_at_zero_(norm: BatchNorm) -> None:
    """Let the scale start at 0: a residual block that ends in it starts as its shortcut."""
    norm.first_scale = 0.0
    norm.reset_parameters()

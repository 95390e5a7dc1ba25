"""CIFAR ResNets, first version: He et al. 2016, §4.2, with projection shortcuts."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.errors import UserError
from rewind_ray.models.norms import BatchNorm, start_at_zero_
from rewind_ray.models.padding import convolution_3x3

WIDTHS = (16, 32, 64)  # channels of the three stages; He et al. 2016, §4.2


class ZeroShortcut(nn.Module):
    """Every ``stride``-th pixel, with channels of zeros before and after: no weights."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        more = channels - in_channels
        self.stride = stride
        self.channels_around = (more // 2, more - more // 2)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        picked = x[:, :, :: self.stride, :: self.stride]
        return F.pad(picked, (0, 0, 0, 0, *self.channels_around))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; ReLU after the sum."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        norm: partial[BatchNorm],
        projection: bool,
        projection_batch_norm: bool,
        zero_shortcut: bool,
        same_padding: bool,
    ) -> None:
        super().__init__()
        self.conv1 = convolution_3x3(in_channels, channels, stride, same_padding)
        self.norm1 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm(channels)
        self.shortcut = nn.Sequential()
        changes = stride != 1 or in_channels != channels
        if changes and zero_shortcut:
            self.shortcut.append(ZeroShortcut(in_channels, channels, stride))
        elif projection or changes:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
            if projection_batch_norm:
                self.shortcut.append(norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNetCifar(nn.Module):
    def __init__(
        self,
        blocks_a_stage: int,
        num_classes: int,
        in_channels: int,
        norm: partial[BatchNorm],
        first_projection: bool,
        projection_batch_norm: bool,
        zero_shortcut: bool,
        same_padding: bool,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        self.norm = norm(WIDTHS[0])
        self.stages = nn.Sequential()
        before = WIDTHS[0]
        for stage, channels in enumerate(WIDTHS):
            blocks = nn.Sequential()
            for block in range(blocks_a_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                projection = first_projection and block == 0
                blocks.append(
                    BasicBlock(
                        *(before, channels, stride, norm),
                        *(projection, projection_batch_norm, zero_shortcut, same_padding),
                    )
                )
                before = channels
            self.stages.append(blocks)
        self.dense = nn.Linear(before, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> logits (N, num_classes)."""
        out = F.relu(self.norm(self.conv(x)))
        out = self.stages(out)
        logits: Tensor = self.dense(out.mean(dim=(2, 3)))
        return logits


def resnet_cifar(
    blocks_a_stage: int,
    num_classes: int,
    in_channels: int,
    *,
    batch_norm_decay: float,
    batch_norm_epsilon: float,
    first_projection: bool,
    projection_batch_norm: bool,
    zero_shortcut: bool,
    same_padding: bool,
    zero_last_norm: bool,
    batch_norm_shards: int,
) -> nn.Module:
    """ResNet-(6 * blocks_a_stage + 2): 20, 56, 110 layers for 3, 9, 18 blocks.

    BatchNorm as in Mikler 2022, §4.1. Without a BatchNorm on the projections the counts are
    those of his Table 1 (272,282 / 855,578 / 1,730,522); ``projection_batch_norm`` adds one, as
    his published code has it. ``first_projection`` adds a projection to the first block, which
    needs none, as TensorFlow's official networks have it (Renda et al. 2020). ``zero_shortcut`` has
    no projections: shortcuts are filled up with channels of zeros (He et al. 2016's option A; Wang
    et al. 2023). ``same_padding`` pads the convolutions with a stride as Keras' "same" does, on one
    side only where the side is even.
    ``zero_last_norm``: the last BatchNorm of every block starts at 0. ``batch_norm_shards``: see
    ``norms.BatchNorm``.
    """
    if zero_shortcut and (first_projection or projection_batch_norm):
        raise UserError(
            "zero_shortcut has no projections; leave first_projection and projection_batch_norm out"
        )
    norm = partial(
        BatchNorm, decay=batch_norm_decay, epsilon=batch_norm_epsilon, shards=batch_norm_shards
    )
    network = ResNetCifar(
        *(blocks_a_stage, num_classes, in_channels, norm),
        *(first_projection, projection_batch_norm, zero_shortcut, same_padding),
    )
    if zero_last_norm:
        for module in network.modules():
            if isinstance(module, BasicBlock):
                start_at_zero_(module.norm2)
    return network

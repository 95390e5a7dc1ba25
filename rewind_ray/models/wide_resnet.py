"""Wide ResNets: Zagoruyko & Komodakis 2016; pre-activated blocks after He et al. 2016b."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.errors import UserError
from rewind_ray.models.padding import convolution_3x3


class WideBlock(nn.Module):
    """BatchNorm, ReLU, convolution, twice; a projection starts from the activated input."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        norm: partial[nn.BatchNorm2d],
        same_padding: bool,
    ) -> None:
        super().__init__()
        self.norm1 = norm(in_channels)
        self.conv1 = convolution_3x3(in_channels, channels, stride, same_padding)
        self.norm2 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.projection: nn.Conv2d | None = None
        if stride != 1 or in_channels != channels:
            self.projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, in_channels, H, W) -> (N, channels, H / stride, W / stride)."""
        activated = F.relu(self.norm1(x))
        shortcut = x if self.projection is None else self.projection(activated)
        out = self.conv1(activated)
        out = self.conv2(F.relu(self.norm2(out)))
        summed: Tensor = out + shortcut
        return summed


class WideResNet(nn.Module):
    def __init__(
        self,
        depth: int,
        widen: int,
        num_classes: int,
        in_channels: int,
        norm: partial[nn.BatchNorm2d],
        same_padding: bool,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.stages = nn.Sequential()
        before = 16
        for stage, width in enumerate((16, 32, 64)):
            blocks = nn.Sequential()
            for block in range((depth - 4) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(WideBlock(before, width * widen, stride, norm, same_padding))
                before = width * widen
            self.stages.append(blocks)
        self.norm = norm(before)
        self.dense = nn.Linear(before, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> logits (N, num_classes)."""
        out = self.stages(self.conv(x))
        out = F.relu(self.norm(out))
        logits: Tensor = self.dense(out.mean(dim=(2, 3)))
        return logits


def wide_resnet(
    depth: int,
    widen: int,
    num_classes: int,
    in_channels: int,
    *,
    batch_norm_decay: float,
    batch_norm_epsilon: float,
    same_padding: bool,
) -> nn.Module:
    """WRN-depth-widen. Depth is 6n + 4. BatchNorm as in Mikler 2022, §4.1; no dropout.

    ``same_padding`` pads the convolutions with a stride as Keras' "same" does.
    """
    if depth < 10 or (depth - 4) % 6:
        raise UserError(f"depth is {depth}; a wide ResNet has 10, 16, 22, ... layers (6n + 4)")
    norm = partial(nn.BatchNorm2d, momentum=1 - batch_norm_decay, eps=batch_norm_epsilon)
    return WideResNet(depth, widen, num_classes, in_channels, norm, same_padding)

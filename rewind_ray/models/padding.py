"""Padding of convolutions with a stride as Keras does it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def convolution_3x3(in_channels: int, channels: int, stride: int, same_padding: bool) -> nn.Conv2d:
    """Without bias; only with a stride does Keras' "same" differ from a pixel on every side."""
    if same_padding and stride != 1:
        return SamePaddedConv2d(in_channels, channels, 3, stride, bias=False)
    return nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)


class SamePaddedConv2d(nn.Conv2d):
    """Pads as little as is needed for ceil(side / stride) outputs, the odd pixel at the bottom
    and right: Keras' ``padding="same"``. Only with a stride is that not ``padding=1``."""

    def forward(self, input: Tensor) -> Tensor:
        """input: (N, C, H, W) -> (N, C', ceil(H / stride), ceil(W / stride))."""
        return super().forward(F.pad(input, self.padding_of(*input.shape[2:])))

    def padding_of(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Pixels on the left, right, top and bottom of an input of this size."""
        top, bottom = _same_padding(height, self.kernel_size[0], self.stride[0])
        left, right = _same_padding(width, self.kernel_size[1], self.stride[1])
        return left, right, top, bottom


def _same_padding(side: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Pixels before and after."""
    outputs = -(-side // stride)
    total = max((outputs - 1) * stride + kernel_size - side, 0)
    return total // 2, total - total // 2

"""VGG for CIFAR: Simonyan & Zisserman 2015, with BatchNorm and a single dense layer."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

# Channels of the convolutions; None: 2x2 max pooling. 16 and 19 are the paper's D and E.
LAYERS: dict[int, tuple[int | None, ...]] = {
    8: (8, 8, None, 16, 16, None, 32, 32, None, 32),  # ours, for --smoke
    16: (
        *(64, 64, None, 128, 128, None, 256, 256, 256, None),
        *(512, 512, 512, None, 512, 512, 512, None),
    ),
    19: (
        *(64, 64, None, 128, 128, None, 256, 256, 256, 256, None),
        *(512, 512, 512, 512, None, 512, 512, 512, 512, None),
    ),
}


class VGG(nn.Module):
    """Convolutions of 3x3 with BatchNorm and ReLU, halved by pooling, then one dense layer."""

    def __init__(
        self,
        layers: tuple[int | None, ...],
        num_classes: int,
        in_channels: int,
        norm: partial[nn.BatchNorm2d],
    ) -> None:
        super().__init__()
        self.features = nn.Sequential()
        before = in_channels
        for channels in layers:
            if channels is None:
                self.features.append(nn.MaxPool2d(2, ceil_mode=True))
                continue
            self.features.append(nn.Conv2d(before, channels, 3, padding=1, bias=False))
            self.features.append(norm(channels))
            self.features.append(nn.ReLU())
            before = channels
        self.dense = nn.Linear(before, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W) -> logits (N, num_classes)."""
        out = self.features(x)
        pooled = F.adaptive_avg_pool2d(out, 1).flatten(1)
        logits: Tensor = self.dense(pooled)
        return logits


def vgg(
    depth: int,
    num_classes: int,
    in_channels: int,
    *,
    batch_norm_decay: float,
    batch_norm_epsilon: float,
) -> nn.Module:
    """VGG-16 or VGG-19 without the two hidden dense layers, as Li et al. 2017 and Renda et al.
    2020 prune it (their ``vgg16_nofc``). Images of 32 pixels end as 1x1."""
    norm = partial(nn.BatchNorm2d, momentum=1 - batch_norm_decay, eps=batch_norm_epsilon)
    return VGG(LAYERS[depth], num_classes, in_channels, norm)

"""ImageNet ResNets: torchvision's, with our names for the options."""

from __future__ import annotations

from functools import partial

from torch import nn


def resnet_imagenet(
    depth: int,
    num_classes: int = 1000,
    in_channels: int = 3,
    batch_norm_decay: float = 0.9,
    batch_norm_epsilon: float = 1e-5,
) -> nn.Module:
    """ResNet-34 or ResNet-50: He et al. 2016, table 1.

    Both reduce the image in a 3x3 convolution ("v1.5"). BatchNorm as in the TPU code that Renda
    et al. 2020 used: decay 0.9, epsilon 1e-5.
    """
    from torchvision.models import resnet  # slow to import, and only these networks need it

    norm = partial(nn.BatchNorm2d, momentum=1 - batch_norm_decay, eps=batch_norm_epsilon)
    build = {34: resnet.resnet34, 50: resnet.resnet50}[depth]
    network: nn.Module = build(weights=None, num_classes=num_classes, norm_layer=norm)
    if in_channels != 3:
        network.conv1 = nn.Conv2d(in_channels, 64, 7, 2, padding=3, bias=False)
    return network

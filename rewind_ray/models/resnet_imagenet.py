"""ImageNet ResNets: torchvision's, with our names for the options."""

from __future__ import annotations

from functools import partial

from torch import nn

from rewind_ray.errors import UserError
from rewind_ray.models.norms import BatchNorm, start_at_zero_

WIDTH = 64  # channels after the first convolution; He et al. 2016, table 1


def resnet_imagenet(
    depth: int,
    num_classes: int,
    in_channels: int,
    *,
    batch_norm_decay: float,
    batch_norm_epsilon: float,
    first_projection: bool,
    same_padded_pool: bool,
    zero_last_norm: bool,
    batch_norm_shards: int,
) -> nn.Module:
    """ResNet-34 or ResNet-50: He et al. 2016, table 1.

    Both reduce the image in a 3x3 convolution ("v1.5"). BatchNorm as in the TPU code that Renda
    et al. 2020 used: decay 0.9, epsilon 1e-5. So are the other options: ``first_projection`` gives
    ResNet-34's first block a projection (ResNet-50's has one anyway), ``same_padded_pool`` pads the
    max pooling at the bottom and right only (TensorFlow's "SAME", for images whose side is a
    multiple of 4), ``zero_last_norm`` starts the last BatchNorm of every block at 0, and
    ``batch_norm_shards``: see ``norms.BatchNorm``.
    """
    from torchvision.models import resnet  # slow to import, and only these networks need it

    norm = partial(
        BatchNorm, decay=batch_norm_decay, epsilon=batch_norm_epsilon, shards=batch_norm_shards
    )
    build = {34: resnet.resnet34, 50: resnet.resnet50}[depth]
    network: nn.Module = build(weights=None, num_classes=num_classes, norm_layer=norm)
    if in_channels != 3:
        network.conv1 = nn.Conv2d(in_channels, WIDTH, 7, 2, padding=3, bias=False)
    if first_projection:
        if depth == 50:
            raise UserError(
                "first_projection with resnet50, whose first block has a projection anyway; leave "
                "it out"
            )
        projection = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        network.get_submodule("layer1.0").downsample = nn.Sequential(projection, norm(WIDTH))
    if same_padded_pool:
        network.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    if zero_last_norm:
        for module in network.modules():
            if isinstance(module, resnet.Bottleneck):
                start_at_zero_(module.bn3)
            elif isinstance(module, resnet.BasicBlock):
                start_at_zero_(module.bn2)
    return network

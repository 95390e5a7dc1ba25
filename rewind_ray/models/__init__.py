"""Networks by name: plain builders, initialised from a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from rewind_ray.errors import UserError
from rewind_ray.models.initial import initialise_kernels_
from rewind_ray.models.resnet_cifar import resnet_cifar
from rewind_ray.models.resnet_imagenet import resnet_imagenet
from rewind_ray.models.vgg import vgg
from rewind_ray.models.wide_resnet import wide_resnet
from rewind_ray.network_options import options_of

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "digits_resnet": partial(resnet_cifar, blocks_a_stage=1),
    "resnet8": partial(resnet_cifar, blocks_a_stage=1),
    "resnet20": partial(resnet_cifar, blocks_a_stage=3),
    "resnet56": partial(resnet_cifar, blocks_a_stage=9),
    "resnet110": partial(resnet_cifar, blocks_a_stage=18),
    "resnet34": partial(resnet_imagenet, depth=34),
    "resnet50": partial(resnet_imagenet, depth=50),
    "vgg8": partial(vgg, depth=8),
    "vgg16": partial(vgg, depth=16),
    "vgg19": partial(vgg, depth=19),
    "wrn_10_1": partial(wide_resnet, depth=10, widen=1),
    "wrn_16_8": partial(wide_resnet, depth=16, widen=8),
}
"""``resnet8``, ``wrn_10_1`` and ``vgg8`` are the smallest of their kind, for ``--smoke``. Their
options and defaults are in ``rewind_ray.network_options``."""


def check_network(name: str, options: Mapping[str, Any]) -> None:
    """Raises UserError, listing what is known, for an unknown name or option."""
    if name not in NETWORKS:
        raise UserError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    known = sorted(options_of(name))
    for option in options:
        if option not in known:
            raise UserError(
                f"network {name} has no option {option!r}; known: {', '.join(known) or 'none'}"
            )


def build_network(
    name: str, num_classes: int, in_channels: int, options: Mapping[str, Any]
) -> nn.Module:
    """The network, its weights not yet meaningful: see ``initialise_``.

    Raises UserError, listing what is known, for an unknown name or option.
    """
    check_network(name, options)
    return NETWORKS[name](
        num_classes=num_classes, in_channels=in_channels, **{**options_of(name), **options}
    )


def initialise_(network: nn.Module, seed: int, kind: str = "he_uniform") -> None:
    """Fresh random weights, a function of the seed alone. kind: see ``spec.INITIAL_WEIGHTS``."""
    initialise_kernels_(network, torch.Generator().manual_seed(seed), kind)


__all__ = ["NETWORKS", "build_network", "check_network", "initialise_"]

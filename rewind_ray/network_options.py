"""The built-in networks' options and what they are if not given. Plain data, no torch.

Builders take every option as an argument without a default, so this is the one place that says.
"""

from __future__ import annotations

from collections.abc import Mapping

Option = bool | int | float | str

RESNET_CIFAR: dict[str, Option] = {
    "batch_norm_decay": 0.997,  # Mikler 2022, §4.1
    "batch_norm_epsilon": 1e-5,
    "first_projection": False,
    "projection_batch_norm": False,
    "zero_shortcut": False,
    "same_padding": False,
    "zero_last_norm": False,
    "batch_norm_shards": 1,
}
RESNET_IMAGENET: dict[str, Option] = {
    "batch_norm_decay": 0.9,  # the TPU code that Renda et al. 2020 used
    "batch_norm_epsilon": 1e-5,
    "first_projection": False,
    "same_padded_pool": False,
    "zero_last_norm": False,
    "batch_norm_shards": 1,
}
VGG: dict[str, Option] = {"batch_norm_decay": 0.997, "batch_norm_epsilon": 1e-5}
WIDE_RESNET: dict[str, Option] = {
    "batch_norm_decay": 0.9,  # Mikler 2022, §4.1
    "batch_norm_epsilon": 1e-3,
    "same_padding": False,
}
GNMT: dict[str, Option] = {
    "layers": 4,  # of the encoder, and of the decoder; this and the others: Renda et al. 2020
    "units": 1024,
    "dropout": 0.2,
    "shared_embedding": True,
    "input_feeding": True,
    "pass_state": True,
}
GNMT_SMALL: dict[str, Option] = GNMT | {
    "layers": 2,
    "units": 256,
    "input_feeding": False,
    "pass_state": False,
}
SHORT_TRAINING: dict[str, Option] = {"batch_norm_decay": 0.9}
"""With the papers' 0.997 BatchNorm's running statistics would need thousands of updates to forget
where they started, and these networks are trained for hundreds."""

OPTIONS: dict[str, dict[str, Option]] = {
    "digits_resnet": RESNET_CIFAR | SHORT_TRAINING,
    "resnet8": RESNET_CIFAR | SHORT_TRAINING,
    "resnet20": RESNET_CIFAR,
    "resnet56": RESNET_CIFAR,
    "resnet110": RESNET_CIFAR,
    "resnet34": RESNET_IMAGENET,
    "resnet50": RESNET_IMAGENET,
    "vgg8": VGG | SHORT_TRAINING,
    "vgg16": VGG,
    "vgg19": VGG,
    "wrn_10_1": WIDE_RESNET,
    "gnmt": GNMT,
    "gnmt_small": GNMT_SMALL,
    "gnmt_tiny": GNMT_SMALL | {"units": 32},
    "wrn_16_8": WIDE_RESNET,
}
"""Network -> its options and their defaults."""


def options_of(network: str) -> dict[str, Option]:
    """Options that the network takes, with their defaults; none for an unknown name."""
    return OPTIONS.get(network, {})


def not_default(options: Mapping[str, Option], defaults: Mapping[str, Option]) -> dict[str, Option]:
    """Those that differ from the defaults: they alone change what is trained."""
    return {
        name: value
        for name, value in options.items()
        if name not in defaults
        or isinstance(value, bool) != isinstance(defaults[name], bool)
        or value != defaults[name]
    }

"""The papers' training protocols, by name.

Weight decay: see ``Protocol.weight_decay`` for how a paper's L2 coefficient converts.
Keras folds the rate into the velocity and PyTorch does not, so right after a drop the two
differ for about ten updates; nothing else does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rewind_ray.errors import UserError
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol


def mikler_resnet(network: str = "resnet20", dataset: str = "cifar10", **changes: Any) -> Protocol:
    """Mikler 2022, §4.1: 72,000 updates, drops at 36,000 and 54,000, L2 1e-4 * sum(w^2).

    Everything with its source: ``docs/protocols/mikler2022.md``.
    """
    settings: dict[str, Any] = {
        "epochs": 36,
        "steps_per_epoch": 2000,
        "schedule": Schedule(lr=0.1, drops=(18, 27), factor=0.1),
        "batch_size": 128,
        "weight_decay": 2 * 1e-4,
        "augmentation": "reflect4_flip",
        "prunable": "kernels",
    }
    return _mikler(network, dataset, settings, changes)


def mikler_wrn(network: str = "wrn_16_8", dataset: str = "cifar10", **changes: Any) -> Protocol:
    """Mikler 2022, §4.1: 80,000 updates, drops at 32k, 48k and 64k, L2 2e-4 * sum(w^2).

    Everything with its source: ``docs/protocols/mikler2022.md``.
    """
    settings: dict[str, Any] = {
        "epochs": 40,
        "steps_per_epoch": 2000,
        "schedule": Schedule(lr=0.1, drops=(16, 24, 32), factor=0.2),
        "batch_size": 128,
        "weight_decay": 2 * 2e-4,
        "augmentation": "reflect4_flip",
        "prunable": "kernels",
    }
    return _mikler(network, dataset, settings, changes)


CIFAR_RESNETS = ("digits_resnet", "resnet8", "resnet20", "resnet56", "resnet110")
WIDE_RESNETS = ("wrn_10_1", "wrn_16_8")


def _mikler(network: str, dataset: str, settings: dict[str, Any], changes: Any) -> Protocol:
    if network in (*CIFAR_RESNETS, *WIDE_RESNETS):
        settings["network_options"] = {"same_padding": True}
    return Protocol(network=network, dataset=dataset, **_changed(settings, changes))


def _changed(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """With the changes; options one by one. Those of SGD don't go with another optimizer."""
    own = settings if changes.get("optimizer", "sgd") == "sgd" else {}
    options = {
        "network_options": _both(settings, changes, "network_options"),
        "optimizer_options": _both(own, changes, "optimizer_options"),
        "task_options": _both(settings, changes, "task_options"),
    }
    return settings | changes | options


def _both(settings: dict[str, Any], changes: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(settings.get(name, {})) | dict(changes.get(name, {}))


IMAGENET_RESNETS = ("resnet34", "resnet50")
TRAIN_IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "imagenet": 1_281_167}
"""Data sets whose passes run into each other, as Renda et al.'s code had them."""


def renda_cifar(network: str = "resnet56", dataset: str = "cifar10", **changes: Any) -> Protocol:
    """Renda et al. 2020, Table 1: 182 epochs, drops at 91 and 136, weight decay 2e-4.

    Details are those of their published code (``vision/gpu-src/official/resnet``), which made the
    published numbers. Its momentum is not Nesterov's, although Table 1 says so. Everything with its
    source: ``docs/protocols/renda2020.md``.
    """
    settings: dict[str, Any] = {
        "epochs": 182,
        "schedule": Schedule(lr=0.1, drops=(91, 136), factor=0.1),
        "batch_size": 128,
        "weight_decay": 2e-4,
        "optimizer_options": {"nesterov": False},
        "augmentation": "zero4_flip",
        "standardisation": "image",
        "initial_weights": "truncated_normal",
        "validation": "test",
        "validation_fraction": 0.2,
        "prunable": "kernels",
    }
    if network in CIFAR_RESNETS:
        settings["network_options"] = {"first_projection": True, "projection_batch_norm": True}
    settings = _changed(settings, changes)
    settings.setdefault("steps_per_epoch", _updates_a_pass(dataset, settings))
    return Protocol(network=network, dataset=dataset, **settings)


def renda_imagenet(
    network: str = "resnet50", dataset: str = "imagenet", **changes: Any
) -> Protocol:
    """Renda et al. 2020, Table 1: 90 epochs, warm-up of 5, drops at 30, 60 and 80, decay 1e-4.

    Details are those of their published code (``vision/tpu-src/models/official/resnet``), run on a
    TPU of 8 cores in bfloat16. Labels are not smoothed: ``configs/default.yaml`` says
    ``label_smoothing: 0.0``. Everything with its source: ``docs/protocols/renda2020.md``.
    """
    settings: dict[str, Any] = {
        "epochs": 90,
        "schedule": Schedule(lr=0.4, drops=(30, 60, 80), factor=0.1, warmup_epochs=5),
        "batch_size": 1024,
        "weight_decay": 1e-4,
        "decayed": "not_batch_norm",
        "augmentation": "imagenet_tf",
        "standardisation": "imagenet",
        "initial_weights": "truncated_normal",
        "image_size": 224,
        "validation": "test",
        "validation_fraction": 0.2,
        "prunable": "kernels",
        "precision": "bf16",
    }
    if network in IMAGENET_RESNETS:
        settings["network_options"] = {
            "same_padded_pool": True,
            "zero_last_norm": True,
            "batch_norm_shards": 8,
        } | ({"first_projection": True} if network == "resnet34" else {})
    settings = _changed(settings, changes)
    settings.setdefault("steps_per_epoch", _updates_a_pass(dataset, settings))
    return Protocol(network=network, dataset=dataset, **settings)


def _updates_a_pass(
    dataset: str, settings: dict[str, Any], whole_number: Callable[[float], int] = round
) -> int | None:
    """The whole number nearest to it, or another; None, for passes by themselves, where not all of
    the training set of ``TRAIN_IMAGES`` trains."""
    whole = settings.get("train_examples") is None and settings.get("validation") != "train"
    if dataset not in TRAIN_IMAGES or not whole:
        return None
    batch_size: int = settings["batch_size"]
    return whole_number(TRAIN_IMAGES[dataset] / batch_size)


def wang_imagenet100(
    network: str = "resnet34", dataset: str = "imagenet100", **changes: Any
) -> Protocol:
    """Wang et al. 2023, Table 4: 120 epochs, drops at 30, 60, 90 and 105.

    Batch, decay, momentum and images are those of PyTorch's ImageNet example, which Appendix A
    refers to, the network is torchvision's. With sources: ``docs/protocols/wang2023.md``.
    """
    settings: dict[str, Any] = {
        "epochs": 120,
        "schedule": Schedule(lr=0.1, drops=(30, 60, 90, 105), factor=0.1),
        "batch_size": 256,
        "weight_decay": 1e-4,
        "optimizer_options": {"nesterov": False},
        "augmentation": "imagenet",
        "standardisation": "imagenet",
        "image_size": 224,
        "initial_weights": "torchvision_resnet",
        "prunable": "convolutions",
    }
    return Protocol(network=network, dataset=dataset, **_changed(settings, changes))


GNMT_UPDATES = 863
"""Of an epoch, which is half a pass: run.py checkpoints and counts so."""


def renda_gnmt(network: str = "gnmt", dataset: str = "wmt16_en_de", **changes: Any) -> Protocol:
    """Renda et al. 2020, Table 1: Adam, 5 passes in 10 epochs of half a pass.

    Details are those of their published code (``gnmt/model``), run on a TPU of 8 cores in bfloat16:
    each core clips the summed gradient of its 256 sentences. Everything with its source:
    ``docs/protocols/renda2020.md``.
    """
    updates = (6472, 7191, 7910)  # "luong234": 5753 + 719 i of 8630
    settings: dict[str, Any] = {
        "network_options": {"shared_embedding": False} if network == "gnmt" else {},
        "task": "translation",
        "task_options": {
            "subwords": 32_317,
            "longest": 47,
            "bucket_width": 10,
            "shards": 8,
            "sum_loss": True,
            "beam_width": 5,
            "length_penalty": 0.6,
            "coverage_penalty": 0.1,
            "longest_output": 150,
            "bleu_lowercase": True,
            "bleu_tokenizer": "intl",
        },
        "epochs": 10,
        "steps_per_epoch": GNMT_UPDATES,
        "schedule": Schedule(
            lr=0.002,
            drops=tuple(update / GNMT_UPDATES for update in updates),
            factor=0.5,
            warmup_epochs=200 / GNMT_UPDATES,
            warmup_shape="exponential",
            warmup_start=0.01,
        ),
        "batch_size": 2048,
        "optimizer": "adam",
        "weight_decay": 0.0,
        "label_smoothing": 0.1,
        "max_gradient_norm": 5.0,
        "initial_weights": "uniform",
        "validation": "own",
        "prunable": "*",
        "precision": "bf16",
    }
    return Protocol(network=network, dataset=dataset, **_changed(settings, changes))


def multi30k(network: str = "gnmt_small", dataset: str = "multi30k", **changes: Any) -> Protocol:
    """Ours: the shape of GNMT's training for a small network and 29,000 captions; 10 passes."""
    settings: dict[str, Any] = {
        "task": "translation",
        "task_options": {
            "subwords": 6000,
            "longest": 80,
            "bucket_width": 1,
            "longest_output": 60,
        },
        "epochs": 10,
        "schedule": Schedule(
            lr=0.002,
            drops=(7.5, 8.33, 9.17),
            factor=0.5,
            warmup_epochs=0.4,
            warmup_shape="exponential",
            warmup_start=0.01,
        ),
        "batch_size": 64,
        "optimizer": "adam",
        "weight_decay": 0.0,
        "label_smoothing": 0.1,
        "max_gradient_norm": 5.0,
        "initial_weights": "uniform",
        "validation": "own",
        "prunable": "*",
    }
    return Protocol(network=network, dataset=dataset, **_changed(settings, changes))


WANG_BATCHES = {"vgg19": 256}
"""Of their VGG-19; 128 for the others."""
TORCH_NORM = {"batch_norm_decay": 0.9, "batch_norm_epsilon": 1e-5}
"""PyTorch's defaults."""


def wang_cifar(network: str = "resnet56", dataset: str = "cifar10", **changes: Any) -> Protocol:
    """Wang et al. 2023, App. C: 200 epochs, drops at 100 and 150.

    Batch, decay and images are those of the code that App. A refers to (GReg,
    ``MingSun-Tse/Regularization-Pruning``). With sources: ``docs/protocols/wang2023.md``.
    """
    settings: dict[str, Any] = {
        "epochs": 200,
        "schedule": Schedule(lr=0.1, drops=(100, 150), factor=0.1),
        "batch_size": WANG_BATCHES.get(network, 128),
        "weight_decay": 5e-4,
        "optimizer_options": {"nesterov": False},
        "augmentation": "zero4_flip",
        "standardisation": "imagenet" if dataset == "cifar10" else "dataset",
        "initial_weights": "he_normal",
        "prunable": "convolutions",
    }
    if network in CIFAR_RESNETS:
        settings["network_options"] = TORCH_NORM | {"zero_shortcut": True}
    elif network in ("vgg8", "vgg16", "vgg19"):
        settings["network_options"] = TORCH_NORM
    settings = _changed(settings, changes)
    settings.setdefault("steps_per_epoch", _updates_a_pass(dataset, settings, math.ceil))
    return Protocol(network=network, dataset=dataset, **settings)


def digits(network: str = "digits_resnet", dataset: str = "digits", **changes: Any) -> Protocol:
    """Ours: Renda's shape of schedule (drops at 1/2 and 3/4) in 16 epochs of 8x8 digits."""
    settings: dict[str, Any] = {
        "epochs": 16,
        "schedule": Schedule(lr=0.1, drops=(8, 12), factor=0.1),
        "batch_size": 64,
        "weight_decay": 2e-4,
        "augmentation": "zero1",
        "validation": "test",
        "validation_fraction": 0.2,
        "prunable": "kernels",
    }
    return Protocol(network=network, dataset=dataset, **_changed(settings, changes))


def plain(network: str, dataset: str, **changes: Any) -> Protocol:
    """Ours, for networks and data of the user's own: 30 epochs, drops at 1/2 and 3/4."""
    epochs = changes.get("epochs", 30)
    settings: dict[str, Any] = {
        "epochs": epochs,
        "schedule": Schedule(lr=0.05, drops=drops_within(epochs, (0.5, 0.75)), factor=0.1),
        "batch_size": 64,
        "weight_decay": 1e-4,
        "validation": "test",
        "validation_fraction": 0.2,
    }
    return Protocol(network=network, dataset=dataset, **_changed(settings, changes))


def drops_within(epochs: int, shares: tuple[float, ...]) -> tuple[float, ...]:
    """Whole epochs at these shares of a training; none where it is too short for them."""
    found = {round(share * epochs) for share in shares}
    return tuple(float(drop) for drop in sorted(found) if 0 < drop < epochs)


def usual_rewind_epoch(protocol: Protocol) -> int:
    """A tenth of the original training; of a history that was given, the nearest that it has."""
    tenth = max(1, round(protocol.epochs / 10))
    earlier = [epoch for epoch in protocol.given if epoch < protocol.dense_epochs]
    return min(earlier, key=lambda epoch: abs(epoch - tenth), default=tenth)


PROTOCOLS: dict[str, Callable[..., Protocol]] = {
    "mikler_resnet": mikler_resnet,
    "mikler_wrn": mikler_wrn,
    "renda_cifar": renda_cifar,
    "renda_imagenet": renda_imagenet,
    "wang_imagenet100": wang_imagenet100,
    "wang_cifar": wang_cifar,
    "digits": digits,
    "renda_gnmt": renda_gnmt,
    "multi30k": multi30k,
    "plain": plain,
}


TASK_PROTOCOLS = {"translation": "multi30k"}
"""Task -> name of the protocol that it is trained by unless another is given."""


def protocol_named(name: str) -> Callable[..., Protocol]:
    """Raises UserError, listing the known protocols, for an unknown name."""
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]

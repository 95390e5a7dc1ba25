"""What tasks of classification share: networks by name, cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.datasets.batches import Batch
from rewind_ray.importing import is_import_path
from rewind_ray.models import build_network, initialise_
from rewind_ray.models.own import build_own
from rewind_ray.spec import Protocol
from rewind_ray.tasks.task import Loss


def fresh_network(protocol: Protocol, seed: int, num_classes: int, in_channels: int) -> nn.Module:
    """The protocol's network, built-in or own, with the initial weights of the seed; on the CPU."""
    if is_import_path(protocol.network):
        return own_network(protocol, seed, num_classes, in_channels)
    options = dict(protocol.network_options)
    network = build_network(protocol.network, num_classes, in_channels, options)
    initialise_(network, seed, protocol.initial_weights)
    return network


def own_network(protocol: Protocol, seed: int, num_classes: int, in_channels: int) -> nn.Module:
    from_data = {"num_classes": num_classes, "in_channels": in_channels}
    return build_own(protocol.network, dict(protocol.network_options), from_data, seed)


def rebuilt_classifier(facts: Mapping[str, Any]) -> nn.Module:
    """``Task.rebuilt`` of a built-in network."""
    protocol = facts["spec"]["protocol"]
    return build_network(
        protocol["network"],
        num_classes=facts["output"]["shape"][1],
        in_channels=facts["input"]["shape"][1],
        options=dict(protocol["network_options"]),
    )


def classification_loss(network: nn.Module, batch: Batch, label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy. label_smoothing: see ``Protocol.label_smoothing``."""
    images, labels = batch
    logits = network(images)
    return Loss(
        mean=F.cross_entropy(logits, labels, label_smoothing=label_smoothing),
        examples=len(labels),
        correct=(logits.detach().argmax(dim=1) == labels).sum(),
    )


def accuracy(network: nn.Module, batches: Iterable[Batch]) -> float:
    """Share of the images that are classified right, in [0, 1]."""
    correct: Tensor | int = 0
    seen = 0
    for images, labels in batches:
        correct = correct + (network(images).argmax(dim=1) == labels).sum()
        seen += len(labels)
    return int(correct) / seen

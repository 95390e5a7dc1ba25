"""What ``rewind-ray list KIND`` lists beside the recipes: names that options take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from rewind_ray.datasets.catalog import DATASETS
from rewind_ray.datasets.text.corpora import CORPORA
from rewind_ray.models import NETWORKS, build_network
from rewind_ray.models.gnmt import NAMES as TRANSLATORS
from rewind_ray.protocols import PROTOCOLS
from rewind_ray.pruning.criteria import CRITERIA
from rewind_ray.retraining import METHODS
from rewind_ray.structures import STRUCTURES

Line = dict[str, Any]
"""Column -> value; what doesn't exist is None."""


def networks() -> list[Line]:
    """Parameters: with 10 classes and 3 channels, biases and BatchNorm included."""
    lines: list[Line] = []
    for name in NETWORKS:
        with torch.device("meta"):
            network = build_network(name, 10, 3, {})
        parameters = sum(parameter.numel() for parameter in network.parameters())
        lines.append({"network": name, "task": "image_classification", "parameters": parameters})
    for name in TRANSLATORS:
        lines.append({"network": name, "task": "translation", "parameters": None})
    return lines


def datasets() -> list[Line]:
    lines: list[Line] = [
        {
            "data set": name,
            "training": info.num_train,
            "test": info.num_test,
            "classes": info.num_classes,
            "input": f"{info.channels}×{info.image_size}×{info.image_size}",
        }
        for name, info in DATASETS.items()
    ]
    for name, corpus in CORPORA.items():
        pairs = corpus.num_pairs.get("test")
        sizes = {"training": corpus.num_train, "test": pairs, "classes": None}
        lines.append({"data set": name, **sizes, "input": "sentences"})
    return lines


def protocols() -> list[Line]:
    lines: list[Line] = []
    for name, make in PROTOCOLS.items():
        says = " ".join((inspect.getdoc(make) or "").partition("\n\n")[0].split())
        protocol = make(*(("resnet20", "cifar10") if name == "plain" else ()))
        schedule = protocol.schedule
        lines.append(
            {
                "protocol": name,
                "epochs": protocol.epochs,
                "batch size": protocol.batch_size,
                "optimizer": protocol.optimizer,
                "learning rate": schedule.lr,
                "schedule": schedule.shape,
                "what it is": says,
            }
        )
    return lines


def methods() -> list[Line]:
    return [
        {
            "method": name,
            "weights": method.weights,
            "learning rates": method.rate,
            "knobs": ", ".join(method.knobs) or None,
            "source": method.source,
        }
        for name, method in METHODS.items()
    ]


def criteria() -> list[Line]:
    return [
        {
            "criterion": name,
            "removes first": criterion.says,
            "needs": ", ".join(criterion.needs) or None,
            "source": criterion.source,
        }
        for name, criterion in CRITERIA.items()
    ]


def structures() -> list[Line]:
    return [
        {"structure": name, "removes": structure.says, "among": ", ".join(structure.scopes)}
        for name, structure in STRUCTURES.items()
    ]


KINDS: dict[str, Callable[[], list[Line]]] = {
    "networks": networks,
    "datasets": datasets,
    "protocols": protocols,
    "methods": methods,
    "criteria": criteria,
    "structures": structures,
}

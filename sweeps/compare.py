"""Compare retraining methods on a network and data of your own choice.

A dense baseline a seed; every method at every density, at once (--densities) or step by step
(--fraction, --levels). All methods retrain for the same time, so at the same search cost.

Examples:
  python -m sweeps.compare --dataset digits --network digits_resnet --protocol digits
  python -m sweeps.compare --dataset folder:/data/flowers --image-size 32 --epochs 30
  python -m sweeps.compare --dataset cifar10 --network resnet56 --methods lr_rewind --levels 10
  python -m sweeps.compare --dataset cifar100 --structure filters --densities 0.5 0.25 --dry-run
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import tyro

from rewind_ray.datasets import resolve
from rewind_ray.protocols import protocol_named
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage
from sweeps.launch import Sweep, command, run_sweep
from sweeps.options import Options
from sweeps.recipes import iterative, one_shot, prepared, scaled, seeds, sweep_name

SEEDS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    network: str = "resnet20"
    """digits_resnet, resnet20, resnet56, resnet110, wrn_16_8, ..."""
    dataset: str = "cifar10"
    """digits, cifar10, cifar100, fashion_mnist, or folder:PATH with train/<class>/* and
    test/<class>/*."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Side that a folder's images are resized to; that of its first image if left out."""
    protocol: str = "renda_cifar"
    """Training protocol: renda_cifar, mikler_resnet, mikler_wrn or digits."""
    epochs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Length of the original training; the protocol's if left out, else its rate drops are
    moved along."""
    lr: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    """Learning rate before the first drop; the protocol's if left out."""
    drops: tuple[int, ...] = ()
    """Epochs at which the learning rate drops; the protocol's if left out."""
    methods: tuple[str, ...] = ("finetune", "weight_rewind", "lr_rewind")
    """Retraining methods."""
    rewind_epoch: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Epoch that weights or rates rewind to; all methods retrain from here to the end. A tenth
    of the original training if left out."""
    densities: tuple[float, ...] = (0.2, 0.1, 0.05)
    """One-shot pruning: shares of the prunable weights that are left."""
    fraction: float = 0.2
    """Iterative pruning: share of the remaining weights that each step removes."""
    levels: int = 0
    """Iterative pruning: number of steps; 0: no iterative chain."""
    structure: Literal["unstructured", "filters"] = "unstructured"
    """What is removed: single weights, or whole convolution filters."""
    keep_layers: bool = False
    """Never prune a layer away entirely."""
    restore_momentum: bool = False
    """Start retraining with the momentum of the weights it starts from."""
    name: str = "compare"
    """Of the sweep's record and TensorBoard runs."""


def compare(
    protocol: Protocol, comparison: Comparison, rewind_epoch: int, seeds: range
) -> Iterator[Stage]:
    prune = Prune(
        fraction=comparison.fraction,
        structure=comparison.structure,
        keep_layers=comparison.keep_layers,
    )
    for seed in seeds:
        dense = dense_stage(protocol, seed)
        for method in comparison.methods:
            retrain = Retrain(
                method=method,
                epochs=protocol.epochs - rewind_epoch,
                restore_momentum=comparison.restore_momentum,
            )
            yield from one_shot(dense, retrain, comparison.densities, prune)
            yield iterative(dense, retrain, comparison.levels, prune)


def chosen_protocol(comparison: Comparison, data: str | None) -> tuple[Protocol, str | None]:
    """The protocol as asked for, and where its data is."""
    dataset, folder, digest, image_size = resolve(comparison.dataset, data, comparison.image_size)
    place: dict[str, Any] = {"data_digest": digest, "image_size": image_size}
    protocol = protocol_named(comparison.protocol)(comparison.network, dataset, **place)
    epochs = comparison.epochs or protocol.epochs
    old = protocol.schedule
    drops = comparison.drops or [scaled_drop(d, protocol.epochs, epochs) for d in old.drops]
    schedule = Schedule(lr=comparison.lr or old.lr, drops=tuple(drops), factor=old.factor)
    return replace(protocol, epochs=epochs, schedule=schedule), folder


def scaled_drop(drop: float, old_epochs: int, epochs: int) -> int:
    return round(drop * epochs / old_epochs)


def main(
    *,
    comparison: Annotated[Comparison, tyro.conf.arg(name="")],
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    full, folder = chosen_protocol(comparison, options.data_folder)
    rewind_epoch = comparison.rewind_epoch
    if rewind_epoch is None:
        rewind_epoch = max(1, round(full.epochs / 10))
    protocol = prepared(full, options)
    rewind_epoch = scaled(rewind_epoch, full.epochs, protocol)
    stages = list(compare(protocol, comparison, rewind_epoch, seeds(options, SEEDS)))
    name = sweep_name(comparison.name, options)
    return run_sweep(Sweep(name=name, stages=stages, data=folder), options)


if __name__ == "__main__":
    command(main)

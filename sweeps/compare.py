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

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import tyro

from rewind_ray.datasets import resolve
from rewind_ray.errors import UserError
from rewind_ray.optimizers import OPTIMIZERS, read_options
from rewind_ray.protocols import protocol_named
from rewind_ray.pruning import criteria_help
from rewind_ray.pruning.criteria import DEFAULT_CRITERION
from rewind_ray.schedule import SHAPES, Schedule
from rewind_ray.spec import Protocol, Retrain, Stage, dense_stage, retrain_stage
from rewind_ray.structures import (
    DEFAULT_STRUCTURE,
    structure_named,
    structures_help,
    with_option,
)
from sweeps.options import Options
from sweeps.plan.chains import iterative, one_shot, prepared, scaled, seeds, sweep_name
from sweeps.plan.flags import PruneFlags, RetrainFlags, prunings, retrainings
from sweeps.run.launch import Sweep, command, run_sweep

Optimizers: Any = Literal[tuple(OPTIMIZERS)]
Shapes: Any = Literal[tuple(SHAPES)]
SEEDS = 6  # with 3, differences below a point would likely not be shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """The dense network and its training."""

    network: str = "resnet20"
    """digits_resnet, resnet20, resnet56, resnet110, wrn_16_8, vgg16, ..."""
    dataset: str = "cifar10"
    """digits, cifar10, cifar100, fashion_mnist, or folder:PATH with train/<class>/* and
    test/<class>/*."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Side that a folder's images are resized to; that of its first image if left out."""
    protocol: str = "renda_cifar"
    """Training protocol: renda_cifar, mikler_resnet, mikler_wrn, digits, ..."""
    epochs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Length of the original training; the protocol's if left out, else its rate drops are
    moved along."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Examples an update; the protocol's if left out."""
    optimizer: Optimizers | None = None
    """The protocol's if left out; another one needs a learning rate (--lr) of its own."""
    optimizer_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Its options, such as momentum=0.8 or beta2=0.98."""
    weight_decay: Annotated[float | None, tyro.conf.arg(metavar="C")] = None
    """Added to the gradient with sgd and adam, apart from it with adamw; the protocol's if left
    out."""
    lr: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    """Largest learning rate: that before the first drop; the protocol's if left out."""
    schedule: Shapes | None = None
    """How the learning rate falls; as in the protocol if left out."""
    drops: tuple[float, ...] = ()
    """Epochs at which the learning rate of --schedule steps drops; the protocol's if left out."""
    last_lr: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    """Learning rate at the end of --schedule cosine or linear; 0 if left out."""
    warmup_epochs: Annotated[float | None, tyro.conf.arg(metavar="N")] = None
    """Epochs in which the learning rate climbs at first; the protocol's if left out."""
    validation: Annotated[float | None, tyro.conf.arg(metavar="FRACTION")] = None
    """Share of the test set that validates and no longer tests; the protocol's if left out."""
    train_examples: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Train on this many images only, a fixed random choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
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
    structure: Annotated[
        str,
        tyro.conf.arg(
            metavar="NAME",
            help=f"What is removed: {structures_help()}. N:M says how much; layers whose inputs it "
            "doesn't divide are left out by --layers.",
        ),
    ] = DEFAULT_STRUCTURE
    criterion: Annotated[
        str, tyro.conf.arg(metavar="NAME", help=f"What is removed first: {criteria_help()}.")
    ] = DEFAULT_CRITERION
    pruning: Annotated[PruneFlags, tyro.conf.arg(name="")] = field(default_factory=PruneFlags)
    retraining: Annotated[RetrainFlags, tyro.conf.arg(name="")] = field(
        default_factory=RetrainFlags
    )
    name: str = "compare"
    """Of the sweep's record and TensorBoard runs."""


def compare(
    protocol: Protocol, comparison: Comparison, rewind_epoch: int, seeds: range
) -> Iterator[Stage]:
    epochs = protocol.epochs - rewind_epoch
    for seed in seeds:
        dense = dense_stage(protocol, seed)
        for method in comparison.methods:
            for retrain in retrainings(method, epochs, comparison.retraining):
                yield from pruned(dense, retrain, comparison)


def pruned(dense: Stage, retrain: Retrain, comparison: Comparison) -> Iterator[Stage]:
    """At every density and level, or as much as rates or the structure say."""
    rates = comparison.pruning.rates
    structure = with_option("rates")[0] if rates else comparison.structure
    says_amount = rates or structure_named(structure).density is not None
    settings = {
        "fraction": None if says_amount else comparison.fraction,
        "structure": structure,
        "criterion": comparison.criterion,
    }
    for prune in prunings(settings, comparison.pruning):
        if says_amount:
            yield retrain_stage(dense, prune, retrain)
        else:
            yield from one_shot(dense, retrain, comparison.densities, prune)
            yield iterative(dense, retrain, comparison.levels, prune)


def chosen_protocol(training: Training, data: str | None) -> tuple[Protocol, str | None]:
    """The protocol as asked for, and where its data is."""
    make_protocol = protocol_named(training.protocol)
    augmentation = make_protocol(training.network).augmentation
    dataset, folder, digest, image_size = resolve(
        training.dataset, data, training.image_size, augmentation
    )
    place: dict[str, Any] = {"data_digest": digest, "image_size": image_size}
    if training.validation is not None:
        place |= {"validation": "test", "validation_fraction": training.validation}
    if training.train_examples is not None:
        place["train_examples"] = training.train_examples
    protocol = make_protocol(training.network, dataset, **place)
    epochs = protocol.epochs if training.epochs is None else training.epochs
    if epochs < 1:
        raise UserError(f"--epochs is {epochs}; allowed: whole numbers from 1 up")
    if training.lr is not None and not 0 < training.lr < math.inf:
        raise UserError(f"--lr is {training.lr:g}; allowed: numbers above 0")
    schedule = chosen_schedule(training, protocol, epochs)
    changes = chosen_optimizer(training, protocol)
    return replace(protocol, epochs=epochs, schedule=schedule, **changes), folder


def chosen_schedule(training: Training, protocol: Protocol, epochs: int) -> Schedule:
    """The protocol's, moved to another number of epochs, with what the flags change."""
    old = protocol.schedule
    shape = training.schedule or ("steps" if training.drops else old.shape)
    drops: tuple[float, ...] = training.drops
    if shape == "steps" and not drops:
        drops = tuple(scaled_drop(drop, protocol.epochs, epochs) for drop in old.drops)
    warmup_epochs = training.warmup_epochs
    if warmup_epochs is None:
        warmup_epochs = old.warmup_epochs * epochs / protocol.epochs
    last_lr = training.last_lr
    if last_lr is None:
        last_lr = old.last_lr if "last_lr" in SHAPES[shape].takes else 0.0
    return replace(
        old,
        lr=old.lr if training.lr is None else training.lr,
        shape=shape,
        drops=drops,
        last_lr=last_lr,
        warmup_epochs=warmup_epochs,
    )


def scaled_drop(drop: float, old_epochs: int, epochs: int) -> float:
    """Whole where it was whole."""
    there = drop * epochs / old_epochs
    return round(there) if float(drop).is_integer() else there


def chosen_optimizer(training: Training, protocol: Protocol) -> dict[str, Any]:
    """What the flags change of the protocol's optimizer, its batch and its weight decay."""
    changes: dict[str, Any] = {
        name: getattr(training, name)
        for name in ("batch_size", "weight_decay")
        if getattr(training, name) is not None
    }
    name, options = protocol.optimizer, dict(protocol.optimizer_options)
    if training.optimizer is not None and training.optimizer != name:
        if training.lr is None:
            raise UserError(
                f"--optimizer {training.optimizer} without --lr: the protocol's rate of "
                f"{protocol.schedule.lr:g} is one for {name}; give --lr, such as 0.001"
            )
        name, options = training.optimizer, {}
    options |= read_options(name, training.optimizer_options)
    return changes | {"optimizer": name, "optimizer_options": options}


def main(
    *,
    training: Annotated[Training, tyro.conf.arg(name="")],
    comparison: Annotated[Comparison, tyro.conf.arg(name="")],
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    full, folder = chosen_protocol(training, options.data_folder)
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

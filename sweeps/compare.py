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
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import tyro

from rewind_ray.datasets import resolve
from rewind_ray.errors import UserError
from rewind_ray.optimizers import read_options
from rewind_ray.protocols import protocol_named
from rewind_ray.pruning import criteria_help
from rewind_ray.pruning.criteria import DEFAULT_CRITERION
from rewind_ray.retraining import method_named
from rewind_ray.schedule import SHAPES, Schedule
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage, retrain_stage
from rewind_ray.structures import (
    DEFAULT_STRUCTURE,
    structure_named,
    structures_help,
    with_option,
)
from sweeps.options import Options
from sweeps.plan.chains import iterative, one_shot, prepared, scaled, seeds, sweep_name
from sweeps.run.launch import Sweep, command, run_sweep

SEEDS = 6  # with 3, differences below a point would likely not be shown
KNOB_LR = 0.01
"""Top rate of step and cosine; Wang et al. 2023, Tab. 4: "P30F90, 1e-2"."""


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
    optimizer: Literal["sgd", "adam", "adamw"] | None = None
    """The protocol's if left out; another one needs a learning rate (--lr) of its own."""
    optimizer_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Its options: momentum, nesterov (sgd); beta1, beta2, eps (adam, adamw)."""
    weight_decay: Annotated[float | None, tyro.conf.arg(metavar="C")] = None
    """Added to the gradient with sgd and adam, apart from it with adamw; the protocol's if left
    out."""
    lr: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    """Largest learning rate: that before the first drop; the protocol's if left out."""
    schedule: Literal["steps", "constant", "cosine", "linear", "inverse_sqrt"] | None = None
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
    rates: str = ""
    """Filters by the layers' own rates instead of densities: resnet56-A, resnet56-B, ..."""
    powers: tuple[int, ...] = (1,)
    """With --rates: their levels i; (1 - rate)^i of a layer's filters are kept."""
    criterion: Annotated[
        str, tyro.conf.arg(metavar="NAME", help=f"What is removed first: {criteria_help()}.")
    ] = DEFAULT_CRITERION
    rounds: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Times that the criterion scores what is left on the way to each density: 100 is SynFlow's."""
    scope: Literal["global", "layer"] = "global"
    """Compare the weights of all layers, or take the same share of each."""
    layers: str = ""
    """Only layers whose name fits this pattern, such as stages.*.conv1."""
    keep_layers: bool = False
    """Never prune a layer away entirely."""
    shrink: bool = False
    """Cut pruned filters out physically and retrain the smaller dense network."""
    filters_only: bool = False
    """Mask pruned filters alone; their BatchNorm's shift, and what reads it, trains on."""
    restore_momentum: bool = False
    """Start retraining with the momentum of the weights it starts from."""
    knob_lr: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    """Top rate of the methods that take one of their own; the schedule's if left out, and 0.01
    for step and cosine, which need one."""
    knob_drops: tuple[float, ...] = ()
    """Of the method step: epochs of retraining at which the rate drops."""
    knob_factor: Annotated[float | None, tyro.conf.arg(metavar="F")] = None
    """Of the method step: what each drop multiplies the rate by; 0.1 if left out."""
    alpha: tuple[float, ...] = (0.5,)
    """Of the method blend: 0 starts from the rewound weights, 1 from the final ones."""
    speedup: float = 2.0
    """Of the method scratch_b: what pruning makes an epoch cheaper by."""
    name: str = "compare"
    """Of the sweep's record and TensorBoard runs."""


def compare(
    protocol: Protocol, comparison: Comparison, rewind_epoch: int, seeds: range
) -> Iterator[Stage]:
    epochs = protocol.epochs - rewind_epoch
    retrains = [
        retrain
        for method in comparison.methods
        for retrain in retrainings(method, epochs, comparison)
    ]
    for seed in seeds:
        dense = dense_stage(protocol, seed)
        for retrain in retrains:
            if says_amount(comparison):
                for prune in amounts_by_themselves(comparison):
                    yield retrain_stage(dense, prune, retrain)
                continue
            prune = Prune(fraction=comparison.fraction, **what_and_how(comparison))
            yield from one_shot(dense, retrain, comparison.densities, prune)
            yield iterative(dense, retrain, comparison.levels, prune)


def what_and_how(comparison: Comparison) -> dict[str, Any]:
    """The fields of ``Prune`` that don't say how much."""
    return {
        "criterion": comparison.criterion,
        "structure": with_option("rates")[0] if comparison.rates else comparison.structure,
        "scope": comparison.scope,
        "layers": comparison.layers,
        "keep_layers": comparison.keep_layers,
        "shrink": comparison.shrink,
        "filters_only": comparison.filters_only,
        "rounds": comparison.rounds,
    }


def says_amount(comparison: Comparison) -> bool:
    """Whether rates or the structure say how much is pruned, and densities don't."""
    return bool(comparison.rates) or structure_named(comparison.structure).density is not None


def amounts_by_themselves(comparison: Comparison) -> Iterator[Prune]:
    """Prunings whose rates or structure say how much."""
    settings = what_and_how(comparison)
    if not comparison.rates:
        yield Prune(fraction=None, **settings)
        return
    for power in comparison.powers:
        yield Prune(fraction=None, rates=comparison.rates, power=power, **settings)


def retrainings(name: str, epochs: int, comparison: Comparison) -> Iterator[Retrain]:
    """The method with the knobs it needs; one for each alpha of ``blend``."""
    method = method_named(name)
    knobs: dict[str, Any] = {
        "restore_momentum": comparison.restore_momentum and method.weights != "fresh"
    }
    if "lr" in (*method.needs, *method.takes):
        knobs["lr"] = comparison.knob_lr
    if "lr" in method.needs and comparison.knob_lr is None:
        knobs["lr"] = KNOB_LR
    if "drops" in method.takes:
        knobs |= {"drops": comparison.knob_drops, "factor": comparison.knob_factor}
    if "speedup" in method.needs:
        knobs["speedup"] = comparison.speedup
    for alpha in comparison.alpha if "alpha" in method.needs else (None,):
        yield Retrain(method=name, epochs=epochs, alpha=alpha, **knobs)


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

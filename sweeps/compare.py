"""Compare retraining methods on a network and data of your own choice.

A dense baseline a seed; every method at every density, at once (--densities) or step by step
(--fraction, --levels). All methods retrain for the same time, so at the same search cost.

A network of your own is a function, as package.module:function, that returns an nn.Module; data of
your own one that returns {"train": ..., "test": ...}, Datasets or pairs of tensors (docs/own.md).

Examples:
  python -m sweeps.compare --dataset digits --network digits_resnet --protocol digits
  python -m sweeps.compare --network my_models:resnet --dataset my_data:load --epochs 30
  python -m sweeps.compare --network my_models:resnet --init trained.pt --dataset folder:photos \\
      --split 0.2
  python -m sweeps.compare --dataset folder:/data/flowers --image-size 32 --epochs 30
  python -m sweeps.compare --task translation --dataset multi30k --network gnmt_small \\
      --data /data/multi30k --densities 0.2 --rewind-epoch 6 --restore-momentum
  python -m sweeps.compare --dataset cifar10 --network resnet56 --methods lr_rewind --levels 10
  python -m sweeps.compare --dataset cifar100 --structure filters --densities 0.5 0.25 --dry-run
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import tyro

from rewind_ray.errors import UserError
from rewind_ray.importing import is_import_path
from rewind_ray.models import check_network
from rewind_ray.models.own import own_builder, read_weights
from rewind_ray.network_options import Option
from rewind_ray.optimizers import read_options
from rewind_ray.protocols import TASK_PROTOCOLS, protocol_named
from rewind_ray.pruning import criteria_help
from rewind_ray.pruning.criteria import DEFAULT_CRITERION
from rewind_ray.retraining import method_named
from rewind_ray.schedule import SHAPES, Schedule
from rewind_ray.spec import (
    BUILDER,
    Protocol,
    Prune,
    Retrain,
    Stage,
    dense_stage,
    retrain_stage,
)
from rewind_ray.structures import (
    DEFAULT_STRUCTURE,
    structure_named,
    structures_help,
    with_option,
)
from rewind_ray.tasks import adopting, identified, task_class
from sweeps.options import Options
from sweeps.plan.chains import iterative, one_shot, prepared, scaled, seeds, sweep_name
from sweeps.run.launch import Sweep, command, run_sweep

SEEDS = 6  # with 3, differences below a point would likely not be shown
METHODS = ("finetune", "weight_rewind", "lr_rewind")
KNOB_LR = 0.01
"""Top rate of step and cosine; Wang et al. 2023, Tab. 4: "P30F90, 1e-2"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """The dense network and its training."""

    network: str = "resnet20"
    """digits_resnet, resnet20, resnet56, resnet110, wrn_16_8, vgg16, ..., gnmt_small for
    translation, or your own as package.module:function."""
    network_option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Arguments of the network's builder."""
    init: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Trained weights, safetensors or a state_dict of torch.save: the dense network has them and
    isn't trained. builder: your function returns it trained."""
    dataset: str = "cifar10"
    """digits, cifar10, cifar100, fashion_mnist, folder:PATH with train/<class>/* and
    test/<class>/*, or your own as package.module:function; for translation multi30k, wmt16_en_de,
    number_words, or folder:PATH with train.en, train.de, test.en, ..."""
    split: Annotated[float, tyro.conf.arg(metavar="FRACTION")] = 0.0
    """Share that tests of a folder <class>/*, or of own data, without a test part."""
    task: Annotated[str | None, tyro.conf.arg(metavar="translation|package.module:Class")] = None
    """For what isn't classification: translation, or your own Task (docs/extending.md)."""
    task_option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """What only the task understands."""
    augmentation: str | None = None
    """none, zero4_flip, reflect4_flip, zero1, imagenet or imagenet_tf; the protocol's if left
    out."""
    prunable: str | None = None
    """kernels, convolutions, or a pattern of parameters' names such as 'encoder.*.weight'; the
    protocol's if left out."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Side that a folder's images are resized to; that of its first image if left out."""
    protocol: str | None = None
    """Training protocol, for all that no other flag says: renda_cifar, mikler_resnet, mikler_wrn,
    digits, ...; if left out renda_cifar, multi30k for translation, and plain for networks or data
    of your own."""
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
    """Share of the test set that validates and no longer tests, 0 for none; the protocol's if left
    out."""
    train_examples: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Train on this many images only, a fixed random choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    methods: tuple[str, ...] = ()
    """Retraining methods; finetune, weight_rewind and lr_rewind if left out, with --init without
    weight_rewind."""
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
        for method in comparison.methods or default_methods(protocol)
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


def default_methods(protocol: Protocol) -> tuple[str, ...]:
    """Of a network that was given trained there are no weights to rewind to."""
    return ("finetune", "lr_rewind") if protocol.init else METHODS


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
    own = (training.network, training.dataset, training.task or "")
    usual = "plain" if any(map(is_import_path, own)) else TASK_PROTOCOLS.get(training.task or "")
    make_protocol = protocol_named(training.protocol or usual or "renda_cifar")
    as_usual = make_protocol(training.network, "cifar10")
    check_names(training, as_usual.task)
    dataset, folder, place = chosen_data(training, data, as_usual)
    if training.validation is not None:
        place |= {
            "validation": "test" if training.validation else "none",
            "validation_fraction": training.validation,
        }
    if training.train_examples is not None:
        place["train_examples"] = training.train_examples
    if training.prunable is not None:
        place["prunable"] = training.prunable
    if training.network_option:
        place["network_options"] = named_options(training.network_option, "--network-option")
    protocol = make_protocol(training.network, dataset, **place)
    epochs = protocol.epochs if training.epochs is None else training.epochs
    if epochs < 1:
        raise UserError(f"--epochs is {epochs}; allowed: whole numbers from 1 up")
    if training.lr is not None and not 0 < training.lr < math.inf:
        raise UserError(f"--lr is {training.lr:g}; allowed: numbers above 0")
    schedule = chosen_schedule(training, protocol, epochs)
    changes = chosen_optimizer(training, protocol)
    protocol = replace(protocol, epochs=epochs, schedule=schedule, **changes)
    protocol = identified(protocol, folder)
    return with_init(protocol, training.init, folder), folder


def chosen_schedule(training: Training, protocol: Protocol, epochs: int) -> Schedule:
    """The protocol's, moved to another number of epochs, with what the flags change."""
    old = protocol.schedule
    shape = training.schedule or ("steps" if training.drops else old.shape)
    drops: tuple[float, ...] = training.drops
    if shape == "steps" and not drops:
        moved = {scaled_drop(drop, protocol.epochs, epochs) for drop in old.drops}
        drops = tuple(sorted(drop for drop in moved if 0 < drop < epochs))  # none in short runs
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


def check_names(training: Training, task: str) -> None:
    """Raises UserError for a network or task that there isn't, before anything is read."""
    if is_import_path(training.network):
        own_builder(training.network)
    elif task == "image_classification":
        check_network(training.network, named_options(training.network_option, "--network-option"))
    if training.task is not None:
        task_class(training.task)


def chosen_data(
    training: Training, data: str | None, usual: Protocol
) -> tuple[str, str | None, dict[str, Any]]:
    """Data set, the folder of its files, and what of the protocol follows from it."""
    options = named_options(training.task_option, "--task-option")
    if training.split:
        options["split"] = training.split
    task = training.task or usual.task
    if is_import_path(training.dataset) and training.task is None:
        task = "classification"
    wanted: dict[str, Any] = {
        "task": task,
        "task_options": options,
        "augmentation": training.augmentation or usual.augmentation,
        "image_size": training.image_size,
    }
    dataset, folder, place = task_class(task).located(training.dataset, data, wanted)
    if training.augmentation is not None:
        place["augmentation"] = training.augmentation
    return dataset, folder, {"task": task, "task_options": options, **place}


def with_init(protocol: Protocol, init: str | None, folder: str | None) -> Protocol:
    """For a dense network that has trained weights: a file's, or its builder's own."""
    if init is None:
        return protocol
    if init == BUILDER:
        return replace(protocol, init=BUILDER)
    return adopting(protocol, folder, read_weights(init), f"--init {init}")


def named_options(texts: tuple[str, ...], flag: str) -> dict[str, Option]:
    """("width=2", "norm=batch") -> {"width": 2, "norm": "batch"}. Raises UserError without =."""
    options: dict[str, Option] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"{flag} is {text!r}; write name=value, such as width=2")
        options[name] = option_value(value)
    return options


def option_value(text: str) -> Option:
    """true and false, a whole number, another number, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


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
    return run_sweep(Sweep(name=name, stages=stages, data=folder, init=training.init), options)


if __name__ == "__main__":
    command(main)

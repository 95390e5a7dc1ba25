"""Compare retraining methods on a network and data of your own choice.

For each seed a dense baseline; every method at every density, one-shot (--densities) or iterative
(--fraction, --levels). The methods retrain from --rewind-epoch to the end, at the same search cost,
but for those that train from scratch, which take longer (--dry-run shows the epochs of each).
The default protocol is renda_cifar, and plain for your own networks or data.

Your own network is a function, given as package.module:function, that returns an nn.Module; your
own data a function that returns {"train": ..., "test": ...}, Datasets or pairs of tensors
(docs/own.md).

Examples:
  rewind-ray compare --dataset digits --network digits_resnet --protocol digits
  rewind-ray compare --network my_models:resnet --dataset my_data:load --epochs 30
  rewind-ray compare --network my_models:resnet --init trained.pt --dataset folder:photos \\
      --split 0.2
  rewind-ray compare --dataset folder:/data/flowers --image-size 32 --epochs 30
  rewind-ray compare --task translation --dataset multi30k --network gnmt_small \\
      --data /data/multi30k --densities 0.2 --rewind-epoch 6 --restore-momentum
  rewind-ray compare --dataset cifar10 --network resnet56 --methods lr_rewind --levels 10
  rewind-ray compare --dataset cifar100 --structure filters --densities 0.5 0.25 --dry-run
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import tyro

from rewind_ray.errors import UserError
from rewind_ray.importing import is_import_path
from rewind_ray.models import check_network
from rewind_ray.models.history import history_files
from rewind_ray.models.own import own_builder, read_weights
from rewind_ray.network_options import Option
from rewind_ray.optimizers import OPTIMIZERS, read_options
from rewind_ray.protocols import TASK_PROTOCOLS, plain, protocol_named, usual_rewind_epoch
from rewind_ray.pruning import criteria_help
from rewind_ray.pruning.criteria import DEFAULT_CRITERION
from rewind_ray.schedule import SHAPES, Schedule
from rewind_ray.spec import (
    BUILDER,
    Protocol,
    Retrain,
    Stage,
    dense_stage,
    missing_origin,
    retrain_stage,
)
from rewind_ray.structures import (
    DEFAULT_STRUCTURE,
    structure_named,
    structures_help,
    with_option,
)
from rewind_ray.tasks import adopting, adopting_history, identified, task_class
from sweeps.options import Options
from sweeps.plan.chains import iterative, one_shot, prepared, scaled, seeds, sweep_name
from sweeps.plan.flags import PruneFlags, RetrainFlags, check_used, prunings, retrainings
from sweeps.run.launch import Sweep, command, run_sweep

Optimizers: Any = Literal[tuple(OPTIMIZERS)]
Shapes: Any = Literal[tuple(SHAPES)]
SEEDS = 6  # with 3, differences below a point would likely not be shown
METHODS = ("finetune", "weight_rewind", "lr_rewind")
MOST_EPOCHS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """The dense network and its training."""

    network: str = "resnet20"
    """digits_resnet, resnet20, vgg16, gnmt_small, ..., or your own as package.module:function."""
    network_option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Arguments of the network's builder."""
    init: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Trained weights: safetensors or a state_dict; or builder, if your function loads them. They
    have to be of images standardised as here (docs/own.md)."""
    init_history: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the training's own checkpoints, such as 0000.pt to 0090.pt, the last one trained;
    weights can be rewound to these."""
    dataset: str = "cifar10"
    """digits, cifar10, multi30k, ..., folder:PATH, or your own as package.module:function."""
    split: Annotated[float, tyro.conf.arg(metavar="FRACTION")] = 0.0
    """Share for testing, of a folder <class>/* or of your own data without a test part."""
    task: Annotated[str | None, tyro.conf.arg(metavar="translation|package.module:Class")] = None
    """For what isn't classification: translation, or your own Task (docs/extending.md)."""
    task_option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Options of the task."""
    augmentation: str | None = None
    """none, zero1, zero4_flip, reflect4_flip, imagenet, imagenet_tf; default: the protocol's."""
    prunable: str | None = None
    """kernels, convolutions, or a pattern of parameters' names; the protocol's if left out."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Side that a folder's images are resized to; that of its first image if left out."""
    protocol: str | None = None
    """Training protocol, for what no other flag sets: renda_cifar, multi30k, plain, ..."""
    epochs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Length of the original training, with the protocol's schedule scaled to it."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Batch size; the protocol's if left out."""
    optimizer: Optimizers | None = None
    """Optimizer; the protocol's if left out. Another one needs its own --lr."""
    optimizer_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """Options of the optimizer, such as momentum=0.8 or beta2=0.98."""
    weight_decay: Annotated[float | None, tyro.conf.arg(metavar="C")] = None
    """Weight decay: added to the gradient by sgd and adam, decoupled in adamw."""
    lr: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    """Largest learning rate: that before the first drop; the protocol's if left out."""
    schedule: Shapes | None = None
    """Shape of the learning rate's schedule; the protocol's if left out."""
    drops: tuple[float, ...] = ()
    """Epochs at which the learning rate of --schedule steps drops; the protocol's if left out."""
    last_lr: Annotated[float | None, tyro.conf.arg(metavar="RATE")] = None
    """Learning rate at the end of --schedule cosine or linear; 0 if left out."""
    warmup_epochs: Annotated[float | None, tyro.conf.arg(metavar="N")] = None
    """Epochs of the learning rate's warm-up; the protocol's if left out."""
    validation: Annotated[float | None, tyro.conf.arg(metavar="FRACTION")] = None
    """Share of the test set to use for validation, 0 for none; the protocol's if left out."""
    train_examples: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Train on this many images only, a fixed random choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    methods: tuple[str, ...] = ()
    """Retraining methods; finetune, lr_rewind and, without --init, weight_rewind if left out."""
    rewind_epoch: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Epoch that weights or rates rewind to; a tenth of the original training if left out (with
    --init-history the nearest that is there)."""
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
    """Name of the sweep's record and TensorBoard runs."""


def compare(
    protocol: Protocol, comparison: Comparison, rewind_epoch: int, seeds: range
) -> Iterator[Stage]:
    methods = comparison.methods or default_methods(protocol)
    check_used(methods, comparison.retraining)
    if comparison.levels < 0:
        raise UserError(f"--levels is {comparison.levels}; allowed: whole numbers from 0 up")
    epochs = protocol.epochs - rewind_epoch
    for seed in seeds:
        dense = dense_stage(protocol, seed)
        for method in methods:
            for retrain in retrainings(method, epochs, comparison.retraining):
                yield from pruned(dense, retrain, comparison)


def pruned(dense: Stage, retrain: Retrain, comparison: Comparison) -> Iterator[Stage]:
    """At every density and level, or by the rates or the structure."""
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


def default_methods(protocol: Protocol) -> tuple[str, ...]:
    """A network that was given trained, without its history, has no weights to rewind to."""
    return tuple(method for method in METHODS if not missing_origin(protocol, method))


def chosen_protocol(training: Training, data: str | None) -> tuple[Protocol, str | None]:
    """The protocol that the flags ask for, and the folder of its data."""
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
    asked = training.epochs if training.init_history is None else history_epochs(training)
    if asked is not None and not 1 <= asked <= MOST_EPOCHS:
        raise UserError(f"--epochs is {asked}; allowed: whole numbers from 1 to {MOST_EPOCHS:,}")
    if asked is not None and make_protocol is plain:  # which has drops for any, not to be rounded
        place["epochs"] = asked
    protocol = make_protocol(training.network, dataset, **place)
    epochs = protocol.epochs if asked is None else asked
    if training.lr is not None and not 0 < training.lr < math.inf:
        raise UserError(f"--lr is {training.lr:g}; allowed: numbers above 0")
    schedule = chosen_schedule(training, protocol, epochs)
    changes = chosen_optimizer(training, protocol)
    protocol = replace(protocol, epochs=epochs, schedule=schedule, **changes)
    protocol = identified(protocol, folder)
    if training.init_history is not None:
        return adopting_history(protocol, folder, training.init_history), folder
    return with_init(protocol, training.init, folder), folder


def history_epochs(training: Training) -> int:
    """T, the last epoch of ``--init-history``; UserError for flags that it doesn't go with."""
    assert training.init_history is not None
    if training.init is not None:
        raise UserError(
            f"--init {training.init} and --init-history {training.init_history}; give one of them "
            "(the last file of a history is the trained network)"
        )
    last, file = max(history_files(training.init_history).items())
    if training.epochs not in (None, last):
        raise UserError(
            f"--epochs is {training.epochs}, and the last checkpoint of --init-history is of epoch "
            f"{last} ({file.name}); leave --epochs out"
        )
    return last


def given(training: Training) -> dict[str, Any]:
    """Fields of ``Sweep``: where trained weights are."""
    return {"init": training.init, "history": training.init_history}


def chosen_schedule(training: Training, protocol: Protocol, epochs: int) -> Schedule:
    """The protocol's schedule, scaled to another number of epochs, with the flags' changes."""
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
    """Raises UserError for an unknown network or task, before anything is read."""
    if is_import_path(training.network):
        own_builder(training.network)
    elif task == "image_classification":
        check_network(training.network, named_options(training.network_option, "--network-option"))
    if training.task is not None:
        task_class(training.task)


def chosen_data(
    training: Training, data: str | None, usual: Protocol
) -> tuple[str, str | None, dict[str, Any]]:
    """Data set, the folder of its files, and the protocol's fields that follow from it."""
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
    """The protocol of a dense network with trained weights: of a file, or of its builder."""
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
    """A truth value, a whole number, another number, or the text itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def scaled_drop(drop: float, old_epochs: int, epochs: int) -> float:
    """A whole number if it was one."""
    there = drop * epochs / old_epochs
    return round(there) if float(drop).is_integer() else there


def chosen_optimizer(training: Training, protocol: Protocol) -> dict[str, Any]:
    """Changes by the flags to the protocol's optimizer, batch size and weight decay."""
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
        rewind_epoch = usual_rewind_epoch(full)
    protocol = prepared(full, options)
    rewind_epoch = scaled(rewind_epoch, full.epochs, protocol)
    stages = list(compare(protocol, comparison, rewind_epoch, seeds(options, SEEDS)))
    name = sweep_name(comparison.name, options)
    return run_sweep(Sweep(name=name, stages=stages, data=folder, **given(training)), options)


if __name__ == "__main__":
    command(main)

"""What a stage is, and the id that follows from it.

A stage is one training run: the dense baseline, or one prune-and-retrain step of a chain.
Everything that changes its numbers is in these dataclasses, and nothing else is.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from rewind_ray.errors import UserError
from rewind_ray.importing import is_import_path
from rewind_ray.knobs import knob, settle_
from rewind_ray.limits import TRUE_OR_FALSE, Numbers, OneOf
from rewind_ray.network_options import not_default, options_of
from rewind_ray.optimizers import all_options, changed_options, keeps_state
from rewind_ray.retraining import Retrain as Retrain
from rewind_ray.retraining import default_lr, method_named
from rewind_ray.schedule import Schedule, last_rate, rounded
from rewind_ray.store.strict_json import WHOLE_LIMIT, check_fields
from rewind_ray.structures import DEFAULT_STRUCTURE, Structure, structure_named, with_option
from rewind_ray.task_options import TASK_OPTIONS
from rewind_ray.text import printable

T = TypeVar("T")

EPOCHS_SHOWN = 20
"""Of a history of weights, in messages."""
STEPS_LIMIT, OPTIONS_LIMIT = 1000, 100
"""Of a description that is read: pruning steps, and options of network, optimizer and task."""
NUMERICS = 3
"""In every id. Raised by hand whenever the meaning of a field or the arithmetic of training
changes, so that no result of another meaning is taken for one of this."""

AUGMENTATIONS = {
    "none": "the images as they are",
    "reflect4_flip": "flip, 4 pixels of reflection padding, crop (Mikler 2022, §4.2)",
    "zero4_flip": "flip, 4 black pixels around, crop (Renda et al. 2020, their TensorFlow code)",
    "zero1": "1 black pixel around, crop; no flip, for digits",
    "imagenet": "crop of random size and shape, flip; tested on the centre (PyTorch's example)",
    "imagenet_tf": "the same, drawn and resized as TensorFlow does it (Renda et al. 2020)",
}
STANDARDISATIONS = {
    "dataset": "by the training set's mean and deviation of each channel (Mikler 2022, §4.2)",
    "image": "every image by its own mean and deviation (Renda et al. 2020, their CIFAR code)",
    "imagenet": "by ImageNet's customary constants (Renda et al. 2020, their ImageNet code)",
}
INITIAL_WEIGHTS = {
    "he_uniform": "kernels uniform, of variance 2 / fan-in (Mikler 2022, §4.1)",
    "truncated_normal": "convolutions truncated normal, of variance 1 / fan-in; the dense kernel "
    "normal, of deviation 0.01 (Renda et al. 2020, their code)",
    "he_normal": "kernels normal, of variance 2 / fan-in (Wang et al. 2023, their CIFAR code)",
    "torchvision_resnet": "convolutions normal, of variance 2 / fan-out; the dense kernel uniform "
    "in ±1 / sqrt(fan-in) (torchvision's ResNets, which Wang et al. 2023 trained)",
    "uniform": "uniform in ±0.1 (Renda et al. 2020, their GNMT code)",
}
DECAYED = {
    "all": "every parameter (Mikler 2022; Renda et al. 2020, their CIFAR code)",
    "not_batch_norm": "all but BatchNorm's (Renda et al. 2020, their ImageNet code)",
    "kernels": "kernels only, neither biases nor BatchNorm",
}
PRECISIONS = {
    "fp32": "IEEE single precision throughout, on a GPU too",
    "tf32": "convolutions and products of matrices with inputs rounded to TF32; GPUs only",
    "bf16": "the same in bfloat16 with sums in fp32; weights, momentum and BatchNorm stay fp32",
}
PRUNABLE = {
    "kernels": "every convolution, projection and dense kernel (Mikler 2022, Renda et al. 2020)",
    "convolutions": "convolution and projection kernels, the dense layer left whole",
}
PATTERN_MARKS = frozenset("*?[.")
"""A name of parameters has one of these; the name of a rule has none."""
SCOPES = {
    "global": "weights of all layers are compared",
    "layer": "the same share of every layer",
}
BUILDER = "builder"
"""``Protocol.init`` of a network whose builder gives it trained weights."""
GIVEN = re.compile(
    rf"{BUILDER}|[0-9a-f]{{16}}|\d{{1,9}}:[0-9a-f]{{16}}( \d{{1,9}}:[0-9a-f]{{16}})*", re.ASCII
)
"""``Protocol.init``, where it isn't empty."""
VALIDATION = {
    "none": "no validation set",
    "test": "a fixed random part of the test set; the rest tests (Renda et al. 2020, §2.5)",
    "train": "a fixed random part of the training set",
    "own": "the validation set that the data comes with (translation)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How the dense network is trained, and what of it may be pruned."""

    network: str
    """Name in ``rewind_ray.models.NETWORKS``, or the import path of an own builder, such as
    ``my_models:unet``."""
    dataset: str
    """Name in ``rewind_ray.datasets.DATASETS``, ``folder:NAME``, or the import path of a function
    that returns own data, such as ``my_data:load``."""
    task: str = "image_classification"
    """Key of ``rewind_ray.tasks.TASKS``, or the import path of an own task, such as
    ``my_tasks:Segmentation``: the data, the loss, and what the accuracy columns hold."""
    task_options: tuple[tuple[str, bool | int | float | str], ...] = ()
    """What only the task understands, where it differs from the task's defaults; a dict may be
    given. Of own tasks the defaults are not known here, and what is given is kept."""
    epochs: int
    """T, the length of the original training."""
    schedule: Schedule
    batch_size: int
    weight_decay: float
    """c, on the parameters that ``decayed`` names. With SGD w' = w - lr * (gradient + c * w); Adam
    adds c * w to the gradient, too, before it takes its moments; AdamW multiplies w by 1 - lr * c
    instead (``rewind_ray.optimizers``).

    A loss term a * sum(w^2) has the gradient 2a * w, so a is half of this number;
    TensorFlow's a * l2_loss is a * sum(w^2) / 2, and a is this number.
    """
    decayed: str = "all"
    optimizer: str = "sgd"
    """Name in ``rewind_ray.optimizers.OPTIMIZERS``."""
    optimizer_options: tuple[tuple[str, bool | int | float | str], ...] = ()
    """Options of the optimizer that differ from its defaults; a dict may be given."""
    steps_per_epoch: int | None = None
    """Updates an epoch; None: a full pass, the incomplete last batch left out."""
    augmentation: str = "none"
    validation: str = "none"
    validation_fraction: float = 0.0
    prunable: str = "kernels"
    """Key of PRUNABLE, or a pattern of parameters' names, such as ``encoder.*.weight``; see
    ``pruning.prunable_parameters``."""
    precision: str = "fp32"
    initial_weights: str = "he_uniform"
    network_options: tuple[tuple[str, bool | int | float | str], ...] = ()
    """Arguments of the network's builder that differ from its defaults; a dict may be given."""
    network_digest: str = ""
    """Of an own network's code, structure and initial weights, see ``digests.network_digest``;
    empty for built-in ones."""
    task_digest: str = ""
    """Of an own task's code, see ``digests.code_digest``; empty for built-in ones."""
    data_digest: str = ""
    """Of the content of a folder or of own data; empty for named data sets."""
    init: str = ""
    """Digest of trained weights that the dense network has from the start, or ``builder`` where
    the network is built with them. It is adopted then, not trained: its row is of epoch 0, and
    ``epochs`` and ``schedule`` are those that retraining follows. ``0:digest 30:digest``: weights
    of several epochs of its original training, the last of them T; weights can be rewound to these,
    and its row is of epoch T. Empty: it is trained."""
    image_size: int | None = None
    """Side in pixels that a folder's images are resized to."""
    train_examples: int | None = None
    """Train on this many, a fixed random choice; None: on all."""
    test_examples: int | None = None
    """Test on this many, before the validation part is taken from them; None: on all."""
    standardisation: str = "dataset"
    label_smoothing: float = 0.0
    """Share of a label that is spread over all classes; 0 in all three papers' protocols for
    images."""
    max_gradient_norm: float | None = None
    """Larger gradients are scaled down to this Euclidean norm, over all parameters together, pruned
    weights left out; None: they stay as they are."""

    @property
    def optimizer_settings(self) -> dict[str, bool | int | float | str]:
        """Options of the optimizer, the defaults among them."""
        return all_options(self.optimizer, dict(self.optimizer_options))

    def __post_init__(self) -> None:
        for name in ("weight_decay", "validation_fraction", "label_smoothing"):
            object.__setattr__(self, name, rounded(getattr(self, name)))
        for name, defaults in (
            ("network_options", options_of(self.network)),
            ("task_options", TASK_OPTIONS.get(self.task, {})),
        ):
            given = {option: _whole(value) for option, value in dict(getattr(self, name)).items()}
            options = sorted(not_default(given, defaults).items())
            object.__setattr__(self, name, tuple(options))
        changed = changed_options(self.optimizer, dict(self.optimizer_options))
        object.__setattr__(self, "optimizer_options", tuple(sorted(changed.items())))
        self._drop_what_has_no_effect()
        for name in ("network", "dataset", "task", "prunable", "init"):
            text = getattr(self, name)
            if printable(text) != text:
                raise UserError(f"{name} is {printable(text)!r}, with control characters")
        _at_least("epochs", self.epochs, 1)
        _at_least("batch_size", self.batch_size, 1)
        for name in ("steps_per_epoch", "train_examples", "test_examples", "image_size"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        if self.max_gradient_norm is not None:
            object.__setattr__(self, "max_gradient_norm", rounded(self.max_gradient_norm))
            if not 0 < self.max_gradient_norm < math.inf:
                raise UserError(
                    f"max_gradient_norm is {self.max_gradient_norm}; allowed: numbers above 0"
                )
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing is {self.label_smoothing}; allowed: 0 up to below 1")
        _one_of("standardisation", self.standardisation, STANDARDISATIONS)
        _one_of("augmentation", self.augmentation, AUGMENTATIONS)
        _one_of("precision", self.precision, PRECISIONS)
        if self.prunable not in PRUNABLE and not set(self.prunable) & PATTERN_MARKS:
            raise UserError(
                f"unknown prunable {self.prunable!r}; known: {', '.join(PRUNABLE)}, or a pattern "
                "of parameters' names such as encoder.*.weight"
            )
        _one_of("decayed", self.decayed, DECAYED)
        _one_of("initial_weights", self.initial_weights, INITIAL_WEIGHTS)
        _one_of("validation", self.validation, VALIDATION)
        if not 0 <= self.validation_fraction < 1:
            raise UserError(
                f"validation_fraction is {self.validation_fraction}; allowed: 0 up to below 1"
            )
        of_part = self.validation in ("test", "train")
        if of_part != (self.validation_fraction > 0):
            way_out = "give one above 0" if of_part else "leave it out"
            raise UserError(
                f"validation {self.validation!r} with validation_fraction "
                f"{self.validation_fraction}; {way_out}"
            )
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"weight_decay is {self.weight_decay}; allowed: 0 and up, and finite")
        self._check_init()
        if self.weight_decay == 0:  # nothing decays, whatever is named
            object.__setattr__(self, "decayed", "all")
        if any(drop >= self.epochs for drop in self.schedule.drops):
            raise UserError(
                f"the rate drops at epochs {self.schedule.drops}, but training ends at epoch "
                f"{self.epochs}; drops come before the end"
            )
        if self.schedule.warmup_epochs >= self.epochs:
            raise UserError(
                f"warmup_epochs is {self.schedule.warmup_epochs}, and training ends at epoch "
                f"{self.epochs}; a warm-up ends before that"
            )

    @property
    def given(self) -> dict[int, str]:
        """Of a dense network that is adopted: epoch of its training -> digest of the weights given
        of it (``builder``: those it is built with), rising; empty where it is trained."""
        if not self.init:
            return {}
        parts = [part.rpartition(":") for part in self.init.split(" ")]
        return {int(epoch or 0): digest for epoch, _, digest in parts}

    @property
    def dense_epochs(self) -> int:
        """Epoch of the dense network that is pruned and compared with: T, or 0 of one that is
        adopted without its history."""
        return max(self.given, default=self.epochs)

    def _check_init(self) -> None:
        if self.init and not GIVEN.fullmatch(self.init):
            raise UserError(
                f"init is {self.init[:80]!r}; allowed: {BUILDER}, a digest of weights, or several "
                "as epoch:digest"
            )
        given = list(self.given)
        if given != sorted(set(given)):
            raise UserError(f"init has the epochs {given}; allowed: each once, rising")
        if ":" in self.init and given[-1] != self.epochs:
            raise UserError(
                f"the last weights given are of epoch {given[-1]}, and epochs is {self.epochs}; "
                "the last are those of the trained network, so leave epochs out"
            )

    def _drop_what_has_no_effect(self) -> None:
        """An own builder sets its weights itself, and own data are used as they are."""
        if is_import_path(self.network):
            object.__setattr__(self, "initial_weights", "he_uniform")
        if is_import_path(self.dataset):
            if self.augmentation != "none":
                raise UserError(
                    f"augmentation {self.augmentation!r} with dataset {self.dataset}; it is for "
                    "built-in images and folders: let your Dataset transform its items, and leave "
                    "--augmentation out"
                )
            object.__setattr__(self, "standardisation", "dataset")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prune:
    """What a step removes from its parent."""

    fraction: float | None
    """Share of the parent's unpruned prunable weights that is removed, in (0, 1); with scope
    ``layer`` or a pattern of ``layers``, of each layer's weights or filters. None where ``rates``
    or an N:M structure says how much."""
    criterion: str = "magnitude"
    """Name in ``rewind_ray.pruning.CRITERIA``."""
    structure: str = DEFAULT_STRUCTURE
    """Name in ``rewind_ray.structures.STRUCTURES``, or another N:M."""
    scope: str = knob(
        "global",
        help="Compare the weights of all layers, or take the same share of each",
        allowed=OneOf(tuple(SCOPES)),
        label="scope {}",
        flag="scope",
    )
    layers: str = knob(
        "",
        # Wang et al. 2023: the first convolution of every block
        help="Pattern of the names of the only layers that are pruned, each by the same share, "
        "such as stages.*.conv1",
        label="layers {}",
        flag="layers",
        metavar="PATTERN",
    )
    rates: str = knob(
        "",
        help="Filters by the layers' own rates instead of a fraction: resnet56-A, resnet56-B, ... "
        "(Li et al. 2017)",
        label="{}",
        flag="rates",
        metavar="NAME",
    )
    power: int = knob(
        1,
        help="i: with rates, (1 - rate)^i of a layer's filters are kept (Renda et al. 2020, §2.2)",
        allowed=Numbers(least=1, whole=True),
        only_with="rates",
        flag="powers",
        metavar="LEVELS",
    )
    shrink: bool = knob(
        False,
        help="Cut pruned filters out physically, where all that writes a channel has lost it, and "
        "retrain the smaller dense network",
        allowed=TRUE_OR_FALSE,
        label="shrink",
        flag="shrink",
    )
    filters_only: bool = knob(
        False,
        # As Renda et al. 2020's code. If not, BatchNorm's scale and shift go with a filter, and so
        # do its readers
        help="Mask the weights of pruned filters and nothing else: their channels go on putting "
        "out BatchNorm's shift, which is trained, as are the weights that read it",
        allowed=TRUE_OR_FALSE,
        label="filters only",
        flag="filters_only",
    )
    rounds: int = knob(
        1,
        # After k of n rounds (1 - fraction)^(k/n) of the weights are left (SynFlow; Tanaka et al.
        # 2020, Algorithm 1)
        help="Times that the criterion scores what is left on the way to the fraction: 100 is "
        "SynFlow's",
        allowed=Numbers(least=1, whole=True),
        label="rounds {}",
        flag="rounds",
        metavar="N",
    )
    keep_layers: bool = knob(
        False,
        # Where a share of each layer's filters goes, one stays in any case, and this becomes False
        help="Leave at least one weight (or filter) in every layer; without, one that is pruned "
        "away entirely makes a row's status collapsed",
        allowed=TRUE_OR_FALSE,
        label="keep layers",
        flag="keep_layers",
    )

    def __post_init__(self) -> None:
        structure = structure_named(self.structure)
        settle_(self)
        self._check_amount(structure)
        for name in ("rates", "shrink", "filters_only"):
            if getattr(self, name) and name not in structure.options:
                allowed = " or ".join(map(repr, with_option(name)))
                raise UserError(
                    f"{name} with structure {self.structure!r}; allowed: structure {allowed}"
                )
        if self.filters_only and self.shrink:
            raise UserError(
                "shrink with filters_only, under which pruned channels still put out BatchNorm's "
                "shift and can't be cut out; leave one of them out"
            )
        if self.rates and self.layers:
            raise UserError("rates and layers both say which layers are pruned; leave one out")
        self._drop_what_has_no_effect(structure)

    def _drop_what_has_no_effect(self, structure: Structure) -> None:
        """Two descriptions of the same pruning are equal, and so have one id."""
        if self.layers and not self.layers.strip("*"):  # every layer, the same share of each
            object.__setattr__(self, "layers", "")
            object.__setattr__(self, "scope", "layer")
        if self.layers or self.rates or "global" not in structure.scopes:  # each layer by itself
            object.__setattr__(self, "scope", "layer")
        if self.scope == "layer" and structure.keeps_one and not self.rates:
            object.__setattr__(self, "keep_layers", False)

    def _check_amount(self, structure: Structure) -> None:
        given_elsewhere = bool(self.rates) or structure.density is not None
        if (self.fraction is None) != given_elsewhere:
            way_out = "leave fraction out" if given_elsewhere else "give a fraction"
            raise UserError(
                f"fraction is {self.fraction} with structure {self.structure!r} and rates "
                f"{self.rates!r}; {way_out}"
            )
        if self.fraction is None and self.rounds > 1:
            raise UserError(
                f"rounds is {self.rounds} without a fraction, on the way to which they are; "
                "leave it out"
            )
        if self.fraction is None:
            return
        object.__setattr__(self, "fraction", rounded(self.fraction))
        if not 0 < self.fraction < 1:
            raise UserError(
                f"prune fraction is {self.fraction}; allowed: above 0 and below 1 "
                "(the share of the remaining weights that this step removes)"
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stage:
    """One training run at an asked-for length. Made by ``dense_stage`` and ``retrain_stage``."""

    protocol: Protocol
    seed: int
    train_epochs: int
    """Length asked for. In the id only where the learning rates depend on it."""
    parent: Stage | None = None
    """The stage that was pruned, at the epoch it was pruned at (its ``train_epochs``)."""
    prune: Prune | None = None
    retrain: Retrain | None = None
    level: int = 0
    """Pruning steps from the baseline to here."""
    stage_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stage_id", _digest(identity(self)))

    @property
    def baseline(self) -> Stage:
        stage = self
        while stage.parent is not None:
            stage = stage.parent
        return stage

    @property
    def chain(self) -> list[Stage]:
        """From the baseline to this stage."""
        stages = [self]
        while (parent := stages[-1].parent) is not None:
            stages.append(parent)
        return stages[::-1]

    @property
    def adopted(self) -> bool:
        """Whether it is a dense network that was given trained."""
        return self.parent is None and bool(self.protocol.init)

    @property
    def method(self) -> str:
        return self.retrain.method if self.retrain else "dense"

    @property
    def rewind_epoch(self) -> int | None:
        """k = T - t, where the method rewinds."""
        if self.retrain is None or not method_named(self.retrain.method).rewinds:
            return None
        return self.protocol.epochs - self.retrain.epochs

    @property
    def prunes_channels(self) -> bool:
        """Whether this step removes whole channels."""
        return self.prune is not None and structure_named(self.prune.structure).channels

    @property
    def channels_take_norms(self) -> bool:
        """Whether pruned channels have taken BatchNorm's scale and shift with them."""
        steps = [step.prune for step in self.chain if step.prune and step.prunes_channels]
        return any(not prune.filters_only for prune in steps)

    @property
    def schedule_kind(self) -> str | None:
        """``iterative`` from the second pruning on; a first step belongs to both kinds."""
        if self.level == 0:
            return None
        return "iterative" if self.level > 1 else "one-shot"


def dense_stage(protocol: Protocol, seed: int, train_epochs: int | None = None) -> Stage:
    """The dense baseline, T epochs long (0 where one is adopted without its history) unless said
    otherwise."""
    _at_least("seed", seed, 0)
    train_epochs = protocol.dense_epochs if train_epochs is None else train_epochs
    _at_least("train_epochs", train_epochs, 0)
    if protocol.init and train_epochs not in protocol.given:
        if list(protocol.given) == [0]:
            raise UserError(
                f"the dense network has trained weights (init), and is to be trained for "
                f"{train_epochs} epochs; leave one of them out"
            )
        raise UserError(
            f"the dense network is wanted at epoch {train_epochs}, and the history that was given "
            f"of it has the epochs {some_epochs(protocol.given)}; choose one of these"
        )
    return Stage(protocol=protocol, seed=seed, train_epochs=train_epochs)


def retrain_stage(parent: Stage, prune: Prune, retrain: Retrain) -> Stage:
    """A step further from ``parent``.

    Raises UserError if it asks for more than T to rewind, or for rates from beyond T.
    """
    dense_epochs = parent.protocol.epochs
    if method_named(retrain.method).rewinds and retrain.epochs > dense_epochs:
        raise UserError(
            f"{retrain.method} for {retrain.epochs} epochs would rewind to before the start; "
            f"the original training has {dense_epochs} epochs: retrain at most as long"
        )
    if retrain.rates_from is not None and retrain.rates_from > dense_epochs:
        raise UserError(
            f"rates_from is {retrain.rates_from}; the original training has {dense_epochs} epochs: "
            f"allowed: whole numbers from 0 up to {dense_epochs}"
        )
    _check_alike(parent, prune)
    origin = method_named(retrain.method).weights
    if missing := missing_origin(parent.protocol, retrain.method, retrain.epochs):
        raise UserError(missing)
    from_baseline = origin in ("baseline", "blend")
    rewind_epoch = dense_epochs - retrain.epochs
    if from_baseline and rewind_epoch > parent.baseline.train_epochs:
        raise UserError(
            f"{retrain.method} for {retrain.epochs} epochs takes weights of epoch {rewind_epoch}, "
            f"but the network was pruned at epoch {parent.baseline.train_epochs}: retrain for at "
            f"least {dense_epochs - parent.baseline.train_epochs} epochs, or prune later"
        )
    start = parent.train_epochs if parent.parent is None else None
    if origin == "baseline":
        start = rewind_epoch
    retrain = without_defaults(retrain, parent.protocol, start)
    _check_last_rate(retrain, parent.protocol)
    length = method_named(retrain.method).length
    return Stage(
        protocol=parent.protocol,
        seed=parent.seed,
        train_epochs=length(dense_epochs, retrain),
        parent=parent,
        prune=prune,
        retrain=retrain,
        level=parent.level + 1,
    )


def without_defaults(retrain: Retrain, protocol: Protocol, start: int | None) -> Retrain:
    """The same retraining, described without what it does in any case under this protocol.

    start: epoch of the original training whose weights it starts from, None if of another.
    """
    default = default_lr(method_named(retrain.method), protocol.schedule, protocol.epochs)
    if retrain.lr is not None and default is not None and math.isclose(retrain.lr, default):
        retrain = replace(retrain, lr=None)
    if retrain.rates_from == protocol.epochs - retrain.epochs:
        retrain = replace(retrain, rates_from=None)
    has_state = keeps_state(protocol.optimizer, dict(protocol.optimizer_options))
    given = start is not None and bool(protocol.init)  # as weights alone
    if not has_state or given or start == 0:  # there is none to restore
        retrain = replace(retrain, restore_momentum=False)
    return retrain


def missing_origin(protocol: Protocol, method: str, epochs: int | None = None) -> str | None:
    """Why a method, retraining for t epochs (None: for as long as it may), has no weights to start
    from, with the way out; None where it has. Only weights that were given trained lack any."""
    origin, given = method_named(method).weights, protocol.given
    if not given:
        return None
    if origin in ("baseline", "blend"):
        if list(given) == [0]:
            return (
                f"{method} rewinds weights to an earlier epoch of the original training, and of a "
                "network that was given trained only the end is there; choose lr_rewind, finetune "
                "or another method that starts from the trained weights, or give the training's "
                "checkpoints by --init-history DIR"
            )
        rewind_epoch = protocol.epochs - epochs if epochs else min(given)
        if rewind_epoch not in given or rewind_epoch == protocol.epochs:
            return (
                f"{method} rewinds weights to epoch {rewind_epoch} of the original training, and "
                f"the history that was given of it has the epochs {some_epochs(given)}; choose an "
                f"earlier one than {protocol.epochs} of these (--rewind-epoch, or retraining for "
                f"{protocol.epochs} less that many epochs)"
            )
    if origin == "fresh" and protocol.init == BUILDER:
        return (
            f"{method} starts from fresh random weights, and the network's builder gives trained "
            "ones; let it build without them, and give them by --init FILE"
        )
    return None


def some_epochs(epochs: Iterable[int]) -> str:
    """``0, 10, 20``; the middle of many left out."""
    names = [str(epoch) for epoch in epochs]
    if len(names) > EPOCHS_SHOWN:
        half = EPOCHS_SHOWN // 2
        names = [*names[:half], "...", *names[-half:]]
    return ", ".join(names)


def _check_last_rate(retrain: Retrain, protocol: Protocol) -> None:
    """Refuse to train at a rate of 0."""
    rate = last_rate(protocol.schedule, protocol.epochs)
    if method_named(retrain.method).rate == "last" and retrain.lr is None and rate == 0:
        raise UserError(
            f"{retrain.method} trains at the last rate of the schedule, which is 0 for the shape "
            f"{protocol.schedule.shape!r}; give it an lr, or the schedule a last_lr above 0"
        )


def _check_alike(parent: Stage, prune: Prune) -> None:
    """What goes with pruned channels is the same in a whole chain."""
    if not structure_named(prune.structure).channels:
        return
    for step in parent.chain[1:]:
        before = step.prune
        if before and step.prunes_channels and before.filters_only != prune.filters_only:
            raise UserError(
                f"filters_only is {prune.filters_only} at level {parent.level + 1}, and "
                f"{before.filters_only} at level {step.level}; choose one for the whole chain"
            )


def identity(stage: Stage) -> dict[str, Any]:
    """Everything that changes the stage's numbers, as plain data with type and field names."""
    retrain = canonical(stage.retrain)
    if stage.retrain and not method_named(stage.retrain.method).length_in_id:
        del retrain["Retrain"]["epochs"]
    return {
        "Stage": {
            "numerics": NUMERICS,
            "protocol": _canonical_protocol(stage.protocol),
            "seed": stage.seed,
            "prune": canonical(stage.prune),
            "retrain": retrain,
            "parent_id": stage.parent.stage_id if stage.parent else None,
            "parent_epoch": stage.parent.train_epochs if stage.parent else None,
        }
    }


LEAVES = frozenset({str, int, bool, float, type(None)})
_latest: tuple[Protocol | None, Any] = None, None
"""A protocol and its canonical form: the stages of a sweep, one after the other, mostly have it in
common."""


def _canonical_protocol(protocol: Protocol) -> Any:
    """Not to be changed."""
    global _latest
    known, plain = _latest
    if known is not protocol:
        plain = canonical(protocol)
        _latest = protocol, plain
    return plain


def canonical(value: Any) -> Any:
    """Plain data for hashing: a dataclass becomes {its name: {its fields}}."""
    kind = type(value)
    if kind in LEAVES:  # most values, and a sweep's start hashes millions
        return value + 0.0 if kind is float else value  # -0.0 becomes 0.0
    if is_dataclass(value) and not isinstance(value, type):
        contents = {item.name: canonical(getattr(value, item.name)) for item in fields(value)}
        return {type(value).__name__: contents}
    if isinstance(value, Mapping):
        return {str(key): canonical(content) for key, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(content) for content in value]
    return value + 0.0 if isinstance(value, float) else value  # -0.0 becomes 0.0


def _digest(plain: dict[str, Any]) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stage_to_dict(stage: Stage) -> dict[str, Any]:
    """The whole chain as JSON-ready data; what ``spec.json`` holds."""
    return {
        "stage_id": stage.stage_id,
        "parent_id": stage.parent.stage_id if stage.parent else None,
        "baseline_id": stage.baseline.stage_id,
        "level": stage.level,
        "seed": stage.seed,
        "protocol": _plain(stage.protocol),
        "baseline_epochs": stage.baseline.train_epochs,
        "steps": [
            {"prune": _plain(step.prune), "retrain": _plain(step.retrain)}
            for step in stage.chain[1:]
        ],
    }


def stage_from_dict(data: Mapping[str, Any]) -> Stage:
    """Inverse of ``stage_to_dict``. Raises ValueError if the data is not a stage's."""
    try:
        protocol = data["protocol"]
        for name in ("network_options", "optimizer_options", "task_options"):
            if len(protocol.get(name, ())) > OPTIONS_LIMIT:
                raise ValueError(f"more than {OPTIONS_LIMIT} {name}")
        if len(data["steps"]) > STEPS_LIMIT:
            raise ValueError(f"more than {STEPS_LIMIT} steps")
        if not max(data["seed"], data["baseline_epochs"]) < WHOLE_LIMIT:
            raise ValueError(f"seed or baseline_epochs is not below {WHOLE_LIMIT}")
        stage = _made_chain(data)
        claimed = data.get("stage_id", stage.stage_id)
    except (AttributeError, KeyError, OverflowError, TypeError) as error:
        raise ValueError(f"this is no stage's description: {repr(error)[:500]}") from error
    if stage.stage_id != claimed:
        raise ValueError(
            f"the description says stage {repr(claimed)[:40]}, but its content is stage "
            f"{stage.stage_id}: it was edited, or made by another version of this package"
        )
    return stage


KNOWN_LIMIT = 2**17
_known: dict[bytes, Stage] = {}
"""Digest of a description, down to one of its steps -> the stage: of a ledger's chains every stage
is made and hashed once, and not again for each of its descendants."""


def _made_chain(data: Mapping[str, Any]) -> Stage:
    """The last stage of a description."""
    digests = _digests_of_prefixes(data)
    known = [(n, stage) for n, digest in enumerate(digests) if (stage := _known.get(digest))]
    if known:
        length, stage = known[-1]
    else:
        length = 0
        protocol = dict(data["protocol"])
        protocol["schedule"] = _made_from(Schedule, protocol["schedule"])
        made = _made_from(Protocol, protocol)
        stage = dense_stage(made, data["seed"], data["baseline_epochs"])
        _remember(digests[0], stage)
    for step, digest in zip(data["steps"][length:], digests[length + 1 :], strict=True):
        prune = _made_from(Prune, step["prune"])
        stage = retrain_stage(stage, prune, _made_from(Retrain, step["retrain"]))
        _remember(digest, stage)
    return stage


def _digests_of_prefixes(data: Mapping[str, Any]) -> list[bytes]:
    """Of the description without any step, with the first, and so on."""
    parts = [[data["protocol"], data["seed"], data["baseline_epochs"]], *data["steps"]]
    digests = [b""]
    try:
        for part in parts:
            digests.append(hashlib.sha256(digests[-1] + json.dumps(part).encode()).digest())
    except RecursionError:
        raise ValueError("this description is nested too deeply") from None
    return digests[1:]


def _remember(digest: bytes, stage: Stage) -> None:
    if len(_known) >= KNOWN_LIMIT:
        _known.clear()
    _known[digest] = stage


def _made_from(kind: type[T], values: Mapping[str, Any]) -> T:
    """Raises ValueError or TypeError where they don't fit."""
    check_fields(kind, values)
    return kind(**values)


def _plain(value: Any) -> dict[str, Any]:
    plain = {item.name: getattr(value, item.name) for item in fields(value)}
    for name, content in plain.items():
        if isinstance(content, Schedule):
            plain[name] = asdict(content)
    return plain


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _at_least(name: str, value: int, least: int) -> None:
    if not _is_whole(value, least):
        raise UserError(f"{name} is {value!r}; allowed: whole numbers from {least} up")


def _whole(value: Any) -> Any:
    """1.0 and 1 are the same option, and must give the same id."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _one_of(name: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise UserError(f"unknown {name} {value!r}; known: {', '.join(allowed)}")

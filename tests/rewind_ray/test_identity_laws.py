"""Two laws: each field in an id changes numbers, and what doesn't change numbers shares an id.

The first goes over the dataclasses' fields, so a new one fails until it is shown to do something.
Compared are weights and measured columns only: a column that repeats a setting proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from rewind_ray.datasets import resolve
from rewind_ray.models import NETWORKS
from rewind_ray.models.gnmt import NAMES as TRANSLATING
from rewind_ray.network_options import OPTIONS
from rewind_ray.optimizers import OPTIMIZERS
from rewind_ray.pruning import Mask, dense_mask, pruned_mask
from rewind_ray.retraining import METHODS
from rewind_ray.schedule import SHAPES, Schedule
from rewind_ray.spec import (
    DECAYED,
    Protocol,
    Prune,
    Retrain,
    Stage,
    dense_stage,
    retrain_stage,
)
from rewind_ray.structures import structure_named
from rewind_ray.tasks.image import ImageClassification, classification_loss
from rewind_ray.training.stage import epoch_rates
from tests.rewind_ray.tasks.diabetes import diabetes
from tests.rewind_ray.tiny_stages import Lab, tiny

MEASURED = (
    *("density", "train_epochs", "search_cost_epochs", "search_cost_flops", "val_accuracy"),
    *("test_accuracy", "pruned_accuracy", "params_total", "params_prunable", "params_remaining"),
    *("flops_dense", "flops_remaining", "status"),
)

Outcome = tuple[dict[str, Any], dict[str, torch.Tensor]]


def short(**changes: Any) -> Protocol:
    settings: dict[str, Any] = {
        "epochs": 4,
        "schedule": Schedule(lr=0.1, drops=(2,)),
        "test_examples": 100,
        "network": "resnet8",
    }
    return tiny(**settings | changes)


def outcome(lab: Lab, stage: Stage, **options: Any) -> Outcome:
    """What was measured, and the weights at the end."""
    for step in stage.chain:
        rewinds = (stage.rewind_epoch,) if stage.rewind_epoch is not None else ()
        lab.run(step, rewinds=rewinds if step.parent is None else (), **options)
    row = asdict(lab.row(stage))
    return {name: row[name] for name in MEASURED}, lab.point(stage).weights


def same(one: Outcome, other: Outcome) -> bool:
    if one[0] != other[0] or one[1].keys() != other[1].keys():
        return False
    return all(torch.equal(weight, other[1][name]) for name, weight in one[1].items())


# Every field changes the numbers

CHANGED_PROTOCOL: dict[str, dict[str, Any]] = {
    "network": {"network": "wrn_10_1"},
    "epochs": {"epochs": 5},
    "schedule": {"schedule": Schedule(lr=0.05, drops=(2,))},
    "batch_size": {"batch_size": 16},
    "weight_decay": {"weight_decay": 0.1},
    "optimizer": {"optimizer": "adam"},
    "optimizer_options": {"optimizer_options": {"momentum": 0.5}},
    "steps_per_epoch": {"steps_per_epoch": 1},
    "augmentation": {"augmentation": "none"},
    "validation": {"validation": "train"},
    "validation_fraction": {"validation_fraction": 0.4},
    "prunable": {"prunable": "convolutions"},
    "precision": {"precision": "bf16"},
    "network_options": {"network_options": {"batch_norm_decay": 0.5}},
    "train_examples": {"train_examples": 96},
    "test_examples": {"test_examples": 60},
    "standardisation": {"standardisation": "image"},
    "label_smoothing": {"label_smoothing": 0.1},
    "max_gradient_norm": {"max_gradient_norm": 0.1},
    "decayed": {"decayed": "kernels"},
    "initial_weights": {"initial_weights": "he_normal"},
}
OF_FOLDERS = ("dataset", "data_digest", "image_size")
OF_OWN_TASKS: dict[str, tuple[Protocol, Protocol]] = {
    "task": (diabetes(), diabetes(task="tests.rewind_ray.tasks.diabetes:Absolute")),
    "task_options": (diabetes(), diabetes(task_options={"hidden": 16})),
}
OF_OWN_CODE = ("network_digest", "task_digest", "init")
"""See ``tests/rewind_ray/own/test_identity.py``."""
CHANGED_SCHEDULE: dict[str, Schedule] = {
    "lr": Schedule(lr=0.05, drops=(2,)),
    "shape": Schedule(lr=0.1, shape="cosine"),
    "drops": Schedule(lr=0.1, drops=(3,)),
    "factor": Schedule(lr=0.1, drops=(2,), factor=0.5),
    "last_lr": Schedule(lr=0.1, shape="cosine", last_lr=0.02),
    "warmup_epochs": Schedule(lr=0.1, drops=(2,), warmup_epochs=1),
    "warmup_shape": Schedule(
        lr=0.1, drops=(2,), warmup_epochs=1, warmup_shape="exponential", warmup_start=0.1
    ),
    "warmup_start": Schedule(lr=0.1, drops=(2,), warmup_epochs=1, warmup_start=0.1),
}
CHANGED_FROM: dict[str, Schedule] = {
    "last_lr": CHANGED_SCHEDULE["shape"],
    "warmup_start": CHANGED_SCHEDULE["warmup_epochs"],
    "warmup_shape": CHANGED_SCHEDULE["warmup_start"],
}
"""Where it isn't the schedule of ``short``: fields that mean something with others only."""
HALF, FILTERS = Prune(fraction=0.5), Prune(fraction=0.5, structure="filters")
RATES = Prune(fraction=None, structure="filters", rates="resnet56-B")
FLOW = Prune(fraction=0.9, criterion="synflow")
NEARLY_ALL = Prune(fraction=0.99, scope="layer")
CHANGED_PRUNE: dict[str, tuple[Prune, Prune]] = {
    "fraction": (HALF, Prune(fraction=0.6)),
    "criterion": (HALF, Prune(fraction=0.5, criterion="random")),
    "structure": (HALF, FILTERS),
    "keep_layers": (
        replace(NEARLY_ALL, fraction=0.999),
        replace(NEARLY_ALL, fraction=0.999, keep_layers=True),
    ),
    "scope": (HALF, Prune(fraction=0.5, scope="layer")),
    "layers": (HALF, Prune(fraction=0.5, layers="stages.*")),
    "rates": (RATES, replace(RATES, rates="resnet56-A")),
    "power": (RATES, replace(RATES, power=2)),
    "shrink": (FILTERS, replace(FILTERS, shrink=True)),
    "filters_only": (FILTERS, replace(FILTERS, filters_only=True)),
    "rounds": (FLOW, replace(FLOW, rounds=3)),
}
TUNED, STEPPED = (
    Retrain(method="finetune", epochs=2),
    Retrain(method="step", epochs=3, lr=0.05, drops=(1,)),
)
CHANGED_RETRAIN: dict[str, tuple[Retrain, Retrain]] = {
    "method": (replace(TUNED, epochs=3), Retrain(method="lr_rewind", epochs=3)),
    "epochs": (Retrain(method="lr_rewind", epochs=2), Retrain(method="lr_rewind", epochs=3)),
    "restore_momentum": (TUNED, replace(TUNED, restore_momentum=True)),
    "lr": (TUNED, replace(TUNED, lr=0.05)),
    "alpha": (
        Retrain(method="blend", epochs=2, alpha=0.25),
        Retrain(method="blend", epochs=2, alpha=0.75),
    ),
    "speedup": (
        Retrain(method="scratch_b", epochs=1, speedup=1.25),
        Retrain(method="scratch_b", epochs=1, speedup=1.5),
    ),
    "drops": (STEPPED, replace(STEPPED, drops=(2,))),
    "factor": (STEPPED, replace(STEPPED, factor=0.5)),
    "warmup": (
        Retrain(method="llr", epochs=2, warmup=0.0),
        Retrain(method="llr", epochs=2, warmup=0.5),
    ),
    "last_lr": (
        Retrain(method="cosine", epochs=2, lr=0.05),
        Retrain(method="cosine", epochs=2, lr=0.05, last_lr=0.01),
    ),
    "rates_from": (
        Retrain(method="weight_rewind", epochs=3),
        Retrain(method="weight_rewind", epochs=3, rates_from=0),
    ),
}


def test_no_field_is_left_out() -> None:
    tables: list[tuple[type, set[str]]] = [
        (Protocol, {*CHANGED_PROTOCOL, *OF_FOLDERS, *OF_OWN_TASKS, *OF_OWN_CODE}),
        (Schedule, {*CHANGED_SCHEDULE}),
        (Prune, {*CHANGED_PRUNE}),
        (Retrain, {*CHANGED_RETRAIN}),
    ]
    assert SCHEDULES.keys() | {"constant"} == SHAPES.keys()
    for kind, shown in tables:
        assert {item.name for item in fields(kind)} == shown, kind.__name__


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("laws"))


@pytest.mark.parametrize("name", CHANGED_PROTOCOL)
def test_every_field_of_a_protocol_changes_the_numbers(name: str, shared: Lab) -> None:
    check_changes(dense_stage(short(), 0), dense_stage(short(**CHANGED_PROTOCOL[name]), 0), shared)


@pytest.mark.parametrize("name", OF_OWN_TASKS)
def test_every_field_of_a_task_changes_the_numbers(name: str, shared: Lab) -> None:
    one, other = OF_OWN_TASKS[name]
    check_changes(dense_stage(one, 0), dense_stage(other, 0), shared)


@pytest.mark.parametrize("name", CHANGED_SCHEDULE)
def test_every_field_of_a_schedule_changes_the_numbers(name: str, shared: Lab) -> None:
    changed = short(schedule=CHANGED_SCHEDULE[name])
    before = short(schedule=CHANGED_FROM[name]) if name in CHANGED_FROM else short()
    check_changes(dense_stage(before, 0), dense_stage(changed, 0), shared)


@pytest.mark.parametrize("name", CHANGED_PRUNE)
def test_every_field_of_a_pruning_changes_the_numbers(name: str, shared: Lab) -> None:
    one, other = CHANGED_PRUNE[name]
    network, epochs = ("resnet56", 0) if one.rates else ("resnet8", 4)
    baseline = dense_stage(short(network=network), 0, epochs)
    retrain = Retrain(method="finetune", epochs=1)
    check_changes(
        retrain_stage(baseline, one, retrain), retrain_stage(baseline, other, retrain), shared
    )


@pytest.mark.parametrize("name", CHANGED_RETRAIN)
def test_every_field_of_a_retraining_changes_the_numbers(name: str, shared: Lab) -> None:
    one, other = CHANGED_RETRAIN[name]
    baseline = dense_stage(short(), 0)
    check_changes(retrain_stage(baseline, HALF, one), retrain_stage(baseline, HALF, other), shared)


def check_changes(one: Stage, other: Stage, lab: Lab) -> None:
    """They have two ids, and not one outcome."""
    assert one.stage_id != other.stage_id or one.train_epochs != other.train_epochs
    assert not same(outcome(lab, one), outcome(lab, other))


def test_other_seeds_and_epochs_of_the_parent_change_the_numbers(shared: Lab) -> None:
    step = (HALF, Retrain(method="finetune", epochs=1))
    check_changes(dense_stage(short(), 0), dense_stage(short(), 1), shared)
    early, late = (retrain_stage(dense_stage(short(), 0, epochs), *step) for epochs in (2, 3))
    check_changes(early, late, shared)


def test_the_law_notices_a_field_that_is_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``label_smoothing`` once was: in the id and the docs, and never handed to training."""
    monkeypatch.setattr(
        ImageClassification, "loss", lambda self, *given: classification_loss(*given)
    )
    changed = short(**CHANGED_PROTOCOL["label_smoothing"])
    with pytest.raises(AssertionError):
        check_changes(dense_stage(short(), 0), dense_stage(changed, 0), Lab(tmp_path))


def folder_of(place: Path, seed: int) -> Path:
    """Two classes of 20 + 10 pictures, 12 pixels wide."""
    random = np.random.default_rng(seed)
    for part, count in (("train", 20), ("test", 10)):
        for label in ("cat", "dog"):
            (place / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 255, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / part / label / f"{number}.png")
    return place


@pytest.mark.parametrize("name", OF_FOLDERS)
def test_every_field_of_a_folder_changes_the_numbers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one = folder_of(tmp_path / "pets", seed=0)
    outcomes = []
    for folder, size in (
        (one, 12),
        (one, 8) if name == "image_size" else (folder_of(tmp_path / "other" / "pets", seed=1), 12),
    ):
        dataset, data, digest, image_size = resolve(f"folder:{folder}", None, size)
        protocol = short(
            dataset=dataset,
            data_digest=digest,
            image_size=image_size,
            train_examples=None,
            test_examples=None,
            batch_size=8,
        )
        stage = dense_stage(protocol, 0)
        outcomes.append((stage.stage_id, outcome(Lab(tmp_path / "storage"), stage, data=data)))
    if name == "dataset":  # by another name, the same files are other data to the reader of a row
        outcomes[1] = (
            dense_stage(short(), 0).stage_id,
            outcome(Lab(tmp_path / "d"), dense_stage(short(), 0)),
        )
    assert outcomes[0][0] != outcomes[1][0]
    assert not same(outcomes[0][1], outcomes[1][1])


# What changes no number shares an id


def masks_of(prune: Prune, network: nn.Module, draws: int = 3) -> list[Mask]:
    """After one step, of several random weights; some layers all small, so global scopes bite."""
    masks = []
    for draw in range(draws):
        torch.manual_seed(draw)
        parameters = {
            name: nn.Parameter(torch.randn_like(weight) * (0.01 if number % 3 == draw else 1))
            for number, (name, weight) in enumerate(network.named_parameters())
            if weight.dim() > 1
        }
        masks.append(pruned_mask(parameters, dense_mask(parameters), prune, seed=draw))
    return masks


def prunings() -> Iterator[tuple[str, Callable[[float], Prune]]]:
    """Every combination of the settings beside the fraction, as a function of it."""
    for structure, scope, layers, keep, criterion in product(
        ("unstructured", "filters", "2:4"),
        ("global", "layer"),
        ("", "*", "0", "[02]"),
        (False, True),
        ("magnitude", "random"),
    ):
        settings: dict[str, Any] = {
            "structure": structure,
            "scope": scope,
            "layers": layers,
            "keep_layers": keep,
            "criterion": criterion,
        }
        yield str(settings), partial(pruning, settings)


def pruning(settings: dict[str, Any], fraction: float) -> Prune:
    says_itself = structure_named(settings["structure"]).density is not None
    return Prune(fraction=None if says_itself else fraction, **settings)


def test_prunings_that_remove_the_same_share_an_id() -> None:
    """Brute force: whatever removes the same of everything that was tried is one description."""
    network = nn.Sequential(
        nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )
    fractions = (0.3, 0.8, 0.985, 0.999)  # the last two empty a layer
    seen: dict[bytes, tuple[str, tuple[Prune, ...]]] = {}
    for settings, made in prunings():
        prunes = tuple(made(fraction) for fraction in fractions)
        marks = []
        for prune in prunes:
            try:
                masks = masks_of(prune, network)
                marks.append(torch.cat([m.flatten() for mask in masks for m in mask.values()]))
            except ValueError:  # nothing would be left
                marks.append(torch.zeros(1, dtype=torch.bool))
        key = torch.cat(marks).numpy().tobytes()
        known_settings, known = seen.setdefault(key, (settings, prunes))
        assert known == prunes, f"{settings} removes what {known_settings} does"


def retrainings(method: str) -> Iterator[Retrain]:
    known = METHODS[method]
    values: dict[str, tuple[Any, ...]] = {
        "lr": (None, 0.1, 0.01, 0.001, 0.1 * 0.1, 0.05),
        "alpha": (0.5,),
        "speedup": (1.5, 2.0),
        "drops": ((), (1,), (1, 2)),
        "factor": (None, 0.1, 0.5),
        "warmup": (None, 0.1, 0.0, 0.5),
        "last_lr": (None, 0.0, 0.0005),
        "rates_from": (None, 0, 1, 2),
    }
    names = [name for name in values if name in (*known.needs, *known.takes)]
    for chosen in product(*(values[name] for name in names)):
        given = dict(zip(names, chosen, strict=True))
        if all(given[name] is not None for name in known.needs):
            yield Retrain(method=method, epochs=3, **given)


SCHEDULES = {
    "steps": Schedule(lr=0.1, drops=(2, 3)),
    "cosine": Schedule(lr=0.1, shape="cosine"),
    "linear": Schedule(lr=0.1, shape="linear", last_lr=0.01, warmup_epochs=1),
    "inverse_sqrt": Schedule(lr=0.1, shape="inverse_sqrt", warmup_epochs=0.5),
}


@pytest.mark.parametrize("shape", SCHEDULES)
@pytest.mark.parametrize("method", METHODS)
def test_retrainings_at_the_same_rates_share_an_id(method: str, shape: str) -> None:
    """Brute force over the knobs: the rate of every update, and the weights' origin."""
    steps = 20
    baseline = dense_stage(short(schedule=SCHEDULES[shape]), 0)
    seen: dict[tuple[Any, ...], str] = {}
    for retrain in retrainings(method):
        if METHODS[method].rate == "last" and retrain.lr is None and shape == "cosine":
            continue  # at a rate of 0, which is refused
        stage = retrain_stage(baseline, HALF, retrain)
        rates = tuple(
            epoch_rates(stage, epoch, steps, removed_norm=0.9)(update)
            for epoch in range(stage.train_epochs)
            for update in range(steps)
        )
        key = (*(float(f"{rate:.9g}") for rate in rates), retrain.alpha)
        assert seen.setdefault(key, stage.stage_id) == stage.stage_id, retrain


def test_momentum_that_is_not_there_is_not_restored() -> None:
    bare = dense_stage(short(optimizer_options={"momentum": 0.0}), 0)
    ids = {
        retrain_stage(bare, HALF, replace(TUNED, restore_momentum=restore)).stage_id
        for restore in (True, False)
    }
    assert len(ids) == 1


def test_what_has_no_effect_on_the_rates_is_no_setting() -> None:
    assert Schedule(lr=0.1, factor=0.5) == Schedule(lr=0.1) == Schedule(lr=0.1, shape="constant")
    assert Schedule(lr=0.1, warmup_start=0.5, warmup_shape="exponential") == Schedule(lr=0.1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_s_option_at_its_default_is_no_setting(optimizer: str) -> None:
    plain = dense_stage(short(optimizer=optimizer), 0)
    options = {name: option.default for name, option in OPTIMIZERS[optimizer].options.items()}
    given = dense_stage(short(optimizer=optimizer, optimizer_options=options), 0)
    assert given.stage_id == plain.stage_id


def test_without_momentum_there_is_nothing_to_look_ahead_along() -> None:
    off, on = ({"momentum": 0.0, "nesterov": nesterov} for nesterov in (False, True))
    ids = {dense_stage(short(optimizer_options=o), 0).stage_id for o in ({"momentum": 0}, off, on)}
    assert len(ids) == 1


OTHER_OPTIONS = {
    "sgd": {"momentum": 0.5, "nesterov": False},
    "adam": {"beta1": 0.5, "beta2": 0.9, "eps": 1e-2},
    "adamw": {"beta1": 0.5, "beta2": 0.9, "eps": 1e-2},
}


@pytest.mark.parametrize(
    ("optimizer", "option"), [(o, name) for o, row in OPTIMIZERS.items() for name in row.options]
)
def test_every_option_of_an_optimizer_changes_the_numbers(
    optimizer: str, option: str, shared: Lab
) -> None:
    settings = {"optimizer": optimizer, "schedule": Schedule(lr=0.01), "epochs": 2}
    changed = {"optimizer_options": {option: OTHER_OPTIONS[optimizer][option]}}
    one, other = (dense_stage(short(**settings | change), 0) for change in ({}, changed))
    check_changes(one, other, shared)


def test_adam_and_adamw_decay_differently(shared: Lab) -> None:
    settings = {"schedule": Schedule(lr=0.01), "epochs": 2, "weight_decay": 0.1}
    one, other = (dense_stage(short(optimizer=o, **settings), 0) for o in ("adam", "adamw"))
    check_changes(one, other, shared)


@pytest.mark.parametrize("network", NETWORKS)
def test_an_option_at_its_default_is_no_setting(network: str) -> None:
    options = OPTIONS[network]
    plain = dense_stage(short(network=network), 0).stage_id
    for name, default in options.items():
        given = dense_stage(short(network=network, network_options={name: default}), 0)
        assert given.stage_id == plain, name
    assert dense_stage(short(network=network, network_options=options), 0).stage_id == plain


def test_every_network_says_its_options() -> None:
    assert OPTIONS.keys() == {*NETWORKS, *TRANSLATING}


def test_momentum_of_the_very_start_is_none() -> None:
    dense = dense_stage(short(), 0)
    from_start = [
        retrain_stage(
            dense, HALF, Retrain(method="weight_rewind", epochs=4, restore_momentum=restore)
        )
        for restore in (True, False)
    ]
    assert from_start[0].stage_id == from_start[1].stage_id


def test_steps_of_any_length_are_one_trajectory() -> None:
    dense = dense_stage(short(), 0)
    short_one, long_one = (
        retrain_stage(dense, HALF, replace(STEPPED, epochs=epochs)) for epochs in (2, 3)
    )
    assert short_one.stage_id == long_one.stage_id


def test_how_a_float_came_about_is_no_setting() -> None:
    assert Schedule(lr=0.1 * 0.1) == Schedule(lr=0.01)
    ids = {dense_stage(short(weight_decay=decay), 0).stage_id for decay in (0.1 * 0.1, 0.01)}
    assert len(ids) == 1
    undecayed = {dense_stage(short(weight_decay=0, decayed=d), 0).stage_id for d in DECAYED}
    assert len(undecayed) == 1


def test_weights_of_after_the_pruning_are_no_rewinding() -> None:
    early = dense_stage(short(), 0, train_epochs=1)
    with pytest.raises(ValueError, match=r"epoch 2.*pruned at epoch 1"):
        retrain_stage(early, HALF, Retrain(method="weight_rewind", epochs=2))

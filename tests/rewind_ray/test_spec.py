"""Stage ids: golden, equal exactly for equal specs, and refused where a description was edited."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_ray import spec
from rewind_ray.optimizers import OPTIMIZERS, read_options
from rewind_ray.protocols import digits, mikler_resnet, mikler_wrn, renda_cifar
from rewind_ray.retraining import METHODS
from rewind_ray.schedule import Schedule
from rewind_ray.spec import (
    AUGMENTATIONS,
    DECAYED,
    INITIAL_WEIGHTS,
    PRECISIONS,
    PRUNABLE,
    SCOPES,
    STANDARDISATIONS,
    Protocol,
    Prune,
    Retrain,
    Stage,
    canonical,
    dense_stage,
    retrain_stage,
    stage_from_dict,
    stage_to_dict,
)
from rewind_ray.structures import DEFAULT_STRUCTURE, STRUCTURES, structure_named

# Golden


def golden_stages() -> dict[str, Stage]:
    resnet20 = dense_stage(mikler_resnet("resnet20"), 0)
    on_digits = dense_stage(digits(), 0)
    lr_rewound = retrain_stage(
        on_digits, Prune(fraction=0.8), Retrain(method="lr_rewind", epochs=14)
    )
    level = (Prune(fraction=0.2), Retrain(method="weight_rewind", epochs=30))
    first = retrain_stage(resnet20, *level)
    resnet56 = dense_stage(renda_cifar("resnet56"), 1)
    tuned = retrain_stage(
        resnet56,
        Prune(fraction=0.9, structure="filters", keep_layers=True),
        Retrain(method="finetune", epochs=40, restore_momentum=True),
    )
    wide = dense_stage(mikler_wrn(network_options={"batch_norm_decay": 0.9}), 3)
    return {
        "mikler resnet20": resnet20,
        "digits": on_digits,
        "digits, rates rewound": lr_rewound,
        "mikler resnet20, a level": first,
        "mikler resnet20, two levels": retrain_stage(first, *level),
        "renda resnet56": resnet56,
        "renda resnet56, filters": tuned,
        "mikler wrn": wide,
    }


GOLDEN = {
    "mikler resnet20": "3b8c8561e7bdaec0",
    "digits": "8b02222d86e3ca37",
    "digits, rates rewound": "dfb352042625ec72",
    "mikler resnet20, a level": "28f1fa4b88436bce",
    "mikler resnet20, two levels": "ec089a757f072670",
    "renda resnet56": "49b7f928bb5a1d75",
    "renda resnet56, filters": "c7409c23c61cba35",
    "mikler wrn": "ec99b024360f8399",
}


@pytest.mark.parametrize("name", golden_stages())
def test_ids_change_only_on_purpose(name: str) -> None:
    """Results are stored under these ids, and a sweep that asks for others trains them again. An
    edited default or protocol changes them; where the arithmetic changed, raise ``NUMERICS``."""
    assert golden_stages()[name].stage_id == GOLDEN[name]


# Equal specs share an id, different ones don't

SCHEDULES = st.builds(
    Schedule,
    lr=st.sampled_from([0.1, 0.2, 1, 1.0]),
    drops=st.sampled_from([(), (3,), (3.0,), (3, 5), [3, 5], (4, 5.0)]),
    factor=st.sampled_from([0.1, 0.5]),
    warmup_epochs=st.sampled_from([0, 0.0, -0.0, 1, 1.0]),
)
PROTOCOL_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "network": st.sampled_from(["digits_resnet", "resnet8"]),
    "dataset": st.sampled_from(["digits", "cifar10"]),
    "epochs": st.sampled_from([6, 7]),
    "schedule": SCHEDULES,
    "batch_size": st.sampled_from([32, 33]),
    "weight_decay": st.sampled_from([0, 0.0, -0.0, 2e-4, 1, 1.0]),
    "decayed": st.sampled_from(list(DECAYED)),
    "optimizer": st.sampled_from(list(OPTIMIZERS)),
    "optimizer_options": st.sampled_from(
        [
            (),
            {},
            {"momentum": 0.9},
            {"momentum": 0.5},
            (("momentum", 0.5), ("nesterov", True)),
            [["nesterov", False], ["momentum", 0.5]],
            {"momentum": 0, "nesterov": False},
            {"momentum": 0.0},
        ]
    ),
    "network_digest": st.sampled_from(["", "aa", "bb"]),
    "task_digest": st.sampled_from(["", "aa"]),
    "init": st.sampled_from([""]),
    "steps_per_epoch": st.sampled_from([None, 1, 2]),
    "augmentation": st.sampled_from(list(AUGMENTATIONS)),
    "validation": st.sampled_from(["test", "train"]),
    "validation_fraction": st.sampled_from([0.2, 0.25]),
    "prunable": st.sampled_from([*PRUNABLE, "stages.*.weight"]),
    "precision": st.sampled_from(sorted(PRECISIONS)),
    "initial_weights": st.sampled_from(list(INITIAL_WEIGHTS)),
    "network_options": st.sampled_from(
        [
            (),
            {},
            {"batch_norm_decay": 0.9},
            {"batch_norm_decay": 1},
            {"batch_norm_decay": 1.0},
            {"batch_norm_decay": 0.9, "projection_batch_norm": True},
            {"projection_batch_norm": True, "batch_norm_decay": 0.9},
            (("batch_norm_decay", 0.9), ("projection_batch_norm", True)),
            [["projection_batch_norm", True], ["batch_norm_decay", 0.9]],
        ]
    ),
    "task": st.sampled_from(["image_classification", "my_tasks:Segmentation"]),
    "task_options": st.sampled_from(
        [(), {}, {"width": 1}, {"width": 1.0}, (("width", 1), ("deep", True))]
    ),
    "data_digest": st.sampled_from(["", "0123"]),
    "image_size": st.sampled_from([None, 8, 16]),
    "train_examples": st.sampled_from([None, 64]),
    "test_examples": st.sampled_from([None, 50]),
    "standardisation": st.sampled_from(list(STANDARDISATIONS)),
    "label_smoothing": st.sampled_from([0, 0.0, 0.1]),
    "max_gradient_norm": st.sampled_from([None, 5, 5.0, 0.1]),
}
PRUNE_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "fraction": st.sampled_from([0.2, 1 - 0.8, 0.25, 1 - 0.75, 0.2000001]),
    "criterion": st.sampled_from(["magnitude", "other"]),
    "structure": st.sampled_from([*STRUCTURES, "3:7"]),
    "keep_layers": st.booleans(),
    "rounds": st.sampled_from([1, 2]),
    "scope": st.sampled_from(list(SCOPES)),
    "layers": st.sampled_from(["", "stages.*.conv1"]),
    "rates": st.sampled_from(["", "resnet56-A", "resnet56-B"]),
    "power": st.sampled_from([1, 2]),
    "shrink": st.booleans(),
    "filters_only": st.booleans(),
}
KNOBS: dict[str, st.SearchStrategy[Any]] = {
    "lr": st.sampled_from([1, 1.0, 0.01]),
    "alpha": st.sampled_from([0, 0.0, 0.5, 1]),
    "speedup": st.sampled_from([1, 2, 2.0, 2.5]),
    "drops": st.sampled_from([(), [], (1,), (1.0, 2), [1, 2]]),
    "factor": st.sampled_from([None, 0.1, 0.2]),
    "warmup": st.sampled_from([None, 0, 0.1, 0.2]),
    "last_lr": st.sampled_from([None, 0, 0.001, 0.002]),
    "rates_from": st.sampled_from([None, 0, 2, 3]),
}
RETRAIN_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "method": st.sampled_from(list(METHODS)),
    "epochs": st.sampled_from([3, 4]),
    "restore_momentum": st.booleans(),
    **KNOBS,
}
OTHER_LEVEL = {"fraction": 0.5}


def a_protocol(**changes: Any) -> Protocol:
    base = digits(epochs=6, schedule=Schedule(lr=0.1))
    return replace(base, **changes)


def stages() -> st.SearchStrategy[Stage]:
    """Chains of up to two steps that differ from each other in few things, or in none."""

    @st.composite
    def build(draw: st.DrawFn) -> Stage:
        def some(choices: dict[str, st.SearchStrategy[Any]], at_most: int) -> dict[str, Any]:
            names = draw(st.sets(st.sampled_from(sorted(choices)), max_size=at_most))
            return {name: draw(choices[name]) for name in sorted(names)}

        of_protocol = some(PROTOCOL_FIELDS, 2)
        if of_protocol.get("optimizer", "sgd") != "sgd":  # the drawn options are SGD's
            of_protocol.pop("optimizer_options", None)
        stage = dense_stage(
            a_protocol(**of_protocol),
            draw(st.sampled_from([0, 1])),
            draw(st.sampled_from([None, 5])),
        )
        for _ in range(draw(st.integers(0, 2))):
            retrain = {"method": draw(RETRAIN_FIELDS["method"]), "epochs": draw(st.just(3))}
            retrain |= some({"epochs": RETRAIN_FIELDS["epochs"]}, 1)
            method = METHODS[retrain["method"]]
            retrain |= {name: draw(KNOBS[name]) for name in method.needs}
            if method.takes:
                retrain |= some({name: KNOBS[name] for name in method.takes}, 2)
            if method.weights != "fresh":
                retrain |= some({"restore_momentum": st.booleans()}, 1)
            prune = {"fraction": 0.2} | some(PRUNE_FIELDS, 1)
            of_filters = ("rates", "shrink", "filters_only")
            if any(prune.get(name) for name in of_filters) or prune.get("power", 1) != 1:
                prune["structure"] = "filters"
            if prune.get("structure") == "filters" and stage.prune and not prune.get("shrink"):
                prune["filters_only"] = stage.prune.filters_only
            if prune.get("power", 1) != 1:
                prune["rates"] = "resnet56-A"
            structure = structure_named(prune.get("structure", DEFAULT_STRUCTURE))
            if prune.get("rates") or structure.density is not None:
                prune |= {"fraction": None, "rounds": 1}
            stage = retrain_stage(stage, Prune(**prune), Retrain(**retrain))
        return stage

    return build()


def same_numbers(one: Stage, other: Stage) -> bool:
    """Whether two stages are the same trajectory, by comparing what they were made of."""
    if one.level != other.level:
        return False
    if (one.protocol, one.seed, one.prune) != (other.protocol, other.seed, other.prune):
        return False
    if one.parent is None or other.parent is None:
        return True
    assert one.retrain is not None
    assert other.retrain is not None
    one_retrain, other_retrain = one.retrain, other.retrain
    endless = {"finetune", "reinit", "scratch_e"}
    if one_retrain.method == other_retrain.method and one_retrain.method in endless:
        one_retrain = replace(one_retrain, epochs=other_retrain.epochs)
    return (
        one_retrain == other_retrain
        and one.parent.train_epochs == other.parent.train_epochs
        and same_numbers(one.parent, other.parent)
    )


def test_the_drawn_fields_are_all_there_are() -> None:
    assert PROTOCOL_FIELDS.keys() == {item.name for item in fields(Protocol)}
    assert PRUNE_FIELDS.keys() == {item.name for item in fields(Prune)}
    assert RETRAIN_FIELDS.keys() == {item.name for item in fields(Retrain)}


@given(stages(), stages())
def test_ids_are_equal_exactly_where_the_stages_are(one: Stage, other: Stage) -> None:
    assert (one.stage_id == other.stage_id) == same_numbers(one, other)


@pytest.mark.parametrize("name", PROTOCOL_FIELDS)
@given(data=st.data())
def test_each_field_of_a_protocol_is_in_the_id(name: str, data: st.DataObject) -> None:
    one, other = (a_protocol(**{name: data.draw(PROTOCOL_FIELDS[name])}) for _ in range(2))
    assert (dense_stage(one, 0).stage_id == dense_stage(other, 0).stage_id) == (one == other)


@pytest.mark.parametrize("item", fields(Schedule), ids=lambda item: item.name)
def test_each_field_of_a_schedule_is_in_the_id(item: Any) -> None:
    stepped = {"drops": (2,), "warmup_epochs": 2}
    one, other = {
        "lr": ({}, {"lr": 0.2}),
        "shape": ({"shape": "linear"}, {"shape": "cosine"}),
        "drops": (stepped, stepped | {"drops": (3,)}),
        "factor": (stepped, stepped | {"factor": 0.2}),
        "last_lr": ({"shape": "cosine"}, {"shape": "cosine", "last_lr": 0.01}),
        "warmup_epochs": ({}, {"warmup_epochs": 1}),
        "warmup_shape": (
            stepped | {"warmup_start": 0.1},
            stepped | {"warmup_start": 0.1, "warmup_shape": "exponential"},
        ),
        "warmup_start": (stepped, stepped | {"warmup_start": 0.1}),
    }[item.name]
    ids = {
        dense_stage(a_protocol(schedule=Schedule(**{"lr": 0.1} | fields)), 0).stage_id
        for fields in (one, other)
    }
    assert len(ids) == 2


def test_how_a_number_is_written_does_not_matter() -> None:
    def written(one: Any, fraction: float, options: Any, drops: Any) -> str:
        schedule = Schedule(lr=one, drops=drops, warmup_epochs=one)
        protocol = a_protocol(schedule=schedule, weight_decay=one, network_options=options)
        return retrain_stage(
            dense_stage(protocol, 0),
            Prune(fraction=fraction),
            Retrain(method="finetune", epochs=3, lr=one),
        ).stage_id

    options = {"projection_batch_norm": False, "batch_norm_decay": 1}
    pairs = (("batch_norm_decay", 1.0), ("projection_batch_norm", False))
    assert written(1, 0.2, options, (2, 4)) == written(1.0, 1 - 0.8, pairs, [2.0, 4.0])


def test_lengths_are_in_the_id_only_where_the_rates_depend_on_them() -> None:
    protocol, prune = a_protocol(), Prune(fraction=0.2)
    assert dense_stage(protocol, 0, 3).stage_id == dense_stage(protocol, 0, 6).stage_id
    assert dense_stage(protocol, 0).stage_id != dense_stage(a_protocol(epochs=7), 0).stage_id
    baseline = dense_stage(protocol, 0)
    for method, shared in (("finetune", True), ("weight_rewind", False), ("lr_rewind", False)):
        ids = {
            retrain_stage(baseline, prune, Retrain(method=method, epochs=t)).stage_id
            for t in (2, 3, 6)
        }
        assert len(ids) == (1 if shared else 3)


def test_the_epoch_at_which_the_parent_was_pruned_is_in_the_id() -> None:
    protocol = a_protocol()
    step = (Prune(fraction=0.2), Retrain(method="finetune", epochs=2))
    early, late = dense_stage(protocol, 0, 3), dense_stage(protocol, 0, 6)
    assert early.stage_id == late.stage_id
    assert retrain_stage(early, *step).stage_id != retrain_stage(late, *step).stage_id
    short = retrain_stage(late, Prune(fraction=0.2), Retrain(method="finetune", epochs=2))
    long = retrain_stage(late, Prune(fraction=0.2), Retrain(method="finetune", epochs=3))
    assert short.stage_id == long.stage_id
    assert retrain_stage(short, *step).stage_id != retrain_stage(long, *step).stage_id


def test_types_are_in_the_id() -> None:
    """Two kinds of settings with the same fields are not the same."""

    @dataclass(frozen=True)
    class One:
        size: int

    @dataclass(frozen=True)
    class Other:
        size: int

    assert canonical(One(3)) != canonical(Other(3))


# Descriptions


@given(stages())
def test_a_description_gives_the_stage_back(stage: Stage) -> None:
    described = stage_to_dict(stage)
    for given_back in (described, json.loads(json.dumps(described))):
        again = stage_from_dict(given_back)
        assert again.stage_id == stage.stage_id
        for one, other in zip(again.chain, stage.chain, strict=True):
            assert one.stage_id == other.stage_id
            assert one.train_epochs == other.train_epochs
            assert (one.protocol, one.seed, one.level) == (other.protocol, other.seed, other.level)
            assert (one.prune, one.retrain) == (other.prune, other.retrain)


def leaves(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(data, dict):
        return [leaf for key in data for leaf in leaves(data[key], (*path, key))]
    if isinstance(data, list):
        return [leaf for i, item in enumerate(data) for leaf in leaves(item, (*path, i))]
    return [path]


def other_value(value: Any) -> Any:
    if value is None:
        return 2
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value / 2 or 0.5 if isinstance(value, float) else f"{value}x"


def described_chain() -> dict[str, Any]:
    protocol = a_protocol(
        schedule=Schedule(lr=0.1, drops=(3, 4), warmup_epochs=1, warmup_start=0.1),
        network_options={"batch_norm_decay": 0.5},
        optimizer_options={"momentum": 0.5},
    )
    step = (Prune(fraction=0.2), Retrain(method="lr_rewind", epochs=3))
    stage = retrain_stage(retrain_stage(dense_stage(protocol, 0), *step), *step)
    plain: dict[str, Any] = json.loads(json.dumps(stage_to_dict(stage)))
    return plain


REPEATED = {("parent_id",), ("baseline_id",), ("level",)}
"""Follows from the rest, and is there to be read by people."""


@pytest.mark.parametrize("path", [p for p in leaves(described_chain()) if p not in REPEATED])
def test_an_edited_description_is_refused(path: tuple[Any, ...]) -> None:
    edited = described_chain()
    stage_from_dict(edited)  # known from now on, with all of its ancestors
    place = edited
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = other_value(place[path[-1]])
    with pytest.raises(ValueError, match=r"edited|allowed|known|is no|leave|drops"):
        stage_from_dict(edited)


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        None,
        {"protocol": {}},
        described_chain() | {"protocol": {"network": "resnet20"}},
        described_chain() | {"steps": [{"prune": {}}]},
        described_chain() | {"steps": None},
        described_chain() | {"protocol": described_chain()["protocol"] | {"colour": "red"}},
        described_chain() | {"protocol": described_chain()["protocol"] | {"schedule": None}},
    ],
)
def test_what_is_no_description_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="this is no stage's description"):
        stage_from_dict(data)


def test_descriptions_read_in_any_order_share_what_they_have_in_common() -> None:
    """And none changes what another says."""
    last = retrain_stage(
        retrain_stage(
            dense_stage(digits(), 5), Prune(fraction=0.5), Retrain(method="finetune", epochs=3)
        ),
        Prune(fraction=0.25),
        Retrain(method="lr_rewind", epochs=2),
    )
    described = [json.loads(json.dumps(stage_to_dict(stage))) for stage in last.chain]
    for order in itertools.permutations(range(3)):
        spec._known.clear()
        read = {number: stage_from_dict(described[number]) for number in order}
        assert [read[n].stage_id for n in range(3)] == [stage.stage_id for stage in last.chain]
        assert [stage_to_dict(read[n]) for n in range(3)] == [stage_to_dict(s) for s in last.chain]
        assert read[2].parent is read[1] and read[1].parent is read[0]


def test_dropping_a_step_is_refused() -> None:
    edited = described_chain()
    edited["steps"].pop()
    with pytest.raises(ValueError, match="it was edited"):
        stage_from_dict(edited)


# What a stage says of itself


def test_chains() -> None:
    step = (Prune(fraction=0.2), Retrain(method="weight_rewind", epochs=4))
    baseline = dense_stage(a_protocol(), 7)
    first = retrain_stage(baseline, *step)
    second = retrain_stage(first, Prune(fraction=0.2), Retrain(method="finetune", epochs=9))
    assert second.chain == [baseline, first, second]
    assert [stage.baseline for stage in second.chain] == [baseline] * 3
    assert [stage.level for stage in second.chain] == [0, 1, 2]
    assert [stage.seed for stage in second.chain] == [7, 7, 7]
    assert [stage.method for stage in second.chain] == ["dense", "weight_rewind", "finetune"]
    assert [stage.train_epochs for stage in second.chain] == [6, 4, 9]
    assert [stage.rewind_epoch for stage in second.chain] == [None, 2, None]
    assert [s.schedule_kind for s in second.chain] == [None, "one-shot", "iterative"]


# Refusals

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0; allowed: whole numbers from 1 up"),
        ({"epochs": 6.5}, "epochs is 6.5; allowed: whole numbers from 1 up"),
        ({"epochs": True}, "epochs is True; allowed: whole numbers from 1 up"),
        ({"batch_size": 0}, "batch_size is 0; allowed: whole numbers from 1 up"),
        ({"batch_size": "64"}, "batch_size is '64'; allowed: whole numbers from 1 up"),
        ({"steps_per_epoch": 0}, "steps_per_epoch is 0; allowed"),
        ({"train_examples": -1}, "train_examples is -1; allowed"),
        ({"test_examples": 0}, "test_examples is 0; allowed"),
        ({"image_size": 0}, "image_size is 0; allowed"),
        ({"augmentation": "cutout"}, "unknown augmentation 'cutout'; known: none, reflect4_flip"),
        ({"precision": "fp16"}, "unknown precision 'fp16'; known: fp32, tf32, bf16"),
        ({"prunable": "all"}, "unknown prunable 'all'; known: kernels, convolutions"),
        ({"validation": "both"}, "unknown validation 'both'; known: none, test, train, own"),
        ({"validation": "none"}, "validation 'none' with validation_fraction 0.2; leave"),
        ({"validation_fraction": 0}, "validation 'test' with validation_fraction 0.0; give one"),
        ({"validation_fraction": 1}, "validation_fraction is 1.0; allowed: 0 up to below 1"),
        ({"validation_fraction": -0.1}, "validation_fraction is -0.1; allowed: 0 up to below 1"),
        ({"validation_fraction": NAN}, "validation_fraction is nan; allowed: 0 up to below 1"),
        ({"validation": "own"}, "validation 'own' with validation_fraction 0.2; leave it out"),
        ({"max_gradient_norm": 0}, "max_gradient_norm is 0.0; allowed: numbers above 0"),
        ({"max_gradient_norm": NAN}, "max_gradient_norm is nan; allowed: numbers above 0"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; known: sgd, adam, adamw"),
        ({"optimizer_options": {"beta1": 0.5}}, "beta1 is no option .* sgd; known: momentum, nest"),
        *(
            ({"optimizer_options": options}, message)
            for options, message in (
                ({"momentum": 1}, "momentum is 1.0; allowed: 0 up to below 1"),
                ({"momentum": -0.1}, "momentum is -0.1; allowed: 0 up to below 1"),
                ({"momentum": NAN}, "momentum is nan; allowed: 0 up to below 1"),
                ({"momentum": True}, "momentum is True; allowed: 0 up to below 1"),
                ({"nesterov": 1}, "nesterov is 1; allowed: true or false"),
            )
        ),
        ({"schedule": Schedule(lr=0.1, warmup_epochs=6)}, "warmup_epochs is 6.0, .* epoch 6; a"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001; allowed: 0 and up"),
        ({"weight_decay": NAN}, "weight_decay is nan; allowed: 0 and up"),
        ({"weight_decay": INF}, "weight_decay is inf; allowed: 0 and up, and finite"),
        (
            {"schedule": Schedule(lr=0.1, drops=(3, 6))},
            r"drops at epochs \(3.0, 6.0\), but training ends at epoch 6; drops come before",
        ),
    ],
)
def test_a_protocol_refuses_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        a_protocol(**changes)


@pytest.mark.parametrize(
    ("optimizer", "texts", "options"),
    [
        ("sgd", ["momentum=0.5", "nesterov=false"], {"momentum": 0.5, "nesterov": False}),
        ("adamw", ["beta2=0.98"], {"beta2": 0.98}),
        ("sgd", ["beta2=0.98"], None),
        ("sgd", ["nesterov=1"], None),
        ("adam", ["eps"], None),
    ],
)
def test_options_of_an_optimizer_as_text(
    optimizer: str, texts: list[str], options: dict[str, Any] | None
) -> None:
    if options is None:
        with pytest.raises(ValueError, match=re.escape(repr(texts[0]))):
            read_options(optimizer, texts)
    else:
        assert read_options(optimizer, texts) == options


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 1.5, NAN, INF, 1 - 1e-13])
def test_a_prune_fraction_lies_between_none_and_all(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"prune fraction is .*; allowed: above 0 and below 1"):
        Prune(fraction=fraction)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"structure": "blocks"}, "unknown structure 'blocks'; known: unstructured, filters"),
        ({"keep_layers": 1}, "keep_layers is 1; allowed: true or false"),
    ],
)
def test_prune_refuses_nonsense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prune(fraction=0.5, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lottery"}, "unknown retraining method 'lottery'; known: finetune, weight_rew"),
        ({"epochs": 0}, "retrain_epochs is 0; allowed: whole numbers from 1 up"),
        ({"epochs": 2.0}, "retrain_epochs is 2.0; allowed: whole numbers from 1 up"),
        ({"restore_momentum": "no"}, "restore_momentum is 'no'; allowed: true or false"),
        ({"lr": 0}, "lr is 0.0; allowed: above 0"),
        ({"lr": NAN}, "lr is nan; allowed: above 0"),
        ({"lr": INF}, "lr is inf; allowed: above 0 and finite"),
        (
            {"method": "lr_rewind", "lr": 0.1},
            "lr is 0.1, but lr_rewind doesn't use it; leave lr out",
        ),
    ],
)
def test_retrain_refuses_nonsense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Retrain(**{"method": "finetune", "epochs": 3} | settings)


@pytest.mark.parametrize("seed", [-1, 0.0, 1.5, True, "0"])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed is .*; allowed: whole numbers from 0 up"):
        dense_stage(a_protocol(), seed)


def test_a_baseline_may_be_pruned_before_it_is_trained() -> None:
    assert dense_stage(a_protocol(), 0, 0).train_epochs == 0
    with pytest.raises(ValueError, match="train_epochs is -1; allowed: whole numbers from 0 up"):
        dense_stage(a_protocol(), 0, -1)


@pytest.mark.parametrize("method", ["weight_rewind", "lr_rewind"])
def test_rewinding_to_before_the_start_is_refused(method: str) -> None:
    baseline = dense_stage(a_protocol(), 0)
    whole = retrain_stage(baseline, Prune(fraction=0.5), Retrain(method=method, epochs=6))
    assert whole.rewind_epoch == 0
    message = f"{method} for 7 epochs would rewind to before the start; .* has 6 epochs"
    with pytest.raises(ValueError, match=message):
        retrain_stage(baseline, Prune(fraction=0.5), Retrain(method=method, epochs=7))


def test_fine_tuning_may_be_longer_than_the_original_training() -> None:
    baseline = dense_stage(a_protocol(), 0)
    tuned = retrain_stage(baseline, Prune(fraction=0.5), Retrain(method="finetune", epochs=60))
    assert tuned.train_epochs == 60

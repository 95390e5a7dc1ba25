"""Knobs as they are declared, and what reads the declarations."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from rewind_ray.knobs import (
    cells_of,
    check_numbers,
    columns_of,
    is_given,
    kind_of,
    knobs_of,
    labels_of,
    numbers_of,
    unset_of,
    value_of,
)
from rewind_ray.limits import TRUE_OR_FALSE, Numbers, OneOf, Rising
from rewind_ray.result import COLUMNS, KNOB_KINDS
from rewind_ray.retraining import METHODS, RATES
from rewind_ray.spec import Prune, Retrain

DESIGN = (
    *("retrain_lr", "retrain_alpha", "retrain_speedup", "retrain_drops", "retrain_factor"),
    *("retrain_warmup", "restore_momentum", "prune_scope", "prune_layers", "prune_rates"),
    *("prune_power", "prune_shrink", "optimizer"),
)


def test_rows_have_the_columns_of_the_contract() -> None:
    assert set(DESIGN) <= set(COLUMNS)
    assert COLUMNS.index("rewind_epoch") < COLUMNS.index("retrain_lr") < COLUMNS.index("optimizer")
    assert list(KNOB_KINDS) == [*columns_of(Retrain), *columns_of(Prune)]
    assert KNOB_KINDS["retrain_drops"] == "str" and KNOB_KINDS["prune_power"] == "int"
    assert KNOB_KINDS["retrain_lr"] == "float" and KNOB_KINDS["restore_momentum"] == "bool"


def test_methods_use_knobs_that_there_are_and_all_of_them_are_used() -> None:
    used = {name for method in METHODS.values() for name in method.knobs}
    assert used == set(knobs_of(Retrain))
    assert {method.rate for method in METHODS.values()} == set(RATES)


@pytest.mark.parametrize("spec", [Prune, Retrain])
def test_every_knob_can_be_shown_and_typed(spec: type) -> None:
    """A label, unless another column has it, and a flag of its own; something is allowed that
    differs from what holds where it is left out."""
    knobs = knobs_of(spec)
    assert all(knob.help and not knob.help.endswith(".") for knob in knobs.values())
    assert {name for name, knob in knobs.items() if not knob.label} <= {"power"}
    assert {item.name for item in fields(spec)} - knobs.keys() <= {
        *("method", "epochs", "fraction", "criterion", "structure")
    }
    for name, knob in knobs.items():
        if kind_of(spec, name) is not bool and knob.label:
            assert "{}" in knob.label, name


def test_no_flag_is_two_knobs() -> None:
    flags = [knob.flag for spec in (Prune, Retrain) for knob in knobs_of(spec).values()]
    assert len(set(flags)) == len(flags) and "" not in flags


STEPPED = Retrain(method="step", epochs=9, lr=0.1, drops=(3, 6.5), restore_momentum=True)


def test_cells_and_labels() -> None:
    cells = cells_of(STEPPED, Retrain)
    given = {"retrain_lr": 0.1, "retrain_drops": "3 6.5", "restore_momentum": True}
    assert cells == dict.fromkeys(columns_of(Retrain)) | given
    assert labels_of(STEPPED) == {
        "lr": "lr 0.1",
        "drops": "drops 3 6.5",
        "restore_momentum": "restore momentum",
    }
    assert numbers_of(cells["retrain_drops"]) == STEPPED.drops
    assert set(cells_of(None, Prune).values()) == {None}
    plain = cells_of(Prune(fraction=0.5), Prune)
    assert plain["prune_scope"] == "global" and plain["prune_power"] is None  # which is of rates


def test_what_is_in_force() -> None:
    assert value_of(STEPPED, "factor") == 0.1 and not is_given(STEPPED, "factor")
    other = replace(STEPPED, factor=0.5)
    assert value_of(other, "factor") == 0.5 and is_given(other, "factor")
    assert unset_of(Retrain)["drops"] == ()


@pytest.mark.parametrize("text", ["3,6", "6 3", "3  6", "0 3", "nan", "3 inf", " 3", "03"])
def test_texts_that_are_no_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"retrain_drops is '.*'; allowed: numbers above 0"):
        check_numbers("retrain_drops", text)
    check_numbers("retrain_drops", "3 6.5")
    check_numbers("retrain_drops", None)


@pytest.mark.parametrize(
    ("allowed", "words", "inside", "outside"),
    [
        (Numbers(above=0), "above 0 and finite", [1e-300, 5], [0, -1, float("inf"), "1", True]),
        (Numbers(least=0, below=1), "0 up to below 1", [0, 0.5], [1, -1e-9, float("nan")]),
        (Numbers(above=0, below=1), "above 0 and below 1", [0.5], [0, 1]),
        (Numbers(above=0, most=1), "above 0, up to 1", [1], [0, 1.1]),
        (Numbers(least=0, most=1), "0 to 1", [0, 1], [2]),
        (Numbers(least=1), "1 and up, and finite", [1, 1e300], [0.9, float("inf")]),
        (Numbers(least=1, whole=True), "whole numbers from 1 up", [1, 10**400], [0, 1.0, True]),
        (Numbers(least=0, most=9, whole=True), "whole numbers from 0 to 9", [0, 9], [10]),
        (OneOf(("a", 1)), "a, 1", ["a", 1], ["b", True, 1.0]),
        (TRUE_OR_FALSE, "true or false", [True, False], [0, 1, None]),
        (Rising(), "numbers above 0, in rising order", [(), (1, 2.5)], [(2, 1), (0, 1), [1, 2]]),
    ],
)
def test_limits(allowed: Any, words: str, inside: list[Any], outside: list[Any]) -> None:
    assert str(allowed) == words
    assert all(map(allowed.allows, inside))
    assert not any(map(allowed.allows, outside))

"""Knobs as typed columns, and as the text that is made of them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from analysis.table.details import details_of, keep_what_differs, labels, shown_labels, variants
from rewind_ray.knobs import cells_of, columns_of, knobs_of, labels_of
from rewind_ray.protocols import renda_cifar
from rewind_ray.result import KNOB_KINDS
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from tests.analysis.conftest import row, table

PRUNES = [
    Prune(fraction=0.5),
    Prune(fraction=0.5, structure="filters", scope="layer", layers="stages.*.conv1"),
    Prune(fraction=None, structure="filters", rates="resnet56-A", power=2),
    Prune(fraction=0.5, structure="filters", shrink=True, keep_layers=True),
    Prune(fraction=0.5, structure="filters", filters_only=True),
    Prune(fraction=0.5, criterion="synflow", rounds=100),
]
RETRAINS = [
    Retrain(method="finetune", epochs=20),
    Retrain(method="finetune", epochs=20, lr=0.02, restore_momentum=True),
    Retrain(method="step", epochs=20, lr=1e-4, drops=(3.0, 7.5), factor=0.2),
    Retrain(method="clr", epochs=20, warmup=0.0),
    Retrain(method="cosine", epochs=20, lr=0.1, last_lr=1e-5),
    Retrain(method="weight_rewind", epochs=160, rates_from=0),
    Retrain(method="blend", epochs=180, alpha=0.5),
    Retrain(method="scratch_b", epochs=20, speedup=2.0),
]


@pytest.mark.parametrize("prune", PRUNES)
@pytest.mark.parametrize("retrain", RETRAINS)
def test_a_row_s_knobs_are_labelled_as_those_of_its_stage(prune: Prune, retrain: Retrain) -> None:
    cells = cells_of(prune, Prune) | cells_of(retrain, Retrain)
    rows = table([row(method=retrain.method, **cells)])
    found = {column: text for column, text in labels(rows).iloc[0].items() if text}
    expected = {
        column: labels_of(spec)[name]
        for spec in (prune, retrain)
        for column, name in columns_of(type(spec)).items()
        if name in labels_of(spec)
    }
    assert found == expected


def test_every_knob_is_tried_here() -> None:
    shown = {name for spec in (*PRUNES, *RETRAINS) for name in labels_of(spec)}
    named = {n for kind in (Prune, Retrain) for n, knob in knobs_of(kind).items() if knob.label}
    assert shown == named


@pytest.mark.parametrize("pruned_at", [None, 8])
def test_what_a_stage_says_beside_its_row(pruned_at: int | None) -> None:
    parent = dense_stage(renda_cifar("resnet56", "cifar10"), 0, pruned_at)
    first = retrain_stage(parent, PRUNES[0], RETRAINS[0])
    second = retrain_stage(first, PRUNES[0], RETRAINS[1])
    for stage, earlier in ((first, False), (second, True)):
        details = details_of(stage)
        assert details["pruned_at"] == pruned_at
        assert (details["earlier_steps"] is not None) == earlier
    assert details_of(parent)["pruned_at"] is None
    alike = retrain_stage(first, Prune(fraction=0.2), RETRAINS[0])
    assert details_of(alike)["earlier_steps"] is None  # only the amount differs


def of(method: str, seed: int = 0, **knobs: Any) -> Any:
    return row(method=method, seed=seed, stage_id=f"{method}{seed}{knobs}", **knobs)


def test_a_variant_has_the_knobs_in_which_its_kind_differs() -> None:
    rows = table(
        [
            of("blend", retrain_alpha=0.25, restore_momentum=True),
            of("blend", retrain_alpha=0.75, restore_momentum=True),
            of("step", retrain_lr=0.1),
            of("step", retrain_lr=0.1, retrain_drops="30 60"),
            of("clr", retrain_lr=0.1),
        ]
    )
    expected = ["alpha 0.25", "alpha 0.75", "", "drops 30 60", ""]
    assert list(keep_what_differs(rows)["variant"]) == expected
    shown = shown_labels(rows)
    assert {name for name in shown if (shown[name] != "").any()} == {
        "retrain_alpha",
        "retrain_drops",
    }


def test_a_published_setting_stands_for_the_knobs() -> None:
    rows = table([of("step", retrain_lr=0.1), of("step", retrain_lr=0.01)])
    rows = rows.assign(published_setting=["P30F90, 1e-1", ""], pruned_at=[30.0, None])
    assert list(variants(rows)) == ["P30F90, 1e-1", "lr 0.01"]
    assert list(variants(rows.assign(published_setting=""))) == ["lr 0.1, from epoch 30", "lr 0.01"]
    divided = rows.assign(published_setting="", pruned_over_speedup=[True, None])
    assert variants(divided).iloc[0] == "lr 0.1, from epoch 30/k"


def test_a_table_without_knobs_has_no_variants() -> None:
    rows = table([of("finetune", seed) for seed in range(3)])
    assert set(variants(rows)) == {""}
    assert rows[list(KNOB_KINDS)].notna().any().sum() > 0
    assert isinstance(keep_what_differs(rows), pd.DataFrame)

"""Stages pruned by criteria that look beyond the weights, with the structures they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rewind_ray.pruning import CRITERIA
from rewind_ray.spec import Stage, dense_stage
from tests.rewind_ray.tiny_stages import Lab, child, tiny

FILTERS = {"structure": "filters", "layers": "stages.*.conv1"}
PRUNED: dict[str, dict[str, Any]] = {
    "l1_filter": {**FILTERS, "shrink": True},
    "l2_filter": {"structure": "filters", "keep_layers": True},
    "lamp": {},
    "taylor": {"structure": "filters", "shrink": True},
    "fpgm": FILTERS,
    "synflow": {"rounds": 5},
    "grasp": {"scope": "layer"},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """With a dense network of one epoch."""
    made = Lab(tmp_path_factory.mktemp("criteria"))
    made.run(start())
    return made


def start() -> Stage:
    return dense_stage(tiny(), 0, train_epochs=1)


def test_none_is_forgotten() -> None:
    assert CRITERIA.keys() - PRUNED.keys() == {"magnitude", "random", "snip"}  # guarded elsewhere


@pytest.mark.parametrize("criterion", PRUNED)
def test_a_stage_is_pruned_and_trained(criterion: str, lab: Lab) -> None:
    stage = child(start(), "lr_rewind", 1, criterion=criterion, **PRUNED[criterion])
    lab.run(stage)
    row, point = lab.row(stage), lab.point(stage)
    assert (row.criterion, row.prune_rounds) == (criterion, PRUNED[criterion].get("rounds", 1))
    assert row.status == "done"
    if "structure" not in PRUNED[criterion]:
        assert row.params_remaining == pytest.approx(row.params_prunable / 2, abs=len(point.mask))
    else:
        assert row.density < 0.8
    for name, kept in point.mask.items():
        assert not point.weights[name][~kept].any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("criterion", PRUNED)
def test_a_stage_on_a_gpu_is_the_same_twice(criterion: str, tmp_path: Path) -> None:
    """No operation of a criterion's is refused where algorithms have to be deterministic."""
    stage = child(start(), "lr_rewind", 1, criterion=criterion, **PRUNED[criterion])
    labs = [Lab(tmp_path / name) for name in ("one", "other")]
    for one in labs:
        one.run_chain(stage, device="cuda")
    assert labs[0].bytes(stage) == labs[1].bytes(stage)


@pytest.mark.parametrize("criterion", ["synflow", "grasp"])
def test_two_storages_hold_the_same_bytes(criterion: str, lab: Lab, tmp_path: Path) -> None:
    """Scores are a function of the stage alone; with rounds and filters, which take BatchNorm
    along from round to round."""
    stage = child(
        start(), "lr_rewind", 1, criterion=criterion, structure="filters", rounds=2, fraction=0.3
    )
    lab.run(stage)
    other = Lab(tmp_path)
    other.run_chain(stage)
    assert lab.bytes(stage) == other.bytes(stage)
    assert lab.row(stage).prune_rounds == 2

"""``rewind-ray export best``: the stage it names is the one found by going over the rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rewind_ray.errors import UserError
from rewind_ray.export.best import best_stage
from rewind_ray.export.command import main
from rewind_ray.spec import dense_stage
from tests.rewind_ray.tiny_stages import Lab, child, tiny

pytestmark = pytest.mark.slow

DENSE = dense_stage(tiny(), 0)
PRUNED = [child(DENSE, "lr_rewind", 4, fraction) for fraction in (0.3, 0.6, 0.9)]
OTHER = child(dense_stage(tiny(network="vgg8"), 0), "finetune", 1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("trained"))
    for stage in PRUNED:
        lab.run_chain(stage)
    asked = {stage.stage_id: [stage.train_epochs] for stage in (DENSE, *PRUNED)}
    lab.ledger.write_sweep("first", {"sweep": "first", "stages": asked})
    return lab


@pytest.mark.parametrize("points", [0, 2, 5, 10, 30, 99])
def test_it_is_the_smallest_within_the_drop(lab: Lab, points: int) -> None:
    dense = lab.row(DENSE)
    assert dense.test_accuracy is not None

    def drop(stage: object) -> float:
        row = lab.row(stage)
        if row.val_accuracy is not None:
            return dense.val_accuracy - row.val_accuracy
        return dense.test_accuracy - row.test_accuracy

    within = [stage for stage in PRUNED if drop(stage) <= points / 100]
    if not within:
        with pytest.raises(UserError, match="the nearest"):
            best_stage(lab.ledger, f"{points}pt", None)
        return
    expected = max(within, key=lambda stage: lab.row(stage).compression_ratio)
    assert best_stage(lab.ledger, f"{points}pt", None) == expected.stage_id
    assert best_stage(lab.ledger, str(points / 100), "first") == expected.stage_id


def test_of_several_networks_it_is_none_s(lab: Lab) -> None:
    lab.run_chain(OTHER)
    with pytest.raises(UserError, match="vgg8 on digits"):
        best_stage(lab.ledger, "99pt", None)
    assert best_stage(lab.ledger, "99pt", "first") == PRUNED[-1].stage_id


def test_the_command_writes_it(lab: Lab, tmp_path: Path) -> None:
    out = tmp_path / "best.json"
    options = ("--sweep", "first", "--max-accuracy-drop", "99pt", "--format", "json")
    assert main(("best", "--storage", str(lab.storage), *options, "--out", str(out))) == 0
    assert json.loads(out.read_text())["stage_id"] == PRUNED[-1].stage_id


def test_a_drop_beside_an_id_is_wrong_usage(lab: Lab) -> None:
    arguments = (DENSE.stage_id, "--storage", str(lab.storage), "--max-accuracy-drop", "1pt")
    assert main(arguments) == 2


def test_nothing_finished_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pruned network is finished"):
        best_stage(Lab(tmp_path).ledger, "1pt", None)

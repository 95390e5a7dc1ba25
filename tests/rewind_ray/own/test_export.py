"""Networks of the user's own are exported without their data, and load without this project."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rewind_ray.export.command import main, recalled_task
from rewind_ray.spec import dense_stage
from rewind_ray.tasks import identified, load_task
from rewind_ray.tasks.own import loaded
from tests.rewind_ray.export.loading import AS_THEY_ARE, run_cards
from tests.rewind_ray.own import user_code
from tests.rewind_ray.own.test_identity import OWN, own
from tests.rewind_ray.own.user_code import perceptron, wine
from tests.rewind_ray.tiny_stages import Lab, child

MODULE = '''
import torch
from torch import nn


class Gate(nn.Module):
    """Its way depends on the number of examples."""

    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(13, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, inputs):
        found = self.layers(inputs)
        return found if inputs.shape[0] > 0 else -found
'''


def forget_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Any:
        raise FileNotFoundError("the data are gone")

    monkeypatch.setattr(user_code, "wine", gone)
    load_task.cache_clear()
    loaded.cache_clear()


def test_without_its_data_and_without_us(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = child(dense_stage(own(), 0), "lr_rewind", 2)
    lab.run_chain(stage)
    inputs = wine()["test"][0]
    network = perceptron()
    network.load_state_dict(lab.point(stage).weights)
    forget_data(monkeypatch)
    arguments = (stage.stage_id, "--storage", str(lab.storage))
    file = tmp_path / "small.safetensors"
    assert main((*arguments, "--out", str(file))) == 2
    assert f"outside this package: {OWN}:perceptron; if" in capsys.readouterr().err
    assert main((*arguments, "--trust", "--out", str(file))) == 0
    with torch.no_grad():
        (found,), expected = run_cards([file], inputs, AS_THEY_ARE), network.eval()(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert main((*arguments, "--format", "onnx", "--dtype", "int8", "--trust")) == 2
    assert "the data are gone" in capsys.readouterr().err


def test_a_network_that_has_no_plain_source_is_built_by_its_own_code(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gated_net.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    protocol = own(network="gated_net:Gate", network_options={"width": 6})
    stage = dense_stage(identified(protocol, None), 0, train_epochs=1)
    lab.run(stage)
    file = tmp_path / "gate.safetensors"
    arguments = (stage.stage_id, "--storage", str(lab.storage), "--trust")
    assert main((*arguments, "--out", str(file))) == 0
    facts = json.loads(Path(f"{file}.json").read_text())
    assert facts["source"] is None and "torch.fx can't trace it" in facts["no_source"]
    assert not Path(f"{file}.py").exists()
    network = sys.modules["gated_net"].Gate(width=6)
    network.load_state_dict(lab.point(stage).weights)
    inputs = wine()["test"][0]
    with torch.no_grad():
        (found,) = run_cards([file], inputs, AS_THEY_ARE)
        torch.testing.assert_close(found, network(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 10**12},
        {"classes": "abc"},
        {"example": [{"shape": [10**9], "dtype": "float32"}]},
        {"example": [{"shape": [1, -13], "dtype": "float32"}]},
        {"example": [{"shape": [1, 13], "dtype": "print"}]},
        {"example": []},
        {"example": None},
    ],
)
def test_forged_facts_of_data_are_not_used(
    lab: Lab, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    stage = dense_stage(own(), 0, train_epochs=0)
    lab.run(stage)
    kept = lab.ledger.read_data(stage.stage_id)
    lab.ledger.write_data(stage.stage_id, kept | change)
    task = recalled_task(lab.ledger, stage, None, trust=True)
    assert "is damaged" in caplog.text
    assert task.example()[0].shape == (1, 13)


def test_names_of_classes_are_kept(lab: Lab) -> None:
    stage = dense_stage(own(dataset=f"{OWN}:noisy_wine"), 0, train_epochs=0)
    lab.run(stage)
    kept = lab.ledger.read_data(stage.stage_id)
    assert (kept["classes"], kept["num_classes"]) == (["a", "b", "c"], 3)
    assert kept["example"] == [{"shape": [1, 13], "dtype": "float32"}]

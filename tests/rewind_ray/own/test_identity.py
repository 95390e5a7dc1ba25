"""What makes two networks or data sets of the user's own different ones, and what doesn't."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rewind_ray.digests import code_digest, network_digest, tensors_digest
from rewind_ray.errors import UserError
from rewind_ray.models.own import weights_bytes
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol, Stage, dense_stage
from rewind_ray.tasks import adopting, identified, load_task
from tests.rewind_ray.own import user_code
from tests.rewind_ray.tasks.diabetes import diabetes
from tests.rewind_ray.tiny_stages import Lab

OWN = "tests.rewind_ray.own.user_code"
SOURCE = '''
import torch
from torch import nn
from {helper} import act

GAIN = 2.0

class Net(nn.Module):
    """A network."""
    def __init__(self, width=8):
        super().__init__()
        self.a, self.b = nn.Linear(13, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.b(act(self.a(x))) * GAIN

def build(width=8):
    network = Net(width)
    nn.init.constant_(network.b.bias, 0.5)
    return network
'''
HELPER = "import torch\ndef act(x):\n    return torch.relu(x)\n"


def own(**changes: object) -> Protocol:
    settings: dict[str, object] = {
        "network": f"{OWN}:perceptron",
        "dataset": f"{OWN}:wine",
        "task": "classification",
        "epochs": 4,
        "schedule": Schedule(lr=0.05, drops=(3,)),
        "batch_size": 16,
        "weight_decay": 1e-4,
    }
    return Protocol(**settings | changes)  # type: ignore[arg-type]


class Written:
    """Modules that are written, imported and forgotten again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def digest(self, source: str = SOURCE, helper: str = HELPER, name: str = "net") -> str:
        self.write(f"{name}_helper", helper)
        self.write(f"{name}_one", source.format(helper=f"{name}_helper"))
        return identified(own(network=f"{name}_one:build"), None).network_digest

    def write(self, module: str, source: str) -> None:
        (self.folder / f"{module}.py").write_text(source)
        sys.modules.pop(module, None)
        load_task.cache_clear()
        importlib.invalidate_caches()


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files of one second look unchanged
    yield Written(tmp_path)
    for name in [n for n in sys.modules if n.startswith("net_")]:
        del sys.modules[name]


CODE, WEIGHTS = 0, 1
CHANGES = {
    "forward": ("* GAIN", "+ GAIN"),
    "a default argument": ("build(width=8)", "build(width=9)"),
    "initial weights": ("0.5", "0.25"),
    "a constant of the module": ("GAIN = 2.0", "GAIN = 3.0"),
}


def outcome(lab: Lab, stage: Stage) -> tuple[float | None, list[torch.Tensor]]:
    lab.run(stage)
    return lab.row(stage).test_accuracy, list(lab.point(stage).weights.values())


def differ(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("what", CHANGES)
def test_another_network_has_another_id_and_other_numbers(
    what: str, written: Written, lab: Lab
) -> None:
    """``Protocol.network_digest``, in the laws of identity."""
    old, new = CHANGES[what]
    assert SOURCE.count(old) == 1
    stages, weights = [], []
    for source in (SOURCE, SOURCE.replace(old, new)):
        digest = written.digest(source)
        schedule = Schedule(lr=0.05)
        protocol = own(network="net_one:build", network_digest=digest, epochs=1, schedule=schedule)
        stages.append(dense_stage(protocol, 0))
        weights.append(outcome(lab, stages[-1])[1])
    assert stages[0].stage_id != stages[1].stage_id
    assert differ(*weights)


TASK = """
import torch
from tests.rewind_ray.tasks.diabetes import Diabetes

class Scaled(Diabetes):
    def loss(self, network, batch):
        return {factor} * super().loss(network, batch)
"""


def test_another_code_of_a_task_has_another_id_and_other_numbers(
    written: Written, lab: Lab
) -> None:
    """``Protocol.task_digest``, in the laws of identity."""
    stages, weights = [], []
    for factor in (1, 2):
        written.write("net_task", TASK.format(factor=factor))
        protocol = identified(diabetes(task="net_task:Scaled"), None)
        stages.append(dense_stage(protocol, 0))
        weights.append(outcome(lab, stages[-1])[1])
    one, other = (stage.protocol for stage in stages)
    assert replace(one, task_digest="", network_digest="") == replace(
        other, task_digest="", network_digest=""
    )
    assert one.task_digest != other.task_digest and stages[0].stage_id != stages[1].stage_id
    assert differ(*weights)


def test_other_trained_weights_have_another_id_and_other_numbers(lab: Lab) -> None:
    """``Protocol.init``, in the laws of identity."""
    stages, weights = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        given = user_code.Perceptron().state_dict()
        protocol = adopting(own(), None, given, "a test")
        lab.ledger.write_init(protocol.init, weights_bytes(given))
        stages.append(dense_stage(protocol, 0))
        weights.append(outcome(lab, stages[-1])[1])
    assert stages[0].stage_id != stages[1].stage_id
    assert differ(*weights)


def test_functions_that_forward_uses_count(written: Written) -> None:
    assert written.digest() != written.digest(helper=HELPER.replace("relu", "tanh"))


def test_comments_docstrings_and_layout_do_not_count(written: Written) -> None:
    same = SOURCE.replace('"""A network."""', '"""Another text."""  # and a comment\n')
    assert same != SOURCE
    assert written.digest() == written.digest(same) == written.digest()


def test_weights_are_digested_apart_from_the_code() -> None:
    one, other = (user_code.perceptron() for _ in range(2))
    first, second = (network_digest(n, user_code.perceptron).split("-") for n in (one, other))
    assert first[CODE] == second[CODE] and first[WEIGHTS] != second[WEIGHTS]
    other.load_state_dict(one.state_dict())
    assert network_digest(other, user_code.perceptron).split("-") == first


def test_settings_without_parameters_count() -> None:
    """Of PyTorch's own modules, whose code isn't digested."""
    digests = {
        network_digest(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, **given)), None).split("-")[0]
        for given in ({}, {"stride": 2}, {"padding": 1})
    }
    assert len(digests) == 3


def test_options_names_and_data_make_other_stages() -> None:
    protocols = [
        identified(own(**changes), None)
        for changes in (
            {},
            {"network": f"{OWN}:Perceptron"},
            {"network_options": {"dropout": 0.5}},
            {"dataset": f"{OWN}:noisy_wine"},
        )
    ]
    assert len({dense_stage(protocol, 0).stage_id for protocol in protocols}) == 4
    assert protocols[0] == identified(own(), None)


def test_a_worker_with_other_code_or_data_refuses() -> None:
    protocol = identified(own(), None)
    code, weights = protocol.network_digest.split("-")
    for changes, words in (
        ({"network_digest": f"{code[::-1]}-{weights}"}, f"network {OWN}:perceptron is"),
        ({"data_digest": "0" * 16}, f"data {OWN}:wine is"),
    ):
        with pytest.raises(UserError, match=words):
            load_task(replace(protocol, **changes), None, torch.device("cpu"))


def test_other_weights_by_the_same_code_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    protocol = identified(own(), None)
    code = protocol.network_digest.split("-")[0]
    load_task(replace(protocol, network_digest=f"{code}-{'0' * 16}"), None, torch.device("cpu"))
    assert "other weights" in caplog.text


def test_tensors_are_told_apart_by_name_type_shape_and_value() -> None:
    tensors = torch.zeros(4), torch.zeros(2, 2), torch.zeros(4, dtype=torch.int32), torch.ones(4)
    digests = [tensors_digest({"a": tensor}) for tensor in tensors]
    assert len({*digests, tensors_digest({"b": torch.zeros(4)})}) == 5


def test_code_of_other_packages_is_left_out() -> None:
    assert code_digest([torch.nn.Linear]) == code_digest([])


class WithC:
    """Its default arguments are methods written in C, which belong to no module."""

    def build(self, make=object.__init__, last=[].append):
        return make, last


def test_what_is_written_in_c_is_named_by_its_class():
    assert code_digest([WithC]) == code_digest([WithC])

"""Networks are compared and pruned in this process, as the commands would."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import rewind_ray
from rewind_ray.api import Given, Results, described_protocol
from rewind_ray.errors import UserError
from rewind_ray.spec import Prune, dense_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Job, Runtime
from rewind_ray.training.stage import missing_epochs
from sweeps.compare import Training, chosen_protocol
from tests.rewind_ray.own.test_identity import OWN
from tests.rewind_ray.own.user_code import Perceptron, perceptron, wine

QUICK = {"epochs": 4, "seeds": 2, "densities": [0.5, 0.25], "batch_size": 16, "quiet": True}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def results(storage: str) -> Results:
    return rewind_ray.compare(perceptron, *wine().values(), storage=storage, **QUICK)


def test_a_table_of_methods_and_densities(results: Results) -> None:
    table = results.table()
    assert set(table["method"]) == {"finetune", "weight_rewind", "lr_rewind"}
    assert len(table) == 6 and set(table["n_seeds"]) == {2}
    assert table["compression_ratio"].min() == pytest.approx(2)
    assert results.pareto()["nondominated"].any()


def test_run_again_nothing_is_trained(results: Results, storage: str) -> None:
    rows = {path: path.stat().st_mtime_ns for path in Path(storage).glob("stages/*/rows/*.json")}
    again = rewind_ray.compare(perceptron, *wine().values(), storage=storage, **QUICK)
    assert {stage.stage_id for stage in again.stages} == {s.stage_id for s in results.stages}
    assert rows == {path: path.stat().st_mtime_ns for path in rows}


def test_the_best_is_the_smallest_within_the_drop(results: Results) -> None:
    best = results.best(max_accuracy_drop=1.0)
    assert best.row.compression_ratio == pytest.approx(4)
    assert best.summary()["params_nonzero"] < best.summary()["params_total"]
    with pytest.raises(UserError, match=r"no network is within -100 points.*nearest"):
        results.best(max_accuracy_drop=-1.0)


def test_a_function_is_known_by_its_import_path(results: Results) -> None:
    protocol = results.stages[0].protocol
    assert protocol.network == f"{OWN}:perceptron"
    stage = dense_stage(protocol, 0)
    job = Job(stage=stage, row_epochs=(4,))
    assert missing_epochs(Ledger(results.storage), job) == []
    assert Runtime(storage=results.storage).device == "cpu"


def test_a_trained_model_made_smaller_and_exported(storage: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Perceptron(width=32)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    small = rewind_ray.prune(
        model, *wine().values(), target_compression=2, epochs=3, storage=storage, quiet=True
    )
    assert small.reached and small.row.compression_ratio == pytest.approx(2, rel=0.01)
    assert small.stage.protocol.init == "builder" and small.stage.baseline.train_epochs == 0
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])
    small.export(str(tmp_path / "small.pt2"))
    inputs = wine()["test"][0]
    loaded = torch.export.load(tmp_path / "small.pt2").module()
    with torch.no_grad():
        assert torch.equal(loaded(inputs), small.model(inputs))
    assert "Pruned" in (tmp_path / "small.pt2.md").read_text()
    facts = small.export(str(tmp_path / "small.pt"), masks=True)
    state = torch.load(tmp_path / "small.pt", weights_only=True)
    assert (
        int(sum(m.sum() for n, m in state.items() if n.endswith("_mask")))
        == facts["params_remaining"]
    )
    assert small.export(str(tmp_path / "half.pt2"), "fp16")["test_accuracy_exported"] is not None
    with pytest.raises(UserError, match=r"'x\.pth' has no known ending; allowed: .*\.pt2.*\.pt"):
        small.export("x.pth")
    with pytest.raises(UserError, match="--dtype int8 with --format pt2"):
        small.export("x.pt2", "int8")
    accuracy = float((small.model(inputs).argmax(1) == wine()["test"][1]).float().mean())
    assert small.summary()["test_accuracy"] == pytest.approx(accuracy, abs=0.1)


def test_statistics_of_batch_norm_are_no_parameters(storage: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(13, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    small = rewind_ray.prune(
        model, *wine().values(), target_compression=1.1, epochs=1, storage=storage, quiet=True
    )
    others = small.row.params_total - small.row.params_prunable
    assert small.summary()["params_nonzero"] <= small.row.params_remaining + others


def test_a_history_is_adopted_and_rewound_to(tmp_path: Path) -> None:
    for epoch in (1, 4):
        torch.manual_seed(epoch)
        torch.save(Perceptron().state_dict(), tmp_path / f"{epoch}.pt")
    settings = {"storage": str(tmp_path / "storage"), "quiet": True, "init_history": tmp_path}
    found = rewind_ray.compare(perceptron, *wine().values(), densities=[0.5], seeds=1, **settings)
    assert {stage.method for stage in found.stages} == {"finetune", "weight_rewind", "lr_rewind"}
    assert {(stage.retrain.epochs, stage.baseline.train_epochs) for stage in found.stages} == {
        (3, 4)
    }
    small = rewind_ray.prune(
        *(perceptron, *wine().values()),
        method="weight_rewind",
        retrain_epochs=3,
        target_compression=2,
        **settings,
    )
    assert small.stage.protocol == found.stages[0].protocol and small.reached
    with pytest.raises(UserError, match=r"epochs is 3, and .*epoch 4"):
        rewind_ray.compare(perceptron, *wine().values(), epochs=3, **settings)
    with pytest.raises(UserError, match="trained is True, and init_history"):
        rewind_ray.compare(perceptron, *wine().values(), trained=True, **settings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((3, *wine().values()), "network is a int"),
        ((perceptron, wine()["train"]), "test_data is left out"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        rewind_ray.compare(*arguments, quiet=True)  # type: ignore[arg-type]


class Branching(nn.Module):
    """Its forward pass branches on the values of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.classify = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.inner(inputs).relu()
        if hidden.mean() > 0.3:
            hidden = hidden / 2
        return self.classify(self.outer(hidden).relu().mean((2, 3)))


@pytest.mark.slow
def test_a_network_that_branches_on_values(tmp_path: Path) -> None:
    """Trained, pruned and counted; what needs one program of it is refused."""
    inputs = torch.randn(32, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    data = (inputs, (inputs.mean((1, 2, 3)) > 0).long())
    settings: dict[str, Any] = {
        "seeds": 1,
        "epochs": 2,
        "storage": str(tmp_path / "st"),
        "quiet": True,
    }
    results = rewind_ray.compare(
        Branching, data, data, methods=["lr_rewind"], densities=[0.5], **settings
    )
    rows = results.rows()
    by_hand = 4 * 4 * 9 * 1 * 4 + 2 * 2 * 9 * 4 * 4 + 4 * 2
    assert set(rows["flops_dense"]) == {by_hand}
    best = results.best(max_accuracy_drop=1.0)
    with pytest.raises(UserError, match="--format safetensors or state_dict"):
        best.export(tmp_path / "small.pt2")
    best.export(tmp_path / "small.safetensors")
    with pytest.raises(UserError, match="branches on values"):
        filters = Prune(fraction=0.5, structure="filters", shrink=True)
        rewind_ray.compare(Branching, data, data, methods=["lr_rewind"], prune=filters, **settings)


def test_an_argument_that_nobody_takes(storage: str) -> None:
    with pytest.raises(TypeError, match=r"'structure'.*prune=rewind_ray"):
        rewind_ray.compare(perceptron, *wine().values(), structure="filters", storage=storage)
    for given in ({"lr": 0.1}, {"drops": (1,)}):
        with pytest.raises(TypeError, match=rf"'{next(iter(given))}'.*schedule=rewind_ray"):
            rewind_ray.prune(perceptron, *wine().values(), storage=storage, **given)


NETWORK, DATA = (f"tests.rewind_ray.own.user_code:{name}" for name in ("perceptron", "wine"))


@pytest.mark.parametrize("epochs", [20, 30, 45, 60])
def test_stages_are_those_of_the_command(epochs: int, tmp_path: Path) -> None:
    """Whatever the number of epochs makes of the schedule, and with trained weights."""
    torch.manual_seed(0)
    torch.save(Perceptron().state_dict(), tmp_path / "trained.pt")
    init = str(tmp_path / "trained.pt")
    typed = Training(network=NETWORK, dataset=DATA, epochs=epochs, batch_size=16, init=init)
    called = described_protocol(
        *(NETWORK, DATA, None, None, epochs, Given(init=init)), {"batch_size": 16}
    )
    assert chosen_protocol(typed, None) == called


def test_a_folder_of_images_is_that_of_the_command(tmp_path: Path) -> None:
    for part, name in itertools.product(("train", "test"), ("cat", "dog")):
        (tmp_path / part / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8), (number, 9, 9)).save(tmp_path / part / name / f"{number}.png")
    named = {"network": "resnet20", "dataset": f"folder:{tmp_path}", "epochs": 3}
    typed = Training(**named, protocol="plain", prunable="*conv*")
    called = described_protocol(
        *("resnet20", f"folder:{tmp_path}", None, None, 3, Given()), {"prunable": "*conv*"}
    )
    assert chosen_protocol(typed, None) == called


@pytest.mark.slow
def test_on_ray_are_the_same_stages(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**QUICK, "seeds": 1, "storage": str(tmp_path)}
    here = rewind_ray.compare(perceptron, wine, **settings | {"storage": str(tmp_path / "here")})
    there = rewind_ray.compare(NETWORK, DATA, **settings, ray=True)
    columns = ["stage_id", "test_accuracy", "density"]
    assert here.rows()[columns].equals(there.rows()[columns])
    small = rewind_ray.prune(
        *(NETWORK, DATA),
        target_compression=2,
        epochs=2,
        batch_size=16,
        storage=str(tmp_path),
        quiet=True,
        ray=True,
    )
    assert small.reached and small.row.compression_ratio == pytest.approx(2, rel=0.02)
    with pytest.raises(UserError, match="exists in this process only"):
        rewind_ray.compare(Perceptron(), *wine().values(), **settings, ray=True)

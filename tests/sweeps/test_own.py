"""Networks, data and weights of the user's own by flags; their code on its way to workers."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from rewind_ray.digests import code_text
from rewind_ray.errors import MissingFile, UserError
from rewind_ray.protocols import plain
from rewind_ray.spec import dense_stage
from rewind_ray.targets import Target, planned, step_of
from rewind_ray.tasks import identified
from sweeps.compare import Comparison, Training, chosen_protocol, compare
from sweeps.plan.chains import smoke
from sweeps.plan.graph import build_graph, cost, kept_points
from sweeps.prune import Measured, Wanted, best_of, chain, show, target_of
from sweeps.run.own_code import runtime_env
from tests.rewind_ray.own.test_identity import OWN
from tests.rewind_ray.own.user_code import Perceptron
from tests.rewind_ray.tiny_stages import Lab

FLAGS = {"network": f"{OWN}:perceptron", "dataset": f"{OWN}:wine", "epochs": 8, "batch_size": 16}


def test_flags_and_python_make_the_same_stages() -> None:
    by_flags, folder = chosen_protocol(Training(**FLAGS, network_option=("width=8",)), None)
    by_python = plain(
        f"{OWN}:perceptron",
        f"{OWN}:wine",
        task="classification",
        epochs=8,
        batch_size=16,
        network_options={"width": 8},
    )
    assert folder is None
    assert by_flags == identified(by_python, None)
    assert by_flags.network_digest and by_flags.data_digest


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_short_runs_have_no_drops_that_do_not_fit(epochs: int) -> None:
    protocol, _ = chosen_protocol(Training(**FLAGS | {"epochs": epochs}), None)
    assert all(0 < drop < epochs for drop in protocol.schedule.drops)


def test_given_weights_leave_weight_rewinding_out(tmp_path: Path) -> None:
    torch.save(Perceptron().state_dict(), tmp_path / "trained.pt")
    protocol, _ = chosen_protocol(Training(**FLAGS, init=str(tmp_path / "trained.pt")), None)
    stages = list(compare(protocol, Comparison(), 1, range(1)))
    assert {stage.method for stage in stages if stage.level} == {"finetune", "lr_rewind"}
    assert all(stage.baseline.train_epochs == 0 for stage in stages)
    assert dense_stage(protocol, 0).train_epochs == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"network": "resnet21"}, "unknown network 'resnet21'"),
        ({"network": "nowhere:net"}, "no module 'nowhere'"),
        ({"network_option": ("width",)}, r"--network-option is 'width'; write name=value"),
        ({"init": "not-there.pt"}, r"not-there.pt: there is no such file"),
    ],
)
def test_wrong_names_are_said_before_anything_is_read(flags: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        chosen_protocol(Training(**FLAGS | flags), None)  # type: ignore[arg-type]


def test_steps_end_exactly_at_the_target() -> None:
    protocol, _ = chosen_protocol(Training(**FLAGS), None)
    target = Target(limit=10.0)
    plan = planned(target, step_of("unstructured", "magnitude", "global"), protocol, 0, "")
    end = chain(protocol, protocol, Wanted(), plan)
    kept = 1.0
    for stage in end.chain[1:]:
        assert stage.prune is not None and stage.prune.fraction is not None
        assert stage.prune.fraction <= 0.2
        kept *= 1 - stage.prune.fraction
    assert kept == pytest.approx(0.1)


def test_it_ends_with_a_file_its_facts_and_a_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = Lab(tmp_path / "storage")
    protocol, _ = chosen_protocol(Training(**FLAGS | {"epochs": 2}), None)
    file = tmp_path / "small.pt"
    wanted = Wanted(
        target_compression=1.5, format="state_dict", dtype="fp16", out=str(file), retrain_epochs=1
    )
    target = target_of(wanted)
    plan = planned(target, step_of("unstructured", "magnitude", "global"), protocol, 0, "--x")
    end = chain(protocol, protocol, wanted, plan)
    lab.run_chain(end)
    measured = Measured(target, wanted, lab.ledger, None)
    found = best_of(end, lab.ledger, None, measured)
    assert found is not None and found[0] == end
    show(end, found, wanted, measured)
    printed = capsys.readouterr().out
    facts = json.loads(Path(f"{file}.json").read_text())
    assert f"{facts['params_exported']:,} parameters, {file.stat().st_size:,} bytes" in printed
    assert f"fp16      test {100 * facts['test_accuracy_exported']:.2f}%" in printed
    assert f"{file}.md" in printed and "torch.load('small.pt', weights_only=True)" in printed
    assert f"{100 * facts['test_accuracy']:.2f}%" in Path(f"{file}.md").read_text()


def test_code_that_workers_cannot_see_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hidden_net").mkdir()
    (tmp_path / "hidden_net" / "__init__.py").write_text("WIDTH = 3\n")
    (tmp_path / "hidden_net" / "layers.py").write_text("DEPTH = 2\n")
    (tmp_path / "hidden_net" / "weights.bin").write_bytes(bytes(100))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "hidden_net", __import__("hidden_net"))
    sent = {Path(place).name: Path(place) for place in runtime_env("local")["py_modules"]}
    names = {file.name for file in sent["hidden_net"].iterdir()}
    assert names == {"__init__.py", "layers.py"}
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "hidden_net" not in str(runtime_env("local"))
    assert "hidden_net" in str(runtime_env("auto"))


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages"])
def test_packages_of_another_environment_are_not_sent(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of ``pip install --user``, or that a .pth file adds: a copy of Ray starts no worker."""
    name = f"far_{folder[:4]}"
    (tmp_path / folder / name).mkdir(parents=True)
    (tmp_path / folder / name / "__init__.py").write_text("class Net:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / folder))
    net = import_module(name).Net
    for address in ("local", "auto"):
        assert name not in str(runtime_env(address))

    def uses() -> type:
        return net

    assert "class Net" not in code_text([uses])


@pytest.fixture
def history(tmp_path: Path) -> Path:
    for epoch in (0, 2, 8):
        torch.save(Perceptron().state_dict(), tmp_path / f"{epoch:04d}.pt")
    return tmp_path


def test_a_history_says_the_epochs_and_is_rewound_to(history: Path) -> None:
    flags = {name: value for name, value in FLAGS.items() if name != "epochs"}
    protocol, _ = chosen_protocol(Training(**flags, init_history=str(history)), None)
    assert (protocol.epochs, protocol.dense_epochs, list(protocol.given)) == (8, 8, [0, 2, 8])
    stages = list(compare(protocol, Comparison(), 2, range(1)))
    assert {stage.method for stage in stages if stage.level} == {
        *("finetune", "weight_rewind", "lr_rewind")
    }
    graph = build_graph(stages)
    dense = graph[dense_stage(protocol, 0).stage_id]
    assert dense.job.row_epochs == (8,) and dense.job.rewind_epochs == (2, 8)
    assert dense.epochs == 0 and kept_points(dense, "all") == 2
    assert cost(graph).epochs == 9 * 6  # of three methods at three densities
    assert cost(graph).epochs_unshared == cost(graph).epochs
    short = smoke(protocol)
    assert short.init == "" and short.epochs == 8


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"epochs": 9}, r"--epochs is 9, .*epoch 8 \(0008.pt\); leave --epochs out"),
        ({"init": "a.pt"}, r"--init a.pt and --init-history .*give one of them"),
        ({"init_history": "nowhere"}, r"--init-history nowhere: there is no such folder"),
    ],
)
def test_flags_that_do_not_go_with_a_history(
    flags: dict[str, object], words: str, history: Path
) -> None:
    given = {**FLAGS, "init_history": str(history), **flags}
    with pytest.raises((UserError, MissingFile), match=words):
        chosen_protocol(Training(**given), None)  # type: ignore[arg-type]

"""Networks and data of the user's own are trained, resumed, adopted and pruned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from analysis.table.rows import read_rows
from rewind_ray.datasets.own import Held, Read, load_own
from rewind_ray.errors import UserError
from rewind_ray.models.own import read_weights, weights_bytes
from rewind_ray.spec import BUILDER, Protocol, Stage, dense_stage
from rewind_ray.tasks import adopting, identified, load_task
from rewind_ray.training.epoch import BrokenOff
from rewind_ray.training.stage import run_epoch, start_stage
from tests.rewind_ray.own.test_identity import OWN, own
from tests.rewind_ray.own.user_code import Perceptron, wine
from tests.rewind_ray.tiny_stages import Lab, child

NewLab = Callable[[str], Lab]


def random_everywhere() -> Protocol:
    """Dropout, and items with noise."""
    return own(dataset=f"{OWN}:noisy_wine", network_options={"dropout": 0.5})


def test_it_learns_and_rewinds(lab: Lab) -> None:
    dense = dense_stage(own(epochs=8, weight_decay=0.0), 0)
    rewound = child(dense, "weight_rewind", 4)
    lab.run(dense, rewinds=(4,))
    lab.run(rewound)
    row = lab.row(rewound)
    assert row.test_accuracy is not None and row.test_accuracy > 0.8  # a third by guessing
    assert (row.params_prunable, row.density) == (13 * 16 + 16 * 3, 0.5)
    assert (row.task, row.flops_dense) == ("classification", 256)


def test_the_builders_weights_are_kept(lab: Lab) -> None:
    stage = dense_stage(own(), seed=3)
    lab.run(stage, rewinds=(0,))
    torch.manual_seed(3)
    expected = Perceptron().state_dict()
    start = lab.point(stage, 0).weights
    assert all(torch.equal(start[name], weight) for name, weight in expected.items())


def test_building_leaves_the_callers_random_numbers_alone() -> None:
    task = load_task(own(), None, torch.device("cpu"))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    task.network(0)
    assert torch.equal(torch.rand(3), expected)


def test_dropout_and_random_items_resume_to_the_same_bits(lab: Lab, new_lab: NewLab) -> None:
    stage = dense_stage(random_everywhere(), 0)
    lab.run(stage)
    stopped = new_lab("stopped")
    for _ in range(stage.train_epochs):
        run = start_stage(stopped.job(stage), stopped.runtime())
        asked = iter([False] * 3 + [True])
        run.stop = lambda asked=asked: next(asked)  # type: ignore[misc]
        with pytest.raises(BrokenOff):
            run_epoch(run)
        torch.rand(7)  # somebody else draws
        run_epoch(start_stage(stopped.job(stage), stopped.runtime()))
    assert stopped.bytes(stage) == lab.bytes(stage)


def test_random_items_differ_from_epoch_to_epoch_and_not_from_call_to_call() -> None:
    task = load_task(random_everywhere(), None, torch.device("cpu"))

    def epoch(seed: int, number: int) -> torch.Tensor:
        batches = list(task.batches("train", seed, number))
        inputs = torch.cat([inputs for inputs, _ in batches])
        return inputs[inputs[:, 0].argsort()]

    assert torch.equal(epoch(0, 1), epoch(0, 1))
    assert not torch.allclose(epoch(0, 1), epoch(0, 2))
    assert not torch.allclose(epoch(0, 1), epoch(1, 1))


def test_what_is_random_is_read_and_what_is_not_is_held() -> None:
    noisy = load_own(f"{OWN}:noisy_wine", 0.0)
    assert isinstance(noisy.train, Read) and isinstance(noisy.test, Held)
    assert torch.equal(noisy.test.inputs, wine()["test"][0])
    assert noisy.classes == 3


def test_a_share_of_a_single_part_tests() -> None:
    data = load_own(f"{OWN}:one_table", 0.25)
    assert (len(data.train), len(data.test)) == (134, 44)
    assert isinstance(data.train, Held) and isinstance(data.test, Held)
    rows = torch.cat([data.train.inputs, data.test.inputs])
    assert len(rows.unique(dim=0)) == len(torch.cat([part[0] for part in wine().values()]))
    assert data.digest != load_own(f"{OWN}:one_table", 0.5).digest


# Trained weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state_dict of a network that was trained without this package."""
    torch.manual_seed(0)
    network = Perceptron()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    inputs, labels = wine()["train"]
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
    place = tmp_path_factory.mktemp("trained") / "wine.pt"
    torch.save(network.state_dict(), place)
    return place


def adopted(file: Path, seed: int = 0) -> Stage:
    protocol = identified(own(), None)
    return dense_stage(adopting(protocol, None, read_weights(file), file.name), seed)


def test_trained_weights_are_adopted_and_pruned(lab: Lab, trained: Path) -> None:
    dense = adopted(trained)
    lab.ledger.write_init(dense.protocol.init, weights_bytes(read_weights(trained)))
    steps = [child(dense, "lr_rewind", 2), child(dense, "finetune", 2)]
    again = child(steps[0], "lr_rewind", 2)
    for stage in (dense, *steps, again):
        lab.run(stage, rewinds=(0,))
    given = torch.load(trained, weights_only=True)
    start = lab.point(dense, 0).weights
    assert all(torch.equal(start[name], weight) for name, weight in given.items())
    network = Perceptron()
    network.load_state_dict(given)
    inputs, labels = wine()["test"]
    accuracy = float((network.eval()(inputs).argmax(1) == labels).float().mean())
    row = lab.row(dense, 0)
    assert (row.train_epochs, row.train_seconds, row.method) == (0, 0, "dense")
    assert row.test_accuracy == row.baseline_test_accuracy == pytest.approx(accuracy)
    assert accuracy > 0.9
    assert lab.row(again).baseline_test_accuracy == row.test_accuracy
    kept = lab.point(steps[0], 0)
    for name, mask in kept.mask.items():
        assert torch.equal(kept.weights[name], given[name] * mask)
    assert len(read_rows(str(lab.storage))) == 4


def test_files_of_the_same_weights_are_one_stage(trained: Path, tmp_path: Path) -> None:
    weights = torch.load(trained, weights_only=True)
    save_file(weights, tmp_path / "same.safetensors")
    torch.save({"epoch": 3, "state_dict": weights}, tmp_path / "wrapped.pt")
    parallel = {f"module.{name}": weight for name, weight in weights.items()}
    torch.save(parallel, tmp_path / "parallel.pth")
    files = (trained, *(tmp_path / n for n in ("same.safetensors", "wrapped.pt", "parallel.pth")))
    ids = {adopted(file).stage_id for file in files}
    assert len(ids) == 1
    other = {name: weight + 1 for name, weight in weights.items()}
    save_file(other, tmp_path / "other.safetensors")
    trained_anew = dense_stage(identified(own(), None), 0).stage_id
    assert len(ids | {adopted(tmp_path / "other.safetensors").stage_id, trained_anew}) == 3


@pytest.mark.parametrize("method", ["weight_rewind", "low_lr_weight_rewind", "blend"])
def test_adopted_weights_are_not_rewound(method: str, trained: Path) -> None:
    with pytest.raises(UserError, match=rf"{method} .*given trained.*lr_rewind"):
        child(adopted(trained), method, 2)


def test_a_builder_that_gives_trained_weights(lab: Lab) -> None:
    dense = dense_stage(own(init=BUILDER), 0)
    lab.run(dense)
    lab.run(child(dense, "finetune", 1))
    assert lab.row(dense, 0).train_epochs == 0
    with pytest.raises(UserError, match=r"reinit .*fresh random weights.*--init FILE"):
        child(dense, "reinit", 2)


def test_weights_that_do_not_fit_are_named(trained: Path, tmp_path: Path) -> None:
    weights = torch.load(trained, weights_only=True)
    weights["head.weight"] = weights.pop("out.weight")
    weights["hidden.bias"] = torch.zeros(5)
    torch.save(weights, tmp_path / "wrong.pt")
    with pytest.raises(UserError) as raised:
        adopted(tmp_path / "wrong.pt")
    for words in ("missing: out.weight", "head.weight", "hidden.bias (5,), the network's (16,)"):
        assert words in str(raised.value)


class Code:
    """What a hostile file would run."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("executed",))


def test_a_file_with_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": Code()}, tmp_path / "bad.pt")
    with pytest.raises(UserError, match=r"bad\.pt can't be read as weights alone.*state_dict"):
        read_weights(tmp_path / "bad.pt")
    assert "executed" not in capsys.readouterr().out


# Bad input


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "not_there:net"}, r"no module 'not_there'.*PYTHONPATH"),
        ({"network": f"{OWN}:perceptrn"}, r"has no 'perceptrn'; nearest: .*perceptron"),
        ({"network": f"{OWN}:SCALE"}, r"give a function or class"),
        ({"network": f"{OWN}:text"}, r"returned a str; let it return an nn.Module"),
        ({"network": f"{OWN}:without_weights"}, r"has no parameters"),
        ({"network": f"{OWN}:WithoutForward"}, r"has no forward; if its class defines __call__"),
        ({"network": f"{OWN}:only_norms"}, r"no weights that may be pruned.*LayerNorm"),
        ({"network": f"{OWN}:never_the_same"}, r"other weights each time"),
        ({"network_options": {"depth": 2}}, r"takes \(width.*depth.*--network-option"),
        ({"network": f"{OWN}:cnn"}, r"doesn't take the data's inputs, \(1, 13\)"),
        ({"dataset": f"{OWN}:one_class"}, r"one class"),
        ({"dataset": f"{OWN}:unequal"}, r"8 inputs and 7 labels"),
        ({"dataset": f"{OWN}:real_targets"}, r"labels are torch.float32.*write a Task"),
        ({"dataset": f"{OWN}:one_table"}, r"no test part.*--split 0.2"),
        ({"task_options": {"split": 0.2}}, r"--split 0.2, and .* has a test part"),
        ({"dataset": f"{OWN}:SCALE"}, r"is a float; return"),
        ({"prunable": "nothing.*"}, r"'nothing.\*' matches no parameter"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        identified(own(**changes), None)


def test_own_data_is_not_augmented_by_us() -> None:
    with pytest.raises(UserError, match=r"augmentation 'zero1' with dataset"):
        own(augmentation="zero1")


def test_an_adopted_network_is_not_trained_too() -> None:
    with pytest.raises(UserError, match="2 epochs"):
        dense_stage(own(init=BUILDER), 0, 2)

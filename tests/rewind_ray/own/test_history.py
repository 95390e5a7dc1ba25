"""The checkpoints of a training that was not ours, adopted as its rewind points."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rewind_ray.errors import MissingFile, UserError
from rewind_ray.models.history import history_files
from rewind_ray.protocols import usual_rewind_epoch
from rewind_ray.spec import Protocol, Stage, dense_stage
from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.tasks import adopting_history
from rewind_ray.training.given import store_given
from rewind_ray.training.graph import build_graph
from tests.guard import NOT_COMPARED
from tests.rewind_ray.tiny_stages import Lab, child, tiny

EPOCHS = (0, 2, 4, 6)
METHODS = ("weight_rewind", "blend", "lr_rewind")
NO_MOMENTUM = {"optimizer_options": {"momentum": 0.0, "nesterov": False}}


def train(lab: Lab, folder: Path, **changes: object) -> Stage:
    """A dense network trained by us, with its weights of EPOCHS written to the folder."""
    dense = dense_stage(tiny(**changes), seed=0)
    lab.run(dense, rewinds=EPOCHS[:-1])
    folder.mkdir(exist_ok=True)
    for epoch in EPOCHS:
        point = lab.point(dense, epoch)
        save_file({**point.weights, **point.buffers}, folder / f"net_{epoch:04d}.safetensors")
    return dense


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Stage, Path]:
    place = tmp_path_factory.mktemp("ours")
    lab = Lab(place / "storage")
    return lab, train(lab, place / "history"), place / "history"


def adopted(folder: Path, **changes: object) -> Stage:
    return dense_stage(adopting_history(tiny(**changes), None, folder), seed=0)


def run(lab: Lab, stage: Stage, folder: Path) -> None:
    graph = build_graph([stage])
    store_given(graph, lab.ledger, folder=folder)
    for node in graph.values():
        lab.run(node.stage, node.job.row_epochs, node.job.rewind_epochs)


def same(one: RewindPoint, other: RewindPoint) -> bool:
    """Weights, buffers, optimizer state and mask, to the bit."""
    return all(
        getattr(one, part).keys() == getattr(other, part).keys()
        and all(torch.equal(t, getattr(other, part)[n]) for n, t in getattr(one, part).items())
        for part in ("weights", "buffers", "optimizer", "mask")
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_retraining_starts_from_them_as_from_ours(
    method: str, ours: tuple[Lab, Stage, Path], lab: Lab
) -> None:
    """Without restored momentum nothing but the ids differs, also at the second level."""
    our_lab, our_dense, folder = ours
    dense = adopted(folder)
    pairs = [(our_lab, our_dense), (lab, dense)]
    ends = [child(child(start, method, 4), method, 2) for _, start in pairs]
    for (where, _), end in zip(pairs, ends, strict=True):
        run(where, end, folder)
    for one, other in zip(ends[0].chain[1:], ends[1].chain[1:], strict=True):
        assert one.stage_id != other.stage_id
        assert same(our_lab.point(one), lab.point(other))
        rows = [asdict(our_lab.row(one)), asdict(lab.row(other))]
        for row in rows:
            for name in NOT_COMPARED:
                del row[name]
        assert rows[0] == rows[1]


def test_nothing_is_trained_and_the_row_is_the_trained_networks(
    ours: tuple[Lab, Stage, Path], lab: Lab
) -> None:
    our_lab, our_dense, folder = ours
    end = child(adopted(folder), "weight_rewind", 4)
    run(lab, end, folder)
    row = lab.row(end.baseline)
    assert (row.train_epochs, row.train_seconds, row.level) == (6, 0, 0)
    assert row.test_accuracy == row.baseline_test_accuracy == our_lab.row(our_dense).test_accuracy
    assert lab.points(end.baseline) == [2, 6]  # no others are needed yet
    assert (
        lab.metrics(end.baseline, 2)["test_accuracy"]
        == (our_lab.metrics(our_dense, 2)["test_accuracy"])
    )
    lab.file(end.baseline, 2).unlink()  # is made again from what was given
    run(lab, child(end.baseline, "weight_rewind", 4, fraction=0.7), folder)
    assert lab.points(end.baseline) == [2, 6]


def test_momentum_is_not_in_the_files(ours: tuple[Lab, Stage, Path], lab: Lab) -> None:
    """The one difference from our own points, and none where there is no momentum or no update."""
    our_lab, our_dense, folder = ours
    dense = adopted(folder)
    restored = [child(d, "weight_rewind", 4, restore_momentum=True) for d in (our_dense, dense)]
    for where, end in zip((our_lab, lab), restored, strict=True):
        run(where, end, folder)
    assert not same(our_lab.point(restored[0]), lab.point(restored[1]))
    assert restored[1].stage_id == child(dense, "weight_rewind", 4).stage_id
    assert lab.point(dense, 2).optimizer == {}
    from_start = child(our_dense, "weight_rewind", 6, restore_momentum=True)
    adopted_from_start = child(dense, "weight_rewind", 6, restore_momentum=True)
    run(our_lab, from_start, folder)
    run(lab, adopted_from_start, folder)
    assert same(our_lab.point(from_start), lab.point(adopted_from_start))
    second = [child(restored[1], "lr_rewind", 2, restore_momentum=m) for m in (False, True)]
    assert second[0].stage_id != second[1].stage_id  # the first retraining has left some


def test_without_momentum_restoring_makes_no_difference(lab: Lab, tmp_path: Path) -> None:
    dense = train(lab, tmp_path / "history", **NO_MOMENTUM)
    other = adopted(tmp_path / "history", **NO_MOMENTUM)
    ends = [child(d, "weight_rewind", 4, restore_momentum=True) for d in (dense, other)]
    for end in ends:
        run(lab, end, tmp_path / "history")
    assert same(lab.point(ends[0]), lab.point(ends[1]))


def test_the_id_holds_every_file(ours: tuple[Lab, Stage, Path], tmp_path: Path) -> None:
    _, our_dense, folder = ours
    ids = {our_dense.stage_id, adopted(folder).stage_id}
    for file in folder.iterdir():
        weights = load_file(file)
        torch.save(weights, tmp_path / f"{file.stem}.pt")
    assert adopted(tmp_path).stage_id in ids  # the same weights in other files
    weights["dense.bias"] = weights["dense.bias"] + 1
    torch.save(weights, tmp_path / f"{file.stem}.pt")
    ids.add(adopted(tmp_path).stage_id)
    (tmp_path / "net_0002.pt").rename(tmp_path / "net_0003.pt")
    ids.add(adopted(tmp_path).stage_id)
    assert len(ids) == 4


# What can't be


@pytest.mark.parametrize("method", ["weight_rewind", "low_lr_weight_rewind", "blend"])
def test_an_epoch_that_is_not_there_is_refused_with_those_that_are(
    method: str, ours: tuple[Lab, Stage, Path]
) -> None:
    dense = adopted(ours[2])
    with pytest.raises(UserError, match=rf"{method} .* epoch 3 .*0, 2, 4, 6.*--rewind-epoch"):
        child(dense, method, 3)
    assert child(dense, "lr_rewind", 3).rewind_epoch == 3
    with pytest.raises(UserError, match=r"epoch 5, .*0, 2, 4, 6"):
        dense_stage(dense.protocol, 0, 5)
    assert dense_stage(dense.protocol, 0, 4).train_epochs == 4


@pytest.mark.parametrize("init", ["x", "0:12", "2:" + 16 * "a" + " 1:" + 16 * "a", 16 * "A"])
def test_a_wrong_init_is_refused(init: str) -> None:
    with pytest.raises(UserError, match="init "):
        tiny(init=init)


def test_the_epochs_are_those_of_the_last_file(ours: tuple[Lab, Stage, Path]) -> None:
    with pytest.raises(UserError, match=r"epochs is 7, and .*epoch 6 \(net_0006.safetensors\)"):
        adopting_history(tiny(epochs=7), None, ours[2])


def write(folder: Path, *names: str) -> None:
    for name in names:
        torch.save({"a": torch.zeros(1)}, folder / name)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), r"has no files that end in \.safetensors"),
        (("best.pt", "0001.pt"), r"best.pt has no number"),
        (("a_1.pt", "b_01.pt"), r"a_1.pt and b_01.pt are both of epoch 1"),
        (("0000.pt",), r"0000.pt is of epoch 0 .*--init"),
        (("1234567890.pt",), r"more than 9 digits"),
    ],
)
def test_names_that_do_not_say_the_epochs(
    names: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    write(tmp_path, *names)
    with pytest.raises((UserError, MissingFile), match=words):
        history_files(tmp_path)


def test_the_last_number_is_the_epoch(tmp_path: Path) -> None:
    write(tmp_path, "resnet18_v2-epoch10.pt", "resnet18_v2-epoch9.pth", "log.txt")
    assert [*history_files(tmp_path)] == [9, 10]
    with pytest.raises(MissingFile, match="no such folder"):
        history_files(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"a": torch.zeros(1)}, r"0004.pt don't fit the network; missing: "),
        ({"a": torch.tensor(torch.nan)}, r"0004.pt has values that are NaN or infinite in a"),
        ({"a": "text"}, r"0004.pt holds more than tensors"),
        (None, r"0004.pt can't be read as weights alone"),
    ],
)
def test_files_that_can_not_be_read_or_do_not_fit_are_named(
    weights: dict[str, object] | None, words: str, ours: tuple[Lab, Stage, Path], tmp_path: Path
) -> None:
    torch.save(load_file(ours[2] / "net_0006.safetensors"), tmp_path / "0006.pt")
    if weights is None:
        (tmp_path / "0004.pt").write_bytes(b"no weights")
    else:
        torch.save(weights, tmp_path / "0004.pt")
    with pytest.raises(UserError, match=words):
        adopting_history(tiny(), None, tmp_path)


def test_files_that_change_meanwhile_are_noticed(ours: tuple[Lab, Stage, Path], lab: Lab) -> None:
    protocol: Protocol = adopted(ours[2]).protocol
    other = dense_stage(changed(protocol), 0)
    with pytest.raises(UserError, match="has changed since"):
        store_given(build_graph([other]), lab.ledger, folder=ours[2])


def changed(protocol: Protocol) -> Protocol:
    return replace(protocol, init=protocol.init[:-16] + 16 * "0")


def test_the_usual_rewind_epoch_is_one_that_is_there(ours: tuple[Lab, Stage, Path]) -> None:
    assert usual_rewind_epoch(tiny(epochs=60)) == 6
    assert usual_rewind_epoch(adopted(ours[2]).protocol) in (0, 2)  # next to a tenth of 6

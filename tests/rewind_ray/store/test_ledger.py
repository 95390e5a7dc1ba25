"""Exists means done: what counts as a rewind point or a row, and what is refused."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from rewind_ray.result import COLUMNS, KNOB_KINDS, ResultRow, row_from_json, row_to_json
from rewind_ray.spec import dense_stage
from rewind_ray.store import ledger as ledger_module
from rewind_ray.store.files import write_atomically
from rewind_ray.store.ledger import CorruptRewindPoint, Ledger
from rewind_ray.text import printable
from tests.rewind_ray.tiny_stages import Lab, child, tiny

STAGE = "0123456789abcdef"
TENSORS = bytes(range(256)) * 3


@pytest.fixture(params=["local", "memory", "mock"])
def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Ledger:
    """On a disk, in an object store, and where folders must be made first."""
    if request.param == "memory":
        objects = fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("memory")))
        place = (objects, f"/ledger-{uuid.uuid4().hex}")
        monkeypatch.setattr(ledger_module, "open_storage", lambda _uri: place)
        return Ledger("memory://ledger")
    return Ledger("mock:///ledger" if request.param == "mock" else str(tmp_path / "storage"))


def a_row(**changes: Any) -> ResultRow:
    values: dict[str, Any] = {
        "stage_id": STAGE,
        "parent_id": None,
        "baseline_id": STAGE,
        "network": "resnet20",
        "dataset": "cifar10",
        "task": "image_classification",
        "metric": "accuracy",
        "seed": 0,
        "level": 0,
        "structure": None,
        "criterion": None,
        "schedule_kind": None,
        "method": "dense",
        "density": 1.0,
        "compression_ratio": 1.0,
        "prune_fraction": None,
        "retrain_epochs": None,
        "rewind_epoch": None,
        **dict.fromkeys(KNOB_KINDS),
        "optimizer": "sgd",
        "train_epochs": 6,
        "search_cost_epochs": 0,
        "search_cost_flops": 0.0,
        "train_seconds": 1.5,
        "val_accuracy": None,
        "test_accuracy": 0.1 + 0.2,
        "pruned_accuracy": None,
        "trainability_accuracy": None,
        "baseline_test_accuracy": 0.1 + 0.2,
        "params_total": 10,
        "params_prunable": 8,
        "params_remaining": 8,
        "flops_dense": 80,
        "flops_remaining": 80,
        "speedup": 1.0,
        "status": "done",
        "precision": "fp32",
        "device": "cpu",
        "git_commit": None,
        "torch_version": "2",
        "ray_version": None,
        "finished_at": "2026-01-01T00:00:00+00:00",
    }
    return ResultRow(**values | changes)


# Rewind points


def test_a_point_needs_its_tensors_and_its_json(ledger: Ledger) -> None:
    assert ledger.points(STAGE) == []
    ledger.write_metrics(STAGE, 1, {"epoch": 1})
    assert ledger.points(STAGE) == []
    for epoch in (2, 10, 0):
        ledger.write_point(STAGE, epoch, TENSORS, {"epoch": epoch})
    assert ledger.points(STAGE) == [0, 2, 10]
    assert ledger.read_point(STAGE, 10) == TENSORS
    assert ledger.read_metrics(STAGE, 10)["epoch"] == 10

    ledger.drop_point(STAGE, 2)
    ledger.drop_point(STAGE, 7)  # never was
    assert ledger.points(STAGE) == [0, 10]
    assert ledger.read_metrics(STAGE, 2)["epoch"] == 2  # the learning curve stays
    with pytest.raises(CorruptRewindPoint, match=f"epoch 2 of stage {STAGE}"):
        ledger.read_point(STAGE, 2)


def test_tensors_without_json_are_no_point(lab: Lab) -> None:
    """As a writer leaves them that is killed between the two."""
    lab.ledger.write_point(STAGE, 3, TENSORS, {})
    folder = lab.storage / "stages" / STAGE / "epochs"
    (folder / "0003.json").unlink()
    (folder / "0004.json.123.abcd.tmp").write_bytes(b"{}")
    (folder / "0004.safetensors").write_bytes(TENSORS)
    assert lab.ledger.points(STAGE) == []
    with pytest.raises(CorruptRewindPoint):
        lab.ledger.read_point(STAGE, 3)


@given(
    st.one_of(
        st.builds(lambda n: TENSORS[:n], st.integers(0, len(TENSORS) - 1)),
        st.binary(min_size=1, max_size=9).map(lambda tail: TENSORS + tail),
        st.builds(
            lambda position, bit: bytes(
                byte ^ (1 << bit) if i == position else byte for i, byte in enumerate(TENSORS)
            ),
            st.integers(0, len(TENSORS) - 1),
            st.integers(0, 7),
        ),
    )
)
def test_other_bytes_than_those_written_are_refused(data: bytes) -> None:
    ledger = Ledger("mock:///ledger")
    ledger.write_point(STAGE, 3, TENSORS, {})
    with ledger.filesystem.open_output_stream(ledger.layout.tensors(STAGE, 3)) as stream:
        stream.write(data)
    with pytest.raises(CorruptRewindPoint, match=f"{len(data)} bytes, (not those|more than)"):
        ledger.read_point(STAGE, 3)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", "3", '"sha256"', "\xff\xfe"])
def test_a_damaged_json_is_refused(lab: Lab, text: str) -> None:
    lab.ledger.write_point(STAGE, 3, TENSORS, {})
    path = lab.storage / "stages" / STAGE / "epochs" / "0003.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CorruptRewindPoint, match=f"epoch 3 of stage {STAGE}"):
        lab.ledger.read_point(STAGE, 3)


# Rows


def test_rows_come_back_as_they_were(ledger: Ledger) -> None:
    assert ledger.row_epochs(STAGE) == []
    rows = [a_row(train_epochs=epochs) for epochs in (30, 6, 182)]
    for row in rows:
        ledger.write_row(row)
    assert ledger.row_epochs(STAGE) == [6, 30, 182]
    for row in rows:
        assert ledger.read_row(STAGE, row.train_epochs) == row
    with pytest.raises(FileNotFoundError):
        ledger.read_row(STAGE, 7)


@given(
    accuracy=st.none() | st.floats(0, 1),
    cost=st.floats(0, 1e300),
    name=st.text(max_size=20).filter(lambda text: printable(text) == text),
    level=st.integers(0, 99),
)
def test_rows_survive_json(accuracy: float | None, cost: float, name: str, level: int) -> None:
    row = a_row(test_accuracy=accuracy, search_cost_flops=cost, dataset=name, level=level)
    assert row_from_json(row_to_json(row)) == row
    assert tuple(json.loads(row_to_json(row))) == COLUMNS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_accuracy": 92.5}, "test_accuracy is 92.5; accuracies are fractions in"),
        ({"val_accuracy": -0.1}, "val_accuracy is -0.1"),
        ({"pruned_accuracy": float("nan")}, "pruned_accuracy is nan"),
        ({"status": "failed"}, "unknown status 'failed'; known: done, diverged, collapsed"),
        ({"density": 0.0}, "density is 0.0; it lies in"),
        ({"density": 1.1}, "density is 1.1; it lies in"),
        ({"dataset": "\x1b[2Jdigits"}, "dataset"),
    ],
)
def test_a_row_refuses_nonsense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        a_row(**changes)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b"\xff\xfe\x00", b'{"seed": 0}'])
def test_what_is_no_row_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        row_from_json(data)


def test_a_row_with_an_unknown_column_is_refused() -> None:
    data = json.dumps(asdict(a_row()) | {"colour": "red"}).encode()
    with pytest.raises(ValueError, match=r"this is no result row: .*colour"):
        row_from_json(data)


# Specs and sweeps


def test_specs_come_back(ledger: Ledger) -> None:
    assert ledger.stage_ids() == []
    baseline = dense_stage(tiny(network_options={"batch_norm_decay": 0.8}), 3)
    stage = child(child(baseline, "lr_rewind", 2), "finetune", 5, lr=0.01)
    for step in stage.chain:
        ledger.write_spec(step)
    assert ledger.stage_ids() == sorted(step.stage_id for step in stage.chain)
    again = ledger.read_spec(stage.stage_id)
    assert [s.stage_id for s in again.chain] == [s.stage_id for s in stage.chain]
    assert again.retrain == stage.retrain
    assert again.protocol == baseline.protocol


def test_an_edited_spec_is_refused(lab: Lab) -> None:
    stage = dense_stage(tiny(), 0)
    lab.ledger.write_spec(stage)
    path = lab.storage / "stages" / stage.stage_id / "spec.json"
    good = path.read_bytes()
    path.write_text(path.read_text().replace('"batch_size": 32', '"batch_size": 64'))
    with pytest.raises(ValueError, match=r"spec.json"):
        lab.ledger.read_spec(stage.stage_id)
    lab.ledger.write_spec(stage)  # whoever knows the stage writes it again
    assert path.read_bytes() == good


def test_sweeps_come_back(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match=r"no sweep 'one' in .*; there: none"):
        ledger.read_sweep("one")
    ledger.write_sweep("one", {"stages": [STAGE]})
    ledger.write_sweep("two", {"stages": []})
    assert ledger.sweeps() == ["one", "two"]
    assert ledger.read_sweep("one") == {"stages": [STAGE]}
    with pytest.raises(ValueError, match=r"no sweep 'three' in .*; there: one, two"):
        ledger.read_sweep("three")


@pytest.mark.parametrize(
    "stages",
    [
        None,
        [STAGE],
        {"0123": [1]},
        {"../../x": [1]},
        {STAGE: 1},
        {STAGE: [1.0]},
        {STAGE: [True]},
        {STAGE: [-1]},
        {STAGE: ["1"]},
    ],
)
def test_a_record_that_lists_no_stages(ledger: Ledger, stages: Any) -> None:
    ledger.write_sweep("good", {"stages": {STAGE: [2, 6]}})
    assert ledger.sweep_rows("good") == {STAGE: [2, 6]}
    ledger.write_sweep("bad", {"stages": stages})
    with pytest.raises(ValueError, match=r"sweeps/bad\.json in .* doesn't list stages"):
        ledger.sweep_rows("bad")


# Many stages at once


def test_a_listing_says_what_looking_one_by_one_says(ledger: Ledger) -> None:
    stage_ids = [f"{number:016x}" for number in range(20)]
    for number, stage_id in enumerate(stage_ids):
        for epoch in range(number % 4):
            ledger.write_point(stage_id, epoch, TENSORS, {})
        ledger.write_metrics(stage_id, 9, {})  # without tensors
        for epochs in range(number % 3):
            ledger.write_row(a_row(stage_id=stage_id, train_epochs=epochs))
    wanted = [*stage_ids[3:9], "f" * 16]
    for listed, there in ((ledger.listed(), stage_ids), (ledger.listed(wanted), stage_ids[3:9])):
        assert listed.stage_ids() == there
        for stage_id in there:
            assert listed.points(stage_id) == ledger.points(stage_id)
            assert listed.row_epochs(stage_id) == ledger.row_epochs(stage_id)
        assert listed.points("f" * 16) == listed.row_epochs("f" * 16) == []
    assert ledger.listed([]).stage_ids() == []


def test_a_listing_is_of_its_moment(ledger: Ledger) -> None:
    """All else is as in the ledger itself."""
    ledger.write_row(a_row())
    listed = ledger.listed()
    ledger.write_row(a_row(train_epochs=30))
    assert listed.row_epochs(STAGE) == [6]
    assert listed.read_row(STAGE, 30).train_epochs == 30
    rows = listed.read_rows([(STAGE, 30), (STAGE, 6)])
    assert [row.train_epochs for row in rows.values()] == [30, 6]


def test_what_every_file_is(ledger: Ledger) -> None:
    stage = dense_stage(tiny(), 0)
    ledger.write_spec(stage)
    ledger.write_point(STAGE, 4, TENSORS, {})
    ledger.write_row(a_row())
    ledger.write_sweep("one.two", {})
    others = {
        f"stages/{STAGE}/lease.json": ("lease", STAGE, 0),
        f"stages/{STAGE}/lease.json.0123abcd.tmp": ("temporary", STAGE, 0),
        f"stages/{STAGE}/rows/0006.json.123.0123abcd.tmp": ("temporary", STAGE, 0),
        f"stages/{STAGE}/rows/6.json": ("other", STAGE, 0),
        f"stages/{STAGE}/epochs/0004.json.bak": ("other", STAGE, 0),
        f"stages/{STAGE}/epochs/deep/0004.json": ("other", STAGE, 0),
        "stages/short/rows/0006.json": ("other", "", 0),
        "drivers/fedc.json": ("driver", "fedc", 0),
        "tune/one/trial/x": ("tune", "one", 0),
        "tune/one/x.0123abcd.tmp": ("tune", "one", 0),
        "tensorboard/one/events": ("tensorboard", "one", 0),
        "figures/one.png": ("figures", "", 0),
        "sweeps/one.json.5.0123abcd.tmp": ("temporary", "", 0),
        ".probe.5.0123abcd.tmp": ("temporary", "", 0),
        "x/y": ("other", "", 0),
    }
    for path in others:
        write_atomically(ledger.filesystem, f"{ledger.root}/{path}", b"x")
    found = {e.file.path: (e.kind, e.owner, e.epoch) for e in ledger.entries()}
    assert found == others | {
        f"stages/{stage.stage_id}/spec.json": ("spec", stage.stage_id, 0),
        f"stages/{STAGE}/epochs/0004.safetensors": ("tensors", STAGE, 4),
        f"stages/{STAGE}/epochs/0004.json": ("metrics", STAGE, 4),
        f"stages/{STAGE}/rows/0006.json": ("row", STAGE, 6),
        "sweeps/one.two.json": ("sweep", "one.two", 0),
    }
    assert {e.file.path for e in ledger.stage_entries(STAGE)} == {p for p in found if STAGE in p}
    ledger.drop_stage(STAGE)
    assert not [e for e in ledger.entries() if e.owner == STAGE]


# A whole chain in an object store


def test_stages_run_in_an_object_store(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects in memory through fsspec: the same bytes and rows as on a local disk."""
    stage = child(dense_stage(tiny(), 0), "weight_rewind", 4)
    lab.run(stage.baseline, rewinds=(2,))
    lab.run(stage)

    objects = fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("memory")))
    place = (objects, f"/storage-{uuid.uuid4().hex}")
    monkeypatch.setattr(ledger_module, "open_storage", lambda _uri: place)
    remote = Lab(Path("/never/used"))
    remote.run(stage.baseline, rewinds=(2,))
    remote.run(stage)

    assert remote.ledger.filesystem.type_name != "local"
    assert remote.points(stage.baseline) == lab.points(stage.baseline)
    assert remote.points(stage) == lab.points(stage)
    for step in stage.chain:
        assert remote.bytes(step) == lab.bytes(step)
        found, expected = remote.row(step), lab.row(step)
        same = {"train_seconds": 0.0, "finished_at": ""}
        assert replace(found, **same) == replace(expected, **same)


@pytest.mark.parametrize(
    "forged",
    [
        {"threads": 1_000_000},
        {"threads": 0},
        {"threads": True},
        {"threads": "1"},
        {"compiled": 1},
        {"test_accuracy": 1.5},
        {"val_accuracy": "0.9"},
        {"density": -0.1},
        {"removed_norm": -1.0},
        {"removed_norm": None},
    ],
)
def test_impossible_metrics_are_refused_even_with_a_valid_checksum(
    lab: Lab, forged: dict[str, Any]
) -> None:
    lab.ledger.write_metrics(STAGE, 3, {"threads": 1, "test_accuracy": 0.5} | forged)
    with pytest.raises(ValueError, match=next(iter(forged))):
        lab.ledger.read_metrics(STAGE, 3)

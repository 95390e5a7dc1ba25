"""Resume equals straight through, to the bit: after every epoch, every write, and any damage."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rewind_ray.result import ResultRow
from rewind_ray.spec import Stage, dense_stage
from rewind_ray.store import checkpoint, files
from rewind_ray.store import ledger as ledger_module
from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.store.files import write_atomically
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.stage import missing_epochs, run_epoch, start_stage
from tests.rewind_ray.tiny_stages import REWINDINGS, Lab, child, tiny

NewLab = Callable[[str], Lab]


def same_but_time(row: ResultRow) -> ResultRow:
    return replace(row, train_seconds=0.0, finished_at="")


def assert_same_results(lab: Lab, other: Lab, stage: Stage, rows: tuple[int, ...]) -> None:
    for epochs in rows:
        assert lab.bytes(stage, epochs) == other.bytes(stage, epochs)
        assert same_but_time(lab.row(stage, epochs)) == same_but_time(other.row(stage, epochs))


def copied(lab: Lab, to: Path) -> Lab:
    shutil.copytree(lab.storage, to)
    return Lab(to)


# One seed twice


def test_one_seed_twice_is_the_same_run(lab: Lab, new_lab: NewLab) -> None:
    """Whatever the global generator has been used for meanwhile."""
    stage = child(dense_stage(tiny(), 0), "weight_rewind", 4)
    torch.manual_seed(1)
    lab.run_chain(stage)
    torch.manual_seed(2)
    other = new_lab("other")
    other.run_chain(stage)
    for step in stage.chain:
        assert_same_results(lab, other, step, (step.train_epochs,))


def test_another_seed_is_another_run(lab: Lab) -> None:
    one, other = (child(dense_stage(tiny(), seed), "lr_rewind", 2) for seed in (0, 1))
    lab.run_chain(one)
    lab.run_chain(other)
    assert lab.bytes(one) != lab.bytes(other)
    assert lab.bytes(one.baseline) != lab.bytes(other.baseline)


# Interrupted


@pytest.mark.parametrize("method", REWINDINGS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"network": "wrn_10_1", "precision": "bf16"},
        {
            "optimizer_options": {"nesterov": False},
            "prunable": "convolutions",
            "augmentation": "reflect4_flip",
        },
        {
            "decayed": "not_batch_norm",
            "initial_weights": "truncated_normal",
            "standardisation": "image",
            "network_options": {
                "first_projection": True,
                "projection_batch_norm": True,
                "zero_last_norm": True,
                "batch_norm_shards": 4,
            },
        },
        {"steps_per_epoch": 3},  # of batches of half a pass
    ],
    ids=["fp32", "wrn bf16", "convolutions", "as Renda", "updates"],
)
def test_starting_anew_after_every_epoch_changes_nothing(
    lab: Lab, new_lab: NewLab, method: str, changes: dict[str, Any]
) -> None:
    stage = child(dense_stage(tiny(**changes), 0), method, 4, restore_momentum=True)
    lab.run_chain(stage)
    interrupted = new_lab("interrupted")
    for step in stage.chain:
        for _ in range(step.train_epochs):
            run = start_stage(interrupted.job(step), interrupted.runtime())
            run_epoch(run)
        assert missing_epochs(interrupted.ledger, interrupted.job(step)) == []
        assert_same_results(lab, interrupted, step, (step.train_epochs,))


@pytest.mark.parametrize("structure", ["unstructured", "filters"])
def test_stopping_after_any_epoch_changes_nothing(lab: Lab, tmp_path: Path, structure: str) -> None:
    stage = child(dense_stage(tiny(), 0), "lr_rewind", 5, structure=structure)
    lab.run(stage.baseline)
    begun = copied(lab, tmp_path / "begun")
    lab.run(stage)
    for stop in range(5):
        stopped = copied(begun, tmp_path / f"stopped{stop}")
        run = start_stage(stopped.job(stage), stopped.runtime())
        for _ in range(stop):
            run_epoch(run)
        stopped.run(stage)
        assert_same_results(lab, stopped, stage, (5,))


class Killed(BaseException):
    """Not to be caught, as a kill is not."""


def kill_at_write(number: int, before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = 0

    def dying(*given: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == number and before:
            raise Killed
        write_atomically(*given)
        if writes == number:
            raise Killed

    for module in (ledger_module, files):  # tensors, and json
        monkeypatch.setattr(module, "write_atomically", dying)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    ("dense", "keep"),
    [
        (True, "all"),
        pytest.param(True, "referenced", marks=pytest.mark.slow),
        pytest.param(False, "referenced", marks=pytest.mark.slow),
    ],
    ids=["dense", "dense, referenced", "pruned"],
)
def test_dying_at_any_write_changes_nothing(
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dense: bool,
    keep: str,
    before: bool,
) -> None:
    """A row in the middle, one at the end, and a rewind point of another epoch are wanted; these
    stay, and nothing that dying left behind."""
    baseline = dense_stage(tiny(), 0)
    stage = baseline if dense else child(baseline, "finetune", 5)
    rows, rewinds = (2, 5), (1,)
    if not dense:
        lab.run(baseline)
    begun = copied(lab, tmp_path / "begun") if not dense else Lab(tmp_path / "begun")
    lab.run(stage, rows=rows, rewinds=rewinds, keep=keep)
    writes = 0
    while True:
        writes += 1
        died = tmp_path / f"died{writes}"
        again = copied(begun, died) if begun.storage.exists() else Lab(died)
        with monkeypatch.context() as patch:
            kill_at_write(writes, before, patch)
            try:
                again.run(stage, rows=rows, rewinds=rewinds, keep=keep)
            except Killed:
                pass
            else:
                break  # there is no write of this number
        again.run(stage, rows=rows, rewinds=rewinds, keep=keep)
        assert missing_epochs(again.ledger, again.job(stage, rows, rewinds)) == [], writes
        assert_same_results(lab, again, stage, rows)
        assert again.bytes(stage, 1) == lab.bytes(stage, 1)
        assert again.points(stage) == lab.points(stage), writes
    assert writes - 1 == 2 + 2 * 6 + 2  # spec, facts of the data, six points of two files, rows


def test_a_done_stage_is_not_trained_again(lab: Lab) -> None:
    stage = child(dense_stage(tiny(), 0), "lr_rewind", 3)
    lab.run_chain(stage)
    files = {p: p.stat().st_mtime_ns for p in lab.storage.rglob("*") if p.is_file()}
    lab.run_chain(stage)
    assert {p: p.stat().st_mtime_ns for p in lab.storage.rglob("*") if p.is_file()} == files


def test_a_row_wanted_of_an_epoch_that_was_passed(lab: Lab, new_lab: NewLab) -> None:
    """Its rewind point is there, its row isn't; and a longer run is wanted, too."""
    stage = dense_stage(tiny(), 0)
    lab.run(stage)
    lab.run(stage, rows=(3, 8))
    straight = new_lab("straight")
    straight.run(stage, rows=(3, 6, 8))
    assert lab.ledger.row_epochs(stage.stage_id) == [3, 6, 8]
    assert_same_results(lab, straight, stage, (6, 8))
    late, in_passing = (same_but_time(one.row(stage, 3)) for one in (lab, straight))
    assert late.baseline_test_accuracy == lab.row(stage, 6).test_accuracy  # known by then
    assert replace(late, baseline_test_accuracy=None) == in_passing


# Prefixes are shared


def test_a_longer_fine_tuning_continues_the_shorter(lab: Lab, new_lab: NewLab) -> None:
    baseline = dense_stage(tiny(), 0)
    short, long = (child(baseline, "finetune", epochs) for epochs in (2, 5))
    lab.run_chain(short)
    before = [lab.file(short, epoch, "json").stat().st_mtime_ns for epoch in range(3)]
    lab.run(long, rows=(2, 5))
    assert [lab.file(short, epoch, "json").stat().st_mtime_ns for epoch in range(3)] == before
    assert lab.row(long, 2) == lab.row(short, 2)

    straight = new_lab("straight")
    straight.run_chain(long)
    assert_same_results(lab, straight, long, (5,))
    together = new_lab("together")
    together.run(baseline)
    together.run(long, rows=(2, 5))
    assert_same_results(lab, together, long, (2, 5))


def test_a_longer_training_continues_the_dense_network(lab: Lab, new_lab: NewLab) -> None:
    lab.run(dense_stage(tiny(), 0, 4))
    before = lab.file(dense_stage(tiny(), 0), 4).stat().st_mtime_ns
    lab.run(dense_stage(tiny(), 0, 7))
    assert lab.file(dense_stage(tiny(), 0), 4).stat().st_mtime_ns == before
    straight = new_lab("straight")
    straight.run(dense_stage(tiny(), 0, 7))
    assert_same_results(lab, straight, dense_stage(tiny(), 0, 7), (7,))
    assert lab.metrics(dense_stage(tiny(), 0), 7)["lr"] == pytest.approx(0.001)  # extended


# Damage


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip_a_byte(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def empty(data: bytes) -> bytes:
    return b""


DAMAGES = [cut_short, flip_a_byte, empty]


def interrupted_after(lab: Lab, stage: Stage, epochs: int, keep: str = "all") -> None:
    run = start_stage(lab.job(stage), lab.runtime(keep=keep))
    for _ in range(epochs):
        run_epoch(run)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("keep", ["all", "referenced"])
def test_a_damaged_last_point_costs_an_epoch(
    lab: Lab,
    new_lab: NewLab,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    keep: str,
) -> None:
    stage = dense_stage(tiny(), 0)
    lab.run(stage, keep=keep)
    damaged = new_lab("damaged")
    interrupted_after(damaged, stage, 4, keep)
    path = damaged.file(stage, 4)
    path.write_bytes(damage(path.read_bytes()))

    with caplog.at_level(logging.WARNING, logger="rewind_ray"):
        run = start_stage(damaged.job(stage), damaged.runtime(keep=keep))

    assert run.epoch == 3
    assert "unusable rewind point, going back to the one before: epoch 4" in caplog.text
    damaged.run(stage, keep=keep)
    assert_same_results(lab, damaged, stage, (6,))


@pytest.mark.parametrize("method", REWINDINGS)
def test_with_every_point_damaged_a_stage_starts_anew(
    lab: Lab, tmp_path: Path, method: str
) -> None:
    stage = child(dense_stage(tiny(), 0), method, 4)
    lab.run(stage.baseline)
    damaged = copied(lab, tmp_path / "damaged")
    lab.run(stage)
    interrupted_after(damaged, stage, 3)
    assert damaged.points(stage) == [1, 2, 3]
    for epoch in (1, 2, 3):
        path = damaged.file(stage, epoch)
        path.write_bytes(flip_a_byte(path.read_bytes()))
    damaged.run(stage)
    assert_same_results(lab, damaged, stage, (4,))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"sha256": 3}'])
def test_a_damaged_json_costs_an_epoch(lab: Lab, new_lab: NewLab, text: str) -> None:
    stage = dense_stage(tiny(), 0)
    lab.run(stage)
    damaged = new_lab("damaged")
    interrupted_after(damaged, stage, 4)
    damaged.file(stage, 4, "json").write_text(text)
    damaged.run(stage)
    assert_same_results(lab, damaged, stage, (6,))


def test_a_json_that_lost_a_field_costs_an_epoch(lab: Lab, new_lab: NewLab) -> None:
    """One flipped bit in a name, the checksum as it was."""
    stage = dense_stage(tiny(), 0)
    lab.run(stage)
    damaged = new_lab("damaged")
    interrupted_after(damaged, stage, 4)
    path = damaged.file(stage, 4, "json")
    path.write_text(path.read_text().replace('"threads"', '"uhreads"'))
    damaged.run(stage)
    assert_same_results(lab, damaged, stage, (6,))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_metrics_of_an_earlier_epoch_cost_the_epochs_since(
    lab: Lab, new_lab: NewLab, damage: Callable[[bytes], bytes]
) -> None:
    """A row is made of all of them."""
    stage = dense_stage(tiny(), 0)
    lab.run(stage)
    damaged = new_lab("damaged")
    interrupted_after(damaged, stage, 4)
    path = damaged.file(stage, 2, "json")
    path.write_bytes(damage(path.read_bytes()))
    damaged.run(stage)
    assert_same_results(lab, damaged, stage, (6,))


@pytest.mark.parametrize("part", ["weights", "optimizer"])
def test_a_point_that_does_not_fit_leaves_no_trace(lab: Lab, new_lab: NewLab, part: str) -> None:
    """Whole, with its checksum, but of other shapes: as another version may have written it."""
    stage = dense_stage(tiny(), 0)
    lab.run(stage)
    foreign = new_lab("foreign")
    interrupted_after(foreign, stage, 1)
    for epoch in (0, 1):
        point = foreign.point(stage, 1)
        prefix = "momentum_buffer/" if part == "optimizer" else ""
        getattr(point, part)[f"{prefix}dense.weight"] = torch.zeros(3, 3)
        metrics = foreign.metrics(stage, epoch)
        data = checkpoint.to_bytes(point)
        foreign.ledger.write_point(stage.stage_id, epoch, data, metrics)
    foreign.run(stage)
    assert_same_results(lab, foreign, stage, (6,))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("keep", ["all", "referenced"])
def test_a_damaged_parent_is_trained_again(
    lab: Lab,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    keep: str,
) -> None:
    first = child(dense_stage(tiny(), 0), "weight_rewind", 4)
    second = child(first, "lr_rewind", 3)
    lab.run(first.baseline, rewinds=(2,), keep=keep)
    lab.run(first, keep=keep)
    damaged = copied(lab, tmp_path / "damaged")
    lab.run(second, keep=keep)
    for stage, epoch in ((first, 4), (first.baseline, 2)):
        path = damaged.file(stage, epoch)
        path.write_bytes(damage(path.read_bytes()))

    damaged.run(second, keep=keep)

    assert "unusable rewind point, training it again: epoch 4" in caplog.text
    assert damaged.bytes(first, 4) == lab.bytes(first, 4)
    assert damaged.bytes(first.baseline, 2) == lab.bytes(first.baseline, 2)
    assert_same_results(lab, damaged, second, (3,))
    for stage in (first.baseline, first):
        assert damaged.points(stage) == lab.points(stage)
        rows = damaged.ledger.row_epochs(stage.stage_id)
        assert rows == lab.ledger.row_epochs(stage.stage_id)


def test_a_lost_rewind_point_of_the_baseline_is_trained_again(lab: Lab, tmp_path: Path) -> None:
    baseline = dense_stage(tiny(), 0)
    stage = child(baseline, "weight_rewind", 3)
    lab.run(baseline)
    bare = copied(lab, tmp_path / "bare")
    lab.run(stage)
    for epoch in range(6):
        bare.ledger.drop_point(baseline.stage_id, epoch)
    bare.run(stage)
    assert bare.bytes(baseline, 3) == lab.bytes(baseline, 3)
    assert_same_results(lab, bare, stage, (3,))


def test_a_stage_whose_ancestors_are_missing_does_them_first(lab: Lab, new_lab: NewLab) -> None:
    stage = child(child(dense_stage(tiny(), 0), "weight_rewind", 4), "lr_rewind", 2)
    lab.run_chain(stage)
    alone = new_lab("alone")
    alone.run(stage)
    for step in stage.chain:
        assert_same_results(lab, alone, step, (step.train_epochs,))
        assert alone.ledger.row_epochs(step.stage_id) == [step.train_epochs]


# Threads


def test_a_stage_keeps_the_number_of_threads_it_started_with(lab: Lab) -> None:
    stage = dense_stage(tiny(), 0)
    run = start_stage(lab.job(stage), lab.runtime(threads=2))
    assert torch.get_num_threads() == 2
    run_epoch(run)
    torch.set_num_threads(1)
    start_stage(lab.job(stage), lab.runtime(threads=1))
    assert torch.get_num_threads() == 2
    lab.run(stage, threads=1)
    assert [lab.metrics(stage, epoch)["threads"] for epoch in range(7)] == [2] * 7


def test_a_stage_trained_again_has_the_threads_of_the_first_time(lab: Lab) -> None:
    """Other threads are other bits: the child's parent must be the one that has the row."""
    baseline = dense_stage(tiny(network="resnet20", batch_size=64), 0)
    lab.run(baseline, keep="referenced", threads=2)
    before = lab.bytes(baseline)
    lab.file(baseline, 6).write_bytes(b"")
    stage = child(baseline, "lr_rewind", 1)
    lab.run(stage, threads=1)
    assert lab.bytes(baseline) == before
    assert lab.metrics(baseline, 6)["threads"] == 2
    assert lab.metrics(stage, 1)["threads"] == 1
    assert torch.get_num_threads() == 1


# No harm


def test_two_workers_on_one_stage_do_no_harm(lab: Lab, new_lab: NewLab) -> None:
    """Epoch by epoch in turn, the one behind overwriting the other's files with the same."""
    stage = child(dense_stage(tiny(), 0), "lr_rewind", 4)
    lab.run_chain(stage)
    shared = new_lab("shared")
    shared.run(stage.baseline)
    one = start_stage(shared.job(stage), shared.runtime())
    other = start_stage(shared.job(stage), shared.runtime())
    for run in (one, one, other, other, other, one, one, other):
        run_epoch(run)
    for run in (one, other):
        assert run.finished
    assert_same_results(lab, shared, stage, (4,))
    assert Ledger(str(shared.storage)).row_epochs(stage.stage_id) == [4]


# points that somebody made, with checksums that fit


def without_mask(point: RewindPoint) -> RewindPoint:
    return replace(point, mask={})


def with_nan(point: RewindPoint) -> RewindPoint:
    name = next(iter(point.weights))
    return replace(point, weights=point.weights | {name: point.weights[name] * math.nan})


def with_negative_variance(point: RewindPoint) -> RewindPoint:
    name = next(name for name in point.buffers if name.endswith("running_var"))
    return replace(point, buffers=point.buffers | {name: point.buffers[name] - 10})


def with_infinite_buffer(point: RewindPoint) -> RewindPoint:
    name = next(name for name in point.buffers if name.endswith("running_mean"))
    return replace(point, buffers=point.buffers | {name: point.buffers[name] + math.inf})


def with_revived_weights(point: RewindPoint) -> RewindPoint:
    return replace(point, weights={name: w + 0.1 for name, w in point.weights.items()})


def with_smaller_mask(point: RewindPoint) -> RewindPoint:
    return replace(point, mask=dict(list(point.mask.items())[1:]))


@pytest.mark.parametrize(
    "forge",
    [
        *(without_mask, with_nan, with_negative_variance, with_infinite_buffer),
        *(with_revived_weights, with_smaller_mask),
    ],
)
def test_a_forged_point_is_trained_again(
    lab: Lab, tmp_path: Path, forge: Callable[[RewindPoint], RewindPoint]
) -> None:
    """As the last point of a stage that goes on, and as the parent of another."""
    baseline = dense_stage(tiny(), 0)
    parent = child(baseline, "finetune", 3)
    stage = child(parent, "finetune", 2)
    lab.run_chain(stage)
    sound = lab.bytes(stage, 2)
    other = copied(lab, tmp_path / "other")
    forged = forge(checkpoint.from_bytes(other.ledger.read_point(parent.stage_id, 3)))
    metrics = other.ledger.read_metrics(parent.stage_id, 3)
    other.ledger.write_point(parent.stage_id, 3, checkpoint.to_bytes(forged), metrics)
    shutil.rmtree(other.storage / "stages" / stage.stage_id)
    other.run(stage)
    assert other.bytes(stage, 2) == sound
    assert other.row(stage).test_accuracy == lab.row(stage).test_accuracy
    (other.storage / "stages" / parent.stage_id / "rows" / "0003.json").unlink()
    other.ledger.write_point(parent.stage_id, 3, checkpoint.to_bytes(forged), metrics)
    other.run(parent)
    assert other.bytes(parent, 3) == lab.bytes(parent, 3)

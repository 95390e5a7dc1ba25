"""What a finished stage leaves: its row, worked out a second time, and its rewind points."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

from rewind_ray.datasets import load
from rewind_ray.datasets.image_set import mean_and_std
from rewind_ray.datasets.split import split_indices
from rewind_ray.knobs import cells_of, numbers_of
from rewind_ray.models import build_network
from rewind_ray.protocols import digits
from rewind_ray.result import COLUMNS, row_from_json, row_to_json
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Prune, Retrain, Stage, dense_stage, retrain_stage
from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.training.row import devices_of, row_dataset, trainability
from rewind_ray.training.stage import missing_epochs, run_epoch, start_stage
from tests.rewind_ray.tiny_stages import REWINDINGS, Lab, child, tiny

BATCH, STEPS = 32, 2
FLOPS_OF_DIGITS_RESNET = 763_520  # by the formula of test_flops, for 1 channel and 8x8 pixels


def network_of(point: RewindPoint, weights: dict[str, Tensor] | None = None) -> nn.Module:
    network = build_network("digits_resnet", 10, 1, {})
    network.load_state_dict((weights or point.weights) | point.buffers)
    return network.eval()


def images_of(part: str) -> tuple[Tensor, np.ndarray[Any, Any]]:
    """The tiny protocol's test or validation images, standardised here."""
    data = load("digits", None, None)
    split = split_indices(tiny(), len(data.train_images), len(data.test_images))
    mean, std = mean_and_std(data.train_images[split.train])
    chosen = split.test if part == "test" else split.val
    images = (data.test_images[chosen].float() - mean) / std
    return images.permute(0, 3, 1, 2), data.test_labels[chosen].numpy()


@torch.no_grad()
def accuracy(network: nn.Module, part: str = "test") -> float:
    images, labels = images_of(part)
    return float(accuracy_score(labels, network(images).argmax(1).numpy()))


def positions() -> dict[str, int]:
    """Kernel -> places of an 8x8 image it is applied to."""
    network = build_network("digits_resnet", 10, 1, {})
    sizes = {"conv.weight": 64, "dense.weight": 1}
    for name, parameter in network.named_parameters():
        if name.startswith("stages.") and parameter.dim() == 4:
            sizes[name] = {"0": 64, "1": 16, "2": 4}[name.split(".")[1]]
    return sizes


def flops_left(mask: dict[str, Tensor]) -> int:
    return sum(places * int(mask[name].sum()) for name, places in positions().items())


# Rows


def test_the_row_of_a_dense_network(lab: Lab) -> None:
    stage = dense_stage(tiny(), 4)
    lab.run(stage, git_commit="0123abc", ray_version="2.60")
    row, point = lab.row(stage), lab.point(stage)
    assert row.stage_id == row.baseline_id == stage.stage_id
    assert row.parent_id is None
    assert (row.method, row.level, row.density, row.compression_ratio) == ("dense", 0, 1.0, 1.0)
    assert (row.network, row.dataset, row.task) == (
        "digits_resnet",
        "digits",
        "image_classification",
    )
    assert (row.seed, row.train_epochs) == (4, 6)
    for name in (
        "structure",
        "criterion",
        "schedule_kind",
        "prune_fraction",
        "retrain_epochs",
        "rewind_epoch",
        "pruned_accuracy",
        "trainability_accuracy",
    ):
        assert getattr(row, name) is None, name
    assert (row.search_cost_epochs, row.search_cost_flops) == (0, 0)
    assert row.test_accuracy == row.baseline_test_accuracy == accuracy(network_of(point))
    assert row.val_accuracy == accuracy(network_of(point), "val")
    network = build_network("digits_resnet", 10, 1, {})
    assert row.params_total == sum(p.numel() for p in network.parameters()) == 77_562
    assert row.params_prunable == row.params_remaining == 77_072
    assert row.flops_dense == row.flops_remaining == FLOPS_OF_DIGITS_RESNET
    assert (row.speedup, row.status, row.precision, row.device) == (1.0, "done", "fp32", "cpu")
    assert (row.git_commit, row.ray_version) == ("0123abc", "2.60")
    assert row.torch_version == torch.__version__
    age = datetime.now(UTC) - datetime.fromisoformat(row.finished_at)
    assert -1 <= age.total_seconds() < 60
    seconds = [lab.metrics(stage, epoch)["train_seconds"] for epoch in range(1, 7)]
    assert row.train_seconds == pytest.approx(sum(seconds))
    assert all(second > 0 for second in seconds)


@pytest.mark.parametrize("method", REWINDINGS)
def test_rows_of_a_chain_of_two_steps(lab: Lab, method: str) -> None:
    """The second step of another length, so that a cost of 2 t would be noticed."""
    baseline = dense_stage(tiny(), 0)
    first = child(baseline, method, 4, fraction=0.5)
    second = child(first, method, 3, fraction=0.2)
    lab.run_chain(second)
    baseline_accuracy = lab.row(baseline).test_accuracy
    cost_epochs, cost_flops = 0, 0.0
    left = 77_072
    for level, stage, fraction in ((1, first, 0.5), (2, second, 0.2)):
        row, point = lab.row(stage), lab.point(stage)
        left -= round(fraction * left)
        flops = flops_left(point.mask)
        cost_epochs += stage.train_epochs
        cost_flops += 3 * flops * stage.train_epochs * STEPS * BATCH
        assert stage.parent is not None
        assert (row.parent_id, row.baseline_id) == (stage.parent.stage_id, baseline.stage_id)
        assert (row.level, row.method, row.prune_fraction) == (level, method, fraction)
        assert (row.structure, row.criterion) == ("unstructured", "magnitude")
        assert row.schedule_kind == {1: "one-shot", 2: "iterative"}[level]
        assert row.retrain_epochs == row.train_epochs == stage.train_epochs
        assert row.rewind_epoch == (None if method == "finetune" else 6 - stage.train_epochs)
        assert sum(int(kept.sum()) for kept in point.mask.values()) == left
        assert (row.params_remaining, row.params_prunable) == (left, 77_072)
        assert row.density == pytest.approx(left / 77_072, rel=1e-12)
        assert row.compression_ratio == pytest.approx(77_072 / left, rel=1e-12)
        assert (row.flops_dense, row.flops_remaining) == (FLOPS_OF_DIGITS_RESNET, flops)
        assert row.speedup == pytest.approx(FLOPS_OF_DIGITS_RESNET / flops, rel=1e-12)
        assert row.search_cost_epochs == cost_epochs
        assert row.search_cost_flops == pytest.approx(cost_flops, rel=1e-12)
        assert row.baseline_test_accuracy == baseline_accuracy
        assert row.test_accuracy == accuracy(network_of(point))
        assert row.val_accuracy == accuracy(network_of(point), "val")
        parent = lab.point(stage.parent)
        pruned = {n: w * point.mask[n] if n in point.mask else w for n, w in parent.weights.items()}
        assert row.pruned_accuracy == accuracy(network_of(parent, pruned))
        assert row.status == "done"


def test_a_row_at_every_length_asked_for(lab: Lab) -> None:
    stage = child(dense_stage(tiny(), 0), "finetune", 5)
    lab.run(stage.baseline)
    lab.run(stage, rows=(1, 3, 5))
    assert lab.ledger.row_epochs(stage.stage_id) == [1, 3, 5]
    for epochs in (1, 3, 5):
        row = lab.row(stage, epochs)
        assert row.train_epochs == row.retrain_epochs == row.search_cost_epochs == epochs
        assert row.test_accuracy == accuracy(network_of(lab.point(stage, epochs)))
        seconds = [lab.metrics(stage, e)["train_seconds"] for e in range(1, epochs + 1)]
        assert row.train_seconds == pytest.approx(sum(seconds))


@pytest.mark.parametrize(
    ("method", "epochs", "of_first_rate"),
    [
        ("lr_rewind", 6, 3),  # the whole schedule, drops at 3 and 5
        ("lr_rewind", 5, 2),
        ("weight_rewind", 5, 2),
        ("lr_rewind", 3, 2),  # from epoch 3 on: the second rate, up to 5
        ("lr_rewind", 1, 1),
        ("finetune", 4, 4),
    ],
)
def test_trainability_is_the_mean_before_the_rate_first_drops(
    lab: Lab, method: str, epochs: int, of_first_rate: int
) -> None:
    """Wang et al. 2023, eq. 1, over the final accuracy."""
    stage = child(dense_stage(tiny(), 0), method, epochs)
    lab.run_chain(stage)
    accuracies = [lab.metrics(stage, e)["test_accuracy"] for e in range(1, of_first_rate + 1)]
    expected = sum(accuracies) / of_first_rate / lab.metrics(stage, epochs)["test_accuracy"]
    assert lab.row(stage).trainability_accuracy == pytest.approx(expected, rel=1e-12)


def curve(*accuracies_and_rates: tuple[float, float]) -> list[dict[str, Any]]:
    return [
        {"test_accuracy": accuracy, "lr": lr, "diverged": False}
        for accuracy, lr in accuracies_and_rates
    ]


def test_trainability_by_hand() -> None:
    assert trainability(curve((0.2, 0.1), (0.4, 0.1), (0.5, 0.01))) == pytest.approx(0.6)
    assert trainability(curve((0.6, 0.1), (0.4, 0.01))) == pytest.approx(1.5)  # it fell
    assert trainability(curve((0.4, 0.1))) == 1.0
    assert trainability(curve((0.4, 0.1), (0.0, 0.01))) is None
    assert trainability([*curve((0.4, 0.1)), {"diverged": True}]) is None


@pytest.mark.parametrize("ratio", [0.0, 1.5, 40.0])
def test_a_row_holds_a_trainability_above_1(lab: Lab, ratio: float) -> None:
    stage = dense_stage(tiny(), 0, train_epochs=1)
    lab.run(stage)
    row = replace(lab.row(stage), trainability_accuracy=ratio)
    assert row_from_json(row_to_json(row)) == row
    for wrong in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"trainability_accuracy is {wrong}"):
            replace(row, trainability_accuracy=wrong)
    with pytest.raises(ValueError, match=r"test_accuracy is 1\.5"):
        replace(row, test_accuracy=1.5)


def test_the_dense_network_of_a_row_is_the_one_trained_to_its_end(lab: Lab) -> None:
    """Wherever it was pruned, and whatever had rows first. Not the accuracy at the pruning epoch:
    of that a network of 25% of the weights was once said to have lost 0.05 points."""
    whole, early = dense_stage(tiny(), 1), dense_stage(tiny(), 1, train_epochs=2)
    late_row = child(early, "finetune", 2)
    lab.run(early)
    lab.run(late_row)
    assert lab.row(early).baseline_test_accuracy is None
    assert lab.row(late_row).baseline_test_accuracy is None  # no sweep asked for it
    lab.run(whole)
    of_the_whole = lab.row(whole).test_accuracy
    assert lab.row(whole).baseline_test_accuracy == of_the_whole
    assert of_the_whole != lab.row(early).test_accuracy
    pruned = child(early, "step", 3, lr=0.01)
    twice = child(pruned, "finetune", 1)
    lab.run(pruned)
    lab.run(twice)
    for stage in (pruned, twice):
        assert lab.row(stage).baseline_test_accuracy == of_the_whole
        assert lab.row(stage).baseline_id == whole.stage_id


def test_the_metrics_of_every_epoch(lab: Lab) -> None:
    stage = child(dense_stage(tiny(), 0), "lr_rewind", 4)
    lab.run_chain(stage)
    rates = [lab.metrics(stage, epoch)["lr"] for epoch in range(1, 5)]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001])  # epochs 2 to 5; drops at 3 and 5
    for epoch in range(5):
        metrics = lab.metrics(stage, epoch)
        assert metrics["epoch"] == epoch
        assert metrics["density"] == 0.5
        assert not metrics["diverged"]
    final = lab.metrics(stage, 4)
    assert final["test_accuracy"] == lab.row(stage).test_accuracy
    assert final["examples_per_second"] * final["train_seconds"] == pytest.approx(STEPS * BATCH)


def test_without_validation_there_is_no_validation_accuracy(lab: Lab) -> None:
    stage = dense_stage(tiny(validation="none", validation_fraction=0), 0)
    lab.run(stage)
    assert lab.row(stage).val_accuracy is None
    assert lab.row(stage).test_accuracy is not None


def test_a_folder_goes_by_its_name_unless_that_is_taken() -> None:
    assert row_dataset("folder:flowers") == "flowers"
    assert row_dataset("folder:cifar10") == "folder:cifar10"
    assert row_dataset("cifar10") == "cifar10"


# Diverged


def late_diverging() -> Stage:
    """Weight decay of 30 at a rate of 0.1 triples the weights at every update and turns their
    signs; they overflow in the third epoch."""
    return dense_stage(tiny(weight_decay=30, schedule=Schedule(lr=0.1)), 0)


def test_a_diverged_stage_is_recorded_as_such(lab: Lab) -> None:
    stage = dense_stage(tiny(schedule=Schedule(lr=1e30)), 0)
    lab.run(stage, rows=(2, 6))
    assert lab.ledger.row_epochs(stage.stage_id) == [2, 6]
    for epochs in (2, 6):
        row = lab.row(stage, epochs)
        assert row.status == "diverged"
        assert row.train_epochs == epochs
        for name in ("test_accuracy", "val_accuracy", "baseline_test_accuracy"):
            assert getattr(row, name) is None
    assert lab.points(stage) == [0]
    assert lab.metrics(stage, 1)["diverged"]
    assert lab.metrics(stage, 1)["train_loss"] is None
    assert missing_epochs(lab.ledger, lab.job(stage, (2, 6), (2,))) == []  # and not tried again


def test_a_diverged_retraining(lab: Lab) -> None:
    baseline = dense_stage(tiny(), 0)
    stage = child(baseline, "finetune", 4, lr=1e30)
    lab.run_chain(stage)
    row = lab.row(stage)
    assert (row.status, row.test_accuracy, row.trainability_accuracy) == ("diverged", None, None)
    assert row.pruned_accuracy is not None
    assert row.baseline_test_accuracy == lab.row(baseline).test_accuracy
    # what was spent, not what was asked for
    assert row.search_cost_epochs == 1
    assert row.search_cost_flops == 3 * row.flops_remaining * STEPS * BATCH
    assert lab.points(stage) == []
    before = lab.file(stage, 1, "json").stat().st_mtime_ns
    lab.run(stage)
    assert lab.file(stage, 1, "json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("keep", "rows", "kept"),
    [
        ("all", (1, 6), [0, 1, 2]),
        ("referenced", (1, 6), [1]),
        ("referenced", (6,), []),
    ],
)
def test_diverging_late_leaves_the_epochs_before(
    lab: Lab, keep: str, rows: tuple[int, ...], kept: list[int]
) -> None:
    stage = late_diverging()
    lab.run(stage, rows=rows, keep=keep)
    assert [lab.metrics(stage, epoch)["diverged"] for epoch in range(4)] == [False] * 3 + [True]
    assert [lab.row(stage, epochs).status for epochs in rows] == ["done", "diverged"][-len(rows) :]
    assert lab.points(stage) == kept
    if 1 in rows:
        assert lab.row(stage, 1).test_accuracy == accuracy(network_of(lab.point(stage, 1)))


def test_a_diverged_stage_wanted_longer_diverges_again(lab: Lab) -> None:
    stage = late_diverging()
    lab.run(stage, rows=(6,))
    lab.run(stage, rows=(2, 9))
    assert [lab.row(stage, e).status for e in (2, 6, 9)] == ["done", "diverged", "diverged"]


def test_weights_that_overflow_in_the_last_update_are_divergence(lab: Lab) -> None:
    """The loss, taken before the update, is still finite."""
    stage = dense_stage(tiny(schedule=Schedule(lr=3e38), steps_per_epoch=1, epochs=1), 0)
    lab.run(stage)
    assert lab.row(stage).status == "diverged"
    assert lab.points(stage) == [0]


# What is kept


def test_keep_all_keeps_every_epoch_of_a_baseline(lab: Lab) -> None:
    baseline = dense_stage(tiny(), 0)
    lab.run(baseline, keep="all")
    assert lab.points(baseline) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("rows", "rewinds", "kept"),
    [
        ((6,), (), [6]),
        ((6,), (2,), [2, 6]),
        ((3, 6), (0, 5), [0, 3, 5, 6]),
        ((1,), (), [1]),
    ],
)
def test_keep_referenced_keeps_what_is_referenced(
    lab: Lab, rows: tuple[int, ...], rewinds: tuple[int, ...], kept: list[int]
) -> None:
    baseline = dense_stage(tiny(), 0)
    lab.run(baseline, rows=rows, rewinds=rewinds, keep="referenced")
    assert lab.points(baseline) == kept
    curve = [lab.metrics(baseline, e)["test_accuracy"] for e in range(max(rows) + 1)]
    assert all(value is not None for value in curve)  # the learning curve is whole


@pytest.mark.parametrize("keep", ["all", "referenced"])
@pytest.mark.parametrize(
    ("rows", "rewinds", "kept"),
    [((4,), (), [4]), ((2, 4), (), [2, 4]), ((4,), (3,), [3, 4]), ((1,), (), [1])],
)
def test_retrainings_keep_rows_and_children(
    lab: Lab, rows: tuple[int, ...], rewinds: tuple[int, ...], kept: list[int], keep: str
) -> None:
    stage = child(dense_stage(tiny(), 0), "finetune", 4)
    lab.run(stage.baseline)
    lab.run(stage, rows=rows, rewinds=rewinds, keep=keep)
    assert lab.points(stage) == kept


def test_what_another_sweep_keeps_is_left(lab: Lab) -> None:
    baseline = dense_stage(tiny(), 0)
    lab.run(baseline, rewinds=(1, 2), keep="referenced")
    lab.run(baseline, rows=(8,), keep="referenced")
    assert lab.points(baseline) == [1, 2, 6, 8]


def test_while_a_stage_runs_two_points_are_there_to_go_back_to(lab: Lab) -> None:
    stage = child(dense_stage(tiny(), 0), "lr_rewind", 5)
    lab.run(stage.baseline)
    run = start_stage(lab.job(stage), lab.runtime())
    assert lab.points(stage) == [0]

    def dropped_beside_the_updates() -> bool:
        newest_two = list(range(max(0, run.epoch - 1), run.epoch + 1))
        give_up = time.monotonic() + 30
        while lab.points(stage) != newest_two and time.monotonic() < give_up:
            time.sleep(0.001)
        assert lab.points(stage) == newest_two
        return False

    run.stop = dropped_beside_the_updates
    for epoch in range(1, 5):
        run_epoch(run)
        assert lab.points(stage) == list(range(max(0, epoch - 2), epoch + 1))
    run_epoch(run)
    assert lab.points(stage) == [5]


@pytest.mark.parametrize("interrupted_after", [1, 2, 3, 4])
def test_an_interruption_leaves_no_more_behind(lab: Lab, interrupted_after: int) -> None:
    stage = child(dense_stage(tiny(), 0), "finetune", 5)
    lab.run(stage.baseline)
    run = start_stage(lab.job(stage, (2, 5)), lab.runtime())
    for _ in range(interrupted_after):
        run_epoch(run)
    lab.run(stage, rows=(2, 5))
    assert lab.points(stage) == [2, 5]


@pytest.mark.parametrize("interrupted_after", range(6))
def test_an_interrupted_baseline_keeps_no_more_either(lab: Lab, interrupted_after: int) -> None:
    """With --keep referenced; also after a second interruption, by another job's longer run."""
    stage = dense_stage(tiny(), 0)
    wanted = {"rows": (6,), "rewinds": (1,)}
    run = start_stage(lab.job(stage, **wanted), lab.runtime(keep="referenced"))
    for _ in range(interrupted_after):
        run_epoch(run)
    lab.run(stage, **wanted, keep="referenced")
    assert lab.points(stage) == [1, 6]
    run = start_stage(lab.job(stage, (9,)), lab.runtime(keep="referenced"))
    for _ in range(2):
        run_epoch(run)
    lab.run(stage, rows=(9,), keep="referenced")
    assert lab.points(stage) == [1, 6, 9]


def test_what_a_sweep_that_keeps_all_left_is_no_leftover(lab: Lab) -> None:
    stage = dense_stage(tiny(), 0)
    run = start_stage(lab.job(stage), lab.runtime(keep="all"))
    for _ in range(3):
        run_epoch(run)
    lab.run(stage, keep="referenced")
    assert lab.points(stage) == [0, 1, 2, 3, 6]


def test_where_it_is_unknown_who_wanted_a_point_it_stays(lab: Lab) -> None:
    stage = dense_stage(tiny(), 0)
    run = start_stage(lab.job(stage), lab.runtime(keep="referenced"))
    for _ in range(4):
        run_epoch(run)
    path = lab.file(stage, 3, "json")
    path.write_text(path.read_text().replace('"kept": false', '"kept": null'))
    lab.run(stage, keep="referenced")
    assert lab.points(stage) == [3, 6]


def test_knobs_are_typed_columns() -> None:
    dense = dense_stage(digits(), 0)
    prune = Prune(fraction=0.5, structure="filters", layers="stages.*.conv1", shrink=True)
    stage = retrain_stage(
        dense, prune, Retrain(method="step", epochs=9, lr=0.01, drops=(3, 6.5), factor=0.2)
    )
    found = cells_of(stage.retrain, Retrain) | cells_of(stage.prune, Prune)
    assert set(found) <= set(COLUMNS)
    assert (found["retrain_lr"], found["retrain_factor"]) == (0.01, 0.2)
    assert numbers_of(found["retrain_drops"]) == (3, 6.5)
    assert (found["prune_layers"], found["prune_shrink"]) == ("stages.*.conv1", True)
    assert found["retrain_alpha"] is found["prune_rates"] is found["prune_power"] is None
    of_dense = cells_of(dense.retrain, Retrain) | cells_of(dense.prune, Prune)
    assert of_dense.keys() == found.keys() and set(of_dense.values()) == {None}


def test_a_stage_that_changed_devices_says_so(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """Its first epochs as if another model had trained them."""
    job = lab.job(dense_stage(tiny(), 0))
    run = start_stage(job, lab.runtime())
    for epoch in (1, 2):
        run_epoch(run)
        metrics = lab.ledger.read_metrics(job.stage.stage_id, epoch)
        assert metrics["device"] == "cpu"
        lab.ledger.write_metrics(job.stage.stage_id, epoch, metrics | {"device": "NVIDIA L4"})
    run = start_stage(job, lab.runtime())
    assert "goes on on cpu after NVIDIA L4" in caplog.text
    while not run.finished:
        run_epoch(run)
    row = lab.ledger.read_row(job.stage.stage_id, job.row_epochs[-1])
    assert row.device == "NVIDIA L4 + cpu"


def test_devices_are_named_once_each_in_their_order() -> None:
    history = [{"device": name} for name in ("A", "A", "B", "A")] + [{}]
    assert devices_of(history, "C") == "A + B + C"
    assert devices_of([], "C") == "C"

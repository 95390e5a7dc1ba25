"""The live view, the plain lines, TensorBoard's files, and the dry run."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from pyarrow import fs
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rewind_ray.models import build_network
from rewind_ray.protocols import mikler_resnet, mikler_wrn
from rewind_ray.spec import Prune, Retrain, dense_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage
from sweeps.plan import estimate
from sweeps.plan.chains import iterative
from sweeps.plan.graph import build_graph
from sweeps.run import live_view
from sweeps.run.dispatcher import Dispatcher
from sweeps.run.live_view import LiveView, duration
from sweeps.run.sweep_log import SweepLog, read_lines
from sweeps.run.tensorboard import TensorBoard
from tests.sweeps.running import tiny_protocol


def chain_graph(steps=2, seeds=1, epochs=2):
    retrain = Retrain(method="lr_rewind", epochs=epochs)
    protocol = tiny_protocol()
    ends = [
        iterative(dense_stage(protocol, seed), retrain, steps, Prune(fraction=0.5))
        for seed in range(seeds)
    ]
    return build_graph(ends)


# progress


def drawn(progress, width=100):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(progress.render())
    return console.file.getvalue()


def test_the_view_stays_readable_with_500_stages(storage):
    graph = chain_graph(steps=1, seeds=250)
    dispatcher = Dispatcher(graph, Ledger(str(storage)))
    progress = LiveView("big", graph, dispatcher, Console(file=io.StringIO()))
    for _ in range(200):
        node = dispatcher.next_ready()
        progress.start(node)
        progress.advance(node, 1, 1, {"test_accuracy": 0.5, "train_loss": 1.0})
    text = drawn(progress)
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 100
    assert "200 running, 300 waiting of 500 stages" in text
    assert "200/1500 epochs" in text
    assert "188 more" in text  # 12 of the 200 running are shown
    assert "50.00%" in text


def test_plain_lines_where_nothing_is_redrawn(storage):
    graph = chain_graph()
    dispatcher = Dispatcher(graph, Ledger(str(storage)))
    console = Console(width=100, file=io.StringIO())
    with LiveView("plain", graph, dispatcher, console) as progress:
        node = dispatcher.next_ready()
        progress.start(node)
        run_stage(node.job, Runtime(storage=str(storage)))
        progress.advance(node, 4, 4, {})
        dispatcher.finish(node.stage_id)
        progress.end(node, "test 12.00%")
    (line,) = console.file.getvalue().splitlines()
    assert line.startswith("[1/3] done") and "dense seed 0" in line and "test 12.00%" in line


@pytest.mark.parametrize("terminal", [True, False])
def test_all_lines_are_in_the_log_also_where_a_terminal_redraws_them(
    storage, terminal, monkeypatch
):
    graph = chain_graph()
    dispatcher = Dispatcher(graph, Ledger(str(storage)))
    console = Console(width=100, file=io.StringIO(), force_terminal=terminal)
    monkeypatch.setattr(live_view, "LOG_LINE_SECONDS", 0)
    with (
        SweepLog(dispatcher.ledger, "logged") as log,
        LiveView("logged", graph, dispatcher, console, log) as progress,
    ):
        node = dispatcher.next_ready()
        progress.start(node)
        progress.note("the storage is full")
        progress.advance(node, 4, 4, {})
        dispatcher.finish(node.stage_id)
        progress.end(node, "its row is damaged")
    noted, summary, ended = [line[20:] for line in read_lines(dispatcher.ledger, "logged")[1:]]
    assert noted == "the storage is full"
    assert summary.startswith("logged: 0 done, 1 running") and "4/8 epochs" in summary
    assert "dense seed 0" in ended and "its row is damaged" in ended


def test_last_words_are_in_the_log_when_they_have_been_said(storage, capsys):
    """The process may end right after them."""
    graph = chain_graph()
    dispatcher = Dispatcher(graph, Ledger(str(storage)))
    with SweepLog(dispatcher.ledger, "logged") as log:
        LiveView("logged", graph, dispatcher, Console(file=io.StringIO()), log).last_words("error")
        assert read_lines(dispatcher.ledger, "logged")[-1].endswith(" error")
    assert capsys.readouterr().err == "error\n"


@pytest.fixture
def begun(storage, monkeypatch):
    """A view of a chain whose first stage has just begun, that stage, and the clock it goes by."""
    graph = chain_graph()
    dispatcher = Dispatcher(graph, Ledger(str(storage)))
    progress = LiveView("begun", graph, dispatcher, Console(file=io.StringIO()))
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    node = dispatcher.next_ready()
    progress.start(node)
    return progress, node, clock


def test_epochs_that_were_there_before_don_t_speed_up_the_estimate(begun):
    progress, node, clock = begun
    clock[0] += 10
    progress.advance(node, 4, 1, {})  # went on from epoch 3: one epoch in ten seconds
    assert progress.epochs_done == 4
    assert progress.seconds_left() == pytest.approx(10 * (8 - 4))


def test_a_lost_worker_s_epochs_don_t_slow_down_the_estimate(begun):
    progress, node, clock = begun
    clock[0] += 6
    progress.advance(node, 3, 3, {})
    progress.pause(node)  # its worker is gone; the epochs are in the storage
    progress.start(node)
    assert progress.seconds_left() == pytest.approx(2 * 8)
    clock[0] += 2
    progress.advance(node, 4, 1, {})
    assert progress.seconds_left() == pytest.approx(2 * (8 - 4))


def test_the_start_of_workers_doesn_t_slow_down_the_estimate(begun):
    progress, node, clock = begun
    clock[0] += 10
    assert progress.seconds_left() is None
    progress.advance(node, 1, 1, {"train_seconds": 2.0})  # Ray started for eight seconds
    assert progress.seconds_left() == pytest.approx(2 * (8 - 1))
    clock[0] += 3
    progress.advance(node, 2, 1, {"train_seconds": 2.0})  # one second for evaluation and storage
    assert progress.seconds_left() == pytest.approx(2.5 * (8 - 2))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1:00"), (3599, "59:59"), (3661, "1:01:01")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


# tensorboard


def train_and_write(graph, storage, tensorboard):
    for stage_id, node in graph.items():
        run_stage(node.job, Runtime(storage=str(storage)))
        tensorboard.epochs(stage_id, node.epochs, steps_per_epoch=2)
        tensorboard.finish(stage_id)
    tensorboard.close()


def scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def dense_run(storage, stage_id):
    place = storage / "tensorboard" / "sweep" / "digits_resnet-digits"
    return place / "dense" / f"seed0-{stage_id[:6]}"


def test_another_sweep_of_the_same_name_leaves_the_curves_of_the_first(storage):
    """Same sweep, method and seed; another batch size, so another baseline."""
    ledger = Ledger(str(storage))
    graphs = [build_graph([dense_stage(tiny_protocol(batch_size=size), 0)]) for size in (32, 16)]
    for graph in graphs:
        train_and_write(graph, storage, TensorBoard(ledger, "sweep", graph))
    for graph in graphs:
        curve = scalars(dense_run(storage, next(iter(graph))))["accuracy/test"]
        assert [step for step, _ in curve] == [2, 4, 6, 8]


def test_the_view_fits_into_80_columns(storage):
    graph = chain_graph(steps=3, seeds=20)
    dispatcher = Dispatcher(graph, Ledger(str(storage)))
    console = Console(file=io.StringIO(), width=80)
    progress = LiveView("narrow", graph, dispatcher, console)
    metrics = {"test_accuracy": 0.5, "train_loss": 1.0, "examples_per_second": 123_456.0}
    for _ in range(20):
        node = dispatcher.next_ready()
        progress.start(node)
        progress.advance(node, 1, 1, metrics)
    console.print(progress.render())
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("dense seed 0" in line and "123,456" in line for line in lines)


def test_a_run_a_chain_with_its_stages_one_after_the_other(storage):
    graph = chain_graph(steps=2)
    ledger = Ledger(str(storage))
    train_and_write(graph, storage, TensorBoard(ledger, "sweep", graph))
    folder = storage / "tensorboard" / "sweep" / "digits_resnet-digits"
    first, second = list(graph)[:2]
    assert sorted(str(path.relative_to(folder)) for path in folder.glob("*/*")) == [
        f"dense/seed0-{first[:6]}",
        f"lr_rewind/lr_rewind-2ep-iterative-0.5-seed0-{second[:6]}",
    ]
    dense = scalars(dense_run(storage, first))
    chain = scalars(folder / f"lr_rewind/lr_rewind-2ep-iterative-0.5-seed0-{second[:6]}")
    assert [step for step, _ in dense["loss/train"]] == [2, 4, 6, 8]
    assert [step for step, _ in chain["loss/train"]] == [10, 12, 14, 16]
    assert [value for _, value in chain["size/level"]] == [1, 1, 2, 2]
    assert [value for _, value in chain["size/density"]] == pytest.approx(
        [0.5, 0.5, 0.25, 0.25], abs=1e-4
    )
    ids = list(graph)
    written = [value for _, value in chain["accuracy/test"]]
    in_ledger = [
        ledger.read_metrics(stage_id, epoch)["test_accuracy"]
        for stage_id in ids[1:]
        for epoch in (1, 2)
    ]
    assert written == pytest.approx(in_ledger)
    end = ledger.read_row(ids[-1], 2)
    assert chain["result/test_accuracy"][0][1] == pytest.approx(end.test_accuracy)
    assert chain["result/compression_ratio"][0][1] == pytest.approx(end.compression_ratio)
    assert {"loss/train", "accuracy/train", "accuracy/validation", "schedule/learning_rate"} <= set(
        chain
    )


def test_an_interrupted_stage_is_not_drawn_twice(storage):
    graph = chain_graph(steps=1)
    ledger = Ledger(str(storage))
    dense_id = next(iter(graph))
    run_stage(graph[dense_id].job, Runtime(storage=str(storage)))
    first = TensorBoard(ledger, "sweep", graph)
    first.epochs(dense_id, 2, steps_per_epoch=2)
    first.close()  # the driver died after epoch 2
    time.sleep(1.1)  # files are read in the order of their names, which tell whole seconds
    again = TensorBoard(ledger, "sweep", graph)
    again.epochs(dense_id, 4, steps_per_epoch=2)
    again.finish(dense_id)
    dense = scalars(dense_run(storage, dense_id))
    assert [step for step, _ in dense["accuracy/test"]] == [2, 4, 6, 8]


def test_what_is_known_already_is_not_read_again(storage, monkeypatch):
    graph = chain_graph(steps=1)
    ledger = Ledger(str(storage))
    dense_id = next(iter(graph))
    run_stage(graph[dense_id].job, Runtime(storage=str(storage)))
    reported = [ledger.read_metrics(dense_id, epoch) for epoch in (3, 4)]
    asked = []
    monkeypatch.setattr(
        Ledger, "read_metrics", lambda _, stage, epoch: asked.append(epoch) or reported[0]
    )
    tensorboard = TensorBoard(ledger, "sweep", graph)
    tensorboard.epochs(dense_id, 4, steps_per_epoch=2, reported=reported)
    tensorboard.close()
    assert asked == [1, 2]
    dense = scalars(dense_run(storage, dense_id))
    assert dense["loss/train"][-1] == (8, pytest.approx(reported[1]["train_loss"]))


def test_tensorboard_reaches_a_storage_that_is_no_local_folder(storage, tmp_path):
    graph = chain_graph(steps=1)
    run_stage(next(iter(graph.values())).job, Runtime(storage=str(storage)))
    ledger = Ledger(str(storage))
    ledger.filesystem = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    ledger.root = "storage"
    tensorboard = TensorBoard(ledger, "sweep", graph)
    dense_id = next(iter(graph))
    tensorboard.epochs(dense_id, 4, steps_per_epoch=2)
    tensorboard.finish(dense_id)
    assert not list(Path(tensorboard._staging.name).rglob("events*"))  # nothing is copied twice
    tensorboard.close()
    assert scalars(dense_run(storage, dense_id))["loss/train"]


# estimates


def test_disk_estimate_matches_what_is_written(storage):
    graph = chain_graph(steps=2)
    expected = estimate.disk_bytes(graph, "all", None) / estimate.BESIDE_REWIND_POINTS
    for node in graph.values():
        run_stage(node.job, Runtime(storage=str(storage)))
    written = sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(storage)
        for name in names
        if name.endswith(".safetensors")
    )
    assert written == pytest.approx(expected, rel=0.1)


def test_updates_and_sizes_of_the_papers_networks():
    size = estimate.size_of(mikler_resnet(), None)
    parameters = build_network("resnet20", 10, 3, {}).parameters()
    weights = 4 * sum(parameter.numel() for parameter in parameters)
    assert size.updates == 2000
    assert 2 * weights < size.point_bytes < 2.1 * weights
    graph = build_graph([dense_stage(mikler_wrn(), 0)])
    assert estimate.total_updates(graph, None) == 80_000  # Mikler 2022, Table 4
    assert estimate.rtx_3080_hours(graph, None) * 60 == pytest.approx(78, abs=2)  # minutes, ibid.


def test_a_dry_run_has_a_line_a_method_within_80_columns():
    """One table for all, whatever the number of seeds, levels and retraining times."""
    dense = [dense_stage(mikler_resnet(), seed) for seed in range(2)]
    ends = [
        iterative(d, Retrain(method="low_lr_weight_rewind", epochs=t), 20, Prune(fraction=0.2))
        for d in dense
        for t in (9, 18, 35)
    ]
    (table,) = estimate.stage_tables(build_graph(ends))
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    (line,) = [line for line in text.splitlines() if "low_lr_weight_rewind" in line]
    assert "1.25–86.74×" in line and "120" in line.split()


def test_too_little_disk_is_told_before_anything_is_trained(storage, monkeypatch):
    graph = chain_graph()
    monkeypatch.setattr(estimate, "free_bytes", lambda *_: 1000)
    with pytest.raises(OSError, match=r"will write .* free: --keep referenced needs"):
        estimate.check_disk(graph, Ledger(str(storage)), "all", None)


def test_unknown_free_space_stops_nobody(storage, monkeypatch):
    monkeypatch.setattr(estimate, "free_bytes", lambda *_: None)
    estimate.check_disk(chain_graph(), Ledger(str(storage)), "all", None)


def test_the_graph_is_checked_before_it_runs():
    broken = build_graph([dense_stage(tiny_protocol(network="resnet21"), 0)])
    with pytest.raises(ValueError, match=r"unknown network 'resnet21'; known: .*resnet20"):
        estimate.check_graph(broken, None)
    broken = chain_graph()
    stage = iterative(
        dense_stage(tiny_protocol(), 0),
        Retrain(method="lr_rewind", epochs=1),
        1,
        Prune(fraction=0.5, criterion="beauty"),
    )
    with pytest.raises(ValueError, match=r"unknown pruning criterion 'beauty'; known: magnitude"):
        estimate.check_graph(build_graph([stage]), None)

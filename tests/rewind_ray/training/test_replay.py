"""Updates by tables against updates by batches, on a CPU; recordings of a GPU against neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import count
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rewind_ray.pruning import Mask, dense_mask, prunable_parameters, pruned_mask
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol, Prune, Stage, dense_stage
from rewind_ray.tasks import Task, load_task
from rewind_ray.training import replay
from rewind_ray.training.epoch import BrokenOff, train_epoch
from rewind_ray.training.optimizers import make_optimizer
from rewind_ray.training.replay import (
    Recorder,
    TableUpdate,
    can_record,
    counted,
    places_of,
    table_update,
    uncounted,
)
from rewind_ray.training.run import StageRun
from rewind_ray.training.stage import run_epoch, start_stage
from rewind_ray.training.update import Update, multipliers_of
from tests.rewind_ray.tiny_stages import Lab, child, tiny

CPU = torch.device("cpu")
RATES = (0.0625, 0.03125)
"""Of the two updates of an epoch; the same in float32 and in Python."""
NewLab = Callable[[str], Lab]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def half(network: nn.Module) -> Mask:
    parameters = prunable_parameters(network, "kernels")
    return pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.5))


def update_of(task: Task, network: nn.Module, optimizer: Any, mask: Mask) -> Update:
    parameters = dict(network.named_parameters())
    return Update(
        network=network.train(),
        optimizer=optimizer,
        batch_loss=task.loss,
        backward=task.backward,
        precision=task.protocol.precision,
        masked=[parameters[name] for name in mask],
        multipliers=multipliers_of(parameters, mask),
        max_gradient_norm=task.protocol.max_gradient_norm,
        loss_sum=torch.zeros(()),
        correct=torch.zeros((), dtype=torch.long),
    )


def by_batches(task: Task, network: nn.Module, optimizer: Any, mask: Mask, epoch: int) -> Any:
    return train_epoch(
        network=network,
        optimizer=optimizer,
        batches=task.batches("train", 7, epoch),
        batch_loss=task.loss,
        learning_rate=RATES.__getitem__,
        parameters=dict(network.named_parameters()),
        mask=mask,
        precision=task.protocol.precision,
        max_gradient_norm=task.protocol.max_gradient_norm,
    )


def by_table(task: Task, of: TableUpdate, epoch: int, first: int = 0) -> None:
    table = task.epoch_table(7, epoch)
    assert table is not None
    of.begin_(of.update, table, torch.tensor(RATES), first)
    for _ in range(first, len(RATES)):
        of()


def tensors(network: nn.Module, optimizer: Any) -> dict[str, Tensor]:
    kept = {
        f"{key}/{name}": tensor
        for name, parameter in network.named_parameters()
        for key, tensor in optimizer.state[parameter].items()
    }
    return {**network.state_dict(), **kept}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


PROTOCOLS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adam": {"optimizer": "adam", "schedule": Schedule(lr=0.01)},
    "bf16": {"precision": "bf16"},
    "clipped": {"max_gradient_norm": 0.1},
    "two shards": {
        "network": "resnet8",
        "network_options": {"batch_norm_shards": 2},
        "standardisation": "image",
    },
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_updates_by_a_table_are_those_by_batches(name: str) -> None:
    """Two epochs of two updates, pruned by half; BatchNorm's counters are added to at once."""
    task = load_task(tiny(**PROTOCOLS[name]), None, CPU)
    ours, theirs = task.network(0), task.network(0)
    mask = half(ours)
    optimizer, same = (make_optimizer(each, task.protocol) for each in (ours, theirs))
    for network, own in ((ours, optimizer), (theirs, same)):
        by_batches(task, network, own, mask, 0)
    table = task.epoch_table(7, 1)
    assert table is not None
    of = table_update(update_of(task, ours, optimizer, mask), task, table)
    before = {name: tensor.clone() for name, tensor in tensors(ours, optimizer).items()}
    of.rehearse_()
    assert_same(tensors(ours, optimizer), before)
    assert all(parameter.grad is None for parameter in ours.parameters())
    assert len(of.counters) == len(counted(ours)) > 3
    assert set(of.counts) == {1}
    with uncounted(ours):
        by_table(task, of, 1)
    metrics = by_batches(task, theirs, same, mask, 1)
    assert_same(tensors(ours, optimizer), tensors(theirs, same))
    assert float(of.update.loss_sum) / 2 == metrics.train_loss
    assert int(of.update.correct) / 64 == metrics.train_accuracy


def test_an_epoch_is_gone_on_with_at_any_row() -> None:
    task = load_task(tiny(), None, CPU)
    ours, theirs = task.network(0), task.network(0)
    found = []
    for network, firsts in ((ours, (0,)), (theirs, (0, 1))):
        optimizer = make_optimizer(network, task.protocol)
        table = task.epoch_table(7, 0)
        assert table is not None
        of = table_update(update_of(task, network, optimizer, {}), task, table)
        for first in firsts:
            of.begin_(of.update, table, torch.tensor(RATES), first)
            for _ in range(1 if firsts == (0, 1) else 2):
                of()
        found.append(tensors(network, optimizer))
    assert_same(*found)


def test_a_mask_multiplies_in_its_parameters_layout() -> None:
    network = load_task(tiny(), None, CPU).network(0)
    parameters, mask = dict(network.named_parameters()), half(network)
    for (name, kept), multiplier in zip(
        mask.items(), multipliers_of(parameters, mask), strict=True
    ):
        assert multiplier.stride() == parameters[name].stride()
        assert multiplier.dtype == parameters[name].dtype
        assert torch.equal(multiplier.bool(), kept)


def test_a_recording_is_of_one_place() -> None:
    """Another network, another state, a longer epoch: it no longer fits. Other masks do."""
    task = load_task(tiny(), None, CPU)
    network = task.network(0)
    optimizer = make_optimizer(network, task.protocol)
    by_batches(task, network, optimizer, {}, 0)
    table = task.epoch_table(7, 0)
    assert table is not None
    mask = half(network)
    update = update_of(task, network, optimizer, mask)
    places = places_of(update, table)
    other_mask = {name: ~kept for name, kept in mask.items()}
    assert places_of(update_of(task, network, optimizer, other_mask), table) == places
    longer = tuple(torch.cat([column, column]) for column in table)
    assert places_of(update, longer) != places
    assert places_of(update_of(task, network, optimizer, {}), table) != places
    another = task.network(0)
    assert places_of(update_of(task, another, optimizer, mask), table) != places
    parameter = next(network.parameters())
    momentum = optimizer.state[parameter]["momentum_buffer"]
    optimizer.state[parameter]["momentum_buffer"] = momentum.clone()
    assert places_of(update_of(task, network, optimizer, mask), table) != places


def test_only_what_is_always_the_same_may_be_recorded() -> None:
    def may(device: str = "cuda", **changes: Any) -> bool:
        task = load_task(tiny(), None, CPU)
        protocol: Protocol = replace(task.protocol, **changes)
        return can_record(type(task)(protocol, None, torch.device(device), task.info))  # type: ignore[attr-defined,call-arg]

    assert may()
    assert not may("cpu")
    assert not may(network="package.module:network", network_digest="00-00")


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """PyTorch's calls of a GPU that refuses to record, and the settings of each attempt."""
    attempts: list[dict[str, Any]] = []

    @contextmanager
    def graph(*_: Any, **settings: Any) -> Iterator[None]:
        attempts.append(settings)
        raise RuntimeError("operation not permitted")
        yield

    stream = SimpleNamespace(wait_stream=lambda _: None)
    fakes = {"graph": graph, "stream": nullcontext, "CUDAGraph": SimpleNamespace}
    for name in ("Stream", "current_stream", "graph_pool_handle"):
        fakes[name] = lambda: stream
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    replay.side_stream.cache_clear()
    yield attempts
    replay.side_stream.cache_clear()


def test_a_gpu_that_refuses_to_record_trains_and_evaluates_without(
    refusing: list[dict[str, Any]],
) -> None:
    task = load_task(tiny(), None, CPU)
    network = task.network(0)
    optimizer = make_optimizer(network, task.protocol)
    by_batches(task, network, optimizer, {}, 0)
    before = {name: tensor.clone() for name, tensor in tensors(network, optimizer).items()}
    update, table = update_of(task, network, optimizer, {}), task.epoch_table(7, 1)
    assert table is not None
    recorder = Recorder(task)
    for _ in range(2):
        assert recorder.steps(table, update, RATES.__getitem__, 0, 0) is None
    assert len(refusing) == 1
    assert_same(tensors(network, optimizer), before)
    assert all(norm.num_batches_tracked is not None for norm in counted(network))
    forward, images = recorder.forward(network.eval()), torch.randn(3, *task.example()[0].shape[1:])
    with torch.no_grad():
        for size in (3, 3, 3, 2, 2, 2):
            assert torch.equal(forward(images[:size]), network(images[:size]))
    assert len(refusing) == 2
    # a thread that pins a DataLoader's memory may do so meanwhile
    assert {attempt["capture_error_mode"] for attempt in refusing} == {"thread_local"}


@pytest.mark.usefixtures("refusing")
def test_a_recording_that_runs_out_of_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end then fails as well."""

    @contextmanager
    def graph(*_: Any, **__: Any) -> Iterator[None]:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")
        yield

    monkeypatch.setattr(torch.cuda, "graph", graph)
    task = load_task(tiny(), None, CPU)
    forward, images = Recorder(task).forward(task.network(0).eval()), task.example()[0]
    forward(images)
    with pytest.raises(torch.OutOfMemoryError):
        forward(images)


# On a GPU

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def chain_of(kind: str, **changes: Any) -> Stage:
    """Last stage of a chain whose stages train for 2 or 3 epochs of two updates; the rate drops
    between two updates of an epoch."""
    settings = {"epochs": 3, "schedule": Schedule(lr=0.1, drops=(1.5,))}
    dense = dense_stage(tiny(**settings | changes), 0)
    if kind == "dense":
        return dense
    if kind == "masked":
        first = child(dense, "lr_rewind", 2)
        return child(first, "weight_rewind", 2, restore_momentum=True)
    smaller: dict[str, Any] = {"structure": "filters", "shrink": True, "layers": "stages.*.conv1"}
    return child(child(dense, "lr_rewind", 2, **smaller), "lr_rewind", 2, **smaller)


@pytest.fixture
def not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be recorded fails: otherwise it would be compared with itself."""

    def refused(error: RuntimeError, what: str) -> None:
        raise AssertionError(f"{what} can't be recorded") from error

    monkeypatch.setattr(replay, "log_refusal", refused)


def recorded_and_not(lab: Lab, other: Lab, stage: Stage) -> None:
    """The same bytes of every rewind point that there is, and the same accuracies."""
    for step in stage.chain:
        rewinds = (1,) if step == stage.baseline and step != stage else ()
        lab.run(step, rewinds=rewinds, device="cuda", replay=True)
        other.run(step, rewinds=rewinds, device="cuda", replay=False)
        for epoch in lab.points(step):
            assert lab.bytes(step, epoch) == other.bytes(step, epoch), (step.level, epoch)
            ours, theirs = lab.metrics(step, epoch), other.metrics(step, epoch)
            for name in ("train_loss", "train_accuracy", "lr", "val_accuracy", "test_accuracy"):
                assert ours.get(name) == theirs.get(name), (step.level, epoch, name)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("not_refused")
@pytest.mark.parametrize("kind", ["dense", "masked", "shrunk"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_recorded_updates_are_the_same_bits(
    lab: Lab, new_lab: NewLab, kind: str, precision: str
) -> None:
    recorded_and_not(lab, new_lab("other"), chain_of(kind, precision=precision))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("not_refused")
@pytest.mark.parametrize("network", ["resnet8", "wrn_10_1", "vgg8", "resnet34"])
def test_so_are_those_of_other_networks(lab: Lab, new_lab: NewLab, network: str) -> None:
    recorded_and_not(lab, new_lab("other"), chain_of("masked", network=network))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("not_refused")
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_so_are_those_of_every_optimizer(lab: Lab, new_lab: NewLab, optimizer: str) -> None:
    """With clipped gradients, and a rate that changes in every update."""
    schedule = Schedule(lr=0.01, shape="cosine", warmup_epochs=1)
    changes = {"optimizer": optimizer, "schedule": schedule, "max_gradient_norm": 0.5}
    recorded_and_not(lab, new_lab("other"), chain_of("masked", **changes))


def started(lab: Lab, stage: Stage) -> StageRun:
    return start_stage(lab.job(stage), lab.runtime(device="cuda"))


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("not_refused")
def test_an_update_is_recorded_once_and_anew_for_another_network(lab: Lab) -> None:
    stage = chain_of("shrunk")
    recordings = []
    for step in stage.chain:
        run = started(lab, step)
        assert isinstance(run.recorder, Recorder)
        of_run = []
        while not run.finished:
            run_epoch(run)
            assert run.recorder.recorded is not None
            of_run.append(run.recorder.recorded)
        assert len(of_run) == step.train_epochs
        assert all(recorded is of_run[0] for recorded in of_run)
        recordings.append(of_run[0])
    assert len({id(recorded) for recorded in recordings}) == len(stage.chain)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("not_refused")
def test_a_broken_off_epoch_goes_on_between_two_replays(lab: Lab, new_lab: NewLab) -> None:
    """Stopped after every single update, by a new process as it were, against straight through."""
    stage = dense_stage(tiny(epochs=2, train_examples=128, schedule=Schedule(lr=0.1)), 0)
    straight, stops = new_lab("straight"), count()
    straight.run(stage, device="cuda")
    finished = False
    while not finished:
        run = started(lab, stage)
        asked = count()
        run.stop = lambda asked=asked: next(asked) == 1  # type: ignore[misc]
        try:
            while not run.finished:
                run_epoch(run)
            finished = True
        except BrokenOff:
            assert next(stops) < 20
    assert next(stops) >= 3
    assert lab.bytes(stage) == straight.bytes(stage)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("not_refused")
def test_evaluation_from_a_recording_sees_new_weights(lab: Lab) -> None:
    stage = dense_stage(tiny(), 0)
    run = started(lab, stage)
    assert run.recorder is not None
    forward = run.recorder.forward(run.network)
    images = torch.randn(20, *run.task.example()[0].shape[1:], device="cuda")
    for _ in range(4):
        run_epoch(run)
        run.network.eval()
        with torch.no_grad():
            for size in (20, 20, 20, 7, 7, 7):
                torch.testing.assert_close(
                    forward(images[:size]), run.network(images[:size]), rtol=0, atol=0
                )


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("not_refused")
def test_another_thread_may_pin_memory_meanwhile(lab: Lab) -> None:
    """As a DataLoader's does; of a recording that other threads must not disturb, both fail."""
    pinned, finished = [], Event()

    def pin() -> int:
        while not finished.wait(0.0005):
            pinned.append(torch.empty(4096).pin_memory())  # kept, or no more would be allocated
        return len(pinned)

    run = started(lab, chain_of("dense"))
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(pin)
        try:
            while not run.finished:
                run_epoch(run)
        finally:
            finished.set()
        assert thread.result() > 0

"""Tune's verbs, called as Tune calls them, in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rewind_ray.protocols import digits
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.store.leases import Watch, claim, owner_of
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.partial import read_partial
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage
from sweeps.plan.graph import build_graph
from trainables.stage_trainable import StageTrainable


@pytest.fixture
def graph():
    protocol = digits(
        epochs=4,
        schedule=Schedule(lr=0.1, drops=(2,)),
        train_examples=64,
        test_examples=50,
        batch_size=32,
    )
    dense = dense_stage(protocol, 0)
    child = retrain_stage(dense, Prune(fraction=0.5), Retrain(method="lr_rewind", epochs=2))
    return build_graph([child])


def config_of(node, storage, **runtime):
    Ledger(str(storage)).write_spec(node.stage)
    return {
        "stage_id": node.stage_id,
        "row_epochs": sorted(node.row_epochs),
        "rewind_epochs": sorted(node.rewind_epochs),
        "cpus": 1,
        "gpus": 0,
        "driver": "ours",
        "instead_of": None,
        "step_seconds": 1.0,
        "runtime": {"storage": str(storage), **runtime},
    }


def checksum(storage, node):
    return Ledger(str(storage)).read_metrics(node.stage_id, node.epochs)["sha256"]


ONE_EPOCH_A_STEP = {"step_seconds": 0.0}


def test_a_step_is_an_epoch_and_the_last_one_says_done(graph, tmp_path):
    dense = next(iter(graph.values()))
    trainable = StageTrainable(config_of(dense, tmp_path) | ONE_EPOCH_A_STEP)
    results = [trainable.train() for _ in range(4)]
    assert [r["epoch"] for r in results] == [1, 2, 3, 4]
    assert [r["done"] for r in results] == [False, False, False, True]
    assert Ledger(str(tmp_path)).points(dense.stage_id) == [0, 1, 2, 3, 4]
    assert Ledger(str(tmp_path)).row_epochs(dense.stage_id) == [4]


def test_short_epochs_share_a_step_and_each_is_a_rewind_point(graph, tmp_path):
    dense = next(iter(graph.values()))
    result = StageTrainable(config_of(dense, tmp_path) | {"step_seconds": 1000.0}).train()
    assert result["done"] and len(result["epochs"]) == 4
    assert Ledger(str(tmp_path)).points(dense.stage_id) == [0, 1, 2, 3, 4]


def test_setting_up_and_throwing_away_leaves_nothing(graph, tmp_path):
    """Tune may do so with any actor."""
    dense = next(iter(graph.values()))
    config = config_of(dense, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    StageTrainable(config).stop()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_trial_restored_at_its_last_epoch_may_be_stepped_once_more(graph, tmp_path):
    dense = next(iter(graph.values()))
    run_stage(dense.job, Runtime(storage=str(tmp_path)))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    trainable = StageTrainable(config_of(dense, tmp_path))
    trainable.load_checkpoint(None)
    result = trainable.train()
    assert result["done"] and result["epochs"] == []
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_killed_trial_goes_on_in_another_actor_to_the_same_bits(graph, tmp_path):
    dense = next(iter(graph.values()))
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run_stage(dense.job, Runtime(storage=str(straight)))
    first = StageTrainable(config_of(dense, broken) | ONE_EPOCH_A_STEP)
    first.train()
    first.train()
    second = StageTrainable(config_of(dense, broken) | ONE_EPOCH_A_STEP)
    results = [second.train(), second.train()]
    assert [r["epoch"] for r in results] == [3, 4]
    assert checksum(broken, dense) == checksum(straight, dense)


def test_a_reused_actor_trains_as_a_fresh_one(graph, tmp_path):
    dense, child = graph.values()
    fresh, reused = tmp_path / "fresh", tmp_path / "reused"
    for node in (dense, child):
        StageTrainable(config_of(node, fresh)).train()
    trainable = StageTrainable(config_of(dense, reused))
    trainable.train()
    assert trainable.reset(config_of(child, reused))
    trainable.train()
    for node in (dense, child):
        assert checksum(reused, node) == checksum(fresh, node)


def test_tune_keeps_a_pointer_only(graph, tmp_path):
    dense = next(iter(graph.values()))
    trainable = StageTrainable(config_of(dense, tmp_path / "storage"))
    trainable.train()
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    trainable.save_checkpoint(str(folder))
    (pointer,) = folder.iterdir()
    assert json.loads(pointer.read_text()) == {"stage_id": dense.stage_id, "epoch": 4}


def test_a_mistake_that_would_come_again_ends_the_trial_with_its_reason(graph, tmp_path):
    child = list(graph.values())[1]
    dense = next(iter(graph.values()))
    run_stage(dense.job, Runtime(storage=str(tmp_path)))
    hopeless = retrain_stage(
        dense.stage, Prune(fraction=0.99999999), Retrain(method="lr_rewind", epochs=2)
    )
    (node,) = [n for n in build_graph([hopeless]).values() if n.stage.level]
    result = StageTrainable(config_of(node, tmp_path)).train()
    assert result["done"] and "leaves none" in result["failure"]
    assert StageTrainable(config_of(child, tmp_path)).train()["done"]


def test_a_corrupt_rewind_point_is_noted_for_the_driver(graph, tmp_path):
    dense, child = graph.values()
    run_stage(dense.job, Runtime(storage=str(tmp_path)))
    path = tmp_path / "stages" / dense.stage_id / "epochs" / "0004.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    result = StageTrainable(config_of(child, tmp_path)).train()
    assert result["done"]
    assert any("epoch 4" in note for note in result["notes"])


def test_resources_are_cpus_and_a_share_of_a_gpu():
    request = StageTrainable.default_resource_request({"cpus": 2, "gpus": 0.25})
    assert request.bundles == [{"CPU": 2, "GPU": 0.25}]
    assert StageTrainable.default_resource_request({"cpus": 1, "gpus": 0}).bundles == [{"CPU": 1}]


# leases


def test_a_stage_that_another_driver_has_is_left_to_it(graph, tmp_path):
    dense = next(iter(graph.values()))
    ledger = Ledger(str(tmp_path))
    assert claim(ledger, dense.stage_id, "theirs") == "theirs"
    result = StageTrainable(config_of(dense, tmp_path)).train()
    assert (result["done"], result["elsewhere"]) == (True, "theirs")
    assert ledger.points(dense.stage_id) == []


def test_a_dead_drivers_stage_is_taken_over(graph, tmp_path):
    dense = next(iter(graph.values()))
    ledger = Ledger(str(tmp_path))
    claim(ledger, dense.stage_id, "theirs")
    trainable = StageTrainable(config_of(dense, tmp_path) | {"instead_of": "theirs"})
    while not trainable.train()["done"]:
        assert owner_of(ledger, dense.stage_id) == "ours"
    assert ledger.row_epochs(dense.stage_id) == [4]


def test_a_finished_stage_is_given_back(graph, tmp_path):
    dense = next(iter(graph.values()))
    trainable = StageTrainable(config_of(dense, tmp_path))
    while not trainable.train()["done"]:
        pass
    assert owner_of(Ledger(str(tmp_path)), dense.stage_id) is None


@pytest.mark.slow
def test_a_notice_saves_the_epoch_gives_the_stage_back_and_ends_the_process(tmp_path):
    """SIGTERM, as a spot machine sends it: in a process of its own."""
    code = (
        "import os, signal, sys, threading\n"
        "from tests.trainables.test_stage_trainable import config_of, long_epochs\n"
        "from trainables.stage_trainable import StageTrainable\n"
        "dense = next(iter(long_epochs().values()))\n"
        "trainable = StageTrainable(config_of(dense, sys.argv[1]))\n"
        "print('training', flush=True)\n"
        "trainable.train()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout.readline() == "training\n"
    dense = next(iter(long_epochs().values()))
    ledger = Ledger(str(tmp_path))
    while not ledger.points(dense.stage_id):
        time.sleep(0.05)
    time.sleep(0.5)
    assert owner_of(ledger, dense.stage_id) == "ours"
    process.terminate()
    assert process.wait(timeout=30) == -signal.SIGTERM
    assert owner_of(ledger, dense.stage_id) is None
    _, progress = read_partial(ledger, dense.stage_id, 1, steps=10_000)
    assert 0 < progress.updates < 10_000


def long_epochs():
    protocol = digits(epochs=4, schedule=Schedule(lr=0.1), steps_per_epoch=10_000)
    return build_graph([dense_stage(protocol, 0)])


@pytest.mark.slow
def test_a_want_of_memory_is_reported(tmp_path):
    """A real one: the process may grow by 600 MiB, and training needs more than 900. With 300 a
    checkpoint's library may be the one that has none, and it ends the process."""
    code = (
        "import resource, sys, torch\n"
        "from rewind_ray.training.device import check_device\n"
        "from tests.trainables.test_stage_trainable import config_of, large_network\n"
        "from trainables.stage_trainable import StageTrainable\n"
        "dense = next(iter(large_network().values()))\n"
        "trainable = StageTrainable(config_of(dense, sys.argv[1]))\n"
        "check_device(torch.device('cpu'))\n"  # libraries take their own share now
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "size = pages * resource.getpagesize() + 600 * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "print(trainable.train())\n"
    )
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",  # a thread's stack counts as memory too
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert "'out_of_memory': " in done.stdout, done.stdout + done.stderr
    assert owner_of(Ledger(str(tmp_path)), next(iter(large_network()))) is None


def large_network():
    protocol = digits(epochs=1, schedule=Schedule(lr=0.1))
    return build_graph([dense_stage(replace(protocol, network="wrn_16_8", batch_size=1347), 0)])


FROZEN = """
import sys, time
from rewind_ray.store import leases
from rewind_ray.store.ledger import Ledger
from tests.trainables.test_stage_trainable import config_of, some_epochs
from trainables.stage_trainable import StageTrainable

storage = sys.argv[1]
driver = leases.this_driver()
node = next(iter(some_epochs().values()))
print(driver.token, flush=True)
with leases.Heartbeat(Ledger(storage), driver, seconds=0.1):
    trainable = StageTrainable(config_of(node, storage) | {"driver": driver.token})
    result = trainable.train()
print({name: result.get(name) for name in ("done", "elsewhere", "failure")}, flush=True)
"""


def some_epochs():
    protocol = digits(
        epochs=3, schedule=Schedule(lr=0.1), steps_per_epoch=60, train_examples=64, batch_size=32
    )
    return build_graph([dense_stage(protocol, 0)])


@pytest.mark.slow
def test_a_frozen_worker_that_comes_back_writes_nothing_and_leaves(tmp_path):
    """Two processes: one is stopped while it trains, the other takes over and finishes."""
    node = next(iter(some_epochs().values()))
    ledger = Ledger(str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    frozen = subprocess.Popen(
        [sys.executable, "-c", FROZEN, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        theirs = frozen.stdout.readline().strip()
        while not ledger.points(node.stage_id):
            time.sleep(0.01)
        frozen.send_signal(signal.SIGSTOP)
        watch = Watch(ledger, patience=1.0)
        while not watch.is_dead(theirs):
            time.sleep(0.05)
        taking_over = {"driver": "ours", "instead_of": theirs}
        trainable = StageTrainable(config_of(node, tmp_path) | taking_over)
        while not trainable.train()["done"]:
            pass
        assert ledger.row_epochs(node.stage_id) == [3]
        written = snapshot(tmp_path / "stages")
        frozen.send_signal(signal.SIGCONT)
        stdout, _ = frozen.communicate(timeout=120)
    finally:
        frozen.kill()
    assert "'elsewhere': 'nobody'" in stdout and "'failure': None" in stdout
    assert snapshot(tmp_path / "stages") == written
    assert frozen.returncode == 0


def snapshot(folder):
    """Without unfinished files, which nobody reads."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".tmp")
    }


def test_of_one_drivers_workers_only_the_last_that_claimed_writes(graph, tmp_path):
    """Tune gives a lost node's stage to another worker of the same driver."""
    dense = next(iter(graph.values()))
    first = StageTrainable(config_of(dense, tmp_path) | ONE_EPOCH_A_STEP)
    first.train()
    second = StageTrainable(config_of(dense, tmp_path) | ONE_EPOCH_A_STEP)
    second.train()
    written = snapshot(tmp_path)
    assert first.train()["elsewhere"] == "ours"
    assert snapshot(tmp_path) == written
    while not second.train()["done"]:
        pass
    assert Ledger(str(tmp_path)).row_epochs(dense.stage_id) == [4]


def test_a_device_that_fails_its_check_is_the_machines_and_no_stages_failure(graph, tmp_path):
    """A GPU that isn't there; the stage isn't claimed, and Tune can't reuse the process."""
    dense = next(iter(graph.values()))
    trainable = StageTrainable(config_of(dense, tmp_path, device="cuda:99"))
    result = trainable.train()
    assert not result["done"] and "cuda:99 can't be used" in result["node_failure"]
    assert "failure" not in result
    assert owner_of(Ledger(str(tmp_path)), dense.stage_id) is None
    with pytest.raises(RuntimeError, match="cuda:99 can't be used"):
        trainable.train()


def test_a_storage_that_is_not_the_drivers_ends_the_sweep(graph, tmp_path, monkeypatch):
    """A folder of the same name on a machine of its own; nothing is written to it."""
    monkeypatch.setattr("trainables.stage_trainable.SHARING_SECONDS", 1)
    dense = next(iter(graph.values()))
    config = config_of(dense, tmp_path / "drivers")
    (tmp_path / "own").mkdir()
    config["runtime"] = {"storage": str(tmp_path / "own")}
    result = StageTrainable(config).train()
    assert result["done"] and result["failure_kind"] == "storage"
    assert "NFS" in result["failure"]
    assert not list((tmp_path / "own").rglob("*"))

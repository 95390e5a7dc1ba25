"""Leases: one owner at a time, and none that is dead for ever."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.store.leases import (
    FencedLedger,
    Heartbeat,
    LeaseLost,
    Watch,
    birth_of,
    claim,
    owner_of,
    release,
    this_driver,
)
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.partial import drop_partial, write_partial
from rewind_ray.training.epoch import Progress
from tests.rewind_ray.store.test_ledger import a_row

STAGE = "0123456789abcdef"


@pytest.fixture
def ledger(tmp_path):
    return Ledger(str(tmp_path))


def test_the_first_to_claim_has_it(ledger):
    assert owner_of(ledger, STAGE) is None
    assert claim(ledger, STAGE, "a") == "a"
    assert claim(ledger, STAGE, "b") == "a"
    assert claim(ledger, STAGE, "a") == "a"


def test_only_the_owner_gives_it_back(ledger):
    claim(ledger, STAGE, "a")
    release(ledger, STAGE, "b")
    assert owner_of(ledger, STAGE) == "a"
    release(ledger, STAGE, "a")
    release(ledger, STAGE, "a")
    assert claim(ledger, STAGE, "b") == "b"


def test_of_many_that_claim_at_once_one_has_it(ledger):
    for number in range(20):
        stage_id = f"{number:016x}"
        with ThreadPoolExecutor(16) as pool:
            owners = list(pool.map(partial(claim, ledger, stage_id), "abcdefghijklmnop"))
        assert set(owners) == {owner_of(ledger, stage_id)}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"driver": ', b"\xff"])
def test_a_damaged_lease_is_anybodys(ledger, tmp_path, content):
    claim(ledger, STAGE, "a")
    (tmp_path / "stages" / STAGE / "lease.json").write_bytes(content)
    assert owner_of(ledger, STAGE) is None
    assert claim(ledger, STAGE, "b") == "b"


# who is dead


def test_a_driver_lives_until_its_heartbeat_ends(ledger):
    driver = this_driver()
    watch = Watch(ledger)
    assert watch.is_dead(driver.token)
    with Heartbeat(ledger, driver):
        assert not watch.is_dead(driver.token)
    assert watch.is_dead(driver.token)


def test_a_driver_elsewhere_is_dead_once_its_heartbeat_stands_still(ledger):
    """Nobody's clock is compared: only how long the watcher saw no change."""
    now = 0.0
    elsewhere = replace(this_driver(), place="another machine, whose clock is years off")
    watch = Watch(ledger, patience=60, clock=lambda: now)
    heart = Heartbeat(ledger, elsewhere)
    heart._write(7)
    assert not watch.is_dead(elsewhere.token)
    now = 59
    assert not watch.is_dead(elsewhere.token)
    heart._write(8)
    now = 61
    assert not watch.is_dead(elsewhere.token)
    now = 120
    assert not watch.is_dead(elsewhere.token)
    now = 122
    assert watch.is_dead(elsewhere.token)


def test_a_heartbeat_beats(ledger):
    driver = replace(this_driver(), place="another machine")
    watch = Watch(ledger, patience=2.0)  # a busy machine may pause a thread for a second
    with Heartbeat(ledger, driver, seconds=0.05):
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert not watch.is_dead(driver.token)
            time.sleep(0.05)


def test_a_killed_driver_of_this_machine_is_dead_at_once(ledger):
    code = (
        "import sys, time; from rewind_ray.store.leases import *\n"
        "from rewind_ray.store.ledger import Ledger\n"
        "driver = this_driver(); Heartbeat(Ledger(sys.argv[1]), driver).__enter__()\n"
        "print(driver.token, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, ledger.root], stdout=subprocess.PIPE, text=True
    )
    token = process.stdout.readline().strip()
    watch = Watch(ledger)
    assert not watch.is_dead(token)
    os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.2)  # a zombie by now: its parent hasn't looked
    assert watch.is_dead(token)
    process.wait()
    assert watch.is_dead(token)


def test_a_later_process_of_the_same_number_is_not_the_driver(ledger):
    driver = replace(this_driver(), born="1")
    with Heartbeat(ledger, driver):
        assert Watch(ledger).is_dead(driver.token)


def test_no_such_process():
    assert birth_of(2**22 + 1) is None
    assert birth_of(os.getpid()) is not None


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"beat": 1, "place": 2}'])
def test_a_damaged_driver_file_costs_patience_only(ledger, tmp_path, content):
    now = 0.0
    driver = this_driver()
    with Heartbeat(ledger, driver):
        (tmp_path / "drivers" / f"{driver.token}.json").write_bytes(content)
        watch = Watch(ledger, patience=60, clock=lambda: now)
        assert not watch.is_dead(driver.token)
        now = 61
        assert watch.is_dead(driver.token)


# fences


WRITES = {
    "point": lambda ledger: ledger.write_point(STAGE, 2, b"tensors", {}),
    "metrics": lambda ledger: ledger.write_metrics(STAGE, 2, {}),
    "row": lambda ledger: ledger.write_row(a_row()),
    "partial": lambda ledger: write_partial(ledger, STAGE, 3, POINT, Progress(updates=1)),
    "dropped point": lambda ledger: ledger.drop_point(STAGE, 1),
    "dropped row": lambda ledger: ledger.drop_row(STAGE, 1),
    "dropped partial": lambda ledger: drop_partial(ledger, STAGE),
}
POINT = RewindPoint(weights={}, buffers={}, optimizer={}, mask={})


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begun(ledger):
    """A storage with something to drop; the ledger of a worker that has the stage."""
    ledger.write_point(STAGE, 1, b"tensors", {})
    ledger.write_row(replace(a_row(), train_epochs=1))
    write_partial(ledger, STAGE, 2, POINT, Progress(updates=1))
    assert claim(ledger, STAGE, "a", ticket="first") == "a"
    return FencedLedger(ledger.uri, STAGE, "a", "first")


@pytest.mark.parametrize("what", WRITES)
def test_with_its_lease_a_worker_writes(ledger, tmp_path, what):
    fenced = begun(ledger)
    before = content(tmp_path)
    WRITES[what](fenced)
    assert content(tmp_path) != before


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("how", ["another driver", "another worker", "released", "damaged"])
def test_without_its_lease_a_worker_writes_nothing(ledger, tmp_path, what, how):
    fenced = begun(ledger)
    match how:
        case "another driver":
            claim(ledger, STAGE, "b", instead_of="a")
        case "another worker":
            claim(ledger, STAGE, "a", ticket="second")
        case "released":
            release(ledger, STAGE, "a")
        case "damaged":
            (tmp_path / "stages" / STAGE / "lease.json").write_text("{}")
    before = content(tmp_path)
    with pytest.raises(LeaseLost):
        WRITES[what](fenced)
    assert content(tmp_path) == before


@pytest.mark.parametrize("what", ["point", "metrics", "row", "partial"])
def test_a_lease_that_is_lost_while_a_file_is_written(ledger, tmp_path, monkeypatch, what):
    """The content is on the disk under another name, and never gets its own."""
    fenced = begun(ledger)
    fsync = os.fsync

    def frozen_here(descriptor):
        fsync(descriptor)
        monkeypatch.setattr(os, "fsync", fsync)
        claim(ledger, STAGE, "b", instead_of="a")

    before = content(tmp_path)
    monkeypatch.setattr(os, "fsync", frozen_here)
    with pytest.raises(LeaseLost):
        WRITES[what](fenced)
    lease = tmp_path / "stages" / STAGE / "lease.json"
    assert content(tmp_path) | {lease: b""} == before | {lease: b""}

"""A sweep that is interrupted, again and again, and continued by the same command."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from benchmarks.soak.processes import GCS, RAYLET, WORKER, descendants, find, listening_on, runs
from rewind_ray.store.ledger import Ledger
from sweeps.run.sweep_log import read_lines
from tests.sweeps.running import QUICKSTART, assert_complete, rows, run, start, wait_until

pytestmark = pytest.mark.alone  # clocks and signals

BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
os.execvp(sys.argv[1], sys.argv[1:])
"""
UNDER_BLOCKED = (sys.executable, "-c", BLOCKED)
INTERRUPTIONS = (
    (signal.SIGKILL, os.kill, ()),
    (signal.SIGINT, os.kill, ()),
    (signal.SIGTERM, os.kill, UNDER_BLOCKED),  # as Ray's jobs are started and ended
    (signal.SIGTERM, os.killpg, ()),  # as Slurm ends a job: Ray's own processes too
)


def test_every_signal_in_turn_and_then_the_same_bits(undisturbed, storage):
    """No process is left behind, nothing that was done is done again."""
    expected, _ = undisturbed
    for how, send, under in INTERRUPTIONS:
        before = rows(storage) if storage.exists() else {}
        sweep = start(*QUICKSTART, "--storage", str(storage), under=under)
        wait_until(lambda before=before: len(rows(storage)) > len(before))
        wait_until(lambda pid=sweep.pid: find(descendants(pid), WORKER) != [])
        processes = descendants(sweep.pid)
        assert len(processes) >= 5
        assert_on_the_loopback_only([sweep.pid, *processes])
        send(sweep.pid, how)
        stdout, stderr = sweep.communicate(timeout=25)  # Slurm kills after 30
        if how == signal.SIGKILL:
            assert sweep.returncode == -how
        else:
            assert sweep.returncode == 130, stdout + stderr
            assert "same command continues" in stdout + stderr
            if send == os.kill:
                assert not any(map(runs, processes))
            log = read_lines(Ledger(str(storage)), "quickstart-smoke")
            assert "nterrupted" in "".join(log[-2:])
        wait_until(lambda left=processes: not find(left, WORKER), 15)
        if send == os.killpg:  # they have nobody left who could wait for them
            wait_until(lambda left=processes: not any(map(runs, left)), 15)
        if how == signal.SIGKILL:  # two of Ray's helpers look for it for a minute
            abandoned = processes
    wait_until(lambda: not any(map(runs, abandoned)))

    done = {path: path.stat().st_mtime_ns for path in storage.glob("stages/*/rows/*.json")}
    assert len(INTERRUPTIONS) <= len(done) < len(rows(expected))
    finished = run(*QUICKSTART, "--storage", str(storage))
    assert finished.returncode == 0, finished.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert_complete(storage, expected)


def assert_on_the_loopback_only(processes: list[int]) -> None:
    addresses = {pid: listening_on(pid) for pid in processes}
    for words in (RAYLET, GCS, WORKER):
        assert all(addresses[pid] for pid in find(processes, words)), "nothing listens?"
    assert set().union(*addresses.values()) == {"127.0.0.1"}, addresses

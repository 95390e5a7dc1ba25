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

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


def test_every_signal_in_turn_and_then_the_same_bits(undisturbed, storage):
    """No process is left behind, nothing that was done is done again."""
    expected, _ = undisturbed
    for how in SIGNALS:
        before = rows(storage) if storage.exists() else {}
        sweep = start(*QUICKSTART, "--storage", str(storage))
        wait_until(lambda before=before: len(rows(storage)) > len(before))
        wait_until(lambda pid=sweep.pid: find(descendants(pid), WORKER) != [])
        processes = descendants(sweep.pid)
        assert len(processes) >= 5
        assert_on_the_loopback_only([sweep.pid, *processes])
        os.kill(sweep.pid, how)
        stdout, stderr = sweep.communicate(timeout=60)
        if how == signal.SIGKILL:
            assert sweep.returncode == -how
        else:
            assert sweep.returncode == 130, stdout + stderr
            assert "same command continues" in stdout + stderr
            assert not any(map(runs, processes))
        wait_until(lambda left=processes: not find(left, WORKER), 15)
        if how == signal.SIGKILL:  # two of Ray's helpers look for it for a minute
            abandoned = processes
    wait_until(lambda: not any(map(runs, abandoned)))

    done = {path: path.stat().st_mtime_ns for path in storage.glob("stages/*/rows/*.json")}
    assert len(SIGNALS) <= len(done) < len(rows(expected))
    finished = run(*QUICKSTART, "--storage", str(storage))
    assert finished.returncode == 0, finished.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert_complete(storage, expected)


BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_a_sweep_is_interrupted_also_where_sigint_is_blocked(storage):
    """As Ray leaves it to the commands of its jobs, which it then ends by SIGTERM."""
    sweep = start(*QUICKSTART, "--storage", str(storage), under=(sys.executable, "-c", BLOCKED))
    wait_until(lambda: storage.exists() and len(rows(storage)) >= 1, 300)
    sweep.terminate()
    stdout, stderr = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, stdout + stderr
    assert "same command continues" in stdout + stderr
    log = read_lines(Ledger(str(storage)), "quickstart-smoke")
    assert "Interrupted" in "".join(log) and log[-1].endswith("ended with exit code 130")


def assert_on_the_loopback_only(processes: list[int]) -> None:
    addresses = {pid: listening_on(pid) for pid in processes}
    for words in (RAYLET, GCS, WORKER):
        assert all(addresses[pid] for pid in find(processes, words)), "nothing listens?"
    assert set().union(*addresses.values()) == {"127.0.0.1"}, addresses

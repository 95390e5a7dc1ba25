"""Sweeps that share machines: paused and resumed, with a share, and where memory runs out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.run.processes import command_lines, parent_of
from tests.sweeps.running import QUICKSTART, ROOT, assert_complete, rows, run, start, wait_until

pytestmark = pytest.mark.alone  # its workers are counted, or the node's memory


def workers_of(driver: int) -> list[int]:
    """Ray's workers that hold a trial, and were started for this driver."""

    def belongs(pid: int | None) -> bool:
        while pid is not None and pid > 1:
            if pid == driver:
                return True
            pid = parent_of(pid)
        return False

    return [
        pid for pid, words in command_lines().items() if "StageTra" in words[0] and belongs(pid)
    ]


def test_a_paused_sweep_gives_up_its_workers_and_goes_on_when_it_is_resumed(undisturbed, storage):
    expected, _ = undisturbed
    sweep = start(*QUICKSTART, "--storage", str(storage))
    wait_until(lambda: rows(storage) and workers_of(sweep.pid))
    assert run("sweeps", "control", str(storage), "--pause").returncode == 0
    wait_until(lambda: not workers_of(sweep.pid), timeout=60)
    assert list(storage.glob("stages/*/lease.json")) == []
    assert "asked     paused" in run("sweeps", "status", str(storage)).stdout
    done = rows(storage)
    time.sleep(3)
    assert rows(storage) == done and sweep.poll() is None
    assert run("sweeps", "control", str(storage), "--resume", "--at-once", "1").returncode == 0
    most = 0
    while sweep.poll() is None:
        most = max(most, len(list(storage.glob("stages/*/lease.json"))))
        time.sleep(0.02)
    stdout, stderr = sweep.communicate()
    assert sweep.returncode == 0, stdout + stderr
    assert "asked by rewind-ray control: paused" in stdout
    assert most == 1
    assert_complete(storage, expected)


KILLED = """
import json, sys, time
import ray
from ray import tune
from sweeps.run.slots import Slots

class Greedy(tune.Trainable):
    def step(self):
        self.all = bytearray(3 << 30)
        time.sleep(60)

said = []
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
tune.run(Greedy, scheduler=Slots(lambda trial, why: said.append(why)), storage_path=sys.argv[1],
         raise_on_failed_trial=False, verbose=0)
print(json.dumps(said))
"""


def test_a_worker_that_ray_kills_for_its_nodes_memory_is_told_of(tmp_path):
    """A real kill: Ray's limit is 2 GiB above what is used now, the worker takes 3."""
    memory = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(memory[key].split()[0]) for key in ("MemTotal", "MemAvailable"))
    if available < 6 * 2**20:
        pytest.skip("NOT TESTED: less than 6 GiB of memory are available")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "RAY_memory_usage_threshold": str((total - available + 2 * 2**20) / total),
        "RAY_memory_monitor_refresh_ms": "100",
    }
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=200, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (why,) = json.loads(done.stdout.splitlines()[-1])
    assert "low on memory" in why and "\n" not in why, "Tune went on to the end"

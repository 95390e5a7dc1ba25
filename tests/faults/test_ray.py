"""Ray's own processes, killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from benchmarks.soak.processes import GCS, RAYLET, descendants, find, runs
from tests.sweeps.running import QUICKSTART, assert_complete, rows, run, start, wait_until

pytestmark = pytest.mark.alone  # each is a sweep

MINUTE = 60.0


@pytest.fixture
def sweep(storage, request) -> Iterator[subprocess.Popen[str]]:
    """One under way, with workers that train; its parameter: the number of seeds, by default 1."""
    seeds = str(getattr(request, "param", 1))
    process = start(*QUICKSTART, "--seeds", seeds, "--storage", str(storage))
    wait_until(lambda: len(rows(storage)) >= 1, 5 * MINUTE)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def kill(sweep: subprocess.Popen[str], words: str) -> None:
    (pid,) = find(descendants(sweep.pid), words)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("sweep", [6], indirect=True, ids=["six seeds"])
def test_the_raylet_of_a_local_sweep_dies_and_the_sweep_goes_on(sweep, storage, undisturbed):
    """Its workers outlive it for a while, and end a shorter sweep before Ray has missed it."""
    expected, _ = undisturbed
    kill(sweep, RAYLET)
    stdout, stderr = sweep.communicate(timeout=5 * MINUTE)
    assert sweep.returncode == 0, stdout + stderr
    assert "its raylet on this machine is gone. Starting it again" in stdout
    found = rows(storage)
    assert len(found) == 6 * len(rows(expected))
    assert rows(expected).items() <= found.items()


def test_the_control_service_dies_and_the_sweep_ends_within_a_minute(sweep, storage, undisturbed):
    expected, _ = undisturbed
    processes = descendants(sweep.pid)
    kill(sweep, GCS)
    _, stderr = sweep.communicate(timeout=MINUTE)
    if sweep.returncode:  # the driver waited in a call of Ray's that never returns
        assert sweep.returncode == 1
        assert "GCS" in stderr and "the same command continues" in stderr
        assert "Traceback" not in stderr
        wait_until(lambda: not any(map(runs, processes)), 2 * MINUTE)
        again = run(*QUICKSTART, "--storage", str(storage))
        assert again.returncode == 0, again.stdout + again.stderr
    assert_complete(storage, expected)


def test_the_head_of_a_cluster_dies_and_the_sweep_ends_within_a_minute(storage):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        sweep = start(*QUICKSTART, "--storage", str(storage), "--address", cluster.address)
        wait_until(lambda: len(rows(storage)) >= 1, 5 * MINUTE)
        cluster.head_node.kill_gcs_server(check_alive=False)
        stdout, stderr = sweep.communicate(timeout=MINUTE)
    finally:
        cluster.shutdown()
    assert sweep.returncode == 1, stdout + stderr
    assert "once the cluster is up again, the same command continues" in stderr
    assert "Traceback" not in stderr

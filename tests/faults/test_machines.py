"""Machines that can't train: one on which no worker starts, and one that multiplies wrongly."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from benchmarks.rehearsal.cloud import BROKEN
from sweeps.run.cluster_watch import asks
from tests.sweeps.running import ROOT, rows, start, wait_until

pytestmark = pytest.mark.alone  # a real cluster, and a limit in seconds

HANGING = """
import os
import sys
import time

parent = os.getppid()
while any("default_worker.py" in word for word in sys.orig_argv) and os.getppid() == parent:
    time.sleep(0.1)
"""
"""sitecustomize.py of a machine whose workers hang at their start."""
IMPATIENT = """
import runpy
import sys
from functools import partial
from pathlib import Path

from sweeps.run import tune
from sweeps.run.start_watch import starting_workers

tune.StartWatch = partial(tune.StartWatch, start_seconds=8.0, look_seconds=1.0)
tune.starting_workers = lambda: [] if Path("patient").exists() else starting_workers()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""``python -m impatient MODULE ...``: a sweep that gives up after seconds instead of minutes, until
there is a file "patient": sound workers take as long on a busy machine."""
SWEEP = (
    *("sweeps.compare", "--protocol", "digits", "--dataset", "digits", "--network"),
    *("digits_resnet", "--smoke", "--seeds", "1", "--methods", "lr_rewind", "--densities", "0.5"),
)


def environment(folder: Path, sitecustomize: str) -> dict[str, str]:
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(sitecustomize)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def test_machines_that_cannot_train_are_set_aside_and_no_stage_fails(
    storage, tmp_path, monkeypatch
):
    """One after the other: the next comes once the last is gone, which it never would be else."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15, and on a busy machine they hardly start
    (tmp_path / "impatient.py").write_text(IMPATIENT)
    hanging = environment(tmp_path / "hanging", HANGING)
    broken = environment(tmp_path / "broken", BROKEN)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    sweep = None
    try:
        alive = asks(cluster.address)

        def gone(node: str) -> bool:
            return node not in alive().prices

        node = cluster.add_node(num_cpus=1, env_vars=hanging).node_id
        command = ("impatient", *SWEEP, "--storage", str(storage), "--address", cluster.address)
        sweep = start(*command, cwd=tmp_path)
        wait_until(lambda: gone(node), 300)
        (tmp_path / "patient").touch()
        node = cluster.add_node(num_cpus=1, env_vars=broken).node_id
        wait_until(lambda: gone(node), 300)
        cluster.add_node(num_cpus=1)
        stdout, stderr = sweep.communicate(timeout=300)
    finally:
        if sweep is not None and sweep.poll() is None:
            os.killpg(sweep.pid, signal.SIGKILL)
            sweep.communicate()
        cluster.shutdown()
    assert sweep.returncode == 0, stdout + stderr
    assert len(rows(storage)) == 2
    assert stdout.count("this machine gets no more stages") == 2
    assert "no worker started in" in stdout and "multiplied wrongly" in stdout

"""cluster/slurm.sh as Slurm would run it on a job's only node, with Ray's own `symmetric-run`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from analysis.table.rows import read_rows
from tests.cluster.configs import ROOT
from tests.cluster.hosts import HOME, SHARED, machine, why_not

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

SLURM = {
    "scontrol": '#!/bin/sh\n[ "$*" = "show hostnames node[1-1]" ] && echo 127.0.0.1\n',
    "srun": '#!/bin/sh\n[ "$1" = --kill-on-bad-exit ] && shift && exec "$@"\n',
}
"""Its commands, as far as the script needs them."""
JOB = {"SLURM_JOB_NODELIST": "node[1-1]", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_PER_TASK": "2"}


def test_a_sweep_in_a_job(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    shared = tmp_path / "shared"
    shared.mkdir()
    with machine("laptop", tmp_path, shared) as node:
        home = tmp_path / "laptop" / HOME[1:]
        for name, text in SLURM.items():
            (home / name).write_text(text)
            (home / name).chmod(0o755)
        (home / ".venv/bin").mkdir(parents=True)
        (home / ".venv/bin/activate").write_text(f"export PATH={HOME}:{sys.prefix}/bin:$PATH\n")
        sweep = f"python -m sweeps.quickstart --smoke --seeds 1 --storage {SHARED}/results"
        settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in JOB.items())
        command = f"cd {HOME}; PYTHONPATH={ROOT} {settings} {ROOT}/cluster/slurm.sh {sweep}"
        done = node.run("bash", "-c", command, timeout=600)
        assert done.returncode == 0, done.stdout
        left = [line for line in node.processes() if "raylet" in line or "gcs_server" in line]
        assert left == []
    assert len(read_rows(str(shared / "results"))) == 13

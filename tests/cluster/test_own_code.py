"""A network and data of the user's own, trained by a machine that has none of their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.table.rows import read_rows
from tests.cluster.hosts import ADDRESSES, HOME, ROOT, SHARED, machines, why_not

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

START = 120
"""Seconds for a machine's Ray; it takes a tenth of it on an idle one."""
NETWORK = """
from torch import nn

from shapes.sizes import HIDDEN


def classifier(inputs=6):
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))
"""
DATA = """
import torch


def load():
    inputs = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
    labels = (inputs.sum(1) > 0).long()
    return {"train": (inputs[:64], labels[:64]), "test": (inputs[64:], labels[64:])}
"""
SWEEP = (
    *("python", "-m", "sweeps.compare", "--network", "own_network:classifier"),
    *("--dataset", "own_data:load", "--epochs", "2", "--batch-size", "16", "--densities", "0.5"),
    *("--seeds", "1", "--address", "auto", "--storage", f"{SHARED}/st"),
)


def test_a_worker_without_the_users_files_trains_their_network(tmp_path: Path) -> None:
    """Only the second machine has CPUs; the files are in the first one's own ``/tmp``."""
    if reason := why_not():
        pytest.skip(reason)
    shared = tmp_path / "shared"
    shared.mkdir()
    with machines(tmp_path, shared) as there:
        head, worker = there["head"], there["worker"]
        code = tmp_path / "head" / HOME[1:] / "code"
        (code / "shapes").mkdir(parents=True)
        (code / "own_network.py").write_text(NETWORK)
        (code / "own_data.py").write_text(DATA)
        (code / "shapes/__init__.py").touch()
        (code / "shapes/sizes.py").write_text("HIDDEN = 12\n")
        ours = ("env", f"PYTHONPATH={ROOT}")
        started = head.run(
            *(*ours, "ray", "start", "--head", "--num-cpus=0", "--include-dashboard=false"),
            f"--node-ip-address={ADDRESSES['head']}",
            timeout=START,
        )
        assert started.returncode == 0, started.stdout
        joined = worker.run(
            *(*ours, "ray", "start", f"--address={ADDRESSES['head']}:6379", "--num-cpus=2"),
            f"--node-ip-address={ADDRESSES['worker']}",
            timeout=START,
        )
        assert joined.returncode == 0, joined.stdout
        seen = worker.run("ls", f"{HOME}/code")
        assert seen.returncode != 0, "the worker has the files; this shows nothing"
        ended = head.run("env", f"--chdir={HOME}/code", *ours[1:], *SWEEP, timeout=5 * START)
        assert ended.returncode == 0, ended.stdout
    assert len(read_rows(str(shared / "st"))) == 4

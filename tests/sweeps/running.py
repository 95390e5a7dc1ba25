"""Small stages and a way to run a sweep as its user does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rewind_ray.protocols import digits
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol
from rewind_ray.store.ledger import Ledger

ROOT = Path(__file__).parents[2]
QUICKSTART = ("sweeps.quickstart", "--smoke", "--seeds", "1")


def tiny_protocol(**changes: object) -> Protocol:
    """Four epochs of two updates on 64 digits."""
    settings = {
        "epochs": 4,
        "schedule": Schedule(lr=0.1, drops=(2,)),
        "train_examples": 64,
        "test_examples": 50,
        "batch_size": 32,
    }
    return digits(**settings | changes)


def start(*arguments: str, cwd: Path = ROOT, under: Sequence[str] = ()) -> subprocess.Popen[str]:
    """``[under] python -m ARGUMENTS``, in a process group of its own."""
    return subprocess.Popen(
        [*under, sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(
    *arguments: str, timeout: float = 300, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    process = start(*arguments, cwd=cwd)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def wait_until(condition: Callable[[], bool], timeout: float = 120) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def points(storage: Path | str) -> dict[tuple[str, int], str]:
    """Every rewind point and its checksum."""
    ledger = Ledger(str(storage))
    return {
        (stage_id, epoch): ledger.read_metrics(stage_id, epoch)["sha256"]
        for stage_id in ledger.stage_ids()
        for epoch in ledger.points(stage_id)
    }


def rows(storage: Path | str) -> dict[tuple[str, int], dict[str, object]]:
    """Every row without what differs from run to run."""
    ledger = Ledger(str(storage)).listed()
    keys = [(stage, epoch) for stage in ledger.stage_ids() for epoch in ledger.row_epochs(stage)]
    found = {key: asdict(row) for key, row in ledger.read_rows(keys).items()}
    for row in found.values():
        for name in ("train_seconds", "finished_at", "git_commit"):
            del row[name]
    return found


def assert_complete(storage: Path | str, expected: Path | str) -> None:
    """The same rows, and the same bits in the rewind points that they are about."""
    assert rows(storage) == rows(expected)
    ours, theirs = points(storage), points(expected)
    ends = rows(storage).keys()
    assert {key: ours[key] for key in ends} == {key: theirs[key] for key in ends}

"""Two sweeps on one storage at the same time."""

import json
import os
import shutil
import signal
from datetime import UTC, datetime

import pytest

from tests.sweeps.running import QUICKSTART, assert_complete, rows, start, wait_until

pytestmark = pytest.mark.alone  # two sweeps each

STAGES = 13


def trained_by(output):
    """Stages that the driver of this output trained itself."""
    lines = [line for line in output.splitlines() if line.startswith("[") and " done " in line]
    others = ("trained by another sweep", "nothing was left to train")
    return sum(not any(words in line for words in others) for line in lines)


def owned_by(process, storage):
    """Stages whose lease is this driver's."""
    (token,) = (
        path.stem
        for path in storage.glob("drivers/*.json")
        if json.loads(path.read_text())["pid"] == process.pid
    )
    leases = storage.glob("stages/*/lease.json")
    return [path for path in leases if json.loads(path.read_text())["driver"] == token]


def days(storage):
    """On which rows were finished, by the clock of whoever trained them."""
    written = [json.loads(path.read_text()) for path in storage.glob("stages/*/rows/*.json")]
    return {row["finished_at"][:10] for row in written}


def test_both_finish_and_no_stage_is_trained_twice(undisturbed, storage):
    expected, _ = undisturbed
    both = [start(*QUICKSTART, "--storage", str(storage)) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum(trained_by(stdout) for stdout, _ in outputs) == STAGES
    assert rows(storage) == rows(expected)
    assert list(storage.glob("stages/*/lease.json")) == []
    assert list(storage.glob("drivers/*.json")) == []


@pytest.mark.skipif(not shutil.which("faketime"), reason="needs faketime (Debian's package)")
def test_when_one_is_killed_the_other_finishes_its_stages_whatever_its_clock_says(
    undisturbed, storage
):
    """The other's clock is a day ahead: it takes the first one's heartbeat neither for an old one
    while there is one, nor for alive afterwards."""
    expected, _ = undisturbed
    first = start(*QUICKSTART, "--storage", str(storage))
    second = start(*QUICKSTART, "--storage", str(storage), under=("faketime", "-f", "+1d"))
    wait_until(lambda: len(list(storage.glob("drivers/*.json"))) == 2)
    today = datetime.now(UTC).date().isoformat()
    wait_until(lambda: today in days(storage) and owned_by(first, storage))
    assert first.poll() is None and second.poll() is None
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    stdout, stderr = second.communicate(timeout=300)
    assert second.returncode == 0, stdout + stderr
    assert_complete(storage, expected)
    assert len(days(storage)) >= 2, "one of them trained nothing, or the clocks were the same"

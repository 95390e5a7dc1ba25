"""The daemon of a cloud's machine: what the cloud says, whom it concerns, and what is done."""

from __future__ import annotations

import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from sweeps.node import (
    ASK_SECONDS,
    GCP_SECONDS,
    WITHOUT_RAY_SECONDS,
    Raylet,
    aws_notice,
    follow,
    gcp_notice,
    raylet_here,
    workers_of,
)
from tests.cluster.metadata import metadata

NODE = Raylet(pid=1, node_id="abc", gcs_address="10.0.0.1:6379")


@pytest.fixture(autouse=True)
def busy_machine(monkeypatch):
    """One on which an answer may take a while."""
    monkeypatch.setattr("sweeps.node.ANSWER_SECONDS", 60.0)


def test_a_machine_that_stays_has_no_notice():
    with metadata(None) as at:
        assert aws_notice(at) is None
        assert gcp_notice(at) is None


def test_a_notice_says_how_long_the_machine_stays():
    with metadata(datetime.now(UTC) + timedelta(minutes=2)) as at:
        assert 60 < aws_notice(at) <= 120
        assert gcp_notice(at) == GCP_SECONDS
    with metadata(datetime.now(UTC) - timedelta(minutes=2)) as at:
        assert aws_notice(at) == 0


def test_no_answer_is_an_error_and_no_notice():
    for notice in (aws_notice, gcp_notice):
        with pytest.raises(OSError):
            notice("http://127.0.0.1:9")


def test_the_workers_are_those_of_this_machines_raylet():
    """Processes with the names of Ray's."""
    script = (
        "bash -c 'exec -a ray::StageTrainable.train sleep 60' & "
        "bash -c 'exec -a ray::IDLE sleep 60' & "
        "trap 'kill $(jobs -p)' TERM; echo ready; wait"
    )
    arguments = [script, "--node_id=cafe", "--gcs-address=10.0.0.1:6379"]
    raylet = subprocess.Popen(
        ["/ray/raylet/raylet", "-c", *arguments],
        executable="/bin/bash",
        stdout=subprocess.PIPE,
        text=True,
    )
    stranger = subprocess.Popen(["ray::StageTrainable.train", "60"], executable="/bin/sleep")
    try:
        assert raylet.stdout.readline() == "ready\n"
        found = raylet_here("cafe")
        assert found == Raylet(pid=raylet.pid, node_id="cafe", gcs_address="10.0.0.1:6379")
        assert raylet_here("beef") is None
        while not (workers := workers_of(found)):
            time.sleep(0.01)
        assert len(workers) == 1 and stranger.pid not in workers
    finally:
        stranger.kill()
        stranger.wait()
        raylet.send_signal(signal.SIGTERM)
        raylet.communicate()


class Machine:
    """Time passes only in pauses."""

    def __init__(self, raylets, notices):
        self.now = 0.0
        self.raylets, self.notices = iter(raylets), iter(notices)
        self.acted, self.ended = [], None

    def run(self):
        follow(
            notice=self.notice,
            find=lambda: next(self.raylets),
            act=lambda raylet, left: self.acted.append((raylet, left)),
            end=self.end,
            clock=lambda: self.now,
            pause=self.pause,
        )

    def notice(self):
        found = next(self.notices)
        if isinstance(found, Exception):
            raise found
        return found

    def pause(self, seconds):
        self.now += seconds

    def end(self):
        self.ended = self.now


MINUTES = int(WITHOUT_RAY_SECONDS / ASK_SECONDS)


def test_a_notice_is_acted_on_once_whatever_answers_are_missing():
    alone = [None] * (MINUTES + 1)
    machine = Machine([NODE] * 4 + alone, [None, OSError("no answer"), 120.0, 115.0])
    machine.run()
    assert machine.acted == [(NODE, 120.0)]


def test_a_machine_without_ray_ends_after_ten_minutes():
    """And not in those that Ray takes to start, or to start again."""
    pause = [None] * (MINUTES - 1)
    machine = Machine([*pause, NODE, *pause, NODE, *[None] * (MINUTES + 1)], [None, None])
    machine.run()
    assert machine.ended == pytest.approx(3 * WITHOUT_RAY_SECONDS, abs=2 * ASK_SECONDS)
    assert not machine.acted

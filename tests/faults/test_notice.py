"""A machine whose end is announced, and limits: real clusters, the daemon, and the same bits."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta

import pytest

from rewind_ray.command_line import FAILED
from sweeps.node import raylet_here, workers_of
from sweeps.run.cluster_watch import asks
from tests.cluster.metadata import metadata
from tests.sweeps.running import QUICKSTART, assert_complete, rows, run, start, wait_until

pytestmark = pytest.mark.alone  # each is a sweep, with another to compare with


def test_a_machine_with_a_notice_hands_its_stages_over(storage, undisturbed):
    """The daemon hears of it, Ray puts nothing new on the node, and no stage is lost."""
    from ray.cluster_utils import Cluster

    expected, _ = undisturbed
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    started = []
    try:
        leaving = raylet_here(cluster.add_node(num_cpus=1).node_id)
        command = (*QUICKSTART, "--storage", str(storage), "--address", cluster.address)
        started.append(sweep := start(*command))
        wait_until(lambda: workers_of(leaving) != [], 600)
        before = workers_of(leaving)
        with metadata(datetime.now(UTC) + timedelta(minutes=2)) as at:
            asks = ("--cloud", "aws", "--metadata", at, "--node-id", leaving.node_id)
            started.append(start("sweeps.node", *asks))
            wait_until(lambda: not set(before) & set(workers_of(leaving)), 120)
        assert len(rows(storage)) < len(rows(expected)), "it ended before the notice"
        stdout, stderr = sweep.communicate(timeout=600)
        assert workers_of(leaving) == []
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        cluster.shutdown()
    assert sweep.returncode == 0, stdout + stderr
    assert_complete(storage, expected)


def test_a_sweep_that_reaches_a_limit_goes_on_by_the_same_command(storage, undisturbed):
    expected, _ = undisturbed
    command = (*QUICKSTART, "--storage", str(storage))
    ended = run(*command, "--max-hours", "1e-6")
    assert ended.returncode == FAILED, ended.stdout + ended.stderr
    assert "Ended early: --max-hours 1e-06 have passed" in ended.stdout
    assert len(rows(storage) if storage.exists() else {}) < len(rows(expected))
    finished = run(*command)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert_complete(storage, expected)


def test_prices_are_labels_of_the_nodes():
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "labels": {"usd-per-hour": "0.25"}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=1, labels={"usd-per-hour": "1.5"})
        cluster.add_node(num_cpus=1)
        prices = asks(cluster.address)().prices
    finally:
        cluster.shutdown()
    assert sorted(prices.values(), key=str) == [0.25, 1.5, None]

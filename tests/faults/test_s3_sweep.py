"""Sweeps with their storage in S3 (moto's server): slow, throttled, and with a node killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rewind_ray.s3_store import BUCKET, Store, use
from tests.sweeps.running import QUICKSTART, assert_complete, rows, run, start, wait_until

pytestmark = pytest.mark.alone  # each is a sweep, and both need one to compare with


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Known to every process that is started here."""
    store = Store()
    use(store, monkeypatch)
    yield store
    store.stop()


def test_a_node_killed_in_the_middle(store, undisturbed, tmp_path):
    from ray.cluster_utils import Cluster

    expected, _ = undisturbed
    uri = f"s3://{BUCKET}/node-killed"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        first, _ = [cluster.add_node(num_cpus=1) for _ in range(2)]
        sweep = start(
            *(*QUICKSTART, "--storage", uri, "--address", cluster.address),
            cwd=tmp_path,  # where the figure goes
        )
        wait_until(lambda: len(rows(uri)) >= 2)
        assert len(rows(uri)) < len(rows(expected))
        cluster.remove_node(first, allow_graceful=False)
        stdout, stderr = sweep.communicate(timeout=300)
    finally:
        cluster.shutdown()
    assert sweep.returncode == 0, stdout + stderr
    assert_complete(uri, expected)


def test_a_slow_and_throttled_store(store, undisturbed, tmp_path):
    """A fiftieth of a second for every request, and 90 of them refused."""
    expected, _ = undisturbed
    uri = f"s3://{BUCKET}/slow"
    store.delay = 0.02
    sweep = start(*QUICKSTART, "--storage", uri, cwd=tmp_path)
    for requests in (50, 150, 250):
        wait_until(lambda until=requests: len(store.requests) > until)
        store.refusals += 30
    stdout, stderr = sweep.communicate(timeout=300)
    store.delay = 0.0
    assert sweep.returncode == 0, stdout + stderr
    assert_complete(uri, expected)
    again = run(*QUICKSTART, "--storage", uri, cwd=tmp_path)
    assert again.stdout.count("13 of them done already") == 1

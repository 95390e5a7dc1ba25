"""A cluster that has no worker until a sweep asks for one, and none after it.

Ray's own autoscaler (v2, which ``ray up`` starts on clouds), here with processes for machines.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from analysis.table.rows import read_rows
from tests.cluster.hosts import SHARED, Machine, machine, why_not

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.alone,
    pytest.mark.skipif(
        "REWIND_RAY_AUTOSCALING" not in os.environ,
        reason="23 s, but minutes on a busy machine; set REWIND_RAY_AUTOSCALING=1 to run it",
    ),
]

HEAD, HEAD_ID = "ray.head.default", "f" * 51 + "00000"
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
NOTHING = (
    *("initialization_commands", "setup_commands", "cluster_synced_files"),
    *("head_setup_commands", "worker_setup_commands", "rsync_exclude", "rsync_filter"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
)
CONFIG = {
    "cluster_name": "processes",
    "max_workers": 2,
    "idle_timeout_minutes": 0.1,
    "upscaling_speed": 1.0,
    "provider": {
        "type": "external",
        "module": PROVIDER,
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "head_node_id": HEAD_ID,
    },
    "head_node_type": HEAD,
    "available_node_types": {
        HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {
            "resources": {"CPU": 2, "object_store_memory": 10**8},
            "node_config": {},
            "max_workers": 2,
        },
    },
    "file_mounts_sync_continuously": False,
    **{key: {} for key in ("auth", "docker", "file_mounts")},
    **{key: [] for key in NOTHING},
}
START = f"""
set -e
umask 077
ray get-auth-token --generate > /dev/null
export RAY_AUTH_MODE=token RAY_FAKE_CLUSTER=1 AUTOSCALER_UPDATE_INTERVAL_S=1
export RAY_enable_autoscaler_v2=1
export RAY_CLOUD_INSTANCE_ID={HEAD_ID} RAY_OVERRIDE_NODE_ID_FOR_TESTING={HEAD_ID}
ray start --head --num-cpus=0 --node-ip-address=127.0.0.1 --autoscaling-config=/tmp/config.json
"""
SWEEP = (
    "python -m sweeps.quickstart --smoke --seeds 1 --address auto "
    f"--storage {SHARED}/results | cat"  # a line a stage
)


def workers(there: Machine) -> int:
    """Of the cluster, without its head."""
    status = there.run("env", "RAY_AUTH_MODE=token", "ray", "status").stdout
    assert "Node status" in status, status
    return len(re.findall(r"^ 1 .*", status.partition("Pending:")[0], re.MULTILINE)) - 1


def test_a_sweep_makes_the_cluster_grow_and_shrink(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    shared = tmp_path / "shared"
    shared.mkdir()
    with machine("laptop", tmp_path, shared) as there:
        (tmp_path / "laptop/tmp/config.json").write_text(json.dumps(CONFIG))
        started = there.run("bash", "-c", START, timeout=120)
        assert started.returncode == 0, started.stdout
        assert workers(there) == 0
        large = there.run("bash", "-c", SWEEP.replace(" | cat", " --cpus-per-trial 3"), timeout=300)
        assert large.returncode == 2, large.stdout  # and not only waited for
        assert "a machine of this cluster has 0 CPU or 2 CPU" in large.stdout
        ran = there.run("bash", "-o", "pipefail", "-c", SWEEP, timeout=300)
        assert ran.returncode == 0, ran.stdout
        assert "Waiting for the cluster to grow" in ran.stdout
        end = time.monotonic() + 120
        while workers(there):
            assert time.monotonic() < end, "idle workers stay"
            time.sleep(1)
    assert len(read_rows(str(shared / "results"))) == 13  # and the head could train none of them

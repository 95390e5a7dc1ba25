"""cluster/kuberay.yaml, as Ray's own autoscaler reads it on Kubernetes."""

from __future__ import annotations

import shlex
import tomllib
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import validate_config

from sweeps.run.capacity import Capacity, chosen_gpus, growth_in, shortage_of
from tests.cluster.configs import ROOT


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster/kuberay.yaml").read_text())["spec"]


@pytest.fixture(scope="module")
def config(job: dict[str, Any]) -> dict[str, Any]:
    """Of the cluster that KubeRay makes of it."""
    names = {"name": "rewind-ray", "namespace": "default"}
    return _derive_autoscaling_config_from_ray_cr(
        {"metadata": names, "spec": job["rayClusterSpec"]}
    )


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    validate_config(config)


def test_the_sweep_is_given_what_the_cluster_can_become(
    job: dict[str, Any], config: dict[str, Any]
) -> None:
    """The driver can't see it there: the autoscaler runs in a container of its own."""
    words = shlex.split(job["entrypoint"])
    given = dict(zip(words[3::2], words[4::2], strict=True))
    capacity = Capacity(present=({"CPU": 0},), growth=growth_in(config))
    gpus = chosen_gpus(None, capacity, cpus=1)
    assert float(given["--gpus-per-trial"]) == gpus == 1
    assert shortage_of(1, gpus, capacity) is None
    assert int(given["--max-concurrent"]) == capacity.slots(1, gpus) == 8


def test_the_head_trains_nothing_and_every_machine_has_a_price(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"]["CPU"] == 0
    assert all(float(kind["labels"]["usd-per-hour"]) > 0 for kind in types.values())


def test_versions_are_those_of_the_project(job: dict[str, Any]) -> None:
    cluster = job["rayClusterSpec"]
    pinned = (ROOT / "constraints.txt").read_text().split()
    assert f"ray=={cluster['rayVersion']}" in pinned
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    assert images == {f"YOUR-REGISTRY/rewind-ray:{version}"}

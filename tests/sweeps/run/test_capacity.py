"""What fits on which machines, against brute force; and what a cluster may become."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rewind_ray.errors import UserError
from sweeps.run.capacity import (
    AUTOSCALER,
    Capacity,
    Growth,
    MachineType,
    chosen_gpus,
    growth_of,
    read_growth,
    shortage_of,
    trials_on,
)

HEAD = {"CPU": 0.0, "memory": 1e9}
CONFIG = {
    "max_workers": 8,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "l4": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 4},
        "a10g": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 4},
    },
}


def kind(name: str, most: int, **resources: float) -> MachineType:
    return MachineType(name=name, resources=resources, most=most)


def written(path: Path, config: dict) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path


def test_auto_is_a_gpu_where_the_cluster_can_start_one(tmp_path):
    """With nothing but a head yet: else the GPU machines that are bought train on their CPUs."""
    growth = read_growth(written(tmp_path / "cluster.yaml", CONFIG))
    capacity = Capacity(present=(HEAD,), growth=growth)
    assert chosen_gpus(None, capacity, 1) == 1
    assert chosen_gpus(0, capacity, 1) == 0
    assert chosen_gpus(None, Capacity(present=({"CPU": 4.0},)), 1) == 0
    assert capacity.slots(1, 1) == 8
    assert capacity.slots(1, 1 / 4) == 32
    assert not capacity.fits_now(1, 1)


def test_auto_asks_where_nobody_knows():
    with pytest.raises(UserError, match=r"--gpus-per-trial is auto.*give 1.*or 0"):
        chosen_gpus(None, Capacity(present=(HEAD,)), 1)


def test_a_trial_that_no_machine_will_ever_hold_is_found():
    growth = Growth(types=(kind("small", 3, CPU=4, GPU=1),), most=3)
    capacity = Capacity(present=(HEAD,), growth=growth)
    assert shortage_of(4, 1, capacity) is None
    assert "8 CPU" in shortage_of(8, 1, capacity)
    assert "4 CPU and 1 GPU" in shortage_of(8, 1, capacity)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG | {"available_node_types": {"local": {"resources": {}}}, "head_node_type": "x"},
        {"max_workers": 2},
        [],
    ],
)
def test_a_file_that_does_not_say_what_its_machines_have_says_nothing(tmp_path, config):
    assert read_growth(written(tmp_path / "cluster.yaml", config)) is None
    assert read_growth(tmp_path / "nowhere.yaml") is None


@given(
    kinds=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=3
    ),
    most=st.integers(0, 5),
    cpus=st.sampled_from([0.5, 1, 3]),
    gpus=st.sampled_from([0, 1 / 3, 1]),
)
def test_slots_are_those_of_the_best_cluster(kinds, most, cpus, gpus):
    types = tuple(kind(str(i), m, CPU=c, GPU=g) for i, (c, g, m) in enumerate(kinds))
    best = max(
        sum(n * trials_on(one.resources, cpus, gpus) for n, one in zip(counts, types, strict=True))
        for counts in product(*(range(one.most + 1) for one in types))
        if sum(counts) <= most
    )
    assert Capacity(present=(), growth=Growth(types=types, most=most)).slots(cpus, gpus) == max(
        1, best
    )


def test_the_autoscaler_of_this_cluster_is_found_by_its_file(tmp_path):
    """A process with the command line of Ray's autoscaler, as tests/cluster starts the real one."""
    file = written(tmp_path / "cluster.yaml", CONFIG)
    script = tmp_path / AUTOSCALER[0]
    script.parent.mkdir(parents=True)
    script.write_text("print('ready', flush=True); input()")
    command = [sys.executable, script, "--gcs-address=10.0.0.1:7001"]
    command.append(f"--autoscaling-config={file}")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        found, other = growth_of("127.0.0.1:7001"), growth_of("10.0.0.1:7002")
        process.communicate("\n")
    assert found == read_growth(file)
    assert other is None

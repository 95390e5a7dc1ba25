"""The cluster files: what Ray would run with them, on which terms."""

from __future__ import annotations

import os
import re
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
from jsonschema import ValidationError
from ray._private.authentication.authentication_token_setup import _get_default_token_path
from ray.autoscaler._private.util import validate_config
from ray.core.generated.autoscaler_pb2 import NodeState

from sweeps.run.capacity import price_in
from sweeps.run.provenance import COMMITS
from tests.cluster.configs import FILES, ROOT, Config, load, prepared

CLOUDS = ("aws", "gcp")
MPS = "nvidia-cuda-mps-control"
SETUP = ("head_setup_commands", "worker_setup_commands")
START = ("head_start_ray_commands", "worker_start_ray_commands")


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest) -> Config:
    return prepared(request.param)


def commands(config: Config) -> list[str]:
    kinds = ("initialization_commands", *SETUP, *START)
    return [command for kind in kinds for command in config[kind]]


def bash(command: str, home: Path, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["/bin/bash", "-c", command],
        env={"HOME": str(home), "PATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", ["gcp", "onprem"])
def test_ray_accepts_it(name: str) -> None:
    """AWS's too, where its machines can be looked up: see test_aws."""
    validate_config(prepared(name))


def test_ray_would_notice_a_wrong_word() -> None:
    with pytest.raises(ValidationError, match="idle_minutes"):
        validate_config(prepared("onprem") | {"idle_minutes": 5})


def test_no_command_has_a_syntax_error(config: Config) -> None:
    for command in commands(config):
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, ""), command


def test_every_ray_start_asks_for_the_token(config: Config) -> None:
    starts = [c for kind in START for c in config[kind] if "ray start" in c]
    assert len(starts) == 2
    for command in starts:
        assert re.search(r"(^|; )RAY_AUTH_MODE=token ray start ", command), command


def test_the_token_is_where_ray_looks_and_private(config: Config) -> None:
    path = "~/.ray/auth_token"
    assert Path(path).expanduser() == _get_default_token_path()
    assert config["file_mounts"][path] == path
    for kind in SETUP:
        assert config[kind][0] == f"chmod 600 {path}"


def test_the_dashboard_is_on_the_loopback(config: Config) -> None:
    hosts = re.findall(r"--dashboard-host=(\S+)", " ".join(commands(config)))
    assert hosts == ["127.0.0.1"]


def test_what_is_installed_is_pinned(config: Config) -> None:
    pinned = dict(
        line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().split()
    )
    installs = {c for kind in SETUP for c in config[kind] if "pip install" in c}
    assert installs
    for command in installs:
        assert command.startswith("cd ~/rewind-ray && ~/venv/bin/pip install ")
        words = command.partition("pip install ")[2].split()
        assert words.count("--constraint") == 1
        assert words[words.index("--constraint") + 1] == "constraints.txt"
        wanted = [w for w in words if not w.startswith("-") and w not in ("constraints.txt", ".")]
        for requirement in wanted:
            name = re.match(r"'?([\w-]+)", requirement)[1]
            assert name in pinned or "==" in requirement, requirement
    for kind in SETUP:
        assert sum(" --editable . " in command for command in config[kind]) == 1


def test_what_the_nodes_need_is_synced_and_nothing_else(config: Config) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    needed = {name.removesuffix("*") for name in packages}
    needed |= {"constraints.txt", "pyproject.toml", project["project"]["readme"]}
    needed |= set(project["project"]["license-files"])
    mounts = config["file_mounts"].copy()
    del mounts["~/.ray/auth_token"]
    assert mounts.pop(f"~/rewind-ray/{COMMITS}") == ".git/logs/HEAD"
    assert mounts == {f"~/rewind-ray/{name}": name for name in needed}
    assert all((ROOT / name).exists() for name in needed)
    assert "**/__pycache__" in config["rsync_exclude"]


def test_a_login_shell_finds_storage_token_mode_and_venv(config: Config, tmp_path: Path) -> None:
    setup = [c for c in config["head_setup_commands"] if ".rewind-ray" in c]
    for _ in range(2):  # `ray up` may be repeated
        for command in [*config["initialization_commands"], *setup]:
            assert bash(command, tmp_path).returncode == 0
    assert (tmp_path / ".bashrc").read_text().count("rewind-ray") == 1
    seen = bash("source ~/.bashrc; echo $STORAGE; echo $RAY_AUTH_MODE; echo $PATH", tmp_path)
    storage, mode, path = seen.stdout.splitlines()
    assert re.fullmatch(r"(s3://|gs://|/).+/rewind-ray", storage)
    assert mode == "token"
    assert path.split(":")[0] == f"{tmp_path}/venv/bin"


@pytest.mark.parametrize("status", [None, 0, 1], ids=["absent", "starts", "runs-already"])
def test_mps_never_stands_in_the_way(config: Config, tmp_path: Path, status: int | None) -> None:
    (command,) = [c for c in config["worker_start_ray_commands"] if MPS in c]
    if status is not None:
        tool = tmp_path / MPS
        tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\nexit {status}\n')
        tool.chmod(0o755)
    done = bash(command, tmp_path, path=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    called = tmp_path / "called"
    assert (called.read_text() if called.exists() else None) == (None if status is None else "-d\n")


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_scale_from_nothing_and_never_train_on_the_head(name: str) -> None:
    config = prepared(name)
    assert 0 < config["idle_timeout_minutes"] <= 10
    workers = 0
    for node_type, settings in config["available_node_types"].items():
        head = node_type == config["head_node_type"]
        assert settings["min_workers"] == 0
        workers += settings["max_workers"]
        if head:
            assert settings["max_workers"] == 0
            assert settings["resources"] == {"CPU": 0}
    assert workers == config["max_workers"]  # else one type could take all, and refuse them all
    assert config["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("name", CLOUDS)
def test_every_machine_has_a_price(name: str) -> None:
    """As Ray hands it to the node, as a label."""
    for settings in prepared(name)["available_node_types"].values():
        node = NodeState(labels=settings["labels"])
        assert 0 < price_in(node.labels) < 10


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_watch_for_their_end_once(name: str, tmp_path: Path) -> None:
    """With a Python that only notes its arguments. ``ray up`` may be repeated."""
    (command,) = [c for c in prepared(name)["worker_start_ray_commands"] if "sweeps.node" in c]
    command = command.replace("/tmp/rewind-ray-node", f"{tmp_path}/node")
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho $RAY_AUTH_MODE $@ >> {tmp_path}/called; exec sleep 30\n")
    python.chmod(0o755)
    done = bash(command, tmp_path)  # which returns while it runs
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    called = tmp_path / "called"
    while not called.exists():
        time.sleep(0.01)
    assert bash(command.removesuffix("&"), tmp_path).returncode == 1
    assert called.read_text() == f"token -m sweeps.node --cloud {name}\n"
    subprocess.run(["fuser", "--silent", "--kill", f"{tmp_path}/node"])


def test_gcp_workers_are_spot_with_rights_of_their_own() -> None:
    config = load("gcp")
    worker = config["available_node_types"]["l4"]["node_config"]
    assert worker["scheduling"]["provisioningModel"] == "SPOT"
    assert worker["scheduling"]["instanceTerminationAction"] == "DELETE"
    (account,) = worker["serviceAccounts"]
    assert account["email"] == config["provider"]["worker_account"]
    assert "scheduling" not in config["available_node_types"]["head"]["node_config"]

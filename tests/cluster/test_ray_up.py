"""``ray up``, a sweep and ``ray down`` on two hosts, with what cluster/onprem.yaml says."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from analysis.table.rows import read_rows
from sweeps.run.provenance import COMMITS, packages_digest
from tests.cluster.configs import ROOT, load
from tests.cluster.hosts import ADDRESSES, HOME, SHARED, Machine, machines, why_not

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

CLUSTER = f"{HOME}/cluster.yaml"
CORES = 2
"""That Ray uses of each host, however many this machine has."""
SEEDS = 2 * CORES  # as many baselines, so that both hosts are at work from the start
STAGES = 13 * SEEDS
SWEEP = "sweeps.quickstart --smoke --seeds"
LONGEST = 300
"""Seconds for a command; they take a tenth of it on an idle machine."""
AS_ON_A_TERMINAL = "--log-style pretty --log-color false"
OF_THE_RUN = ["train_seconds", "finished_at", "git_commit"]
"""Columns that tell when and from which checkout."""


@dataclass(frozen=True, slots=True)
class User:
    """Types commands on the laptop."""

    laptop: Machine
    transcript: Path

    def types(self, command: str, meanwhile: Callable[[], None] = lambda: None) -> str:
        """What it prints. ``meanwhile`` is called again and again until it has ended."""
        begun = time.monotonic()
        with self.transcript.open("a+") as file:
            file.write(f"$ {command}\n")
            file.flush()
            start = self.transcript.stat().st_size
            command = re.sub(r"^ray (up|exec|submit|down)", rf"\g<0> {AS_ON_A_TERMINAL}", command)
            with self.laptop.start("bash", "-c", command, stdout=file) as process:
                while process.poll() is None:
                    meanwhile()
                    time.sleep(0.05)
                    if time.monotonic() > begun + LONGEST:
                        process.kill()
            printed = self.transcript.read_bytes()[start:].decode()
            file.write(f"[{time.monotonic() - begun:.0f} s]\n\n")
        assert process.returncode == 0, f"{command}\n{printed}"
        return printed


def git(*arguments: str) -> str:
    """``git rev-parse``, which knows the files of worktrees too."""
    command = ["git", "rev-parse", "--path-format=absolute", *arguments]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


def cluster_file() -> str:
    """cluster/onprem.yaml with these hosts, and this interpreter's packages for an installation."""
    config = load("onprem")
    config["provider"] |= {"head_ip": ADDRESSES["head"], "worker_ips": [ADDRESSES["worker"]]}
    config["auth"]["ssh_user"] = "root"
    config["initialization_commands"] = [
        command.replace("/mnt/shared", SHARED) for command in config["initialization_commands"]
    ]
    setup = [c for c in config["setup_commands"] if "venv ~/venv" not in c and "pip" not in c]
    assert len(setup) == len(config["setup_commands"]) - 2
    config["file_mounts"][f"~/rewind-ray/{COMMITS}"] = git("--git-path", "logs/HEAD")
    config["setup_commands"] = [
        f"ln -sfn {sys.prefix} ~/venv",
        *setup,
        "echo 'export PYTHONPATH=$HOME/rewind-ray' >> ~/.rewind-ray",  # as if installed editable
    ]
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        commands[-1] += f" --num-cpus={CORES}"
    return yaml.safe_dump(config, sort_keys=False)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited for {seconds} s"
        time.sleep(0.5)


def others(machine: Machine) -> list[str]:
    """What runs there besides the first process and SSH."""
    return [line for line in machine.processes() if line != "cat" and not line.startswith("ssh")]


def trains(machine: Machine) -> bool:
    return any(line.startswith("ray::StageTrainable") for line in machine.processes())


def refused(machine: Machine, *settings: str) -> str:
    """What Ray says to a driver with these settings instead of the token."""
    code = f"import ray; ray.init('{ADDRESSES['head']}:6379')"
    tried = machine.run("env", "HOME=/tmp", *settings, "python", "-c", code)
    assert tried.returncode != 0, tried.stdout
    return tried.stdout


def listening(machine: Machine) -> dict[int, set[str]]:
    """Port -> addresses."""
    found: dict[int, set[str]] = {}
    for line in machine.run("ss", "--no-header", "-ltn").stdout.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        found.setdefault(int(port), set()).add(address)
    return found


def rows(storage: Path) -> pd.DataFrame:
    return read_rows(str(storage)).sort_values("stage_id", ignore_index=True)


def links_and_mounts() -> tuple[str, str]:
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True)
    return links.stdout, Path("/proc/mounts").read_text()


def test_a_sweep_on_two_hosts(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    before = links_and_mounts()
    shared = tmp_path / "shared"
    shared.mkdir()
    with machines(tmp_path, shared) as there:
        laptop, head, worker = there["laptop"], there["head"], there["worker"]
        user = User(laptop, tmp_path / "transcript.txt")
        home = tmp_path / "laptop" / HOME[1:]
        (home / "cluster.yaml").write_text(cluster_file())
        (home / ".ssh/config").write_text("StrictHostKeyChecking accept-new\n")

        user.types("umask 077; ray get-auth-token --generate > /dev/null")
        user.types(f"ray up --yes {CLUSTER}")
        status = f"ray exec {CLUSTER} 'ray status'"
        wait_until(lambda: "2 local.cluster.node" in user.types(status), seconds=120)

        trained: set[str] = set()

        def watch() -> None:
            trained.update(host.name for host in (head, worker) if trains(host))

        printed = user.types(
            f"ray exec {CLUSTER} 'python -m {SWEEP} {SEEDS} --address auto --storage $STORAGE'",
            meanwhile=watch,
        )
        assert f"{STAGES} stages, 0 of them done already" in printed
        assert trained == {"head", "worker"}
        printed = user.types(
            f"ray submit {CLUSTER} sweeps/quickstart.py -- --smoke --seeds {SEEDS} "
            f"--address auto --storage {SHARED}/rewind-ray"
        )
        assert f"{STAGES} stages, {STAGES} of them done already" in printed

        assert "AuthenticationError" in refused(laptop, "RAY_AUTH_MODE=disabled")
        assert "AuthenticationError" in refused(
            laptop, "RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN={'0' * 64}"
        )
        assert listening(head).get(8265, {"127.0.0.1"}) == {"127.0.0.1"}

        user.types(f"ray down --yes {CLUSTER}")
        wait_until(lambda: not others(head), seconds=60)
        assert others(worker)  # the one thing that `ray down` doesn't do for machines of one's own
        user.types(f"ssh -i ~/.ssh/rewind-ray root@{ADDRESSES['worker']} '~/venv/bin/ray stop'")
        wait_until(lambda: not others(worker), seconds=60)

        alone = laptop.run(
            "bash", "-c", f"python -m {SWEEP} 1 --storage /tmp/alone", timeout=LONGEST
        )
        assert alone.returncode == 0, alone.stdout
    assert links_and_mounts() == before
    assert not any(machine.processes() for machine in there.values())

    on_cluster, on_one = rows(shared / "rewind-ray"), rows(tmp_path / "laptop/tmp/alone")
    assert len(on_cluster) == STAGES
    assert set(on_cluster["git_commit"]) == {f"{git('HEAD')[:12]}+code.{packages_digest()}"}
    on_cluster = on_cluster[on_cluster["seed"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        on_cluster.drop(columns=OF_THE_RUN), on_one.drop(columns=OF_THE_RUN), check_exact=True
    )
    secret = (home / ".ray/auth_token").read_text().strip()
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert secret not in user.transcript.read_text()
    told = subprocess.run(["grep", "-rl", secret, shared], capture_output=True, text=True)
    assert told.stdout == ""

"""``rewind-ray service``: its unit as systemd reads it, and under a user's systemd that is real."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rewind_ray.command_line import (
    DONE,
    INCOMPLETE,
    INTERRUPTED,
    OF_A_SERVICE,
    WRONG_USAGE,
)
from rewind_ray.store.ledger import Ledger
from sweeps import service
from sweeps.run.sweep_log import read_lines
from sweeps.service import address_in, kept, main, unit_text
from tests.cluster.hosts import HOME, SHARED
from tests.cluster.user_systemd import UserSystemd, user_systemd, why_not
from tests.sweeps.running import assert_complete, rows, wait_until

AWKWARD = ["a b", "$HOME ${HOME}", "%h", 'it\'s "so"', "back\\slash\\n", "li\nne", ";", ""]
"""Words that a shell, or a unit file, would take for something else."""

SWEEP = f"""#!/usr/bin/env python
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({INTERRUPTED}))
name, *words = sys.argv[1:]
start = {{"pid": os.getpid(), "words": words, "folder": os.getcwd(), "told": os.environ["TOLD"]}}
with open(f"{HOME}/{{name}}.starts", "a") as file:
    file.write(json.dumps(start) + "\\n")
while not os.path.exists(f"{HOME}/{{name}}.end"):
    time.sleep(0.02)
sys.exit(int(open(f"{HOME}/{{name}}.end").read()))
"""
"""What stands in for a sweep: it notes how it was started, and ends with the code it is given."""


# the unit


@pytest.mark.parametrize(
    ("words", "address"),
    [
        (["quickstart"], None),
        (["quickstart", "--address", "auto"], "auto"),
        (["quickstart", "--address=10.0.0.1:6379", "--smoke"], "10.0.0.1:6379"),
        (["quickstart", "--address"], ""),
    ],
)
def test_the_address_is_the_command_s(words: list[str], address: str | None) -> None:
    assert address_in(words) == address


@pytest.mark.parametrize("address", [None, "local", "auto", "10.0.0.1:6379"])
def test_systemd_understands_the_unit(tmp_path: Path, address: str | None) -> None:
    """All of it: what it doesn't know it ignores, with a message."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("NOT TESTED: there is no systemd-analyze")
    folder = tmp_path / "50%h of it"
    folder.mkdir()
    words = ["/bin/true", *AWKWARD, *(["--address", address] if address else [])]
    text = unit_text("rewind-ray-x.service", words, folder, {"TOLD": 'a "$B" %c \\d'})
    assert ("status" in text) == (address not in (None, "local"))

    def verified(text: str) -> str:
        (tmp_path / "rewind-ray-x.service").write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "--user", "verify", str(tmp_path / "rewind-ray-x.service")],
            env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    assert verified(text) == ""
    assert "RestartSecond" in verified(text.replace("RestartSec", "RestartSecond"))


def test_the_environment_of_the_session_is_left_out() -> None:
    ours = {"PATH": "/bin", "AWS_PROFILE": "mine", "RAY_AUTH_MODE": "token", "EMPTY": ""}
    session = {
        "TERM": "xterm",
        "SSH_AUTH_SOCK": "/tmp/x",
        "XDG_RUNTIME_DIR": "/run/user/7",
        "_": "",
    }
    unfit = {"A\nB": "1", "LINES_OF_TEXT": "1\n2", "BASH_FUNC_x%%": "() {"}
    assert kept(ours | session | unfit) == ours | {"PYTHONUNBUFFERED": "1", OF_A_SERVICE: "1"}


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        (["../x", "--", "true"], "../x"),
        (["x"], "no command"),
        (["x", "true"], "no command"),
        (["x", "--"], "no command"),
        (["x", "--", "no-such-program-at-all"], "no-such-program-at-all"),
    ],
)
def test_wrong_usage_is_named(
    typed: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) == WRONG_USAGE
    assert named in capsys.readouterr().err


def test_without_systemd_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "BOOTED", tmp_path / "nothing")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(["x", "--", "true"]) == WRONG_USAGE
    assert "no systemd" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# under systemd


class Host:
    """A machine whose user types ``rewind-ray service``."""

    def __init__(self, systemd: UserSystemd, folder: Path) -> None:
        self.systemd = systemd
        self.home = folder / "laptop" / HOME[1:]
        (self.home / "sweep").write_text(SWEEP)
        (self.home / "sweep").chmod(0o755)

    def serve(self, name: str, *words: str, code: int = DONE, program: Sequence[str] = ()) -> str:
        """What it prints. The pause before a restart is cut short, by systemd's own means.

        program: instead of the stand-in.
        """
        quick = self.home / f".config/systemd/user/rewind-ray-{name}.service.d/quick.conf"
        quick.parent.mkdir(parents=True, exist_ok=True)
        quick.write_text("[Service]\nRestartSec=100ms\n")
        typed = ("service", name, "--", *(program or (f"{HOME}/sweep", name)), *words)
        command = ("env", 'TOLD=a "$B" %c \\d\'s', "python", "-m", "sweeps.entry", *typed)
        done = self.systemd.machine.run(*command)
        assert done.returncode == code, done.stdout
        return done.stdout

    def starts(self, name: str) -> list[dict[str, object]]:
        path = self.home / f"{name}.starts"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for_start(self, name: str, number: int) -> dict[str, object]:
        wait_until(lambda: len(self.starts(name)) == number, 120)
        return self.starts(name)[-1]

    def end(self, name: str, code: int) -> None:
        (self.home / f"{name}.end").write_text(str(code))

    def goes_on(self, name: str) -> None:
        (self.home / f"{name}.end").unlink()

    def state(self, name: str) -> str:
        unit = f"rewind-ray-{name}.service"
        return self.systemd.systemctl("show", "--property=ActiveState", "--value", unit)

    def is_enabled(self, name: str) -> bool:
        return self.systemd.systemctl("is-enabled", f"rewind-ray-{name}.service") == "enabled"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("host")
    with user_systemd(folder) as systemd:
        yield Host(systemd, folder)


@pytest.mark.cluster
@pytest.mark.slow
def test_the_command_is_run_as_it_was_typed(host: Host) -> None:
    said = host.serve("typed", *AWKWARD)
    start = host.wait_for_start("typed", 1)
    assert start["words"] == AWKWARD
    assert start["told"] == 'a "$B" %c \\d\'s'
    assert start["folder"] == str(Path(service.__file__).parents[1])
    assert (host.home / "asked").read_text().splitlines()[0] == "enable-linger root"
    assert "systemctl --user disable --now rewind-ray-typed.service" in said
    unit = host.home / ".config/systemd/user/rewind-ray-typed.service"
    assert stat.S_IMODE(unit.stat().st_mode) == 0o600
    assert "rewind-ray-typed.service is active" in host.serve("typed", code=WRONG_USAGE)
    assert len(host.starts("typed")) == 1


@pytest.mark.cluster
@pytest.mark.slow
def test_it_comes_back_after_its_death_a_crash_and_a_power_cut(host: Host) -> None:
    host.serve("back")
    host.wait_for_start("back", 1)
    host.systemd.systemctl("kill", "--signal=KILL", "--kill-whom=main", "rewind-ray-back.service")
    host.wait_for_start("back", 2)
    host.end("back", 1)
    wait_until(lambda: len(host.starts("back")) >= 3, 120)
    host.goes_on("back")
    wait_until(lambda: host.state("back") == "active", 120)
    number = len(host.starts("back"))
    host.systemd.cut()
    host.systemd.boot()
    wait_until(lambda: len(host.starts("back")) == number + 1, 120)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("code", [DONE, WRONG_USAGE, INCOMPLETE])
def test_what_has_ended_for_good_stays_ended_also_after_a_reboot(host: Host, code: int) -> None:
    name = f"ended-{code}"
    host.serve(name)
    host.wait_for_start(name, 1)
    assert host.is_enabled(name)
    host.end(name, code)
    ended = "failed" if code else "inactive"
    wait_until(lambda: host.state(name) == ended and not host.is_enabled(name), 120)
    host.systemd.cut()
    host.systemd.boot()
    assert host.state(name) == "inactive" and len(host.starts(name)) == 1
    host.goes_on(name)
    host.serve(name)  # the same command again
    host.wait_for_start(name, 2)


@pytest.mark.cluster
@pytest.mark.slow
def test_one_that_is_stopped_has_not_failed(host: Host) -> None:
    said = host.serve("stopped")
    host.wait_for_start("stopped", 1)
    (stop,) = [line for line in said.splitlines() if line.startswith("stop ")]
    host.systemd.systemctl(*stop.split()[3:])
    assert (host.state("stopped"), host.is_enabled("stopped")) == ("inactive", False)
    assert len(host.starts("stopped")) == 1


@pytest.mark.cluster
@pytest.mark.slow
def test_it_waits_for_a_ray_that_is_not_there(host: Host) -> None:
    host.serve("waiting", "--address", "auto")
    looks = "ray status --address=auto"
    wait_until(lambda: any(looks in line for line in host.systemd.machine.processes()), 120)
    assert host.state("waiting") == "active" and host.starts("waiting") == []
    host.systemd.cut()
    host.systemd.boot()  # which doesn't wait for it
    wait_until(lambda: any(looks in line for line in host.systemd.machine.processes()), 120)


# a real sweep


def quickstart(host: Host, name: str, *options: str) -> Path:
    """Its storage, which the machine has as well."""
    sweep = ("-m", "sweeps.entry", "quickstart", "--smoke", "--seeds", "1")
    host.serve(name, "--storage", f"{SHARED}/{name}", *options, program=("python", *sweep))
    return host.home.parents[2] / "shared" / name


@pytest.mark.cluster
@pytest.mark.alone
def test_a_sweep_that_is_killed_and_loses_its_power_ends_by_itself_with_the_same_bits(
    host: Host, undisturbed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    storage = quickstart(host, "sweep")
    wait_until(lambda: storage.exists() and len(rows(storage)) >= 1, 300)
    host.systemd.systemctl("kill", "--signal=KILL", "--kill-whom=main", "rewind-ray-sweep.service")
    wait_until(lambda: len(rows(storage)) >= 4, 300)
    host.systemd.cut()
    host.systemd.boot()
    wait_until(lambda: not host.is_enabled("sweep"), 600)
    assert host.state("sweep") == "inactive"
    assert_complete(storage, undisturbed[0])
    lines = read_lines(Ledger(str(storage)), "quickstart-smoke")
    assert sum("started on laptop" in line for line in lines) == 3
    assert lines[-1].endswith("ended with exit code 0")


@pytest.mark.cluster
@pytest.mark.alone
def test_a_sweep_begins_once_there_is_a_ray(host: Host) -> None:
    storage = quickstart(host, "late", "--address", "auto")
    wait_until(lambda: host.state("late") == "active", 120)
    started = host.systemd.machine.run("ray", "start", "--head", "--num-cpus=2", timeout=120)
    assert started.returncode == 0, started.stdout
    wait_until(lambda: not host.is_enabled("late"), 600)
    host.systemd.machine.run("ray", "stop", "--force")
    assert host.state("late") == "inactive" and len(rows(storage)) == 13

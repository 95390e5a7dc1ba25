"""``rewind-ray service NAME -- COMMAND``: a sweep that systemd starts again.

The command runs in this folder, with this shell's environment variables. It is
started again a minute after its process was killed, has crashed, or has broken
off because Ray or the storage was gone, with up to 20 starts a day, and after a
reboot. It isn't after its end: all is done, a limit is reached, stages fail, or
the usage is wrong.

With --address auto or HOST:PORT it waits until Ray answers there. Nobody starts
Ray again on a machine that was rebooted: a cluster's head gets it by the next
ray up.

Examples:
  rewind-ray service digits -- rewind-ray quickstart --storage /data/results
  rewind-ray service wrn -- rewind-ray iterative-wrn --address auto
  systemctl --user status rewind-ray-wrn           what it does now
  rewind-ray status results --log                  what it has printed
  systemctl --user disable --now rewind-ray-wrn    stop it
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rewind_ray.command_line import (
    DONE,
    INCOMPLETE,
    INTERRUPTED,
    OF_A_SERVICE,
    WRONG_USAGE,
    exit_code,
)
from rewind_ray.errors import UserError
from rewind_ray.text import printable

BOOTED = Path("/run/systemd/system")
"""There where systemd runs (its manual, sd_booted)."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
PAUSE_SECONDS = 60
STARTS_A_DAY = 20
STOP_SECONDS = 100
"""For stages to save their epoch; systemd gives all of a user's services 120 at a shutdown."""
RAY_SECONDS = 15
"""Between two looks for Ray."""
ANSWER_SECONDS = 10.0
"""In which a user's systemd that was just started answers."""
FINAL = (DONE, WRONG_USAGE, INCOMPLETE)
"""Exit codes of a command that would end in the same way again."""
OF_A_SESSION = re.compile(
    r"_|SHLVL|PWD|OLDPWD|MAIL|DISPLAY|COLORTERM|LS_COLORS|XDG_RUNTIME_DIR"
    r"|(TERM|TMUX|SSH_|XDG_SESSION_|DBUS_|INVOCATION_|JOURNAL_).*"
)
"""Environment variables that mean something in this shell only."""


def main(typed: Sequence[str]) -> int:
    """The exit code."""
    if not typed or typed[0] in ("--help", "-h"):
        print(f"usage: rewind-ray service [-h] NAME -- COMMAND\n\n{__doc__}")
        return DONE
    return exit_code(lambda: start_service(*parsed(typed)))


def parsed(typed: Sequence[str]) -> tuple[str, list[str]]:
    """Name and command."""
    name, *rest = typed
    if not NAME.fullmatch(name):
        raise UserError(f"the service's name is {name[:100]!r}; allowed: letters, digits, - _ .")
    if rest[:1] != ["--"] or len(rest) < 2:
        raise UserError(
            f"no command follows {name!r}; as in: rewind-ray service {name} -- rewind-ray list"
        )
    return name, rest[1:]


def start_service(name: str, command: Sequence[str]) -> int:
    unit = f"rewind-ray-{name}.service"
    text = unit_text(unit, with_path(command), Path.cwd(), kept(os.environ))
    outlive_the_session()
    state = systemctl("show", "--property=ActiveState", "--value", unit).strip()
    if state not in ("inactive", "failed"):
        raise UserError(f"{unit} is {state} already; to stop it: {stopping(unit)}")
    write_unit(unit, text)
    systemctl("daemon-reload")
    systemctl("enable", unit)
    run("systemctl", "--user", "reset-failed", unit)  # fails where it never ran
    systemctl("start", "--no-block", unit)
    print(
        f"{unit} is started\n"
        f"state    systemctl --user status {unit}\n"
        f"printed  journalctl --user --unit {unit}; or rewind-ray status STORAGE --log\n"
        f"stop     {stopping(unit)}"
    )
    return DONE


def stopping(unit: str) -> str:
    return f"systemctl --user disable --now {unit}"


# systemd


def outlive_the_session() -> None:
    """Have systemd run this user's services from boot on, and beyond the last session.

    Raises UserError where there is no systemd, or where that isn't allowed.
    """
    if not BOOTED.is_dir():
        raise UserError(
            "no systemd runs here; in a container it is what runs the container that can start "
            "the command again"
        )
    linger = ("loginctl", "enable-linger", pwd.getpwuid(os.getuid()).pw_name)
    tried = run(*linger)
    if tried.returncode != 0 and run("sudo", "--non-interactive", *linger).returncode != 0:
        raise UserError(
            f"can't have services that outlive the session: {tried.stderr.strip()}; somebody with "
            f"the right to it has to run: sudo {' '.join(linger)}"
        )
    end = time.monotonic() + ANSWER_SECONDS
    while run("systemctl", "--user", "show-environment").returncode != 0:
        if time.monotonic() > end:
            systemctl("show-environment")
        time.sleep(0.2)


def systemctl(*arguments: str) -> str:
    """What ``systemctl --user`` prints. Raises UserError where it fails."""
    done = run("systemctl", "--user", *arguments)
    if done.returncode != 0:
        raise UserError(f"systemctl --user {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def run(*command: str) -> subprocess.CompletedProcess[str]:
    runtime = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}  # without which it finds no systemd
    try:
        return subprocess.run(command, env=runtime | os.environ, capture_output=True, text=True)
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def write_unit(unit: str, text: str) -> None:
    """Where systemd looks for the user's; readable by the user alone, as it has the environment."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd/user"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / unit
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


# The unit


def unit_text(
    unit: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> str:
    """command: its first word is a path."""
    final = "|".join(map(str, FINAL))
    forget = f'case "$EXIT_STATUS" in {final}) systemctl --user disable {unit}; esac'
    lines = [
        "[Unit]",
        f"Description={printable(shlex.join(command)).replace('%', '%%')}",
        "StartLimitIntervalSec=1d",
        f"StartLimitBurst={STARTS_A_DAY}",
        "",
        "[Service]",
        "Type=exec",
        f"WorkingDirectory={str(folder).replace('%', '%%')}",
        *(f"Environment={quoted(f'{name}={value}')}" for name, value in environment.items()),
        f"ExecStart={command_line([*waiting_for_ray(command), *command])}",
        "Restart=on-failure",
        f"RestartSec={PAUSE_SECONDS}",
        f"RestartPreventExitStatus={' '.join(map(str, FINAL))}",
        f"SuccessExitStatus={INTERRUPTED}",
        # what has ended for good isn't started at the next boot either
        f"ExecStopPost=-{command_line(['/bin/sh', '-c', forget])}",
        # SIGTERM is for the driver, whose workers save their epoch when it says so
        "KillMode=mixed",
        f"TimeoutStopSec={STOP_SECONDS}",
        # a worker without memory is tried again by the sweep itself
        "OOMPolicy=continue",
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    ]
    return "\n".join(lines)


def waiting_for_ray(command: Sequence[str]) -> list[str]:
    """Words before the command that wait and then run it; none where it starts a Ray of its own.

    Ray's commands take its token only where RAY_AUTH_MODE says so; a sweep takes it anyway.
    """
    address = address_in(command)
    if address in (None, "local"):
        return []
    ray = Path(sys.executable).with_name("ray")
    look = shlex.join(["timeout", "60", str(ray), "status", f"--address={address}"])
    either = f"({look} || RAY_AUTH_MODE=token {look}) > /dev/null 2>&1"
    script = f'until {either}; do sleep {RAY_SECONDS}; done; exec "$@"'
    return ["/bin/sh", "-c", script, "sh"]


def address_in(command: Sequence[str]) -> str | None:
    """Ray's, as a sweep takes it: ``--address auto`` or ``--address=auto``; None: there is none."""
    for word, after in zip(command, [*command[1:], ""], strict=True):
        if word == "--address":
            return after
        if word.startswith("--address="):
            return word.removeprefix("--address=")
    return None


def with_path(command: Sequence[str]) -> list[str]:
    """The command, its program as an absolute path."""
    found = shutil.which(command[0])
    if found is None:
        raise UserError(f"there is no program {command[0]!r} on the path")
    return [str(Path(found).absolute()), *command[1:]]


def kept(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what belongs to the session, and what systemd can't take."""
    return {
        name: value
        for name, value in environment.items()
        if not OF_A_SESSION.fullmatch(name) and value.isprintable() and name.isidentifier()
    } | {"PYTHONUNBUFFERED": "1", OF_A_SERVICE: "1"}


def command_line(words: Sequence[str]) -> str:
    """As a unit file has it, where ``$`` would stand for a variable."""
    return " ".join(quoted(word).replace("$", "$$") for word in words)


def quoted(word: str) -> str:
    r"""As one word of a unit file: escaped as in C, and ``%``, which would stand for something,
    doubled."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'.replace("\n", "\\n").replace("\t", "\\t")

"""A user's systemd on a machine of ``hosts``, in a cgroup of its own: started, and cut off."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import hosts
from tests.cluster.hosts import HOME, Machine
from tests.sweeps.running import wait_until

SYSTEMD = "/lib/systemd/systemd"
RUNTIME = "/run/user/0"

START = f"""
set -eu
rm -rf /run/user && mkdir -p /run/systemd/system {RUNTIME}
echo 0 > $CGROUP/cgroup.procs
mount --bind /dev/null /dev/console
exec unshare --cgroup --mount bash -c '
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    export XDG_RUNTIME_DIR={RUNTIME}
    exec {SYSTEMD} --user --unit=default.target --log-target=null'
"""
"""As PAM does at a login, or systemd itself at boot for who lingers."""


def cgroups() -> Path | None:
    """Where cgroups of version 2 are mounted."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)


def why_not() -> str | None:
    """What is missing for it here, or None."""
    if reason := hosts.why_not():
        return reason
    if shutil.which("systemd-run") is None or not Path(SYSTEMD).exists():
        return "needs systemd"
    folder = cgroups()
    if folder is None:
        return "needs cgroups of version 2"
    try:
        (folder / "rewind-ray-trial").mkdir()
        (folder / "rewind-ray-trial").rmdir()
    except OSError as error:
        return f"can't make a cgroup: {error}"
    return None


@dataclass(slots=True)
class UserSystemd:
    machine: Machine
    cgroup: Path
    process: subprocess.Popen[str] | None = None

    def boot(self) -> None:
        script = f"CGROUP={self.cgroup}; {START}"
        self.process = self.machine.start("bash", "-c", script, stdout=subprocess.DEVNULL)
        wait_until(lambda: self.systemctl("is-active", "default.target") == "active", 120)

    def cut(self) -> None:
        """As when the power fails: nothing can tidy up."""
        (self.cgroup / "cgroup.kill").write_text("1")
        if self.process is not None:
            self.process.wait(timeout=60)
        wait_until(lambda: "populated 0" in (self.cgroup / "cgroup.events").read_text(), 60)

    def systemctl(self, *arguments: str) -> str:
        told = ("env", f"XDG_RUNTIME_DIR={RUNTIME}", "systemctl", "--user", *arguments)
        return self.machine.run(*told).stdout.strip()


@contextmanager
def user_systemd(folder: Path) -> Iterator[UserSystemd]:
    """On a machine of its own, whose ``loginctl`` only notes what it is asked."""
    root = cgroups()
    assert root is not None
    cgroup = root / f"rewind-ray-{folder.parent.name}-{time.monotonic_ns()}"
    cgroup.mkdir()
    shared = folder / "shared"
    shared.mkdir()
    with hosts.machine("laptop", folder, shared) as machine:
        systemd = UserSystemd(machine, cgroup)
        try:
            home = folder / "laptop" / HOME[1:]
            noting = home / "loginctl"
            noting.write_text(f'#!/bin/sh\necho "$@" >> {HOME}/asked\n')
            noting.chmod(0o755)
            machine.run("mount", "--bind", f"{HOME}/loginctl", shutil.which("loginctl") or "")
            systemd.boot()
            yield systemd
        finally:
            systemd.cut()
            for path in (*sorted(cgroup.rglob("*"), reverse=True), cgroup):
                if path.is_dir():
                    path.rmdir()

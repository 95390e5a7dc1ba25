"""Machines that aren't there: a laptop and two hosts with ``sshd``, as Linux namespaces.

Each has network, processes, mounts and a host name of its own, and its own ``/tmp``, home folder
and user table; the rest of the file system is this machine's. All of it lives inside the laptop's
namespaces, whose first process reads from a pipe: when the pipe closes (at the end, or because
this process was killed), the kernel ends every process and takes network and mounts away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
NEEDED = ("unshare", "nsenter", "ip", "mount", "ssh", "ssh-keygen", "rsync", "/usr/sbin/sshd")
HOME = "/tmp/home"
SHARED = "/tmp/shared"
"""The folder that all machines have in common, like one on NFS."""
ADDRESSES = {"head": "10.77.0.2", "worker": "10.77.0.3"}
LAPTOP = "10.77.0.1"

UNSHARE = ("unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--mount-proc")

INSIDE = """
set -eu
mount --make-rprivate /
hostname "$NAME"
mount --bind "$FOLDER/passwd" /etc/passwd
mount --bind "$FOLDER/shadow" /etc/shadow
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mkdir /run/sshd
mount --bind "$SHARED_FOLDER" "$FOLDER/tmp/shared"
for path in $VISIBLE; do
    mkdir -p "$FOLDER$path"
    mount --bind "$path" "$FOLDER$path"
done
mount --rbind "$FOLDER/tmp" /tmp
ip link set lo up
trap '' CHLD  # bash's, not dash's: the kernel then buries the orphans that come to it
echo ready
exec cat
"""
"""What a machine's first process does. VISIBLE: folders in /tmp that the new /tmp must not hide."""

SSHD = """
ListenAddress {address}
HostKey /tmp/ssh/host_key
AuthorizedKeysFile /tmp/ssh/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
AcceptEnv no
"""


def why_not() -> str | None:
    """What is missing for it here, or None."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)} (Debian: openssh-server, rsync, iproute2, util-linux)"
    tried = _here(
        *UNSHARE, "sh", "-c", "mount -t tmpfs x /run && ip link add name bridge type bridge"
    )
    if tried.returncode != 0:
        return f"no namespaces or no bridges here: {tried.stderr.strip()}"
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    name: str
    pid: int
    """Its first process, as this machine counts."""
    processes_of: str
    """The name of its process namespace."""

    def command(self, *arguments: str) -> list[str]:
        inside = ["nsenter", f"--target={self.pid}", "--all", "--"]
        return [*inside, "env", f"--chdir={ROOT}", *arguments]

    def start(
        self, *arguments: str, stdout: int | IO[str] = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """As root of that machine, in the repository, with its Python first on the PATH."""
        return subprocess.Popen(
            self.command(*arguments),
            env={
                "HOME": HOME,
                "USER": "root",
                "LANG": "C.UTF-8",
                "TERM": "dumb",
                "PATH": f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "RAY_UP_enable_autoscaler_v2": "0",
                "RAY_USAGE_STATS_ENABLED": "0",
            },
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Like ``start``, to the end."""
        with self.start(*arguments) as process:
            try:
                stdout, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, stdout)

    def processes(self) -> list[str]:
        """The command lines of what runs on it; none once it is gone."""
        lines = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "ns/pid") == self.processes_of:
                    lines.append((process / "cmdline").read_text().replace("\0", " ").strip())
            except OSError:
                pass  # gone meanwhile
        return [line for line in lines if line]


@contextmanager
def machines(folder: Path, shared: Path) -> Iterator[dict[str, Machine]]:
    """A ``laptop``, and a ``head`` and a ``worker`` that its SSH key opens. Gone afterwards."""
    with ExitStack() as stack:
        laptop = stack.enter_context(machine("laptop", folder, shared))
        lay_network(laptop)
        key = folder / "laptop/tmp/home/.ssh/rewind-ray"
        key.parent.mkdir(mode=0o700)
        _must(_here("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)))
        found = {"laptop": laptop}
        for name, address in ADDRESSES.items():
            host = stack.enter_context(machine(name, folder, shared, inside=laptop))
            plug_in(laptop, host, address)
            _start_sshd(host, folder / name / "tmp/ssh", address, key.with_suffix(".pub"))
            found[name] = host
        yield found


@contextmanager
def machine(
    name: str, folder: Path, shared: Path, inside: Machine | None = None
) -> Iterator[Machine]:
    own = folder / name
    for path in (own / "tmp/home", own / "tmp/shared"):
        path.mkdir(parents=True)
    (own / "tmp/home/.bashrc").touch()
    (own / "passwd").write_text(
        f"root:x:0:0:root:{HOME}:/bin/bash\n"
        "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    (own / "shadow").write_text("root:*:20000:0:99999:7:::\n")
    hidden = {path for path in (str(ROOT), sys.prefix, sys.base_prefix) if path.startswith("/tmp/")}
    process = subprocess.Popen(
        [
            *(["nsenter", f"--target={inside.pid}", "--pid", "--"] if inside else []),
            *(*UNSHARE, "bash", "-c", INSIDE),
        ],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "NAME": name,
            "FOLDER": str(own),
            "SHARED_FOLDER": str(shared),
            "VISIBLE": " ".join(hidden),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the test, which then cleans up
    )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == "ready\n", f"{name} didn't start"
        pid = _last_child(process.pid)
        yield Machine(name=name, pid=pid, processes_of=os.readlink(f"/proc/{pid}/ns/pid"))
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


def lay_network(laptop: Machine) -> None:
    """A bridge, with the laptop on it."""
    _must(laptop.run("ip", "link", "add", "name", "bridge", "type", "bridge"))
    _must(laptop.run("ip", "address", "add", f"{LAPTOP}/24", "dev", "bridge"))
    _must(laptop.run("ip", "link", "set", "bridge", "up"))


def plug_in(laptop: Machine, host: Machine, address: str) -> None:
    """A cable from the host's eth0 to the laptop's bridge. Nothing leads further."""
    cable = ["ip", "link", "add", "name", host.name, "type", "veth"]
    peer = ["peer", "name", "eth0", "netns", str(host.pid)]
    _must(_here("nsenter", f"--target={laptop.pid}", "--net", "--", *cable, *peer))
    _must(laptop.run("ip", "link", "set", host.name, "master", "bridge", "up"))
    _must(host.run("ip", "address", "add", f"{address}/24", "dev", "eth0"))
    _must(host.run("ip", "link", "set", "eth0", "up"))
    _must(host.run("ip", "route", "add", "default", "via", LAPTOP))  # Ray looks where it would go


def _start_sshd(host: Machine, folder: Path, address: str, public_key: Path) -> None:
    folder.mkdir()
    _must(_here("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key")))
    shutil.copy(public_key, folder / "authorized_keys")
    (folder / "config").write_text(SSHD.format(address=address))
    _must(host.run("/usr/sbin/sshd", "-f", "/tmp/ssh/config", "-E", "/tmp/ssh/log"))


def _last_child(pid: int) -> int:
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid


def _here(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True)


def _must(process: subprocess.CompletedProcess[str]) -> None:
    assert process.returncode == 0, f"{process.args}: {process.stdout}{process.stderr or ''}"

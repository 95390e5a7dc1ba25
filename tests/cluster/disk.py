"""A machine with a disk of its own, a file that can be searched like a stolen image.

Linux namespaces give it an own home folder, on that disk, own temporary folders and processes; so
what is wiped and ended on it is never this machine's. ``ssh`` reaches it without a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.hosts import UNSHARE

NEEDED = ("unshare", "nsenter", "mount", "mkfs.ext4", "ssh", "ssh-keygen", "pgrep", "shred")
NEEDED += ("/usr/sbin/sshd",)
SIZE = 64 * 2**20
INSIDE = """
set -eu
mount --make-rprivate /
mount -o loop "$FOLDER/disk" /mnt
mkdir -p /mnt/home/.ssh
mount -t tmpfs tmpfs /run
mkdir /run/sshd /run/ssh
cp "$FOLDER"/host_key "$FOLDER"/config /run/ssh
cp "$FOLDER"/authorized_keys /mnt/home/.ssh
mount --bind "$FOLDER/passwd" /etc/passwd
mount -t tmpfs tmpfs /var/tmp
mount -t tmpfs tmpfs /tmp
echo ready
exec cat
"""
PASSWD = """root:x:0:0:root:/mnt/home:/bin/bash
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
"""
SSHD = """HostKey /run/ssh/host_key
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """The machine, its home folder as seen from here, and its disk."""

    pid: int
    home: Path
    temporary: Path
    file: Path

    def proxy_command(self) -> str:
        inside = f"nsenter --target={self.pid} --all --"
        return f"{inside} /usr/sbin/sshd -i -f /run/ssh/config -E /run/ssh/log"

    def write(self, path: str, text: str) -> None:
        """In the home folder; what is there already stays."""
        (self.home / path).parent.mkdir(parents=True, exist_ok=True)
        with (self.home / path).open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def holds(self, text: str) -> bool:
        """Whether it is anywhere on the disk, in a deleted file too."""
        os.sync()
        return text.encode() in self.file.read_bytes()


def why_not(folder: Path) -> str | None:
    """What is missing for it here, or None."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    make_disk(folder / "try")
    try_it = ["mount", "-o", "loop", str(folder / "try"), "/mnt"]
    tried = subprocess.run([*UNSHARE, *try_it], capture_output=True, text=True)
    return f"no namespaces or loop devices here: {tried.stderr}" if tried.returncode else None


def make_disk(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", path], check=True)


@contextmanager
def disk_machine(folder: Path, private_key: Path) -> Iterator[Disk]:
    """Opened by the key; gone afterwards, but for the file of its disk."""
    folder.mkdir()
    make_disk(folder / "disk")
    (folder / "passwd").write_text(PASSWD)
    (folder / "config").write_text(SSHD)
    new_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host_key"]
    subprocess.run(new_key, check=True)
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", private_key], capture_output=True, text=True, check=True
    )
    (folder / "authorized_keys").write_text(public.stdout)
    process = subprocess.Popen(
        [*UNSHARE, "bash", "-c", INSIDE],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "FOLDER": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the test, which then cleans up
    )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == "ready\n", "the machine didn't start"
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        root = Path(f"/proc/{child}/root")
        assert not list((root / "tmp").iterdir())  # its own, before anything is wiped there
        assert not list((root / "var/tmp").iterdir())
        yield Disk(
            pid=int(child),
            home=root / "mnt/home",
            temporary=root / "tmp",
            file=folder / "disk",
        )
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()

"""A machine's disk before an image is made of it: without secrets, keys, code, caches and logs.

Whoever may start a machine from an image can read all of it, deleted files included, since these
stay in the free blocks. So what must not be in it is overwritten, not only deleted. What Ray
copies to each machine (the secret of the cluster, the code) comes back by itself when a machine
starts from the image. Any other file that is new since the machine started is somebody's own: it
is neither deleted nor put into an image, but reported.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

KEPT = ("venv", ".bashrc", ".profile", ".bash_logout", ".sudo_as_admin_successful")
KEPT += (".ssh/authorized_keys",)
"""In the home folder: the packages, and what the first start of an Ubuntu machine makes."""
REMOVED = (".ray", "ray_bootstrap_key.pem", "ray_bootstrap_config.yaml")
REMOVED += ("rewind-ray", ".rewind-ray")
REMOVED += (".cache", ".nv", ".triton", ".config/matplotlib", ".local/state")
REMOVED += (".bash_history", ".python_history", ".lesshst", ".viminfo", ".wget-hsts")
"""In the home folder: Ray's secret, its SSH key (on a head), the code, caches, histories."""

LOOK = """
set -eu
cd
find . -xdev -path ./venv -prune -o ! -type d ! -empty -newerct "@$1" -printf '%P\\0'
printf '/\\0'
grep -lZEsi '(key|token|secret|passw(or)?d)[a-z_]*=' .bashrc .profile || true
"""
"""Prints what is new since then ($1, seconds), and start-up files that seem to hold a secret."""

STOP = """
cd
export PATH="$HOME/venv/bin:$PATH" RAY_AUTH_MODE=token
python -m sweeps.node --ending 60
timeout 60 sh -c 'while pgrep -f "^ray::StageTrainable" > /dev/null; do sleep 1; done'
ray stop || ray stop --force
pkill -f 'sweeps[.]node --cloud'
on_terminals() {
    ps -u "$(id -u)" -o pid=,tty= | while read -r pid tty; do [ "$tty" = "?" ] || echo "$pid"; done
}
on_terminals | xargs -r kill -HUP
for _ in $(seq 20); do [ -z "$(on_terminals)" ] && break; sleep 1; done
on_terminals | xargs -r kill -KILL
true
"""
"""Has the stages save their epoch, and ends Ray and what would shut down a machine without it.

Shells on terminals end, too: they would write what was typed when the machine restarts.
"""

CLEAN = """
set -eu
cd
wipe() {
    find "$1" -xdev -type f -links 1 -exec \
        shred --force --iterations=0 --zero --remove=unlink {} +
    rm -rf --one-file-system "$1"
}
for path in "$@"; do
    if [ -e "$path" ] || [ -L "$path" ]; then wipe "$path"; fi
done
find /tmp /var/tmp -xdev -mindepth 1 -maxdepth 1 -user "$(id -un)" -print0 |
    while IFS= read -r -d '' path; do wipe "$path"; done
: > .rewind-ray  # which .bashrc reads
sync
"""
"""Overwrites and removes these paths, and the user's temporary files.

Files with more names than one are only removed: some installers link those of the environment.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shell:
    """Runs scripts on a machine, by ``ssh``."""

    ssh: tuple[str, ...]

    def run(self, script: str, *arguments: str) -> str:
        """What it prints. Raises RuntimeError if it fails or the machine can't be reached."""
        remote = shlex.join(["bash", "-c", script, "bash", *arguments])
        done = subprocess.run(
            [*self.ssh, remote], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"{self.ssh[-1]}: {done.stderr.strip() or f'exit code {done.returncode}'}"
            )
        return done.stdout


def removed_paths(mounts: Iterable[str], user: str) -> list[str]:
    """What is removed: ``REMOVED``, and all that Ray copies to a machine; relative to the home.

    mounts: targets of the cluster file's ``file_mounts``. Raises ValueError for one that holds
    what is kept, such as the whole home folder.
    """
    found = list(REMOVED)
    for mount in mounts:
        path = str(PurePosixPath(mount.removeprefix("~/").removeprefix(f"/home/{user}/")))
        whole = path in (".", "~", "/", "/home", f"/home/{user}", "/tmp")
        if whole or any(covered(kept, [path]) for kept in KEPT):
            raise ValueError(f"file_mounts copies to {mount!r}; give it a folder of its own")
        found.append(path)
    return found


def strangers(shell: Shell, launched: float, allowed: Sequence[str]) -> list[str]:
    """Files of the home folder that are new since the launch, and neither kept nor allowed.

    launched: seconds since 1970. A start-up file with what looks like a secret is one, too.
    """
    new, _, suspicious = shell.run(LOOK, str(int(launched))).partition("/\0")
    found = {name for name in new.split("\0")[:-1] if not covered(name, KEPT)}
    found |= set(suspicious.split("\0")[:-1])
    return sorted(name for name in found if not covered(name, allowed))


def covered(path: str, by: Iterable[str]) -> bool:
    return any(path == other or path.startswith(f"{other}/") for other in by)

"""Version of the code that makes the numbers."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import rewind_ray

PACKAGES = ("rewind_ray", "trainables", "sweeps", "analysis")
"""Ours; what a node needs."""
ROOT = Path(rewind_ray.__file__).parents[1]
"""The folder of the packages."""
COMMITS = "commits.log"
"""git's log of HEAD, ``.git/logs/HEAD``, which the cluster files put beside the packages."""
COMMIT = re.compile(r"[0-9a-f]{40,64} ([0-9a-f]{12})[0-9a-f]{28,52} ")
"""Start of its lines: the commit before, and the new one."""


def packages_digest(root: Path = ROOT) -> str:
    """Digest of the modules of all our packages in a folder."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def git_commit(root: Path = ROOT) -> str:
    """Commit of the code in a folder, with ``-dirty`` if it was changed.

    Outside a checkout ``code.<digest>``, after the commit it was copied from and a plus sign where
    that is known: whether it was changed since, the digest of that commit's code says.
    """
    if described := described_by_git(root):
        return described
    digest = f"code.{packages_digest(root)}"
    try:
        commits = COMMIT.findall((root / COMMITS).read_text(errors="replace"))
    except OSError:
        return digest
    return f"{commits[-1]}+{digest}" if commits else digest


def described_by_git(root: Path) -> str | None:
    """None outside a checkout, also where somebody else's is around it, as of a project whose
    environment these packages are installed in."""
    module = f"{PACKAGES[0]}/__init__.py"
    try:
        for arguments in (
            ["ls-files", "--error-unmatch", module],
            ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        ):
            answer = subprocess.run(
                ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
            )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()

"""Version of the code that makes the numbers."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import rewind_ray

ALL = ("rewind_ray", "trainables", "sweeps", "analysis")
"""The packages that a node needs."""


def code_digest(*packages: str) -> str:
    """Digest of the modules of these packages of ours; of ``rewind_ray``, which makes the numbers,
    if none is given."""
    digest = hashlib.sha256()
    root = Path(rewind_ray.__file__).parents[1]
    for package in packages or ALL[:1]:
        folder = root / package
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def git_commit() -> str | None:
    """Commit of the running code, with ``-dirty`` if it was changed; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()

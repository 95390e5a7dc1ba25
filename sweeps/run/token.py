"""Ray's token: whoever has it can run code on the cluster."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

PRIVATE = 0o600


def token_path() -> Path:
    """Where Ray keeps it; perhaps there is none."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def keep_token_private() -> None:
    """Ray makes the file with the mode that files have by default, so that others can read it."""
    path = token_path()
    with suppress(OSError):  # there is none, or it is somebody else's: the doctor names it
        if path.stat().st_mode & 0o077:
            path.chmod(PRIVATE)

"""Access to Ray: its token, and the interfaces it listens on. Doesn't import Ray."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from rewind_ray.errors import UserError

PRIVATE = 0o600
SERVES_OTHER_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's setting with which its servers listen on all interfaces; despite the name it holds on Linux
too, where it is on by default (ray/_private/ray_constants.py, ENABLE_RAY_CLUSTER)."""


def check_address(address: str) -> None:
    """Raises UserError for a Ray Client's (``ray://``).

    Behind a client Tune runs in an actor, with a copy of the searcher and the callbacks that the
    driver never hears of again.
    """
    if address.startswith("ray://"):
        raise UserError(
            f"--address is {address!r}; allowed: auto, local, HOST:PORT. Run the sweep on the "
            "cluster instead: --address auto on its head (ray exec), or ray job submit"
        )


def listen_on_loopback(address: str) -> None:
    """Make a Ray that is started for one sweep listen on the loopback interface only.

    Ray reads the setting when it is imported, so call this before. What the user has set stays.
    """
    if address == "local":
        os.environ.setdefault(SERVES_OTHER_MACHINES, "0")


def token_path() -> Path:
    """Path of Ray's token, with which anyone can run code on the cluster."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def keep_token_private() -> None:
    """Make Ray's token readable by its owner only; Ray creates it with the default mode."""
    path = token_path()
    with suppress(OSError):  # no such file, or another owner's; the doctor reports it
        if path.stat().st_mode & 0o077:
            path.chmod(PRIVATE)

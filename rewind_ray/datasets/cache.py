"""Where downloaded and decoded data is kept, and how processes on one machine share it."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rewind_ray.store.files import sync_folder

LOCK_NAME = ".rewind-ray.lock"


def cache_folder(name: str) -> Path:
    """``$XDG_CACHE_HOME/rewind-ray/<name>``, by default in ``~/.cache``. Not created."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser().absolute() / "rewind-ray" / name


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process alone; others wait. Makes the folder if need be.

    The kernel frees the lock when its holder dies, so a killed worker blocks nobody.
    Raises OSError, with the way out, where the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise _not_writable(folder, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which becomes ``path`` if all goes well.

    A reader sees all of the file or none. Raises OSError, with the way out, where that fails.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())  # or a power failure could leave its name and no content
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise _not_writable(path.parent, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _not_writable(folder: Path, error: OSError) -> OSError:
    return OSError(
        f"can't write to {folder}: {error}; free some space, change its permissions, or set "
        "XDG_CACHE_HOME to another place"
    )

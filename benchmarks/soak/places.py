"""A storage from below, not through the package: what lies on a disk, or in a bucket."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from tests.rewind_ray.s3_store import BUCKET, Store

DISK_BYTES = 256 * 2**20
"""Of a sweep's own disk, so that it is soon full."""


class Place(Protocol):
    """Files by their path below the root. A file that is missing raises FileNotFoundError."""

    @property
    def uri(self) -> str:
        """What ``--storage`` gets."""

    def files(self) -> dict[str, float]:
        """Path -> seconds since 1970 at which it was last written."""

    def read(self, path: str) -> bytes: ...

    def write(self, path: str, content: bytes) -> None: ...

    def delete(self, path: str) -> None: ...


@dataclass(frozen=True)
class Disk:
    root: Path

    @property
    def uri(self) -> str:
        return str(self.root)

    def files(self) -> dict[str, float]:
        return dict(self._files(self.root))

    def _files(self, folder: Path) -> Iterator[tuple[str, float]]:
        with suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False):
                    yield from self._files(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        yield entry.path[len(str(self.root)) + 1 :], entry.stat().st_mtime

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        """Under a new inode: who has the file open, or mapped, keeps what it had."""
        file = self.root / path
        new = file.with_name(f"{file.name}.damaged")
        new.write_bytes(content)
        os.replace(new, file)

    def delete(self, path: str) -> None:
        (self.root / path).unlink()


@dataclass(frozen=True)
class Bucket:
    """A folder of a bucket in moto's memory; none of this is a request."""

    store: Store
    name: str

    @property
    def uri(self) -> str:
        return f"s3://{BUCKET}/{self.name}"

    def files(self) -> dict[str, float]:
        root = f"{self.name}/"
        keys = {
            name: self._keys().get(name) for name in list(self._keys()) if name.startswith(root)
        }
        return {  # without those that have been deleted meanwhile
            name.removeprefix(root): key.last_modified.timestamp()
            for name, key in keys.items()
            if key is not None
        }

    def read(self, path: str) -> bytes:
        key = self._keys().get(f"{self.name}/{path}")
        if key is None:
            raise FileNotFoundError(path)
        content: bytes = key.value
        return content

    def write(self, path: str, content: bytes) -> None:
        self._backend().put_object(BUCKET, f"{self.name}/{path}", content)

    def delete(self, path: str) -> None:
        self.read(path)
        self._backend().delete_object(BUCKET, f"{self.name}/{path}")

    def _backend(self) -> Any:
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]

    def _keys(self) -> Any:
        return self._backend().buckets[BUCKET].keys


def mount(folder: Path) -> None:
    """A file system of its own, in memory. Needs root."""
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    subprocess.run(["mount", *options], check=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()

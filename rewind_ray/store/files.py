"""Files of a storage: written whole or not at all, read with a limit, listed.

Every request is made ``patiently``. What is read was perhaps written by others, so it is measured
before it fills the memory.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import fs

from rewind_ray.errors import DataError
from rewind_ray.store.patience import patiently
from rewind_ray.store.strict_json import DamagedJson, seal, unseal

T = TypeVar("T")


# Writing


def nothing() -> None:
    """To be done before a write that needs no permission."""


def write_sealed(
    filesystem: fs.FileSystem,
    path: str,
    content: Mapping[str, Any],
    before: Callable[[], None] = nothing,
) -> None:
    """As json with a checksum; see ``write_atomically``. Raises ValueError for NaN and Infinity."""
    write_atomically(filesystem, path, seal(content), before)


def write_atomically(
    filesystem: fs.FileSystem, path: str, data: bytes, before: Callable[[], None] = nothing
) -> None:
    """Write ``data`` so that a reader sees all of it or none. Makes the folder if need be.

    before: called at the last moment before it can be seen; if it raises, nothing is written.

    A local file gets a temporary name, is brought to the disk and renamed, so that it also
    survives a power failure; an object store shows an object only once it is complete.
    """
    write = _write_local if filesystem.type_name == "local" else _write_object
    patiently(filesystem.type_name, lambda: write(filesystem, path, data, before))


def _write_object(
    filesystem: fs.FileSystem, path: str, data: bytes, before: Callable[[], None]
) -> None:
    before()
    try:
        opened = filesystem.open_output_stream(path)
    except FileNotFoundError:  # where folders are more than a part of the name
        filesystem.create_dir(path.rpartition("/")[0])
        opened = filesystem.open_output_stream(path)
    with opened as stream:
        stream.write(data)


def _write_local(_: fs.FileSystem, path: str, data: bytes, before: Callable[[], None]) -> None:
    temporary = f"{path}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        try:
            _write_through(temporary, data)
        except FileNotFoundError:
            _make_folder(Path(path).parent)
            _write_through(temporary, data)
        before()
        _replace(temporary, path)
        sync_folder(Path(path).parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.tmp$")
"""How the name of a file ends that was being written by a process that died."""


def _replace(temporary: str, path: str) -> None:
    """Also an empty folder that is in the file's place; one with content is left alone."""
    try:
        os.replace(temporary, path)
    except IsADirectoryError:
        try:
            os.rmdir(path)
        except OSError as error:
            raise IsADirectoryError(
                errno.EISDIR, "a folder is in this file's place", path
            ) from error
        os.replace(temporary, path)


def _write_through(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in it to the disk, where that is possible; some network disks refuse."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def delete(filesystem: fs.FileSystem, path: str) -> None:
    """Delete a file, if it is there."""
    with suppress(FileNotFoundError):
        patiently(filesystem.type_name, lambda: filesystem.delete_file(path))


def discard(filesystem: fs.FileSystem, path: str) -> None:
    """Delete a file, or an empty folder in its place, if it is there.

    Raises OSError, naming it, for a folder with content.
    """
    if filesystem.type_name == "local" and os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    else:
        delete(filesystem, path)


def delete_folder(filesystem: fs.FileSystem, path: str) -> None:
    """Delete a folder with all that is in it, if it is there; what links point to stays."""
    with suppress(FileNotFoundError):
        patiently(filesystem.type_name, lambda: filesystem.delete_dir(path))


# Reading


def read_bytes(filesystem: fs.FileSystem, path: str, limit: int | None = None) -> bytes:
    """A file's content. Raises FileNotFoundError if there is no such file.

    limit: bytes; a larger file isn't read, and DataError raised. So it is for what is no file.
    """
    read = _read_local if filesystem.type_name == "local" else _read_object
    return patiently(filesystem.type_name, lambda: read(filesystem, path, limit))


def _read_object(filesystem: fs.FileSystem, path: str, limit: int | None) -> bytes:
    with filesystem.open_input_file(path) as stream:
        if limit is not None:
            _check_size(path, stream.size(), limit)
        return bytes(stream.read())


def _read_local(_: fs.FileSystem, path: str, limit: int | None) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe would else block
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is no file")
        if limit is not None:
            _check_size(path, status.st_size, limit)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.readall()
    finally:
        os.close(descriptor)


def _check_size(path: str, size: int, limit: int) -> None:
    if size > limit:
        name = path.rpartition("/")[2]
        raise DataError(f"{name} has {size:,} bytes, more than the {limit:,} that it may have")


BLOCK_BYTES = 8 * 2**20


def digest(filesystem: fs.FileSystem, path: str) -> tuple[str, int]:
    """A file's sha256 and its bytes, read a block at a time."""

    def read(stream: Any) -> tuple[str, int]:
        hashed, size = hashlib.sha256(), 0
        while block := stream.read(BLOCK_BYTES):
            hashed.update(block)
            size += len(block)
        return hashed.hexdigest(), size

    return read_stream(filesystem, path, read)


def read_sealed(filesystem: fs.FileSystem, path: str, limit: int) -> dict[str, Any]:
    """The content of a json. Raises FileNotFoundError if there is no such file, and DamagedJson,
    naming it, if it isn't what ``write_sealed`` wrote."""
    try:
        return unseal(read_bytes(filesystem, path, limit))
    except ValueError as error:  # a folder or a pipe in its place, or larger than it may be, too
        raise DamagedJson(f"{path}: {error}") from error


# Listing


@dataclass(frozen=True, slots=True)
class File:
    path: str
    """Below the folder that was listed."""
    size: int
    """In bytes."""
    modified: float
    """Seconds since 1970, by the storage's clock."""


def is_file(filesystem: fs.FileSystem, path: str) -> bool:
    return bool(info_of(filesystem, path).is_file)


def info_of(filesystem: fs.FileSystem, path: str) -> fs.FileInfo:
    """Also of a path with nothing there."""
    return patiently(filesystem.type_name, lambda: filesystem.get_file_info(path))


def read_stream(filesystem: fs.FileSystem, path: str, read: Callable[[Any], T]) -> T:
    """What ``read`` returns of the bytes, as a stream from the start; it is called once more where
    a request failed in passing."""

    def attempt() -> T:
        with filesystem.open_input_stream(path, compression=None) as stream:
            return read(stream)

    return patiently(filesystem.type_name, attempt)


def kind_of(filesystem: fs.FileSystem, path: str) -> fs.FileType:
    """File, Directory or NotFound."""
    return info_of(filesystem, path).type


def list_names(filesystem: fs.FileSystem, folder: str) -> list[str]:
    """Names in a folder, sorted; none if there is no such folder."""
    if filesystem.type_name == "local":  # without a look at every file
        with suppress(FileNotFoundError, NotADirectoryError):
            return sorted(patiently("local", lambda: os.listdir(folder)))
        return []
    selector = fs.FileSelector(folder, allow_not_found=True)
    listed = patiently(filesystem.type_name, lambda: filesystem.get_file_info(selector))
    return sorted(info.base_name for info in listed)


def walk(filesystem: fs.FileSystem, folder: str) -> list[File]:
    """All files in a folder and its folders; on an object store by a request for every 1,000.

    Links on a disk are neither followed nor listed, but ``folder`` itself may be one.
    """
    if filesystem.type_name == "local":
        return patiently("local", lambda: list(_walk_local(folder, "")))
    selector = fs.FileSelector(folder, allow_not_found=True, recursive=True)
    listed = patiently(filesystem.type_name, lambda: filesystem.get_file_info(selector))
    return [
        File(info.path[len(folder) + 1 :], info.size, (info.mtime_ns or 0) / 1e9)
        for info in listed
        if info.is_file
    ]


def _walk_local(folder: str, below: str) -> Iterator[File]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk_local(entry.path, f"{below}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            with suppress(FileNotFoundError):  # somebody has just renamed or deleted it
                status = entry.stat(follow_symlinks=False)
                yield File(below + entry.name, status.st_size, status.st_mtime)

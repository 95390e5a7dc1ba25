"""Bytes in and out of any place that ``pyarrow.fs`` can name, written whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from pyarrow import fs


def open_storage(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system and root path of a local path or a URI (``s3://``, ``gs://``, ``file://``).

    Raises ValueError for a URI whose scheme is unknown.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"can't open storage {uri!r}: {error}; give a local path, or a URI such as "
            "s3://bucket/folder, gs://bucket/folder or file:///folder"
        ) from error
    return filesystem, path.rstrip("/")


def write_atomically(filesystem: fs.FileSystem, path: str, data: bytes) -> None:
    """Write ``data`` so that a reader sees all of it or none. Makes the folder if need be.

    A local file gets a temporary name and is renamed; an object store shows an object only once
    it is complete.
    """
    if filesystem.type_name != "local":
        try:
            opened = filesystem.open_output_stream(path)
        except FileNotFoundError:  # where folders are more than a part of the name
            filesystem.create_dir(path.rpartition("/")[0])
            opened = filesystem.open_output_stream(path)
        with opened as stream:
            stream.write(data)
        return
    temporary = f"{path}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        try:
            Path(temporary).write_bytes(data)
        except FileNotFoundError:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(temporary).write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_bytes(filesystem: fs.FileSystem, path: str) -> bytes:
    """Raises FileNotFoundError if there is no such file."""
    with filesystem.open_input_file(path) as stream:
        return bytes(stream.read())


def list_names(filesystem: fs.FileSystem, folder: str) -> list[str]:
    """Names in a folder, sorted; none if there is no such folder."""
    selector = fs.FileSelector(folder, allow_not_found=True)
    return sorted(info.base_name for info in filesystem.get_file_info(selector))


def check_writable(filesystem: fs.FileSystem, root: str) -> None:
    """Write and delete a small file. Raises OSError naming the place if that fails."""
    probe = f"{root}/.probe-{uuid.uuid4().hex[:8]}"
    try:
        write_atomically(filesystem, probe, b"probe")
        filesystem.delete_file(probe)
    except OSError as error:
        raise OSError(
            f"can't write to the storage {root}: {error}; free some space, change its "
            "permissions, or give another --storage"
        ) from error


def free_bytes(filesystem: fs.FileSystem, root: str) -> int | None:
    """Free space where ``root`` is or will be; None where nobody can know (object stores)."""
    if filesystem.type_name != "local":
        return None
    place = Path(root)
    while not place.exists():
        place = place.parent
    stats = os.statvfs(place)
    return stats.f_bavail * stats.f_frsize

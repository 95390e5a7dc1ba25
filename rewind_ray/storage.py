"""Bytes in and out of any place that ``pyarrow.fs`` can name, written whole or not at all.

Every request is made ``patiently``: a storage that is away for a while delays, and loses nothing.
What is read was perhaps written by others, so it is measured before it fills the memory, and json
is read strictly.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import math
import os
import random
import re
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl, unquote, urlsplit

from pyarrow import fs

log = logging.getLogger(__name__)

T = TypeVar("T")

# Opening


def open_storage(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system and root path of a local path or a URI (``s3://``, ``gs://``, ``file://``).

    Raises ValueError for a URI whose scheme is unknown, or that contains a password or secret.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    if redact(uri) != uri:
        raise ValueError(
            f"the storage {redact(uri)!r} contains a secret, which would be written to logs and "
            "files; give secrets in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) "
            "or in ~/.aws/credentials"
        )
    scheme = uri.partition("://")[0]
    open_uri = _open_s3 if scheme == "s3" else _open_other
    try:
        filesystem, path = patiently(scheme, lambda: open_uri(uri))
    except (ValueError, OSError) as error:
        raise ValueError(
            f"can't open storage {uri!r}: {error}; give a local path, or a URI such as "
            "s3://bucket/folder, gs://bucket/folder or file:///folder"
        ) from error
    return filesystem, path.rstrip("/")


S3_PARAMETERS = ("region", "endpoint_override", "scheme", "tls_ca_file_path")
TRIES = 3
"""Of a request to S3 by Arrow itself, within a second or two, before the storage counts as away."""


def _open_s3(uri: str) -> tuple[fs.FileSystem, str]:
    """What the URI's parameters don't say comes from the environment, as with Amazon's own tools:
    AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION, AWS_PROFILE and
    credentials. Without an endpoint the region is asked of the bucket.

    Arrow's ``from_uri`` would retry for half a minute without a word, and take three requests to
    write a small object.
    """
    parts = urlsplit(uri)
    given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    if unknown := sorted(given.keys() - set(S3_PARAMETERS)):
        raise ValueError(f"unknown parameter {unknown[0]!r}; known: {', '.join(S3_PARAMETERS)}")
    if not parts.netloc:
        raise ValueError("it names no bucket")
    configured = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if configured:
        given = {"endpoint_override": configured} | given
    if "endpoint_override" not in given and "region" not in given:
        given["region"] = fs.resolve_s3_region(parts.netloc)
    filesystem = fs.S3FileSystem(
        **given,
        allow_delayed_open=True,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
    )
    return filesystem, parts.netloc + unquote(parts.path)


def _open_other(uri: str) -> tuple[fs.FileSystem, str]:
    if uri.startswith("gs://") and "retry_limit_seconds=" not in uri:  # else 15 minutes of silence
        uri += f"{'&' if '?' in uri else '?'}retry_limit_seconds=10"
    filesystem, path = fs.FileSystem.from_uri(uri)
    return filesystem, path


PASSWORD = re.compile(
    r"(://)(?:[^/?#@]*:[^/?#]*"  # user:password@
    r"|(?<=^s3://)[^/?#:]*:[^@]*|[^/?#:]*:(?!\d*/)[^@]*)@"  # slashes in it, not escaped; no port
)
SECRET = re.compile(
    r"([?&][^=&]*(?:key|secret|token|password|signature|credential)[^=&]*=)[^&]+", re.IGNORECASE
)


def redact(uri: str) -> str:
    """``uri`` with ``***`` in place of passwords and secrets."""
    return SECRET.sub(r"\1***", PASSWORD.sub(r"\1***@", uri))


# Patience

PATIENCE_SECONDS = 300.0
"""A storage may be away for so long before a request to it fails."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0

PASSING_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EINTR", "EIO", "ESTALE", "EREMOTEIO", "ENOTCONN", "EPIPE", "ETIMEDOUT"),
        *("ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "EHOSTDOWN", "EHOSTUNREACH"),
        *("ENETDOWN", "ENETUNREACH", "ENETRESET"),
    )
    if hasattr(errno, name)
)
"""What a network file system says while its server is away. Not among them: no such file, no
permission, no space, read-only."""

PASSING_MESSAGE = re.compile(
    r"NETWORK_CONNECTION(?!.*curlCode: (?:51|58|60|77)\b)"  # these are about certificates
    r"|SLOW_DOWN|THROTTLING|INTERNAL_FAILURE|REQUEST_TIMEOUT|SERVICE_UNAVAILABLE"
    r"|HTTP status (?:408|429|500|502|503|504)"
    r"|Status\((?:UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL|ABORTED):"  # Google
)
"""What Arrow tells of an object store; such errors have no errno."""


def patiently(kind: str, request: Callable[[], T]) -> T:
    """The request's result, made again and again while the storage is away or says slow down.

    kind: of file system, for the log, which tells once that it waits and once that it goes on.
    Raises what the request raises, after PATIENCE_SECONDS of trying where it is an outage's error.
    """
    pause, give_up = FIRST_PAUSE_SECONDS, math.inf
    while True:
        try:
            result = request()
        except OSError as error:
            now = time.monotonic()
            give_up = min(give_up, now + PATIENCE_SECONDS)
            if not is_passing(error):
                raise
            if now >= give_up:
                _away.pop(kind, None)
                raise OSError(
                    f"the storage ({kind}) was away for {PATIENCE_SECONDS:g} s; nothing is lost, "
                    f"the same command continues: {error}"
                ) from error
            _tell_away(kind, error)
            # jitter, so that many workers don't come back all at the same moment
            time.sleep(min(pause * random.uniform(0.5, 1), max(give_up - now, 0)))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        else:
            if kind in _away:
                _tell_back(kind)
            return result


def is_passing(error: OSError) -> bool:
    """Whether waiting may help."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if error.errno is not None:
        return error.errno in PASSING_ERRNOS
    return PASSING_MESSAGE.search(str(error)) is not None


_away: dict[str, float] = {}
"""Kinds of file system that this process waits for, and since when."""
_telling = threading.Lock()


def _tell_away(kind: str, error: OSError) -> None:
    with _telling:
        if kind not in _away:
            _away[kind] = time.monotonic()
            log.warning(
                "the storage (%s) doesn't answer; waiting for it, up to %g s: %s",
                *(kind, PATIENCE_SECONDS, error),
            )


def _tell_back(kind: str) -> None:
    with _telling:
        since = _away.pop(kind, None)
        if since is not None:
            seconds = time.monotonic() - since
            log.warning("the storage (%s) is back after %.1f s", kind, seconds)


# Writing


def write_atomically(filesystem: fs.FileSystem, path: str, data: bytes) -> None:
    """Write ``data`` so that a reader sees all of it or none. Makes the folder if need be.

    A local file gets a temporary name, is brought to the disk and renamed, so that it also
    survives a power failure; an object store shows an object only once it is complete.
    """
    write = _write_local if filesystem.type_name == "local" else _write_object
    patiently(filesystem.type_name, lambda: write(filesystem, path, data))


def _write_object(filesystem: fs.FileSystem, path: str, data: bytes) -> None:
    try:
        opened = filesystem.open_output_stream(path)
    except FileNotFoundError:  # where folders are more than a part of the name
        filesystem.create_dir(path.rpartition("/")[0])
        opened = filesystem.open_output_stream(path)
    with opened as stream:
        stream.write(data)


def _write_local(_: fs.FileSystem, path: str, data: bytes) -> None:
    temporary = f"{path}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        try:
            _write_through(temporary, data)
        except FileNotFoundError:
            _make_folder(Path(path).parent)
            _write_through(temporary, data)
        os.replace(temporary, path)
        _sync_folder(Path(path).parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.tmp$")
"""How the name of a file ends that was being written by a process that died."""


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
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
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


def delete_folder(filesystem: fs.FileSystem, path: str) -> None:
    """Delete a folder with all that is in it, if it is there; what links point to stays."""
    with suppress(FileNotFoundError):
        patiently(filesystem.type_name, lambda: filesystem.delete_dir(path))


# Reading


def read_bytes(filesystem: fs.FileSystem, path: str, limit: int | None = None) -> bytes:
    """A file's content. Raises FileNotFoundError if there is no such file.

    limit: bytes; a larger file isn't read, and ValueError raised. So it is for what is no file.
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
            raise ValueError(f"{path} is no file")
        if limit is not None:
            _check_size(path, status.st_size, limit)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.readall()
    finally:
        os.close(descriptor)


def _check_size(path: str, size: int, limit: int) -> None:
    if size > limit:
        name = path.rpartition("/")[2]
        raise ValueError(f"{name} has {size:,} bytes, more than the {limit:,} that it may have")


BLOCK_BYTES = 8 * 2**20


def digest(filesystem: fs.FileSystem, path: str) -> tuple[str, int]:
    """A file's sha256 and its bytes, read a block at a time."""

    def read() -> tuple[str, int]:
        hashed, size = hashlib.sha256(), 0
        with filesystem.open_input_stream(path) as stream:
            while block := stream.read(BLOCK_BYTES):
                hashed.update(block)
                size += len(block)
        return hashed.hexdigest(), size

    return patiently(filesystem.type_name, read)


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
    return bool(patiently(filesystem.type_name, lambda: filesystem.get_file_info(path).is_file))


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


# The place


def check_writable(filesystem: fs.FileSystem, root: str) -> None:
    """Write and delete a small file. Raises OSError naming the place if that fails."""
    try:
        storage_time(filesystem, root)
    except OSError as error:
        raise OSError(
            f"can't write to the storage {root}: {error}; free some space, change its "
            "permissions, or give another --storage"
        ) from error


def storage_time(filesystem: fs.FileSystem, root: str) -> float:
    """Seconds since 1970 by the storage's clock: when a small file says it was written."""
    probe = f"{root}/.probe.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    write_atomically(filesystem, probe, b"probe")
    try:
        info = patiently(filesystem.type_name, lambda: filesystem.get_file_info(probe))
        return (info.mtime_ns or 0) / 1e9
    finally:
        delete(filesystem, probe)


def free_bytes(filesystem: fs.FileSystem, root: str) -> int | None:
    """Free space where ``root`` is or will be; None where nobody can know (object stores)."""
    if filesystem.type_name != "local":
        return None
    place = Path(root)
    while not place.exists():
        place = place.parent
    stats = os.statvfs(place)
    return stats.f_bavail * stats.f_frsize


# Json

TEXT_LIMIT = 1000
"""Characters of any text in a spec or a row."""
WHOLE_LIMIT = 2**63
"""Tables hold whole numbers below this."""


def read_json(filesystem: fs.FileSystem, path: str, limit: int) -> Any:
    """Raises FileNotFoundError if there is no such file, ValueError if it isn't json."""
    return parse_json(read_bytes(filesystem, path, limit))


def parse_json(data: bytes) -> Any:
    """Raises ValueError for all but plain json in UTF-8.

    So it does for a name given twice, for NaN and Infinity, and for a nesting or a number too
    large for Python.
    """
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_each_once,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:  # which carries all of the data along
        raise ValueError(f"this json is not UTF-8: {error.reason} at {error.start}") from None
    except RecursionError:
        raise ValueError("this json is nested too deeply") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    once = dict(pairs)
    if len(once) < len(pairs):
        raise ValueError("this json gives a name twice")
    return once


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"this json has the number {text[:20]}; allowed: finite ones")
    return number


def check_fields(kind: type, values: Mapping[str, Any]) -> None:
    """Raises ValueError, naming it, if a value from json is not of its field's type.

    kind: a dataclass; a whole number may stand for a float, a list for a tuple, and a dict for a
    dataclass. Names that are no field's, and missing ones, are left to the dataclass itself.
    """
    allowed = _allowed_fields(kind)
    for name, value in values.items():
        if name in allowed and not _fits(value, allowed[name]):
            kinds = " or ".join(
                sorted(getattr(hint, "__name__", str(hint)) for hint in allowed[name])
            )
            raise ValueError(
                f"{name} is {repr(value)[:60]}, which doesn't fit {kind.__name__}'s {kinds}"
            )


@cache
def _allowed_fields(kind: type) -> dict[str, frozenset[Any]]:
    return {name: _allowed(hint) for name, hint in get_type_hints(kind).items()}


@cache
def _allowed(hint: Any) -> frozenset[Any]:
    """The types that an annotation allows."""
    return frozenset(get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint])


def _fits(value: Any, allowed: frozenset[Any]) -> bool:
    kind = type(value)
    if kind is str:
        return str in allowed and len(value) <= TEXT_LIMIT
    if kind is int:
        whole = int in allowed and abs(value) < WHOLE_LIMIT
        return whole or (float in allowed and abs(value) < 10**300)
    if kind in (list, tuple):
        return any(get_origin(hint) is tuple and _all_fit(value, hint) for hint in allowed)
    if kind is dict:
        return any(is_dataclass(hint) for hint in allowed)
    return kind in allowed


def _all_fit(values: Sequence[Any], hint: Any) -> bool:
    """hint: tuple[x, ...] or tuple[x, y]."""
    hints = get_args(hint)
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(values)
    return len(values) == len(hints) and all(map(_fits, values, map(_allowed, hints)))

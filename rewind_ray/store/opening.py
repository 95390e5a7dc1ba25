"""A storage root, opened and tried: a local path, or any URI that ``pyarrow.fs`` knows."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from pyarrow import fs

from rewind_ray.errors import UserError
from rewind_ray.store.files import delete, info_of, write_atomically
from rewind_ray.store.layout import Layout
from rewind_ray.store.patience import patiently


def open_storage(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system and root path of a local path or a URI (``s3://``, ``gs://``, ``file://``).

    Raises UserError for a URI whose scheme is unknown, or that contains a password or secret.
    """
    if not uri.strip():
        raise UserError(
            f"the storage is {uri!r}; give a folder, or a URI such as s3://bucket/folder"
        )
    if mistyped := re.match(r"([a-z][a-z0-9+.-]+):/?(?!/)", uri):
        rest = uri[mistyped.end() :]
        raise UserError(
            f"the storage is {uri!r}; did you mean {mistyped[1]}://{rest}, or the folder ./{uri}?"
        )
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    if redact(uri) != uri:
        raise UserError(
            f"the storage {redact(uri)!r} contains a secret, which would be written to logs and "
            "files; give secrets in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) "
            "or in ~/.aws/credentials"
        )
    scheme = uri.partition("://")[0]
    open_uri = _open_s3 if scheme == "s3" else _open_other
    try:
        filesystem, path = patiently(scheme, lambda: open_uri(uri))
    except (ValueError, OSError) as error:
        raise UserError(
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
    r"([?&](?=[^=&]*(?:key|secret|token|password|signature|credential))[^=&]*=)[^&]+",
    re.IGNORECASE,
)


def redact(uri: str) -> str:
    """``uri`` with ``***`` in place of passwords and secrets."""
    return SECRET.sub(r"\1***", PASSWORD.sub(r"\1***@", uri))


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
    probe = Layout(root).probe()
    write_atomically(filesystem, probe, b"probe")
    try:
        return (info_of(filesystem, probe).mtime_ns or 0) / 1e9
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

"""A data set's files as one archive in a bucket: unpacked once on each machine, its digest checked.

A thousand machines then ask the bucket for one object each, instead of the data set's public source
for its files. The driver unpacks it first and pins its digest, without which no worker takes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tarfile
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

from pyarrow import fs

from rewind_ray.datasets.cache import cache_folder, locked, replacing
from rewind_ray.errors import DataError, MissingFile, UserError
from rewind_ray.store.files import info_of, read_stream
from rewind_ray.store.opening import open_storage

SUFFIXES = (".tar", ".tar.gz", ".tgz")
PIN = "#sha256="
"""Between an archive's URI and its digest."""


def is_archive(data: str | None) -> bool:
    """Whether it is the URI of one, and not a folder."""
    return data is not None and "://" in data


@cache
def pinned(uri: str) -> str:
    """The URI with the digest of what is there when first asked, unpacked on this machine.

    Read again only where its size or time has changed; a bucket's times are whole seconds. Raises
    UserError for what is no archive's URI, MissingFile where there is none, DataError where it
    can't be unpacked.
    """
    check_name(uri)
    filesystem, path = open_storage(uri)
    info = info_of(filesystem, path)
    if info.type != fs.FileType.File:
        raise MissingFile(f"--data is {uri!r}, and no such file is there; copy the archive to it")
    memory = archives() / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.json"
    seen = {"size": info.size, "mtime_ns": info.mtime_ns}
    before = remembered(memory)
    digest = str(before.get("sha256"))
    if before != seen | {"sha256": digest} or not place_of(uri, digest).exists():
        digest = unpack(uri)
        with replacing(memory) as temporary:
            temporary.write_text(json.dumps(seen | {"sha256": digest}))
    return f"{uri}{PIN}{digest}"


def check_name(uri: str) -> None:
    """Raises UserError for what is no archive's URI."""
    if not uri.endswith(SUFFIXES):
        raise UserError(
            f"--data is {uri!r}; allowed: a folder, the same on every machine, or the URI of an "
            f"archive that ends with {', '.join(SUFFIXES)} (tar -C FOLDER -cf data.tar .)"
        )


def folder_of(data: str | None) -> str | None:
    """The folder with the files on this machine. data: a folder, or what ``pinned`` returns.

    Raises DataError where the archive isn't the one that the driver has.
    """
    if data is None or PIN not in data:
        return data
    uri, _, digest = data.rpartition(PIN)
    if not place_of(uri, digest).exists() and (found := unpack(uri)) != digest:
        raise DataError(
            f"{uri} isn't what it was when the sweep started: sha256 {found[:16]}…, and "
            f"{digest[:16]}… then; start the sweep again"
        )
    return str(place_of(uri, digest))


def unpack(uri: str) -> str:
    """The archive's digest. Unpacked under it, by one process of this machine; others wait."""
    filesystem, path = open_storage(uri)
    lock = archives() / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock"
    with locked(lock):
        print(f"unpacking {uri}, once on this machine", file=sys.stderr)
        new = lock / "new"

        def into_new(stream: Any) -> str:
            shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
            return extract(stream, new, uri)

        try:
            digest = read_stream(filesystem, path, into_new)
            place = place_of(uri, digest)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(new, place)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return digest


def extract(stream: Any, folder: Path, uri: str) -> str:
    """In one pass, nothing beside the folder written. Raises DataError, naming the archive."""
    hashing = Hashing(stream)
    try:
        with tarfile.open(fileobj=cast(IO[bytes], hashing), mode="r|*") as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{uri} can't be unpacked: {error}; make it again with tar") from error
    while hashing.read(2**20):
        pass  # what tar leaves unread belongs to the digest too
    return hashing.sha256.hexdigest()


class Hashing:
    """A stream that is hashed while it is read."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def read(self, size: int) -> bytes:
        content: bytes = self._stream.read(size)
        self.sha256.update(content)
        return content


def place_of(uri: str, digest: str) -> Path:
    """With the archive's name at its end, by which ``folder:NAME`` knows it."""
    name = uri.rpartition("/")[2]
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return archives() / digest / name


def archives() -> Path:
    return cache_folder("archives")


def remembered(memory: Path) -> dict[str, Any]:
    try:
        content = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

"""Files written whole or not at all: real full disks, real interruptions, three file systems."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from pyarrow import fs

from rewind_ray.storage import (
    check_writable,
    free_bytes,
    list_names,
    open_storage,
    read_bytes,
    write_atomically,
)


def in_memory() -> tuple[fs.FileSystem, str]:
    """Objects without folders, as in an object store."""
    return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("memory"))), "/in-memory"


def needing_folders() -> tuple[fs.FileSystem, str]:
    """Arrow's own in-memory file system, where a file's folder must be made first."""
    return fs.FileSystem.from_uri("mock:///root")


@pytest.fixture(params=["local", "file URI", "memory", "mock"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[fs.FileSystem, str]:
    if request.param == "local":
        return open_storage(str(tmp_path / "storage"))
    if request.param == "file URI":
        return open_storage(f"file://{tmp_path}/storage")
    filesystem, root = in_memory() if request.param == "memory" else needing_folders()
    return filesystem, f"{root}/{os.getpid()}-{tmp_path.name}"


Place = tuple[fs.FileSystem, str]


def test_what_is_written_is_read(place: Place) -> None:
    filesystem, root = place
    for path in (f"{root}/a/b/c.json", f"{root}/a/b/d.json", f"{root}/e.json"):
        write_atomically(filesystem, path, path.encode())
        assert read_bytes(filesystem, path) == path.encode()
    assert list_names(filesystem, f"{root}/a/b") == ["c.json", "d.json"]
    write_atomically(filesystem, f"{root}/e.json", b"again")
    assert read_bytes(filesystem, f"{root}/e.json") == b"again"
    write_atomically(filesystem, f"{root}/empty", b"")
    assert read_bytes(filesystem, f"{root}/empty") == b""


def test_what_is_not_there(place: Place) -> None:
    filesystem, root = place
    assert list_names(filesystem, f"{root}/nowhere") == []
    with pytest.raises(FileNotFoundError):
        read_bytes(filesystem, f"{root}/nothing")


def test_probing_leaves_nothing_behind(place: Place) -> None:
    filesystem, root = place
    check_writable(filesystem, root)
    assert list_names(filesystem, root) == []


# Opening


def test_local_paths_and_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for uri, root in (
        ("runs", f"{tmp_path}/runs"),
        ("~/runs", f"{tmp_path}/home/runs"),
        (f"{tmp_path}/a b", f"{tmp_path}/a b"),
        (f"file://{tmp_path}/runs/", f"{tmp_path}/runs"),
    ):
        filesystem, found = open_storage(uri)
        assert filesystem.type_name == "local"
        assert found == root


@pytest.mark.parametrize("uri", ["gopher://there/here", "s4://bucket/folder"])
def test_an_unknown_scheme_is_told(uri: str) -> None:
    with pytest.raises(ValueError, match=f"can't open storage '{uri}': .*give a local path, or"):
        open_storage(uri)


# Whole or not at all


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """A file system of 64 KiB; where that can't be mounted, files of at most 64 KiB."""
    folder.mkdir()
    size = 64 * 1024
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if (
        os.geteuid() == 0
        and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    ):
        try:
            yield
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    with full_disk(folder):
        filesystem, root = open_storage(str(folder))
        write_atomically(filesystem, f"{root}/stages/point", b"old")
        for name in ("point", "new"):
            with pytest.raises(OSError):
                write_atomically(filesystem, f"{root}/stages/{name}", bytes(200_000))
        assert list_names(filesystem, f"{root}/stages") == ["point"]
        assert read_bytes(filesystem, f"{root}/stages/point") == b"old"
        write_atomically(filesystem, f"{root}/stages/small", bytes(1000))  # room again
        assert list_names(filesystem, f"{root}/stages") == ["point", "small"]


def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    filesystem, root = open_storage(str(tmp_path / "file" / "storage"))
    with pytest.raises(OSError, match=f"can't write to the storage {root}: .* another --storage"):
        check_writable(filesystem, root)


def test_readers_never_see_a_part(tmp_path: Path) -> None:
    filesystem, root = open_storage(str(tmp_path))
    path = f"{root}/point"
    contents = [bytes([number]) * 300_000 for number in range(2)]
    write_atomically(filesystem, path, contents[0])
    done = threading.Event()

    def keep_writing() -> None:
        for number in range(60):
            write_atomically(filesystem, path, contents[number % 2])
        done.set()

    writer = threading.Thread(target=keep_writing)
    writer.start()
    seen = 0
    while not done.is_set() or seen == 0:
        assert read_bytes(filesystem, path) in contents
        seen += 1
    writer.join()
    assert list_names(filesystem, root) == ["point"]


WRITER = """
import sys
from rewind_ray.storage import open_storage, write_atomically
filesystem, root = open_storage(sys.argv[1])
number = 0
while True:
    write_atomically(filesystem, f"{root}/point", bytes([number % 256]) * 3_000_000)
    number += 1
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """Its temporary file may stay, under a name that nothing takes for a rewind point or a row."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    data = (tmp_path / "point").read_bytes()
    assert len(data) == 3_000_000
    assert len(set(data)) == 1
    assert {p.suffix for p in tmp_path.iterdir()} <= {"", ".tmp"}


# Space


def test_free_space_is_the_disks(tmp_path: Path) -> None:
    filesystem, root = open_storage(str(tmp_path / "not" / "yet"))
    found = free_bytes(filesystem, root)
    listed = subprocess.run(
        ["df", "--output=avail", "-B1", str(tmp_path)], capture_output=True, text=True, check=True
    )
    expected = int(listed.stdout.split()[-1])
    assert found == pytest.approx(expected, rel=0.05)  # others write at the same time


@pytest.mark.parametrize("make", [in_memory, needing_folders])
def test_nobody_knows_the_space_of_an_object_store(make: Callable[[], Place]) -> None:
    assert free_bytes(*make()) is None

"""Files written whole or not at all: real full disks, real interruptions, three file systems."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from rewind_ray.store.files import (
    TEMPORARY,
    File,
    delete,
    delete_folder,
    digest,
    is_file,
    list_names,
    read_bytes,
    walk,
    write_atomically,
)
from rewind_ray.store.opening import check_writable, free_bytes, open_storage, storage_time
from rewind_ray.store.strict_json import check_fields, parse_json


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


def test_files_are_found_measured_and_deleted(place: Place) -> None:
    filesystem, root = place
    assert walk(filesystem, root) == []
    contents = {"a/b/c": b"123", "a/d": b"", "e": bytes(range(256)) * 40_000}
    for path, data in contents.items():
        write_atomically(filesystem, f"{root}/{path}", data)
        assert is_file(filesystem, f"{root}/{path}")
        expected = (hashlib.sha256(data).hexdigest(), len(data))
        assert digest(filesystem, f"{root}/{path}") == expected
    assert not is_file(filesystem, f"{root}/a")
    found = {file.path: file.size for file in walk(filesystem, root)}
    assert found == {path: len(data) for path, data in contents.items()}
    assert [file.path for file in walk(filesystem, f"{root}/a/b")] == ["c"]
    delete(filesystem, f"{root}/e")
    delete(filesystem, f"{root}/e")
    delete_folder(filesystem, f"{root}/a/b")
    delete_folder(filesystem, f"{root}/a/b")
    assert [file.path for file in walk(filesystem, root)] == ["a/d"]


def test_a_limit_is_kept(place: Place) -> None:
    filesystem, root = place
    write_atomically(filesystem, f"{root}/ten", b"0123456789")
    assert read_bytes(filesystem, f"{root}/ten", limit=10) == b"0123456789"
    with pytest.raises(ValueError, match="ten has 10 bytes, more than the 9 that it may have"):
        read_bytes(filesystem, f"{root}/ten", limit=9)


def test_probing_leaves_nothing_behind(place: Place) -> None:
    filesystem, root = place
    check_writable(filesystem, root)
    assert list_names(filesystem, root) == []


def test_the_storages_clock(tmp_path: Path) -> None:
    before = time.time()
    assert before - 1 <= storage_time(*open_storage(str(tmp_path / "new"))) <= time.time() + 1


def test_links_are_not_followed(tmp_path: Path) -> None:
    """But the folder that is asked for may be one."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("outside")
    inside = tmp_path / "inside"
    (inside / "folder").mkdir(parents=True)
    (inside / "file").write_text("inside")
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "folder" / "link").symlink_to(tmp_path / "outside" / "file")
    (tmp_path / "other").symlink_to(inside)
    for root in ("inside", "other"):
        filesystem, path = open_storage(str(tmp_path / root))
        (found,) = walk(filesystem, path)
        assert found == File("file", 6, (inside / "file").stat().st_mtime)
    delete_folder(filesystem, f"{path}/folder")
    assert not (inside / "folder").exists()
    assert (tmp_path / "outside" / "file").read_text() == "outside"


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


def test_a_power_failure_can_come_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content is on the disk before it gets its name, and the name before the write is done;
    so are new folders' names."""
    done: list[tuple[str, str]] = []
    sync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        done.append(("sync", os.path.relpath(path, tmp_path)))
        sync(descriptor)

    def replaced(source: str, target: str) -> None:
        done.append(("rename", os.path.relpath(source, tmp_path)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    filesystem, root = open_storage(str(tmp_path / "storage"))
    write_atomically(filesystem, f"{root}/a/point", b"data")
    temporary = next(path for kind, path in done if kind == "rename")
    assert TEMPORARY.search(temporary)
    assert done == [
        ("sync", "."),
        ("sync", "storage"),
        ("sync", temporary),
        ("rename", temporary),
        ("sync", "storage/a"),
    ]


WRITER = """
import sys
from rewind_ray.store.files import write_atomically
from rewind_ray.store.opening import open_storage
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


# Json

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(plain)
def test_plain_json_is_read_as_python_reads_it(value: object) -> None:
    data = json.dumps(value).encode()
    assert parse_json(data) == json.loads(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "gives a name twice"),
        (b"[NaN]", "has the number NaN"),
        (b'{"a": -Infinity}', "has the number -Infinity"),
        (b"[1e999]", "has the number 1e999"),
        (b"[" * 10_000, "nested too deeply"),
        (b'{"a":' * 10_000, "nested too deeply"),
        (b"\xff\xfe1\x00", "is not UTF-8"),
        (b"9" * 5000, "Exceeds the limit"),
        (b"", "Expecting value"),
        (b"1 2", "Extra data"),
    ],
)
def test_other_json_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_json(data)
    assert len(repr(caught.value)) < 200


@dataclass
class Point:
    x: float
    y: float | None
    name: str
    counts: tuple[int, ...] = ()
    pairs: tuple[tuple[str, bool | int], ...] = ()


@pytest.mark.parametrize(
    "values",
    [
        {"x": 1.5, "y": None, "name": ""},
        {"x": 1, "y": 2, "name": "n" * 1000, "counts": [1, 2]},
        {"counts": [], "pairs": [["a", True], ["b", 3]]},
        {"counts": (1, 2), "pairs": (("a", True),)},
        {"x": 1e308, "colour": object()},  # no field: the dataclass will tell
        {},
    ],
)
def test_values_that_fit(values: dict[str, object]) -> None:
    check_fields(Point, values)


@pytest.mark.parametrize(
    "values",
    [
        {"x": None},
        {"x": True},
        {"x": "1"},
        {"x": 10**301},
        {"y": []},
        {"name": 1},
        {"name": "n" * 1001},
        {"counts": [1.0]},
        {"counts": 1},
        {"counts": [2**63]},
        {"counts": {"a": 1}},
        {"pairs": [["a"]]},
        {"pairs": [["a", 1, 1]]},
        {"pairs": [[1, 1]]},
    ],
)
def test_values_that_do_not_fit(values: dict[str, object]) -> None:
    (name,) = values
    with pytest.raises(ValueError, match=f"^{name} is .*, which doesn't fit Point's "):
        check_fields(Point, values)

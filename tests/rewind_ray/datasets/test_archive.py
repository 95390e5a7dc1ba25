"""Archives in a bucket (moto's S3): unpacked once on a machine, and no others than the driver's."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from rewind_ray.datasets import archive
from rewind_ray.errors import DataError, MissingFile, UserError
from sweeps.options import Options
from sweeps.run.launch import Sweep, runtime_of
from tests.rewind_ray.s3_store import BUCKET, Store, use

URI = f"s3://{BUCKET}/flowers.tar"


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.stop()


@pytest.fixture(autouse=True)
def there(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A machine of its own, as far as its cache goes, that has asked for nothing yet."""
    use(store, monkeypatch)
    move_to(tmp_path / "driver", monkeypatch)
    return store


def move_to(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine))
    archive.pinned.cache_clear()


def put(store: Store, content: bytes) -> None:
    client = boto3.client("s3", endpoint_url=store.url, region_name="us-east-1")
    client.put_object(Bucket=BUCKET, Key="flowers.tar", Body=content)


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def files_in(folder: str | Path) -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


FILES = {"train/rose/1.png": b"1" * 70_000, "train/tulip/2.png": b"22", "test/rose/3.png": b"3"}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_two_machines_unpack_it_once_each(
    there: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    content = tar(FILES, mode)
    put(there, content)
    reference = archive.pinned(URI)
    assert reference == f"{URI}#sha256={hashlib.sha256(content).hexdigest()}"
    for machine in ("driver", "worker"):
        move_to(tmp_path / machine, monkeypatch)
        folder = archive.folder_of(reference)
        assert Path(folder).name == "flowers" and Path(folder).is_relative_to(tmp_path / machine)
        assert files_in(folder) == FILES
        assert there.count(lambda: archive.folder_of(reference)) == 0
    assert archive.folder_of("/data/flowers") == "/data/flowers"


def test_a_driver_reads_it_again_only_when_it_has_changed(there: Store) -> None:
    put(there, tar(FILES))
    first = archive.pinned(URI)
    archive.pinned.cache_clear()
    asked = there.count(lambda: archive.pinned(URI))
    assert asked <= 1 and not any(request.startswith("GET") for request in there.requests)
    put(there, tar(FILES | {"more": b"more" * 10_000}))  # another size, maybe in the same second
    archive.pinned.cache_clear()
    assert archive.pinned(URI) != first
    assert "more" in files_in(archive.folder_of(archive.pinned(URI)))
    assert files_in(archive.folder_of(first)) == FILES


def test_a_worker_takes_no_other_archive_than_the_drivers(
    there: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(there, tar(FILES))
    reference = archive.pinned(URI)
    put(there, tar(FILES | {"train/rose/1.png": b"other"}))
    move_to(tmp_path / "worker", monkeypatch)
    with pytest.raises(DataError, match="isn't what it was when the sweep started"):
        archive.folder_of(reference)


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_nothing_is_written_outside_the_folder(there: Store, tmp_path: Path, name: str) -> None:
    put(there, tar({name: b"out"}))
    try:
        folder = archive.folder_of(archive.pinned(URI))
    except DataError as error:
        assert URI in str(error)
    else:
        assert set(files_in(folder)) == {"outside"}  # the slash is dropped
    assert not list(tmp_path.glob("**/archives/outside")) and not Path("/outside").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_half_an_archive_is_refused(there: Store, tmp_path: Path, mode: str) -> None:
    whole = tar(FILES, mode)
    put(there, whole[: len(whole) // 2])
    with pytest.raises(DataError, match="can't be unpacked"):
        archive.pinned(URI)
    assert not list((tmp_path / "driver").rglob("*.png"))


def test_what_is_not_there_or_no_archive_is_refused() -> None:
    with pytest.raises(MissingFile, match="no such file"):
        archive.pinned(f"s3://{BUCKET}/nothing.tar")
    with pytest.raises(UserError, match="tar -C FOLDER"):
        archive.pinned(f"s3://{BUCKET}/flowers.zip")


def test_an_outage_in_the_middle_only_delays(there: Store) -> None:
    put(there, tar(FILES))
    there.cuts = 1
    assert files_in(archive.folder_of(archive.pinned(URI))) == FILES
    assert there.cuts == 0


def test_workers_get_the_archive_and_the_driver_its_folder(there: Store, tmp_path: Path) -> None:
    put(there, tar(FILES))
    options = Options(storage=str(tmp_path), data=URI)
    folder = options.data_folder
    assert files_in(folder) == FILES
    named = {"name": "one", "stages": []}
    assert runtime_of(Sweep(**named, data=folder), options).data == archive.pinned(URI)
    elsewhere = Sweep(**named, data="/data/photos")  # as of --dataset folder:/data/photos
    assert runtime_of(elsewhere, options).data == "/data/photos"

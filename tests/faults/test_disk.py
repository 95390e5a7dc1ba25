"""A storage on a disk that gets full, or turns read-only, in the middle of a sweep."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweeps.running import QUICKSTART, rows, run, start, wait_until

pytestmark = pytest.mark.alone  # each is two sweeps, and both need one to compare with


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs root, to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    with open(disk / "ballast", "wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 2**16):
                pass
        except OSError:
            return


def empty(disk: Path) -> None:
    (disk / "ballast").unlink()


def remount(option: str):
    def change(disk: Path) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)

    return change


FAULTS = {
    "full": (fill, empty, "No space left on device"),
    "read-only": (remount("ro"), remount("rw"), "Read-only file system"),
}


@pytest.mark.parametrize("kind", list(FAULTS))
def test_nothing_that_was_done_is_lost(kind, disk, undisturbed):
    break_, mend, told = FAULTS[kind]
    expected, _ = undisturbed
    storage = disk / "storage"
    sweep = start(*QUICKSTART, "--storage", str(storage))
    wait_until(lambda: len(rows(storage)) >= 2)
    break_(disk)
    stdout, stderr = sweep.communicate(timeout=200)
    before = rows(storage)
    assert sweep.returncode == 1, stdout + stderr
    assert told in stdout + stderr and "Traceback" not in stdout + stderr
    assert before.items() <= rows(expected).items() and len(before) < len(rows(expected))
    mend(disk)
    again = run(*QUICKSTART, "--storage", str(storage))
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{len(before)} of them done already" in again.stdout
    assert rows(storage) == rows(expected)

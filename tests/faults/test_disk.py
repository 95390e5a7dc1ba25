"""A storage on a disk that gets full, or turns read-only, in the middle of a sweep."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweeps.running import QUICKSTART, rows, run, start, wait_until

pytestmark = pytest.mark.alone  # three sweeps, and one to compare with


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


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(disk)], check=True)


def end_of(sweep: subprocess.Popen[str], reason: str) -> str:
    """It ends at once, with exit code 1, the reason and no traceback; what it printed."""
    stdout, stderr = sweep.communicate(timeout=200)
    assert sweep.returncode == 1, stdout + stderr
    assert reason in stdout + stderr and "Traceback" not in stdout + stderr
    return stdout + stderr


def test_a_full_and_then_a_read_only_disk_lose_nothing_that_was_done(disk, undisturbed):
    expected, _ = undisturbed
    storage = disk / "storage"
    command = (*QUICKSTART, "--storage", str(storage))

    remount(disk, "size=2m")
    refused = run(*command)
    assert refused.returncode == 1
    assert "will write" in refused.stderr and "2 MB are free" in refused.stderr
    remount(disk, "size=64m")

    before: dict = {}
    for break_, mend, reason in (
        (fill, empty, "No space left on device"),
        (lambda disk: remount(disk, "ro"), lambda disk: remount(disk, "rw"), "Read-only file"),
    ):
        sweep = start(*command)
        wait_until(lambda: len(rows(storage)) > len(before))  # noqa: B023
        break_(disk)
        printed = end_of(sweep, reason)
        assert "freeing some space" in printed or break_ is not fill
        found = rows(storage)
        assert before.items() <= found.items() <= rows(expected).items()
        assert len(found) < len(rows(expected))
        before = found
        mend(disk)
    again = run(*command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{len(before)} of them done already" in again.stdout
    assert rows(storage) == rows(expected)

"""Tests that run beside others share the cores; laws are tried on few examples by default, and what
``slow.txt`` lists is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hypothesis import settings

workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if workers > 1:  # before torch is imported, also in what the tests start
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15, and other tests leave them no time
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

settings.register_profile("quick", deadline=None, max_examples=20)  # busy machines are no failure
settings.register_profile("thorough", deadline=None, max_examples=60)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

TRACKERS = "tests.sweeps.run.test_trackers"
SLOW = Path(__file__).with_name("slow.txt")
ROOT = SLOW.parents[1]
LONG = (
    "tests/test_docs.py",
    "tests/sweeps/test_commands.py",
    "tests/rewind_ray/pruning/test_shrink.py",
    "tests/analysis/report/test_report.py",
    "tests/sweeps/searching/test_command.py",
    "tests/rewind_ray/training/test_stage_resume.py",
    "tests/rewind_ray/export/test_export.py",
    "tests/test_examples.py",
    "tests/sweeps/run/test_failures.py",
    "tests/rewind_ray/store/test_s3.py",
    "tests/rewind_ray/datasets/test_stream.py",
)
"""Files of slow tests that take a minute or more, the longest first: begun last, one of them would
run by itself at the end. After them the files with most tests."""


def slow_functions() -> dict[str, str]:
    """Test functions of ``slow.txt`` -> the case that is quick all the same, such as ``[1-2]``."""
    lines = SLOW.read_text().splitlines()
    listed = (line.partition(" ") for line in lines if not line.startswith("#"))
    return {function: case for function, _, case in listed}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark what is slow, let pytest choose by mark, and begin with the longest files."""
    listed = slow_functions()
    for item in items:
        function, bracket, case = item.nodeid.partition("[")
        kept = bracket and listed.get(function) == f"{bracket}{case}"
        if item.get_closest_marker("alone") or (function in listed and not kept):
            item.add_marker(pytest.mark.slow)
    yield
    tests = Counter(item.path for item in items)
    rank = {ROOT / path: number for number, path in enumerate(reversed(LONG))}
    items.sort(
        key=lambda item: (rank.get(item.path, -1), tests[item.path], item.path), reverse=True
    )


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Of a sweep; not there yet."""
    return tmp_path / "storage"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompletedProcess[str]]:
    """A small sweep that nothing happened to, and that two trackers watched: storage, output."""
    from tests.sweeps.running import QUICKSTART, run

    folder = tmp_path_factory.mktemp("undisturbed")
    storage = folder / "storage"
    watched = ("--tracker", f"{TRACKERS}:Lines", f"{TRACKERS}:Broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKER_LOG", str(folder / "epochs"))
        return storage, run(*QUICKSTART, "--storage", str(storage), *watched)

"""Tests that run beside others share the cores; laws are tried on few examples by default, and what
``slow.txt`` lists is left out."""

from __future__ import annotations

import os
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hypothesis import settings

workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if workers > 1:  # before torch is imported, also in what the tests start
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

settings.register_profile("quick", deadline=None, max_examples=20)  # busy machines are no failure
settings.register_profile("thorough", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

TRACKERS = "tests.sweeps.run.test_trackers"
SLOW = Path(__file__).with_name("slow.txt")
ROOT = SLOW.parents[1]


def slow_functions() -> dict[str, str]:
    """Test functions of ``slow.txt`` -> the case that is quick all the same, such as ``[1-2]``."""
    lines = SLOW.read_text().splitlines()
    listed = (line.partition(" ") for line in lines if not line.startswith("#"))
    return {function: case for function, _, case in listed}


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    listed = slow_functions()
    for item in items:
        function, bracket, case = item.nodeid.partition("[")
        kept = bracket and listed.get(function) == f"{bracket}{case}"
        if item.get_closest_marker("alone") or (function in listed and not kept):
            item.add_marker(pytest.mark.slow)


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

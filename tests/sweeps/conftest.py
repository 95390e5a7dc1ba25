from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweeps.running import QUICKSTART, run


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Of a sweep; not there yet."""
    return tmp_path / "storage"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A small sweep that nothing happened to: its storage and output."""
    storage = tmp_path_factory.mktemp("undisturbed") / "storage"
    return storage, run(*QUICKSTART, "--storage", str(storage))

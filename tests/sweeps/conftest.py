from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.run.launch import command
from tests.sweeps.running import QUICKSTART, run


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Of a sweep; not there yet."""
    return tmp_path / "storage"


@pytest.fixture
def typed(monkeypatch, capsys):
    """A command in this process, which has torch in memory already."""

    def call(module, *arguments):
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(SystemExit) as exit_:
            command(importlib.import_module(module).main)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, exit_.value.code, printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A small sweep that nothing happened to: its storage and output."""
    storage = tmp_path_factory.mktemp("undisturbed") / "storage"
    return storage, run(*QUICKSTART, "--storage", str(storage))

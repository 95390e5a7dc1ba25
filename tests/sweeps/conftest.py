from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from sweeps.run.launch import command


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

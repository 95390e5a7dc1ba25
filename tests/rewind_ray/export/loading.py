"""Code of a model card, run as a reader would: elsewhere, without this project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

BLOCK = """
import sys


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rewind_ray", "sweeps", "analysis", "trainables", "tests"):
            raise ImportError(f"{name} is not installed here")


sys.meta_path.insert(0, Blocked())
"""
OUTPUTS = """
with torch.no_grad():
    torch.save(torch.as_tensor(network(standardised(torch.load("given.pt")))), "found.pt")
"""
OWN_OUTPUTS = OUTPUTS.replace('standardised(torch.load("given.pt"))', 'torch.load("given.pt")')


def code_of(card: Path) -> str:
    found = re.search(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def run_card(file: Path, given: Tensor, outputs: str = OUTPUTS) -> Tensor:
    """What the loaded network makes of what is given, by the code of FILE.md; that code has to run
    as it stands too."""
    folder = file.parent
    torch.save(given, folder / "given.pt")
    (folder / "run_card.py").write_text(BLOCK + code_of(Path(f"{file}.md")) + outputs)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "run_card.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: Tensor = torch.load(folder / "found.pt")
    return found

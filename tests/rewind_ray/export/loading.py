"""Code of model cards, run as a reader would: elsewhere, without this project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
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
RUN = """
import runpy

for path in sys.argv[1:]:
    runpy.run_path(path)
"""
OUTPUTS = """
with torch.no_grad():
    torch.save(torch.as_tensor(network({given})), {found!r})
"""
FROM_PIXELS = "standardised(torch.load('given.pt'))"
AS_THEY_ARE = "torch.load('given.pt')"


def code_of(card: Path) -> str:
    found = re.search(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def run_cards(files: Sequence[Path], given: Tensor, how: str = FROM_PIXELS) -> list[Tensor]:
    """What each loaded network makes of what is given, by the code of FILE.md.

    That code has to run as it stands too. All lie in one folder, and run in one fresh interpreter.
    """
    folder = files[0].parent
    torch.save(given, folder / "given.pt")
    (folder / "run_cards.py").write_text(BLOCK + RUN)
    scripts, outputs = [], []
    for file in files:
        outputs.append(folder / f"{file.name}.found")
        scripts.append(folder / f"{file.name}.card.py")
        more = OUTPUTS.format(given=how, found=outputs[-1].name)
        scripts[-1].write_text(code_of(Path(f"{file}.md")) + more)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "run_cards.py", *(script.name for script in scripts)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(output) for output in outputs]

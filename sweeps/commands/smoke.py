"""``rewind-ray smoke``"""

from __future__ import annotations

import subprocess
import sys

from rewind_ray.command_line import DONE, FAILED
from rewind_ray.errors import UserError
from sweeps.commands.list import catalogue


def smoke_command(storage: str = "results-smoke", only: str = "") -> int:
    """Run every recipe with --smoke and one seed; exit code 1 if one fails.

    Examples:
      rewind-ray smoke
      rewind-ray smoke --only wang2023

    Args:
        storage: storage root of their results; finished stages aren't trained again
        only: run only recipes whose command contains this
    """
    commands = [entry.command for entry in catalogue() if only in entry.command]
    if not commands:
        raise UserError(f"no recipe's command contains {only!r}; rewind-ray list shows them")
    outcomes = {}
    for name in commands:
        command = [sys.executable, "-m", "sweeps.entry", *name.split(), "--smoke", "--seeds", "1"]
        print(f"\n== {name}", flush=True)
        outcomes[name] = subprocess.call([*command, "--storage", storage])
    print()
    for name, code in outcomes.items():
        print(f"{'done  ' if code == 0 else 'FAILED'} {name}")
    return FAILED if any(outcomes.values()) else DONE

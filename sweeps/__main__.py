"""Commands around the sweeps.

Examples:
  rewind-ray list
  rewind-ray smoke --only wang2023
  rewind-ray doctor --storage results
  rewind-ray calibrate --network resnet56 --precision bf16
  rewind-ray status --watch results
  rewind-ray control results --pause
  rewind-ray storage verify results
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from rewind_ray.command_line import exit_code, run_one_of
from sweeps import entry
from sweeps.commands import COMMANDS


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    return exit_code(lambda: run_one_of("sweeps", COMMANDS, __doc__, arguments))


if __name__ == "__main__":
    sys.exit(entry.main())  # python -m sweeps is rewind-ray

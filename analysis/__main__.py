"""What the rows of a sweep say."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from analysis.commands import COMMANDS
from rewind_ray.command_line import exit_code, run_one_of

log = logging.getLogger("analysis")


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    return exit_code(lambda: run_one_of("analysis", COMMANDS, __doc__, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

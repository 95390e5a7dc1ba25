"""What the rows of a sweep say.

Examples:
  rewind-ray analysis report results --out report.html
  rewind-ray analysis compare results --methods lr_rewind weight_rewind
  rewind-ray analysis headline rows.csv --max-drops 0.5pt --json
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from analysis.commands import COMMANDS, overview
from rewind_ray.command_line import DONE, exit_code, run_one_of

log = logging.getLogger("analysis")


def main(arguments: Sequence[str]) -> int:
    """The exit code. Without arguments, list the commands."""
    if not arguments:
        print(overview(), flush=True)
        return DONE
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    return exit_code(lambda: run_one_of("analysis", list(COMMANDS), __doc__, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

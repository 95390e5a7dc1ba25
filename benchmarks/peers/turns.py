"""What a contender's process does: a round of updates for every line that it reads.

Each contender is a script of its own, because their packages have the same names. It doesn't
import this project, whose place on ``sys.path`` the checkout takes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def take_turns(round_of_updates: Callable[[], float]) -> None:
    """Print ``ready``, then the seconds of a round for each line of stdin; the first isn't
    counted by whoever asks. What else is printed goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        print(round_of_updates(), file=answers, flush=True)

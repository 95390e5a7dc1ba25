"""What the rows of a sweep say."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Sequence

from tyro.conf import FlagCreatePairsOff
from tyro.extras import SubcommandApp

from analysis.commands import COMMANDS, command_named, overview
from analysis.table.columns import BadRows

log = logging.getLogger("analysis")

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def run(arguments: Sequence[str]) -> None:
    """Parse and execute; without arguments list the commands. ``--help`` and bad usage exit."""
    if not arguments:
        print(overview(), flush=True)
        return
    app = SubcommandApp()
    typed = arguments[:1]
    for name in typed if typed and typed[0] in COMMANDS else COMMANDS:
        function = command_named(name)
        text = inspect.getdoc(function) or ""
        # A command's own help shows the whole text, the list of commands a line of it
        app.command(name=name, help=text if [name] == list(typed) else text.partition("\n")[0])(
            function
        )
    app.cli(
        prog="python -m analysis",
        description=__doc__,
        args=arguments,
        config=(FlagCreatePairsOff,),
    )


def main(arguments: Sequence[str]) -> int:
    """The exit code; 1: what was read or written is bad, 2: what was typed."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        run(arguments)
    except BrokenPipeError:  # head, or another reader, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        typed = isinstance(error, (ValueError, FileNotFoundError))
        return WRONG_USAGE if typed and not isinstance(error, BadRows) else FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the rows of a sweep say."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Sequence

from tyro.conf import FlagCreatePairsOff
from tyro.extras import SubcommandApp

from analysis.commands import COMMANDS, command_named, overview
from rewind_ray.errors import exit_code

log = logging.getLogger("analysis")


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
    """Its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    return exit_code(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

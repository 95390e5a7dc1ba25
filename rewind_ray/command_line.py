"""What all commands share: parsing and help, exit codes, error messages, the console."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from rich.console import Console
from tyro.conf import FlagCreatePairsOff
from tyro.extras import SubcommandApp

from rewind_ray.errors import DataError, UserError
from rewind_ray.text import printable_lines

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""
INCOMPLETE, OF_A_SERVICE = 3, "REWIND_RAY_SERVICE"
"""Exit code of a sweep that has done what it could, where this environment variable is set."""
WIDTH_WITHOUT_TERMINAL = 110
WIDEST_HELP = 100


def incomplete() -> int:
    """Exit code of a sweep that has done what it could, up to a limit or except for stages that
    fail: FAILED, but of a service INCOMPLETE, which has systemd not start it again."""
    return INCOMPLETE if os.environ.get(OF_A_SERVICE) else FAILED


def exit_code(command: Callable[[], int | None], interrupted: str = "interrupted") -> int:
    """Run a command and return its exit code; report the errors that are no defects of ours.

    command: returns its own exit code, or None for 0. interrupted: printed after Ctrl-C. An
    ``OSError`` (a full disk, a storage that is away) counts as reported failure. Raises whatever
    else the command raises.
    """
    try:
        code = command()
        if sys.stdout is not None:  # it may have been closed, as by >&-
            sys.stdout.flush()
    except UserError as error:
        return _report(error, WRONG_USAGE)
    except BrokenPipeError:  # head, or another reader, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (DataError, OSError) as error:
        return _report(error, FAILED)
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return INTERRUPTED
    return DONE if code is None else code


def _report(error: Exception, code: int) -> int:
    print(f"error: {printable_lines(str(error))}", file=sys.stderr)
    return code


def run_cli(
    cli: Callable[..., Any], prog: str | None, docstring: str | None, typed: Sequence[str] | None
) -> Any:
    """Parse what was typed (None: ``sys.argv``) and call the function that it names.

    cli: ``tyro.cli`` of a function, or a ``SubcommandApp``'s. The help begins with the docstring's
    summary and ends with the rest of it, up to ``Args:``: details and examples.
    """
    summary, _, details = inspect.cleandoc(docstring or "").partition("\n\n")
    try:
        return cli(prog=prog, description=summary, args=typed, config=(FlagCreatePairsOff,))
    except SystemExit as exited:
        if not exited.code:
            print(_filled(details.partition("Args:")[0]))
        raise


def command_named(package: str, name: str) -> Callable[..., Any]:
    """``PACKAGE.commands.NAME.NAME_command``, imported now."""
    module = name.replace("-", "_")
    function: Callable[..., Any] = getattr(
        import_module(f"{package}.commands.{module}"), f"{module}_command"
    )
    return function


def run_one_of(
    package: str, names: Sequence[str], docstring: str | None, typed: Sequence[str]
) -> int | None:
    """Run the command of a package that was typed; see ``command_named``.

    Only that one is imported, as some take seconds; all for the list of them.
    """
    app = SubcommandApp()
    named = list(typed[:1]) if typed and typed[0] in names else list(names)
    for name in named:
        function = command_named(package, name)
        summary = (function.__doc__ or "").partition("\n")[0]
        app.command(name=name, help=summary)(function)
        docstring = function.__doc__ if named == list(typed[:1]) else docstring
    prog = "rewind-ray" if package == "sweeps" else f"rewind-ray {package}"
    code: int | None = run_cli(app.cli, prog, docstring, typed or ["--help"])
    return code


def _filled(text: str) -> str:
    """Paragraphs filled to the terminal's width; of lists and examples, which are indented, only
    the lines that are longer are broken."""
    width = min(shutil.get_terminal_size().columns, WIDEST_HELP)
    return "\n\n".join(
        "\n".join(_folded(line, width) for line in paragraph.split("\n"))
        if "\n " in paragraph
        else textwrap.fill(paragraph, width)
        for paragraph in text.strip("\n").split("\n\n")
    )


def _folded(line: str, width: int) -> str:
    """A line of a list continues below its second column; a command after a backslash."""
    if len(line) <= width:
        return line
    indent = len(line) - len(line.lstrip())
    command = line.lstrip().startswith(("rewind-ray ", "python -m "))
    columns = re.match(r" *\S+ {2,}", line)
    below = indent + 4 if command else columns.end() if columns else indent
    rest = line.rstrip("\\").rstrip()
    parts = textwrap.wrap(
        rest.lstrip(),
        width - 2 * command,
        initial_indent=" " * indent,
        subsequent_indent=" " * below,
        break_long_words=False,
        break_on_hyphens=False,
    )
    ending = " \\" if line.endswith("\\") else ""
    return (" \\\n" if command else "\n").join(parts) + ending


def make_console() -> Console:
    """As wide as the terminal; 110 columns where there is none."""
    console = Console(highlight=False)
    if console.is_terminal:
        return console
    return Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)

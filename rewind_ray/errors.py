"""The errors that a command reports in a sentence, and the exit codes of all commands.

A ``UserError`` was caused by what the user typed, gave or set up; a ``DataError`` by content that
was read. Both carry a message that is enough to put it right. Any other exception is a defect of
this package: nothing catches it, so that its traceback is shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rewind_ray.text import printable_lines

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class UserError(ValueError):
    """Wrong input. The message names the value, the allowed values and the way out."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that the user named, or that a data set needs, doesn't exist."""


class DataError(ValueError):
    """Content that was read is damaged, or doesn't hold what was asked for."""


def exit_code(command: Callable[[], int | None], interrupted: str = "interrupted") -> int:
    """Run a command and return its exit code; report the errors that are no defects of ours.

    command: returns its own exit code, or None for 0. interrupted: printed after Ctrl-C. An
    ``OSError`` (a full disk, a storage that is away) counts as reported failure. Raises whatever
    else the command raises.
    """
    try:
        code = command()
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

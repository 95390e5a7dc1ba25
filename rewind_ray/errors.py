"""The errors that a command reports in a sentence; see ``command_line.exit_code``.

A ``UserError`` was caused by what the user typed, gave or set up; a ``DataError`` by content that
was read. Both carry a message that is enough to put it right. Any other exception is a defect of
this package: nothing catches it, so that its traceback is shown.
"""

from __future__ import annotations


class UserError(ValueError):
    """Wrong input. The message names the value, the allowed values and the way out."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that the user named, or that a data set needs, doesn't exist."""


class DataError(ValueError):
    """Content that was read is damaged, or doesn't hold what was asked for."""

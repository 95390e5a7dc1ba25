"""Text of others, made fit to be shown: names of classes, folders and sweeps, messages, rows."""

from __future__ import annotations

import unicodedata

INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Unicode categories that no text needs and that change how a terminal shows the rest: control
characters (also those that move the cursor), marks of direction, surrogates, line separators."""


def first_line(error: BaseException) -> str:
    """Of its message; the name of its type where that is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def printable_lines(text: str) -> str:
    """As ``printable``, lines left apart."""
    return "\n".join(map(printable, text.split("\n")))


def printable(text: str) -> str:
    r"""``text`` in one line, control and other invisible characters escaped: ``\x1b[2J``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        repr(letter)[1:-1] if unicodedata.category(letter) in INVISIBLE else letter
        for letter in text
    )

"""The log of a sweep in its storage: what its drivers print, as lines of text with the time.

It is there for whoever looks from elsewhere, also when the driver's machine is gone. An object
store can't append, so the file is read and written again with the new lines, once a minute at most.
"""

from __future__ import annotations

import logging
import os
import shlex
import socket
import sys
import threading
import traceback
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from rewind_ray.command_line import INTERRUPTED
from rewind_ray.errors import DataError, UserError
from rewind_ray.store.files import read_bytes, write_atomically
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.patience import patience_of
from rewind_ray.text import printable

log = logging.getLogger(__name__)

LIMIT = 2**20
"""Bytes of a log; older lines are dropped."""
READ_LIMIT = 2 * LIMIT
"""Bytes of a file that can be one."""
DROPPED = "[older lines were dropped]"
SAVE_SECONDS = 60.0
END_SECONDS = 10.0
"""Wait for a storage that is away when the sweep ends."""
OURS = ("rewind_ray", "sweeps")
"""Packages whose warnings belong into the log."""


class SweepLog:
    """A context whose lines are kept in the storage, and how it ended. Never raises: a storage
    that can't be written to is a warning."""

    def __init__(self, ledger: Ledger, sweep: str, seconds: float = SAVE_SECONDS) -> None:
        """seconds: between two writes."""
        self._ledger = ledger
        self._sweep = sweep
        self._seconds = seconds
        self._lines: list[str] = []
        """Those that aren't in the storage yet."""
        self._lock = threading.Lock()
        self._soon = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._save_again_and_again, daemon=True)
        self._handler = WarningHandler(self)
        self._has_warned = False

    def __enter__(self) -> SweepLog:
        words = shlex.join(command_words())
        self.add(f"started on {socket.gethostname()}, process {os.getpid()}: {words}")
        for package in OURS:
            logging.getLogger(package).addHandler(self._handler)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            self.add(how_it_ended(error))
        for package in OURS:
            logging.getLogger(package).removeHandler(self._handler)
        self.close()

    def add(self, text: str) -> None:
        """Lines of text, with the time."""
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        with self._lock:
            self._lines += [f"{now} {printable(line)}" for line in text.splitlines()]

    def save_soon(self) -> None:
        """Write what there is at once, from the thread: the process may not live for long."""
        self._soon.set()

    def close(self) -> None:
        """Write what is left, and no more after it."""
        self._is_over = True
        self._soon.set()
        with patience_of(END_SECONDS):
            self._thread.join()
            self._save()

    def _save_again_and_again(self) -> None:
        while not self._is_over:
            self._save()
            self._soon.wait(self._seconds)
            self._soon.clear()

    def _save(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            append_lines(self._ledger, self._sweep, lines)
            self._has_warned = False
        except (OSError, ValueError) as error:
            with self._lock:
                self._lines = newest([*lines, *self._lines])
            if not self._has_warned:
                self._has_warned = True
                log.warning("the sweep's log can't be written, the sweep goes on: %s", error)


class WarningHandler(logging.Handler):
    """Adds warnings to a sweep's log, and still shows them where nobody else does."""

    def __init__(self, sweep_log: SweepLog) -> None:
        super().__init__(logging.WARNING)
        self._log = sweep_log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.add(record.getMessage())
        if not logging.root.handlers and logging.lastResort:
            logging.lastResort.handle(record)


def command_words() -> list[str]:
    """The command that was typed."""
    return [Path(sys.argv[0]).stem, *sys.argv[1:]]


def how_it_ended(error: BaseException) -> str:
    """A sentence for what a user can cause, the traceback of our defects."""
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted, exit code {INTERRUPTED}; the same command continues"
    if isinstance(error, (UserError, DataError, OSError)):
        return f"error: {error}"
    return "".join(traceback.format_exception(error))


def append_lines(ledger: Ledger, sweep: str, lines: Iterable[str]) -> None:
    """To the log in the storage, which another driver may have written meanwhile."""
    kept = newest([*read_lines(ledger, sweep), *lines])
    text = "".join(f"{line}\n" for line in kept)
    write_atomically(ledger.filesystem, ledger.layout.log(sweep), text.encode())


def read_lines(ledger: Ledger, sweep: str) -> list[str]:
    """Of the log in the storage, fit to be shown; none where there is no log."""
    try:
        content = read_bytes(ledger.filesystem, ledger.layout.log(sweep), READ_LIMIT)
    except (FileNotFoundError, DataError):
        return []
    return [printable(line) for line in content.decode(errors="replace").splitlines()]


def newest(lines: Sequence[str]) -> list[str]:
    """The last lines that have LIMIT bytes together, after one that says so where others are
    dropped."""
    left, kept = LIMIT, 0
    for line in reversed(lines):
        left -= len(line.encode()) + 1
        if left < 0:
            break
        kept += 1
    if kept == len(lines):
        return list(lines)
    return [DROPPED, *lines[len(lines) - kept :]]

"""Where an Optuna study is kept: a journal file under the storage root, on any file system.

The format is that of Optuna's own journal files, so ``optuna-dashboard`` opens it. Only one
driver writes it at a time (see ``study``), so it takes no locks, which a killed driver would
leave behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from rewind_ray.store.files import read_bytes, write_atomically
from rewind_ray.store.ledger import Ledger


class Journal(BaseJournalBackend):
    """The log of a study: a line an operation, in memory and in a file that only grows."""

    def __init__(self, ledger: Ledger, study: str) -> None:
        """study: its name. Raises ValueError, naming the line, for a broken file."""
        self.path = ledger.layout.study(study)
        self._filesystem = ledger.filesystem
        self._logs = self._read()
        self._unsaved: list[dict[str, Any]] = []
        self._together = False

    @property
    def is_local(self) -> bool:
        return bool(self._filesystem.type_name == "local")

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs
        self._unsaved += logs
        if not self._together:
            self._save()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is logged in this context gets into the file as one, or, after a kill, not at
        all."""
        self._together = True
        try:
            yield
        finally:
            self._together = False
            self._save()

    def _read(self) -> list[dict[str, Any]]:
        try:
            data = read_bytes(self._filesystem, self.path)
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]  # a last line without its end was cut off by a kill
        if len(whole) < len(data):
            self._cut(whole)
        return [self._parsed(number, line) for number, line in enumerate(whole.splitlines(), 1)]

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            log = json.loads(line)
            if isinstance(log, dict) and "op_code" in log:
                return log
        except ValueError:
            pass
        raise ValueError(
            f"study file {self.path} is broken at line {number}: {line[:60]!r}; move it away and "
            "give the same command: the search starts anew, and what it trained isn't trained again"
        )

    def _cut(self, whole: bytes) -> None:
        if self.is_local:
            os.truncate(self.path, len(whole))
        else:
            write_atomically(self._filesystem, self.path, whole)

    def _save(self) -> None:
        if not self._unsaved:
            return
        if not self.is_local:  # an object can't grow
            write_atomically(self._filesystem, self.path, lines_of(self._logs))
        else:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                file.write(lines_of(self._unsaved))
                file.flush()
                os.fsync(file.fileno())
        self._unsaved = []


def lines_of(logs: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)

"""The journal file of an Optuna study, under the storage root, on any file system.

The format is that of Optuna's own journal files, so ``optuna-dashboard`` opens it; it ignores the
checksum that each line has, of itself and all lines before. Only one driver writes it at a time
(see ``study``), so it needs no locks, which a killed driver would leave behind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from rewind_ray.errors import DataError
from rewind_ray.store.files import read_bytes, write_atomically
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.strict_json import CHECKSUM, content_checksum, parse_json


class Journal(BaseJournalBackend):
    """The log of a study, one line per operation, in memory and in an append-only file."""

    def __init__(self, ledger: Ledger, study: str) -> None:
        """study: its name. Raises DataError, naming the line, for a broken file."""
        self.path = ledger.layout.study(study)
        self._filesystem = ledger.filesystem
        self._logs = self._read()
        self._unsaved: list[dict[str, Any]] = []
        self._last = checksum_after(self._logs)
        """Checksum of the last line in the file."""
        self._deferred = False

    @property
    def is_local(self) -> bool:
        return bool(self._filesystem.type_name == "local")

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += logs
        self._unsaved += logs
        if not self._deferred:
            self._save()

    @contextmanager
    def atomically(self) -> Iterator[None]:
        """Write all that is logged in this context at once; after a kill all or none of it is in
        the file."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            self._save()

    def _read(self) -> list[dict[str, Any]]:
        try:
            data = read_bytes(self._filesystem, self.path)
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]  # a last line without its end was cut off by a kill
        if len(whole) < len(data):
            self._cut(whole)
        logs: list[dict[str, Any]] = []
        last = ""
        for number, line in enumerate(whole.splitlines(), 1):
            log, last = self._parsed(number, line, last)
            logs.append(log)
        return logs

    def _parsed(self, number: int, line: bytes, before: str) -> tuple[dict[str, Any], str]:
        """The line's log and its checksum. before: checksum of the line before."""
        try:
            log = parse_json(line)
            if isinstance(log, dict) and "op_code" in log:
                found = log.pop(CHECKSUM, None)
                if found == chained(before, log):
                    return log, found
        except ValueError:
            pass
        raise DataError(
            f"study file {self.path} is damaged at line {number}: {line[:60]!r}; move it away and "
            "give the same command: the search starts anew without training anything twice. Or cut "
            "the file before that line: the search continues from there"
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
            write_atomically(self._filesystem, self.path, lines_of(self._logs, ""))
        else:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as file:
                file.write(lines_of(self._unsaved, self._last))
                file.flush()
                os.fsync(file.fileno())
        self._last = checksum_after(self._unsaved, self._last)
        self._unsaved = []


def lines_of(logs: list[dict[str, Any]], before: str) -> bytes:
    """The lines of the file, each with a checksum of itself and all lines before it.

    before: checksum of the line before them.
    """
    lines = []
    for log in logs:
        before = chained(before, log)
        lines.append(json.dumps({**log, CHECKSUM: before}, separators=(",", ":")).encode() + b"\n")
    return b"".join(lines)


def checksum_after(logs: list[dict[str, Any]], before: str = "") -> str:
    for log in logs:
        before = chained(before, log)
    return before


def chained(before: str, log: dict[str, Any]) -> str:
    return content_checksum({"before": before, "log": log})

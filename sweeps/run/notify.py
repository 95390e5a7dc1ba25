"""``--notify COMMAND``: a command of the user's, run when stages fail and when the sweep ends."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from rewind_ray.errors import UserError

SECONDS_BETWEEN = 60.0
"""Failures that follow each other faster are one notice."""
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """What the command reads on its standard input, as JSON."""

    event: str
    """``failure`` or ``end``; also in the environment, as REWIND_RAY_EVENT."""
    sweep: str
    storage: str
    text: str
    """A sentence or two, for people."""


class Notifier:
    """Runs the command for every notice. What goes wrong there is a line in the view, no more."""

    def __init__(
        self, command: str | None, sweep: str, storage: str, note: Callable[[str], None]
    ) -> None:
        """command: as the shell would split it; None: nobody is notified."""
        self._command = shlex.split(command) if command else []
        self._sweep = sweep
        self._storage = storage
        self._note = note
        self._last = -SECONDS_BETWEEN
        self._held_back: list[str] = []

    def failure(self, text: str) -> None:
        """A stage has failed for good."""
        self._held_back.append(text)
        if time.monotonic() - self._last >= SECONDS_BETWEEN:
            self._last = time.monotonic()
            self._send_failures()

    def end(self, text: str) -> None:
        """The sweep has ended, however."""
        if self._held_back:
            self._send_failures()
        self._send("end", text)

    def _send_failures(self) -> None:
        first, *others = self._held_back
        more = f" (and {len(others)} more)" if others else ""
        self._held_back = []
        self._send("failure", f"{first}{more}")

    def _send(self, event: str, text: str) -> None:
        if not self._command:
            return
        notice = Notice(event=event, sweep=self._sweep, storage=self._storage, text=text)
        try:
            subprocess.run(
                self._command,
                input=json.dumps(asdict(notice)),
                env=os.environ | {"REWIND_RAY_EVENT": event},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            self._note(f"--notify ended with {error.returncode}: {error.stderr.strip()[-200:]}")
        except (OSError, subprocess.TimeoutExpired) as error:
            self._note(f"--notify: {error}")


def check_command(command: str | None) -> None:
    """Raises UserError for a command that can't be run."""
    if command is None:
        return
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"--notify is {command!r}: {error}; quote it as for a shell") from error
    if not words or shutil.which(words[0]) is None:
        name = words[0] if words else command
        raise UserError(
            f"--notify: there is no program {name!r} on the path; it reads JSON on its standard "
            "input, as in --notify 'mail -s sweep me@example.org'"
        )

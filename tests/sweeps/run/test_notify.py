"""``--notify``: a real command, what it reads, and what it can't break."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rewind_ray.errors import UserError
from sweeps.run import notify
from sweeps.run.notify import Notifier, check_command

SCRIPT = """#!/bin/sh
cat >> "{out}"; echo " $REWIND_RAY_EVENT" >> "{out}"
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    script = tmp_path / "hook.sh"
    script.write_text(SCRIPT.format(out=tmp_path / "out"))
    script.chmod(0o755)
    return tmp_path / "out"


def notices(out: Path) -> list[tuple[dict[str, str], str]]:
    lines = (line.rpartition(" ") for line in out.read_text().splitlines())
    return [(json.loads(notice), event) for notice, _, event in lines]


def test_the_first_failure_comes_at_once_and_the_others_together(out: Path) -> None:
    notes: list[str] = []
    notifier = Notifier(str(out.with_name("hook.sh")), "mine", "s3://x", notes.append)
    for text in ("a failed", "b failed", "c failed"):
        notifier.failure(text)
    assert [notice["text"] for notice, _ in notices(out)] == ["a failed"]
    notifier.end("8 of 11 done")
    assert [(notice["text"], event) for notice, event in notices(out)] == [
        ("a failed", "failure"),
        ("b failed (and 1 more)", "failure"),
        ("8 of 11 done", "end"),
    ]
    assert notices(out)[0][0] == {
        "event": "failure",
        "sweep": "mine",
        "storage": "s3://x",
        "text": "a failed",
    }
    assert notes == []


def test_after_a_minute_failures_are_sent_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(notify.time, "monotonic", lambda: clock[0])
    notifier = Notifier(str(out.with_name("hook.sh")), "mine", "x", print)
    notifier.failure("a")
    clock[0] += notify.SECONDS_BETWEEN
    notifier.failure("b")
    assert [notice["text"] for notice, _ in notices(out)] == ["a", "b"]


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (f"{sys.executable} -c 'import sys; sys.exit(\"no route\")'", "no route"),
        ("/nowhere/at-all", "/nowhere/at-all"),
    ],
)
def test_a_command_that_fails_is_a_line(command: str, word: str) -> None:
    notes: list[str] = []
    Notifier(command, "mine", "x", notes.append).end("done")
    assert len(notes) == 1 and word in notes[0]


def test_a_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PATIENCE_SECONDS", 0.2)
    notes: list[str] = []
    Notifier("sleep 60", "mine", "x", notes.append).end("done")
    assert len(notes) == 1 and "timed out" in notes[0]


def test_nobody_is_notified_without_a_command() -> None:
    Notifier(None, "mine", "x", print).end("done")


@pytest.mark.parametrize("command", ["no-such-program-here x", "", "'unclosed"])
def test_what_can_t_be_run_is_refused_at_the_start(command: str) -> None:
    with pytest.raises(UserError, match="--notify"):
        check_command(command)

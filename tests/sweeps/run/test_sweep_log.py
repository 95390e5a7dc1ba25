"""The log of a sweep in its storage: whole lines, whatever happens to driver and storage."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_ray.errors import DataError, UserError
from rewind_ray.store.ledger import Ledger
from sweeps.run import sweep_log
from sweeps.run.sweep_log import DROPPED, LIMIT, SweepLog, newest, read_lines
from tests.rewind_ray.s3_store import BUCKET, Store, use
from tests.sweeps.running import wait_until

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


@pytest.fixture
def ledger(storage: Path) -> Ledger:
    return Ledger(str(storage))


def without_time(lines: list[str]) -> list[str]:
    for line in lines:
        assert re.match(TIME, line), line
    return [re.sub(TIME, "", line) for line in lines]


def test_each_start_says_what_where_and_follows_what_was_there(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/venv/bin/compare.py", "--notify", "tell me"])
    for stage in ("first", "second"):
        with SweepLog(ledger, "one") as log:
            log.add(stage)
    start = f"started on {socket.gethostname()}, process {os.getpid()}: compare --notify 'tell me'"
    assert without_time(read_lines(ledger, "one")) == [start, "first", start, "second"]
    assert [entry.kind for entry in ledger.entries()] == ["log"]


def test_it_is_there_while_the_sweep_runs(ledger: Ledger) -> None:
    with SweepLog(ledger, "one", seconds=0.01) as log:
        log.add("under way")
        wait_until(lambda: without_time(read_lines(ledger, "one"))[1:] == ["under way"], 20)


def test_it_is_saved_at_once_when_the_process_may_be_killed(ledger: Ledger) -> None:
    with SweepLog(ledger, "one") as log:
        wait_until(lambda: read_lines(ledger, "one") != [], 20)
        log.add("Interrupted")
        log.save_soon()
        wait_until(lambda: without_time(read_lines(ledger, "one"))[1:] == ["Interrupted"], 20)


def test_nothing_is_written_when_nothing_was_said(ledger: Ledger, storage: Path) -> None:
    with SweepLog(ledger, "one", seconds=0.01):
        wait_until(lambda: read_lines(ledger, "one") != [], 20)
        before = (storage / "logs" / "one.log").stat().st_ino  # of each write another
        time.sleep(0.2)
        assert (storage / "logs" / "one.log").stat().st_ino == before


def test_two_drivers_of_one_sweep_keep_each_other_s_lines(ledger: Ledger) -> None:
    with SweepLog(ledger, "one", seconds=0.01) as ours, SweepLog(ledger, "one", 0.01) as theirs:
        for number in range(3):
            for whose, log in (("ours", ours), ("theirs", theirs)):
                log.add(f"{whose} {number}")
                said = f"{whose} {number}"
                wait_until(lambda said=said: said in without_time(read_lines(ledger, "one")), 20)
    lines = without_time(read_lines(ledger, "one"))
    assert [line for line in lines if not line.startswith("started")] == [
        f"{whose} {number}" for number in range(3) for whose in ("ours", "theirs")
    ]


def test_no_escape_of_a_terminal_gets_into_it_or_out_of_it(ledger: Ledger, storage: Path) -> None:
    with SweepLog(ledger, "one") as log:
        log.add("a name \x1b[2J\nand \u202e another")
    path = storage / "logs" / "one.log"
    assert path.read_bytes().decode().isprintable() is False  # its line breaks
    assert path.read_bytes().decode().replace("\n", "").isprintable()
    assert without_time(read_lines(ledger, "one"))[1:] == ["a name \\x1b[2J", "and \\u202e another"]
    path.write_bytes(b"forged \x1b[2J \xff\n")
    (line,) = read_lines(ledger, "one")
    assert "\x1b" not in line and line.startswith("forged \\x1b[2J")


@given(lines=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=40)))
def test_the_newest_lines_stay(lines: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_log, "LIMIT", 100)
        kept = newest(lines)
    size = sum(len(line.encode()) + 1 for line in lines)
    if size <= 100:
        assert kept == lines
        return
    assert kept[0] == DROPPED
    number = len(kept) - 1
    assert kept[1:] == lines[len(lines) - number :]
    one_more = lines[len(lines) - number - 1 :]
    assert sum(len(line.encode()) + 1 for line in kept[1:]) <= 100
    assert sum(len(line.encode()) + 1 for line in one_more) > 100


def test_it_does_not_grow_without_end(ledger: Ledger, storage: Path) -> None:
    for number in range(3):
        with SweepLog(ledger, "one") as log:
            log.add("\n".join(f"{number} {'x' * 1000}" for _ in range(LIMIT // 2000)))
    path = storage / "logs" / "one.log"
    assert LIMIT - 2000 < path.stat().st_size < LIMIT + 100
    lines = read_lines(ledger, "one")
    assert lines[0] == DROPPED and lines.count(DROPPED) == 1
    assert without_time(lines[-1:])[0].startswith("2 xxx")


def test_a_storage_that_can_t_be_written_stops_nothing_and_no_line_is_lost(
    ledger: Ledger, storage: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file is in the place of the folder, as which a disk that is full or away looks too."""
    storage.mkdir()
    (storage / "logs").write_text("not a folder")
    with SweepLog(ledger, "one", seconds=0.01) as log:
        for number in range(3):
            log.add(f"line {number}")
            time.sleep(0.05)
        (storage / "logs").unlink()
        wait_until(lambda: (storage / "logs").is_dir(), 20)
    lines = without_time(read_lines(ledger, "one"))
    assert [line for line in lines if line.startswith("line")] == ["line 0", "line 1", "line 2"]
    assert sum("log can't be written" in record.message for record in caplog.records) == 1


def test_a_storage_that_stays_so_stops_nothing_either(ledger: Ledger, storage: Path) -> None:
    storage.mkdir()
    (storage / "logs").write_text("not a folder")
    with SweepLog(ledger, "one") as log:
        log.add("a line")
    assert (storage / "logs").read_text() == "not a folder"


def test_what_is_no_log_is_replaced(ledger: Ledger, storage: Path) -> None:
    path = storage / "logs" / "one.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * (sweep_log.READ_LIMIT + 1))
    with SweepLog(ledger, "one") as log:
        log.add("a line")
    assert without_time(read_lines(ledger, "one"))[1:] == ["a line"]


@pytest.mark.parametrize(
    "error",
    [UserError("--seeds is 0"), DataError("a damaged row"), OSError("the disk is full")],
    ids=lambda error: type(error).__name__,
)
def test_it_ends_with_the_error(ledger: Ledger, error: Exception) -> None:
    with pytest.raises(type(error)), SweepLog(ledger, "one"):
        raise error
    assert without_time(read_lines(ledger, "one"))[1:] == [f"error: {error}"]


def test_of_a_defect_the_traceback_is_kept(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError), SweepLog(ledger, "one"):
        1 / 0  # noqa: B018
    lines = without_time(read_lines(ledger, "one"))
    assert "1 / 0" in "".join(lines) and lines[-1] == "ZeroDivisionError: division by zero"


def test_an_interrupted_sweep_says_so(ledger: Ledger) -> None:
    with pytest.raises(KeyboardInterrupt), SweepLog(ledger, "one"):
        raise KeyboardInterrupt
    assert "interrupted" in read_lines(ledger, "one")[-1]


def test_our_warnings_are_in_it_and_are_shown_as_before(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's own
    warn = logging.getLogger("rewind_ray.store.patience").warning
    with SweepLog(ledger, "one"):
        warn("the storage (%s) is back", "s3")
        logging.getLogger("others").warning("theirs")
    warn("after it")
    assert without_time(read_lines(ledger, "one"))[1:] == ["the storage (s3) is back"]
    assert capsys.readouterr().err.splitlines() == [
        "the storage (s3) is back",
        "theirs",
        "after it",
    ]


def test_it_is_kept_in_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    use(store, monkeypatch)
    try:
        ledger = Ledger(f"s3://{BUCKET}/results")
        for stage in ("first", "second"):
            with SweepLog(ledger, "one") as log:
                log.add(stage)
        lines = without_time(read_lines(ledger, "one"))
    finally:
        store.stop()
    assert [line for line in lines if not line.startswith("started")] == ["first", "second"]

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rewind_ray.store.ledger import Ledger
from rewind_ray.text import printable
from rewind_ray.training.failures import LASTING, PASSING, STORAGE, Failure, failure_of


def os_error(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), "/there/file")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("7"), LASTING),
        (KeyError("x"), LASTING),
        (TypeError("x"), LASTING),
        (ZeroDivisionError("x"), LASTING),
        (RuntimeError("CUDA error"), PASSING),
        (ConnectionResetError("x"), PASSING),
        (OSError("the storage (s3) was away for 300 s"), PASSING),
        (os_error("EIO"), PASSING),
        (os_error("ENOENT"), PASSING),
        (os_error("ENOTDIR"), LASTING),
        (os_error("ENOSPC"), STORAGE),
        (os_error("EDQUOT"), STORAGE),
        (os_error("EROFS"), STORAGE),
        (os_error("EACCES"), LASTING),  # of one file: the storage itself can be written to
    ],
)
def test_whether_trying_again_may_help(error: Exception, kind: str, tmp_path: Path) -> None:
    assert failure_of(error, Ledger(str(tmp_path))).kind == kind


def test_a_storage_that_may_not_be_written_to_is_named_as_such(tmp_path: Path) -> None:
    file = tmp_path / "no folder"
    file.write_text("")
    assert failure_of(os_error("EACCES"), Ledger(str(file))).kind == STORAGE


def test_type_message_and_place() -> None:
    try:
        int("seven")
    except ValueError as error:
        failure = failure_of(error)
    assert (failure.type, failure.kind) == ("ValueError", LASTING)
    assert "seven" in failure.message and "test_failures.py" in failure.place
    assert failure.describe().startswith("ValueError: ")


def test_a_message_is_short_and_stays_in_its_line() -> None:
    failure = failure_of(ValueError("a\n\x1b[31m" + "b" * 100_000))
    assert len(failure.describe()) < 1200 and failure.describe().isprintable()
    assert Failure(kind=PASSING, type="X", message="", place="").describe() == "X"


@pytest.mark.parametrize("text", ["plain", "Größe", "日本語", "a – b × 2", "👍"])
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "a\rb", "a\nb", "\x07", "\x9b31m", "\u202egnp.exe", "\u2028", "\x00"]
)
def test_what_changes_a_terminal_is_escaped(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and shown != text and "\\" in shown

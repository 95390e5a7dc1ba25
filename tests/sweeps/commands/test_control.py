"""``rewind-ray control``: what it writes, shows and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rewind_ray.store.control import Control, read_control
from rewind_ray.store.ledger import DamagedRecord, Ledger
from sweeps.__main__ import main


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(str(tmp_path))
    ledger.write_sweep("one", {"sweep": "one", "command": ["compare"], "stages": {}})
    return ledger


def asked(ledger: Ledger) -> Control:
    return read_control(ledger, "one")


def test_each_option_changes_its_own_part(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(ledger) == Control()
    for options, expected, said in (
        ((), Control(), "as its command says"),
        (("--at-once", "3"), Control(at_once=3), "at most 3 at once"),
        (("--pause",), Control(paused=True, at_once=3), "paused, then at most 3 at once"),
        ((), Control(paused=True, at_once=3), "paused, then at most 3 at once"),
        (("--resume",), Control(at_once=3), "at most 3 at once"),
        (("--at-once", "default"), Control(), "as its command says"),
    ):
        assert main(["control", ledger.uri, *options]) == 0
        assert asked(ledger) == expected
        assert capsys.readouterr().out == f"one: {said}\n"


def test_the_status_shows_it(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    main(["control", ledger.uri, "--pause"])
    capsys.readouterr()
    assert main(["status", ledger.uri]) == 0
    assert "asked     paused" in capsys.readouterr().out
    assert main(["status", ledger.uri, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sweeps"][0]["control"] == "paused"


def test_which_sweep_is_meant(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.write_sweep("two", {"sweep": "two", "command": ["compare"], "stages": {}})
    assert main(["control", ledger.uri, "--pause"]) == 2
    assert "which sweep? Give one by --sweep: one, two" in capsys.readouterr().err
    assert main(["control", ledger.uri, "--sweep", "tow", "--pause"]) == 2
    assert "no sweep 'tow'" in capsys.readouterr().err
    assert main(["control", ledger.uri, "--sweep", "two", "--pause"]) == 0
    assert asked(ledger) == Control() and read_control(ledger, "two").paused
    assert main(["control", str(tmp_path / "elsewhere"), "--pause"]) == 2


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "many", ""])
def test_what_at_once_may_be(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    assert main(["control", ledger.uri, f"--at-once={number}"]) == 2
    assert f"--at-once is {number!r}; allowed: 1, 2, 3" in capsys.readouterr().err


def test_a_damaged_request_is_named_and_written_anew(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["control", ledger.uri, "--at-once", "3"])
    path = Path(ledger.layout.control("one"))
    path.write_text(path.read_text().replace("3", "4", 1))
    with pytest.raises(DamagedRecord, match=r"control/one\.json"):
        asked(ledger)
    assert main(["control", ledger.uri]) != 0
    assert "control/one.json" in capsys.readouterr().err
    assert main(["control", ledger.uri, "--pause"]) == 0
    assert asked(ledger) == Control(paused=True)

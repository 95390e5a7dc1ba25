"""``rewind-ray status`` of a real storage, while somebody works on it and afterwards."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from rewind_ray.spec import Stage, dense_stage
from rewind_ray.store.leases import Heartbeat, claim, this_driver
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.progress import (
    ProgressReader,
    StorageProgress,
    SweepProgress,
    device_hours,
    pace,
)
from sweeps.__main__ import main
from sweeps.commands.status import described, follow, shown
from sweeps.run.sweep_log import SweepLog
from tests.rewind_ray.tiny_stages import Lab, child, tiny

DENSE = dense_stage(tiny(), 0)
TUNED = child(DENSE, "finetune", 5)
REWOUND = child(DENSE, "weight_rewind", 4)
SECOND = dense_stage(tiny(), 1)


def record(ledger: Ledger, *stages: Stage, **more: object) -> None:
    asked = {stage.stage_id: [stage.train_epochs] for stage in stages}
    ledger.write_sweep("one", {"sweep": "one", "command": ["compare"], "stages": asked} | more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dense network is done, its first child at 3 of 5 epochs; nothing else is begun."""
    lab = Lab(tmp_path_factory.mktemp("trained"))
    lab.run(DENSE)
    lab.run(TUNED, rows=(3,))
    (path,) = (lab.storage / "stages" / TUNED.stage_id / "rows").glob("*.json")
    path.unlink()
    record(lab.ledger, DENSE, TUNED, REWOUND, SECOND)
    return lab.storage


@pytest.fixture
def ledger(trained: Path, tmp_path: Path) -> Ledger:
    shutil.copytree(trained, tmp_path / "storage")
    return Ledger(str(tmp_path / "storage"))


def only(ledger: Ledger) -> SweepProgress:
    (sweep,) = ProgressReader(ledger).read().sweeps
    return sweep


def text_of(found: StorageProgress, price: float | None = None) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(shown(found, price))
    return console.file.getvalue()


def test_counts_and_epochs_of_a_sweep_that_was_stopped(ledger: Ledger) -> None:
    found = only(ledger)
    assert (found.stages, found.done, len(found.running), found.waiting) == (4, 1, 0, 3)
    assert (found.epochs_done, found.epochs_total) == (6 + 3, 6 + 5 + 4 + 6)
    assert found.seconds_left is None  # nothing runs
    seconds = ledger.read_row(DENSE.stage_id, DENSE.train_epochs).train_seconds
    assert found.device_hours == {"cpu": pytest.approx(seconds / 3600)}


def test_a_stage_runs_while_its_driver_lives(ledger: Ledger) -> None:
    driver = this_driver()
    with Heartbeat(ledger, driver):
        claim(ledger, TUNED.stage_id, driver.token)
        claim(ledger, SECOND.stage_id, "a driver that is gone")
        found = only(ledger)
        (running,) = found.running
        assert (running.stage_id, running.epoch, running.epochs) == (TUNED.stage_id, 3, 5)
        assert running.stage is not None and running.stage.stage_id == TUNED.stage_id
        assert running.metrics == ledger.read_metrics(TUNED.stage_id, 3)
        assert found.machines == {driver.place.split()[0]: 1}
        assert found.waiting == 2
    assert only(ledger).running == []


def test_what_the_driver_says_of_its_cluster_is_shown_while_it_lives(ledger: Ledger) -> None:
    says = {"sweep": "one", "machines": 5, "pending": 2, "waits_for": "l4 refused", "dollars": 1.5}
    with Heartbeat(ledger, this_driver(), says=lambda: says):
        found = ProgressReader(ledger).read()
        text, (sweep,) = text_of(found), described(found, None)["sweeps"]
    line = "5 machines, 2 of the waiting stages have no slot yet, l4 refused, $1.50 since"
    assert line in " ".join(text.split())
    host = this_driver().place.split()[0]
    assert sweep["clusters"] == [says | {"host": host}]
    assert sweep["waiting"] == 3
    for said in ({}, says | {"sweep": "another"}, says | {"machines": "many"}, "nothing"):
        with Heartbeat(ledger, this_driver(), says=lambda said=said: said):
            assert only(ledger).clusters == []
    assert "cluster" not in text_of(ProgressReader(ledger).read())


def test_failures_are_shown_until_there_is_a_result(ledger: Ledger) -> None:
    reasons = {DENSE.stage_id: "out of memory once", REWOUND.stage_id: "no space left"}
    record(ledger, DENSE, TUNED, REWOUND, SECOND, failures=reasons)
    assert only(ledger).failures == {REWOUND.stage_id: "no space left"}


def test_the_pace_is_that_of_the_last_ten_minutes() -> None:
    old = [float(second) for second in range(0, 50_000, 1000)]
    recent = [100_000.0 + 20 * number for number in range(31)]
    assert pace(old + recent) == pytest.approx(180)  # one every 20 seconds
    assert pace([]) is None and pace([5.0]) is None and pace([5.0, 5.0]) is None


def test_what_is_left_follows_from_the_pace(ledger: Ledger) -> None:
    driver = this_driver()
    with Heartbeat(ledger, driver):
        claim(ledger, TUNED.stage_id, driver.token)
        found = replace(only(ledger), epochs_per_hour=120.0)
    assert found.seconds_left == pytest.approx((21 - 9) / 120 * 3600)


def test_hours_of_devices_add_up(ledger: Ledger) -> None:
    row = ledger.read_row(DENSE.stage_id, DENSE.train_epochs)
    rows = [
        replace(row, device=device, train_seconds=seconds)
        for device, seconds in (("cpu", 1800.0), ("H200", 3600.0), ("cpu", 5400.0))
    ]
    assert device_hours(rows) == {"cpu": 2.0, "H200": 1.0}


def test_the_page_fits_into_80_columns(ledger: Ledger) -> None:
    driver = this_driver()
    record(ledger, DENSE, TUNED, REWOUND, SECOND, failures={REWOUND.stage_id: "worker gone"})
    with Heartbeat(ledger, driver):
        claim(ledger, TUNED.stage_id, driver.token)
        found = replace(ProgressReader(ledger).read(), uri="results")
    text = text_of(found, price=2.0)
    lines = [line.strip() for line in text.splitlines()]
    assert max(map(len, text.splitlines())) <= 80
    assert any(line.startswith("1 of 4 stages done") for line in lines)  # not beside the bar
    for fact in (
        "1 of 4 stages done",
        "1 running",
        "1 failed",
        "9 of 21 epochs",
        "3/5",
        "worker gone",
    ):
        assert fact in text


def test_json_is_the_same_in_numbers(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", ledger.uri, "--json", "--price-per-hour", "3600"]) == 0
    (sweep,) = json.loads(capsys.readouterr().out)["sweeps"]
    seconds = ledger.read_row(DENSE.stage_id, DENSE.train_epochs).train_seconds
    assert sweep["cost"] == pytest.approx(seconds)
    assert (sweep["done"], sweep["waiting"], sweep["running"]) == (1, 3, [])


def test_exit_codes(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(ledger, DENSE, REWOUND, failures={REWOUND.stage_id: "worker gone"})
    assert main(["status", ledger.uri]) == 1
    assert "worker gone" in capsys.readouterr().out
    assert main(["status", str(tmp_path / "nothing")]) == 2
    assert main(["status", ledger.uri, "--sweep", "two"]) == 2
    for interval in ("0", "inf", "nan", "1e300"):
        assert main(["status", ledger.uri, "--watch", "--interval", interval]) == 2
    assert main(["status", ledger.uri, "--price-per-hour", "inf"]) == 2


def test_a_reader_that_has_ended_ends_the_watch_and_a_storage_that_is_away_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = iter([OSError("the storage is away"), "progress"])

    def look() -> str:
        if isinstance(answer := next(answers), OSError):
            raise answer
        return answer

    def show(_: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        follow(look, show, 0)
    assert "the storage is away; trying again" in capsys.readouterr().err


# the log


def test_the_last_lines_of_the_log(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    with SweepLog(ledger, "one") as log:
        log.add("\n".join(f"line {number}" for number in range(50)))
    assert main(["status", ledger.uri, "--log"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[20:] for line in lines[:-1]] == [f"line {number}" for number in range(10, 50)]
    assert "40 of 51" in lines[-1] and "logs/one.log" in lines[-1]
    ledger.write_sweep("two", {"sweep": "two", "stages": {}})
    assert main(["status", ledger.uri, "--log", "--sweep", "one"]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_a_log_that_is_not_there_or_not_chosen(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", ledger.uri, "--log"]) == 2
    assert "logs/one.log" in capsys.readouterr().err
    assert main(["status", ledger.uri, "--log", "--json"]) == 2
    assert "--json" in capsys.readouterr().err
    assert main(["status", ledger.uri, "--log", "--sweep", "../one"]) == 2
    assert "../one" in capsys.readouterr().err
    ledger.write_sweep("two", {"sweep": "two", "stages": {}})
    assert main(["status", ledger.uri, "--log"]) == 2
    assert "one, two" in capsys.readouterr().err

"""``rewind-ray storage``: real stages, then files of every kind that went wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from rewind_ray.spec import Stage, dense_stage
from rewind_ray.store import files, housekeeping
from rewind_ray.store.layout import Entry
from rewind_ray.store.leases import Heartbeat, claim, this_driver
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.stage import missing_epochs
from sweeps.__main__ import main
from tests.rewind_ray.s3_store import BUCKET, Store, use
from tests.rewind_ray.tiny_stages import Lab, child, tiny

HOURS_AGO = 3 * 3600


@dataclass(frozen=True)
class Place:
    """A storage in which a sweep of a baseline and two children is done."""

    lab: Lab
    baseline: Stage
    rewound: Stage
    tuned: Stage

    @property
    def root(self) -> Path:
        return self.lab.storage

    @property
    def ledger(self) -> Ledger:
        return self.lab.ledger

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.baseline, self.rewound, self.tuned

    def record(self, *stages: Stage, name: str = "one") -> None:
        asked = {stage.stage_id: [stage.train_epochs] for stage in stages}
        self.ledger.write_sweep(name, {"sweep": name, "stages": asked})

    def path(self, stage: Stage, below: str) -> Path:
        return self.root / "stages" / stage.stage_id / below

    def put(self, below: str, data: bytes = b"x" * 100) -> str:
        path = self.root / below
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return below

    def age(self, *paths: Path) -> None:
        """Make files, by default all of them, three hours old."""
        then = time.time() - HOURS_AGO
        for path in paths or self.root.rglob("*"):
            os.utime(path, (then, then))

    def files(self) -> dict[str, tuple[int, bytes]]:
        return {
            str(path.relative_to(self.root)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in self.root.rglob("*")
            if path.is_file()
        }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = placed(tmp_path_factory.mktemp("trained"))
    place.lab.run(place.baseline, rewinds=(2,))
    place.lab.run(place.rewound)
    place.lab.run(place.tuned)
    place.record(*place.stages)
    return place.root


def placed(root: Path) -> Place:
    baseline = dense_stage(tiny(), 0)
    return Place(
        Lab(root), baseline, child(baseline, "weight_rewind", 4), child(baseline, "finetune", 5)
    )


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Place:
    shutil.copytree(trained, tmp_path / "storage")
    copy = placed(tmp_path / "storage")
    copy.age()
    return copy


def run(*arguments: str | Path) -> int:
    return main(["storage", *map(str, arguments)])


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, Any]:
    """The exit code, and what was printed; nothing but JSON."""
    capsys.readouterr()
    code = run(*arguments, "--json")
    return code, json.loads(capsys.readouterr().out)


# status


def test_status_adds_up(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Against du, find and what was trained."""
    place.put("tune/one/20260101/trial/pointer.json")
    place.put("tensorboard/one/chain/events", b"e" * 77)
    place.put("figures/one.png")
    place.put("logs/one.log")
    place.put("notes.txt")
    place.record(place.baseline, dense_stage(tiny(), 1), name="two")
    code, found = run_json(capsys, "status", place.root)
    assert code == 0
    du = subprocess.run(
        ["find", place.root, "-type", "f", "-printf", "%s\n"],
        capture_output=True,
        text=True,
        check=True,
    )
    sizes = [int(line) for line in du.stdout.split()]
    assert sum(kind["bytes"] for kind in found["kinds"].values()) == sum(sizes)
    assert sum(kind["files"] for kind in found["kinds"].values()) == len(sizes)
    assert {kind: amount["files"] for kind, amount in found["kinds"].items()} == {
        "spec": 3,
        "data": 3,
        "row": 3,
        "tensors": 7 + 1 + 1,  # every epoch of the baseline, and the ends
        "metrics": 7 + 5 + 6,
        "sweep": 2,
        "log": 1,
        "tune": 1,
        "tensorboard": 1,
        "figures": 1,
        "other": 1,
    }
    one, two = found["sweeps"]["one"], found["sweeps"]["two"]
    assert (one["stages"], one["done"], one["half_done"], one["not_begun"]) == (3, 3, 0, 0)
    assert (one["rows"], one["rows_wanted"]) == (3, 3)
    assert one["kinds"]["tensorboard"] == {"files": 1, "bytes": 77}
    assert one["kinds"]["log"]["files"] == 1
    assert one["kinds"]["tensors"]["files"] == 9
    assert (two["stages"], two["done"], two["half_done"], two["not_begun"]) == (2, 1, 0, 1)
    assert (found["stages"], found["done"]) == (4, 3)
    assert found["damaged"] == {}


def test_a_stage_without_its_row_is_half_done(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.path(place.tuned, "rows/0005.json").unlink()
    _, found = run_json(capsys, "status", place.root)
    assert (found["done"], found["half_done"], found["rows"]) == (2, 1, 2)


def test_status_for_people(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", place.root) == 0
    shown = capsys.readouterr().out
    assert f"storage {place.root}" in shown
    assert "rewind points" in shown
    assert "3 of 3" in shown


def test_a_damaged_record_is_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.put("sweeps/two.json", b'{"stages": {"../x": [1]}}')
    assert run("status", place.root) == 1
    assert "sweeps/two.json" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["status", "gc", "verify"])
def test_no_storage_there(action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(action, tmp_path / "nowhere") == 2
    assert "give the root of a storage" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_secret_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", "s3://KEY:very-secret@bucket/x") == 2
    captured = capsys.readouterr()
    assert "very-secret" not in captured.out + captured.err
    assert "s3://***@bucket/x" in captured.err


def test_only_what_a_listing_cannot_tell_is_read(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large storage each file takes time. ``benchmarks.ledger_scale`` counts them too."""
    read: list[str] = []
    read_local = files._read_local

    def note_and_read(filesystem: fs.FileSystem, path: str, limit: int | None) -> bytes:
        read.append(path.removeprefix(f"{place.root}/").rpartition("/")[2])
        return read_local(filesystem, path, limit)

    monkeypatch.setattr(files, "_read_local", note_and_read)
    assert run("status", place.root) == 0
    assert read == ["one.json"]
    read.clear()
    assert run("gc", place.root) == 0
    assert read == ["one.json", "spec.json"]  # the baseline's, which has more rewind points
    read.clear()
    place.record(place.baseline, place.rewound)  # is the other one an ancestor of these?
    assert run("gc", place.root) == 0
    assert read == ["one.json", "spec.json", "spec.json"]


# gc


def plant(place: Place) -> dict[str, set[str]]:
    """Garbage of every kind, three hours old: reason -> its files."""
    unclaimed = child(place.baseline, "lr_rewind", 3)
    place.lab.run(unclaimed)
    shutil.copy(place.path(place.tuned, "epochs/0005.safetensors"), place.root / "spare")
    needless = place.path(place.tuned, "epochs/0003.safetensors")
    (place.root / "spare").rename(needless)  # as an interrupted run leaves it
    loose = place.put(f"stages/{place.rewound.stage_id}/epochs/0009.safetensors")
    temporary = {
        place.put(f"stages/{place.rewound.stage_id}/rows/0004.json.77.0123abcd.tmp"),
        place.put(f"stages/{place.tuned.stage_id}/epochs/0001.safetensors.9.fedc0123.tmp"),
        place.put("sweeps/one.json.12345.00000000.tmp"),
        place.put("logs/one.log.12345.00000000.tmp"),
        place.put(".probe.5.00112233.tmp"),
    }
    planted = {
        "stage": {
            str(path.relative_to(place.root))
            for path in place.path(unclaimed, "").rglob("*")
            if path.is_file()
        },
        "point": {str(needless.relative_to(place.root))},
        "tensors": {loose},
        "temporary": temporary,
    }
    for below in (
        "notes.txt.tmp",
        "tune/one/x.1.01234567.tmp",
        "stages/notes.tmp",
        "other/x",
        "logs/a.log",
    ):
        place.put(below)  # not ours to judge
    place.age()
    return planted


def reasons(found: Any) -> dict[str, set[str]]:
    by_reason: dict[str, set[str]] = {}
    for item in found["garbage"]:
        by_reason.setdefault(item["reason"], set()).update(item["paths"])
    return by_reason


def test_what_no_sweep_needs_is_found_and_deleted(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = plant(place)
    before = place.files()
    code, found = run_json(capsys, "gc", place.root)
    assert code == 0
    assert reasons(found) == planted
    assert found["bytes"] == sum(
        len(before[path][1]) for paths in planted.values() for path in paths
    )
    assert [item["rows"] for item in found["garbage"] if item["reason"] == "stage"] == [1]
    assert place.files() == before  # nothing is deleted unless --delete says so

    code, deleted = run_json(capsys, "gc", place.root, "--delete")
    assert (code, reasons(deleted), deleted["deleted"]) == (0, planted, True)
    gone = set.union(*planted.values())
    assert place.files() == {path: file for path, file in before.items() if path not in gone}
    assert run_json(capsys, "gc", place.root)[1]["garbage"] == []
    assert run("verify", place.root) == 0
    for stage in place.stages:
        assert missing_epochs(place.ledger, place.lab.job(stage)) == []


def test_what_a_sweep_lists_while_gc_runs_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It records its stages before it counts them as done; gc looks again before each deletion."""
    place.record(place.baseline)
    place.age()
    dropped: list[str] = []

    def drop_and_record(ledger: Ledger, stage_id: str) -> None:
        dropped.append(stage_id)
        place.record(*place.stages, name="two")  # by another process, at this moment

    monkeypatch.setattr(Ledger, "drop_stage", drop_and_record)
    housekeeping.delete_garbage(place.ledger, "all")
    assert len(dropped) == 1  # of two that no sweep listed when gc began


def test_a_stage_that_a_sweep_counts_while_gc_deletes_it_is_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep records its stages and counts them after gc has looked, and before its row goes."""
    place.record(place.baseline, place.rewound)
    place.age()
    before = place.files()
    counted: list[list[int]] = []
    drop = Ledger.drop

    def record_and_drop(ledger: Ledger, entry: Entry) -> None:
        if not counted:
            place.record(*place.stages, name="two")
            counted.append(ledger.row_epochs(place.tuned.stage_id))
        drop(ledger, entry)

    monkeypatch.setattr(Ledger, "drop", record_and_drop)
    assert housekeeping.delete_garbage(place.ledger, "all") == []
    assert counted == [[place.tuned.train_epochs]]
    content = {path: data for path, (_, data) in place.files().items()}
    del content["sweeps/two.json"]
    assert content == {path: data for path, (_, data) in before.items()}
    assert missing_epochs(place.ledger, place.lab.job(place.tuned)) == []


def test_gc_for_people(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    plant(place)
    assert run("gc", place.root) == 0
    shown = capsys.readouterr().out
    assert "1 stages that no sweep lists" in shown
    assert "1 result rows" in shown
    assert "--delete deletes it." in shown
    assert run("gc", place.root, "--delete") == 0
    assert capsys.readouterr().out.endswith("deleted.\n")
    assert run("gc", place.root, "--delete") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Nothing to delete.") and "younger than an hour" in shown
    assert "not yet begun" not in shown  # that concerns --keep referenced alone


def test_nothing_young_is_deleted(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """One young file protects all of its stage, whatever the sweeps say."""
    planted = plant(place)
    now = time.time()
    for paths in planted.values():
        os.utime(place.root / max(paths), (now, now))
    young_temporary = max(planted["temporary"])
    before = place.files()
    _, found = run_json(capsys, "gc", place.root, "--delete")
    assert reasons(found) == {"temporary": planted["temporary"] - {young_temporary}}
    assert before.keys() - place.files().keys() == planted["temporary"] - {young_temporary}


def test_a_clock_that_is_ahead_deletes_nothing(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine believes it is tomorrow; what counts is the storage's clock."""
    plant(place)
    for path in place.root.rglob("*"):
        os.utime(path)
    tomorrow = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    assert len(run_json(capsys, "gc", place.root)[1]["garbage"]) > 0
    assert run_json(capsys, "gc", place.root, "--delete")[1]["garbage"] == []


def test_what_a_living_driver_has_leased_stays(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """However old its files are: an epoch may take hours."""
    plant(place)
    place.record(place.baseline)
    driver = this_driver()
    for stage in (place.rewound, place.tuned):
        claim(place.ledger, stage.stage_id, driver.token)
    place.age()
    with Heartbeat(place.ledger, driver):
        _, found = run_json(capsys, "gc", place.root)
        leased = {place.rewound.stage_id, place.tuned.stage_id}
        assert not leased & {
            item["stage_id"] for item in found["garbage"] if item["reason"] == "stage"
        }
        assert "lease" not in reasons(found)
    _, found = run_json(capsys, "gc", place.root, "--delete")
    assert leased < {item["stage_id"] for item in found["garbage"] if item["reason"] == "stage"}
    assert place.ledger.stage_ids() == [place.baseline.stage_id]


def test_what_dead_drivers_left_is_deleted(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    claim(place.ledger, place.tuned.stage_id, "0123456789abcdef")
    dead = {place.put("drivers/0123456789abcdef.json"), f"stages/{place.tuned.stage_id}/lease.json"}
    place.age()
    _, found = run_json(capsys, "gc", place.root, "--delete")
    assert reasons(found) == {"lease": dead}
    assert not any((place.root / path).exists() for path in dead)


def test_unfinished_stages_keep_all_rewind_points(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.ledger.write_sweep(
        "two",
        {"stages": {place.baseline.stage_id: [6], place.tuned.stage_id: [5, 30]}},
    )
    plant(place)
    _, found = run_json(capsys, "gc", place.root, "--keep", "referenced")
    points = reasons(found)["point"]
    assert all(place.baseline.stage_id in path for path in points)
    place.path(place.baseline, "rows/0006.json").unlink()
    _, found = run_json(capsys, "gc", place.root, "--keep", "referenced")
    assert "point" not in reasons(found)


def test_the_points_that_stages_start_from_stay(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --keep referenced: a child trained again finds them, and the baseline isn't."""
    _, found = run_json(capsys, "gc", place.root, "--delete", "--keep", "referenced")
    assert place.lab.points(place.baseline) == [2, 6]  # T - t is 2
    assert len(reasons(found)["point"]) == 5
    row, data = place.lab.row(place.rewound), place.lab.bytes(place.rewound)
    baselines = {path for path in place.files() if place.baseline.stage_id in path}
    before = place.files()
    shutil.rmtree(place.path(place.rewound, ""))
    place.lab.run(place.rewound)
    assert place.lab.bytes(place.rewound) == data
    assert place.lab.row(place.rewound).test_accuracy == row.test_accuracy
    assert all(place.files()[path] == before[path] for path in baselines)


def test_baselines_stay_whole_while_a_description_is_missing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stage not begun yet may start from any epoch."""
    place.record(*place.stages, child(place.baseline, "weight_rewind", 5))
    place.age()
    _, found = run_json(capsys, "gc", place.root, "--keep", "referenced")
    assert found["garbage"] == []
    run("gc", place.root, "--keep", "referenced")
    assert "not yet begun" in capsys.readouterr().out
    place.path(place.tuned, "spec.json").write_text("{")
    place.record(*place.stages)
    place.age()
    assert run_json(capsys, "gc", place.root, "--keep", "referenced")[1]["garbage"] == []


def test_ancestors_of_what_a_sweep_lists_stay(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.record(place.rewound)
    place.age()
    _, found = run_json(capsys, "gc", place.root)
    assert [item["stage_id"] for item in found["garbage"]] == [place.tuned.stage_id]


def test_without_sweeps_no_stage_is_needless(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.root / "sweeps" / "one.json").unlink()
    assert run_json(capsys, "gc", place.root)[1]["garbage"] == []


def test_a_damaged_record_stops_it(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """What that sweep needs is unknown."""
    plant(place)
    place.put("sweeps/two.json", b"{")
    place.age()
    before = place.files()
    assert run("gc", place.root, "--delete") == 1
    assert "can't tell what is needed: can't read sweeps/two.json" in capsys.readouterr().err
    assert place.files() == before


# verify


def test_a_sound_storage(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run_json(capsys, "verify", place.root)
    assert (code, found["damaged"]) == (0, [])
    assert found["checked"] == {
        "tensors": 9,
        "metrics": 18,
        "row": 3,
        "spec": 3,
        "data": 3,
        "sweep": 1,
    }


def test_all_damage_is_found(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """One file of every kind, changed in one place each; and then the way out is gone."""
    one = place.tuned.stage_id
    damage = {
        f"stages/{one}/spec.json": lambda data: data.replace(
            b'"batch_size": 32', b'"batch_size": 8'
        ),
        f"stages/{one}/rows/0005.json": lambda data: data.replace(b'"done"', b'"gone"'),
        f"stages/{one}/epochs/0002.json": lambda data: data[:-3],
        f"stages/{one}/epochs/0005.safetensors": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        f"stages/{place.baseline.stage_id}/epochs/0003.safetensors": lambda data: data[:1000],
        f"stages/{place.rewound.stage_id}/rows/0004.json": lambda data: b"",
        "sweeps/one.json": lambda data: data.replace(b"stages", b"stairs"),
    }
    for below, change in damage.items():
        data = (place.root / below).read_bytes()
        assert change(data) != data
        (place.root / below).write_bytes(change(data))
    place.put(f"stages/{one}/epochs/0077.safetensors")  # unfinished is not damaged
    code, found = run_json(capsys, "verify", place.root)
    assert code == 1
    assert {item["path"] for item in found["damaged"]} == damage.keys()
    assert all(item["way_out"] and item["error"] for item in found["damaged"])
    assert run("verify", place.root) == 1
    shown = capsys.readouterr().out
    assert all(f"damaged  {below}: " in shown for below in damage)
    assert "7 damaged" in shown


def test_the_way_out_of_damage(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Delete what is damaged, and start again: all is there as before."""
    good = {stage.stage_id: place.lab.bytes(stage) for stage in place.stages}
    rows = {stage.stage_id: place.lab.row(stage).test_accuracy for stage in place.stages}
    for below in ("spec.json", "rows/0005.json", "epochs/0005.json", "epochs/0005.safetensors"):
        place.path(place.tuned, below).write_bytes(b"{}")
    place.path(place.baseline, "epochs/0006.safetensors").write_bytes(b"{}")
    code, found = run_json(capsys, "verify", place.root)
    assert code == 1
    for item in found["damaged"]:
        (place.root / item["path"]).unlink()
    for stage in place.stages:
        place.lab.run(stage, rewinds=(2,) if stage is place.baseline else ())
    assert {stage.stage_id: place.lab.bytes(stage) for stage in place.stages} == good
    assert {s.stage_id: place.lab.row(s).test_accuracy for s in place.stages} == rows
    assert run("verify", place.root) == 0


# S3


@pytest.fixture
def bucket(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same storage in S3, and garbage in it."""
    planted = plant(place)
    assert planted
    store = Store()
    use(store, monkeypatch)
    ledger = Ledger(f"s3://{BUCKET}/copied")
    fs.copy_files(str(place.root), ledger.root, destination_filesystem=ledger.filesystem)
    yield ledger.uri
    store.stop()


def test_all_of_it_in_s3(
    place: Place,
    bucket: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same answers as on a disk."""
    here, there = run_json(capsys, "status", place.root)[1], run_json(capsys, "status", bucket)[1]
    assert here | {"storage": bucket} == there
    assert run_json(capsys, "gc", bucket, "--delete")[1]["garbage"] == []  # all is young there
    monkeypatch.setattr(housekeeping, "YOUNG_SECONDS", -60.0)
    expected = reasons(run_json(capsys, "gc", place.root)[1])
    assert reasons(run_json(capsys, "gc", bucket)[1]) == expected
    assert reasons(run_json(capsys, "gc", bucket, "--delete")[1]) == expected
    assert run_json(capsys, "gc", bucket)[1]["garbage"] == []
    assert run("verify", bucket) == 0
    ledger = Ledger(bucket)
    with ledger.filesystem.open_output_stream(
        f"{ledger.root}/stages/{place.tuned.stage_id}/epochs/0005.safetensors"
    ) as stream:
        stream.write(b"other bytes")
    assert run("verify", bucket) == 1

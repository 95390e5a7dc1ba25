"""Files of a storage that were damaged or edited: made again, or named; never a wrong result."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.store import checkpoint
from rewind_ray.store.housekeeping import to_verify, verify
from rewind_ray.store.layout import EPOCHS_LIMIT
from rewind_ray.store.leases import Heartbeat, claim, this_driver
from rewind_ray.store.ledger import CorruptRewindPoint, Ledger
from rewind_ray.store.partial import read_partial, write_partial
from rewind_ray.training.epoch import Progress
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage
from sweeps.plan.graph import build_graph
from sweeps.run.dispatcher import Dispatcher, State
from tests.sweeps.running import rows, tiny_protocol

PROTOCOL = tiny_protocol(epochs=2, schedule=tiny_protocol().schedule.__class__(lr=0.1))


def small_graph() -> Any:
    dense = dense_stage(PROTOCOL, 0)
    step = Prune(fraction=0.5)
    child = retrain_stage(dense, step, Retrain(method="lr_rewind", epochs=1))
    grandchild = retrain_stage(child, step, Retrain(method="weight_rewind", epochs=1))
    return build_graph([grandchild])


def train(storage: Path) -> Dispatcher:
    """As a driver does, in this process: what is missing is trained, what fails is left."""
    ledger = Ledger(str(storage))
    dispatcher = Dispatcher(small_graph(), ledger)
    while (node := dispatcher.next_ready()) is not None:
        try:
            ledger.write_spec(node.stage)
            job_stage = ledger.read_spec(node.stage_id)
            assert job_stage.stage_id == node.stage_id
            run_stage(node.job, Runtime(storage=str(storage)))
        except (ValueError, OSError, CorruptRewindPoint) as error:
            dispatcher.finish(node.stage_id, str(error))
        else:
            dispatcher.finish(node.stage_id)
    return dispatcher


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with one of every kind of file."""
    storage = tmp_path_factory.mktemp("damage") / "sound"
    ledger = Ledger(str(storage))
    dispatcher = train(storage)
    assert dispatcher.counts[State.DONE] == 3
    dense, child, _ = dispatcher.graph
    ledger.write_sweep("one", {"sweep": "one", "stages": {s: [1] for s in dispatcher.graph}})
    point = checkpoint.from_bytes(ledger.read_point(child, 1))
    progress = Progress(updates=1, loss_sum=2.5, correct=3, examples=32, seconds=0.5)
    write_partial(ledger, child, 2, point, progress)
    claim(ledger, dense, "somebody")
    Heartbeat(ledger, this_driver())._write(3)
    return storage


def files_of(storage: Path) -> list[str]:
    found = (path.relative_to(storage).as_posix() for path in storage.rglob("*") if path.is_file())
    return sorted(found)


def damaged_paths(storage: Path) -> set[str]:
    ledger = Ledger(str(storage))
    return {item.path for item in verify(ledger, to_verify(ledger.entries()))}


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all values that hold no others."""
    if isinstance(value, dict) and value:
        for name in value:
            yield from leaves(value[name], (*place, name))
    elif isinstance(value, list) and value:
        for position in range(len(value)):
            yield from leaves(value[position], (*place, position))
    else:
        yield place


def others(value: Any) -> list[Any]:
    """Values that somebody might put in its place."""
    return [other for other in _others(value) if json.dumps(other) != json.dumps(value)]


def _others(value: Any) -> list[Any]:
    if isinstance(value, bool) or value is None:
        return [not value, 0]
    if isinstance(value, (int, float)):
        return [value + 1, value / 2 + 0.25, 0 if value else 1, 2, 3, 10**18, EPOCHS_LIMIT, None]
    if isinstance(value, str):
        return ["", f"{value}0", value[::-1] + "x", None]
    return [None, 0]


@pytest.fixture
def copied(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "storage")


def test_there_is_a_file_of_every_kind(sound: Path) -> None:
    ledger = Ledger(str(sound))
    kinds = {entry.kind for entry in ledger.entries()}
    json_kinds = {"spec", "data", "metrics", "row", "partial", "lease", "driver", "sweep"}
    assert kinds == json_kinds | {"tensors", "partial tensors"}
    assert damaged_paths(sound) == set()


def test_every_edited_value_is_found_and_named(copied: Path) -> None:
    edits = 0
    seen = set()
    for name in files_of(copied):
        kind = "".join(letter for letter in name if not letter.isdigit())
        if not name.endswith(".json") or kind in seen:
            continue
        seen.add(kind)
        file = copied / name
        before = file.read_bytes()
        content = json.loads(before)
        for place in leaves(content):
            holder = json.loads(before)
            inner = holder
            for key in place[:-1]:
                inner = inner[key]
            for other in others(inner[place[-1]]):
                old = inner[place[-1]]
                inner[place[-1]] = other
                file.write_text(json.dumps(holder))
                ledger = Ledger(str(copied))
                entries = [e for e in to_verify(ledger.entries()) if e.file.path == name]
                assert [d.path for d in verify(ledger, entries)] == [name], (name, place, other)
                inner[place[-1]] = old
                edits += 1
        file.write_bytes(before)
    assert edits > 500
    assert damaged_paths(copied) == set()


def test_the_same_content_laid_out_otherwise_is_sound(copied: Path) -> None:
    for name in files_of(copied):
        if name.endswith(".json"):
            content = json.loads((copied / name).read_text())
            turned = dict(reversed(content.items()))
            (copied / name).write_text(json.dumps(turned, indent=7))
    assert damaged_paths(copied) == set()


def test_a_file_of_another_stage_or_epoch_is_none_of_this_one(copied: Path) -> None:
    names = [name for name in files_of(copied) if "/epochs/" in name or "/rows/" in name]
    metrics = [name for name in names if name.endswith("epochs/0001.json")]
    first, second = metrics[:2]
    shutil.copy(copied / first, copied / second)
    assert second in damaged_paths(copied)
    row = next(name for name in names if "/rows/" in name)
    shutil.copy(copied / row, copied / row.replace(row[-9:-5], "0009"))
    assert row.replace(row[-9:-5], "0009") in damaged_paths(copied)


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def as_full_folder(file: Path) -> None:
    as_folder(file)
    (file / "something").write_text("x")


def as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def as_dead_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/nowhere/at/all")


def text(content: str) -> Callable[[Path], None]:
    return lambda file: file.write_text(content) and None


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


WHOLE_FILE: dict[str, Callable[[Path], None]] = {
    "gone": lambda file: file.unlink(),
    "empty": text(""),
    "half": half,
    "zeroed": zeroed,
    "{}": text("{}"),
    "[]": text("[]"),
    "null": text("null"),
    "deep": text("[" * 100_000),
    "threads": text('{"epoch": 0, "threads": 1000000}'),
    "folder": as_folder,
    "full folder": as_full_folder,
    "pipe": as_pipe,
    "dead link": as_dead_link,
}


def flip(file: Path, position: float, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[int(position * len(data))] ^= 1 << bit
    file.write_bytes(data)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.floats(0, 1, exclude_max=True),
    how=st.one_of(
        st.sampled_from(sorted(WHOLE_FILE)),
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)),
    ),
)
def test_any_damage_heals_or_fails_its_own_stage(
    sound: Path, tmp_path: Path, which: float, how: Any
) -> None:
    expected = rows(sound)
    storage = tmp_path / "storage"
    shutil.rmtree(storage, ignore_errors=True)
    shutil.copytree(sound, storage)
    names = files_of(storage)
    name = names[int(which * len(names))]
    if isinstance(how, str):
        WHOLE_FILE[how](storage / name)
    else:
        flip(storage / name, *how)
    dispatcher = train(storage)
    stage_id = name.split("/")[1] if name.startswith("stages/") else ""
    found = rows_that_are_there(storage)
    assert found.items() <= expected.items()  # nothing wrong, whatever happened
    lost = {stage for stage, _ in expected.keys() - found.keys()}
    if lost:  # only this, and only what nothing can heal: somebody's folder with content
        assert how == "full folder"
        assert dispatcher.states[stage_id] == State.FAILED
        assert name.rpartition("/")[2] in dispatcher.reasons[stage_id]
        assert all(dispatcher.states[stage] in (State.FAILED, State.BLOCKED) for stage in lost)
    ledger = Ledger(str(storage))
    for stage, epoch in found:
        try:
            assert ledger.read_point(stage, epoch) == Ledger(str(sound)).read_point(stage, epoch)
        except CorruptRewindPoint:  # nothing needed it, so it was left, and is named
            assert (how != "gone" and name in damaged_paths(storage)) or not (
                storage / name
            ).is_file()


def test_a_row_that_cannot_be_replaced_fails_its_stage(copied: Path) -> None:
    """Somebody's folder in its place: all is there, nothing is sound, and nothing can be made."""
    for row in [name for name in files_of(copied) if "/rows/" in name]:
        storage = shutil.copytree(copied, copied.parent / row.replace("/", "-"))
        as_full_folder(storage / row)
        dispatcher = train(storage)
        stage_id = row.split("/")[1]
        assert dispatcher.states[stage_id] == State.FAILED
        assert row in dispatcher.reasons[stage_id]


def rows_that_are_there(storage: Path) -> dict[tuple[str, int], dict[str, object]]:
    try:
        return rows(storage)
    except (ValueError, OSError):
        ledger = Ledger(str(storage))
        for stage_id in ledger.stage_ids():
            for epoch in ledger.row_epochs(stage_id):
                if ledger.sound_row(stage_id, epoch) is None:
                    shutil.rmtree(ledger.layout.row(stage_id, epoch))
        return rows(storage)


@pytest.mark.parametrize("updates", [0, 2, 3, 10**18])
def test_an_edited_progress_is_begun_anew(copied: Path, updates: int) -> None:
    """The epoch has two updates, so there is one place only where it can have been broken off."""
    ledger = Ledger(str(copied))
    (child,) = [p.parent.name for p in copied.glob("stages/*/partial.json")]
    assert read_partial(ledger, child, 2, steps=2) is not None
    point, _ = read_partial(ledger, child, 2, steps=2)
    file = copied / "stages" / child / "partial.json"
    file.write_text(file.read_text().replace('"updates": 1', f'"updates": {updates}'))
    assert read_partial(ledger, child, 2, steps=2) is None
    forged = Progress(updates=updates, loss_sum=1.0, correct=3, examples=32, seconds=0.5)
    write_partial(ledger, child, 2, point, forged)  # with a checksum that fits
    assert read_partial(ledger, child, 2, steps=2) is None


def test_a_lease_that_cannot_be_read_is_replaced(copied: Path) -> None:
    ledger = Ledger(str(copied))
    (file,) = copied.glob("stages/*/lease.json")
    assert claim(ledger, file.parent.name, "ours") == "somebody"
    file.write_text(file.read_text().replace("somebody", "nobody"))
    assert claim(ledger, file.parent.name, "ours") == "ours"
    assert claim(ledger, file.parent.name, "others") == "ours"

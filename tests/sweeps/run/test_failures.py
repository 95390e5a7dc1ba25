"""What goes wrong in a worker reaches the driver as text, and as nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps.failing import KINDS
from tests.sweeps.running import run

pytestmark = pytest.mark.slow  # a Ray, and failures of every kind


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("failing")


@pytest.fixture(scope="module")
def found(storage: Path) -> dict[str, dict[str, Any]]:
    """By kind of failure: state, reason, tries."""
    seeds = [str(seed) for seed in range(len(KINDS))]
    done = run("tests.sweeps.failing", str(storage), *seeds)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    return {
        kind: {
            "state": report["states"][str(seed)],
            "reason": report["reasons"][str(seed)],
            "tries": report["tries"].get(str(seed), 0),
            "shown": done.stderr,
        }
        for seed, kind in enumerate(KINDS)
    }


def test_nothing_of_tunes_is_unpickled(found, storage):
    assert list(storage.glob("tune/*/*/*/error.pkl")), "no trial failed in Tune's eyes"
    assert not (storage / "executed").exists()


@pytest.mark.parametrize(
    ("kind", "words", "tries"),
    [
        ("value", ("ValueError", "is 7", "failing.py"), 1),
        ("type", ("TypeError", "a mistake of ours", "failing.py"), 1),
        ("runtime", ("RuntimeError", "the device is in a bad mood", "failing.py"), 3),
        ("killed", ("worker is gone",), 3),
    ],
)
def test_the_reason_is_named_and_what_cannot_get_better_is_not_tried_again(
    found, kind, words, tries
):
    assert found[kind]["state"] == "failed"
    assert all(word in found[kind]["reason"] for word in words), found[kind]["reason"]
    assert found[kind]["tries"] == tries
    assert all(word in found[kind]["shown"] for word in words)


def test_what_passes_is_tried_again_and_done(found):
    assert (found["once"]["state"], found["once"]["tries"]) == ("done", 2)
    assert "the network hiccuped" in found["once"]["shown"]
    assert (found["good"]["state"], found["good"]["tries"]) == ("done", 1)


def test_no_terminal_is_written_to_by_a_message(found):
    assert "\x1b[2J" not in found["value"]["reason"] + found["value"]["shown"]


def test_a_full_disk_ends_the_sweep_at_once(tmp_path):
    full = str(len(KINDS))
    done = run("tests.sweeps.failing", str(tmp_path), full, "5")
    report = json.loads(done.stdout.splitlines()[-1])
    assert (
        "No space left on device" in report["raised"] and "freeing some space" in report["raised"]
    )
    assert report["tries"][full] == 1

"""Callbacks of the user's own: what they see, and what they can't break."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from rewind_ray.errors import UserError
from rewind_ray.store.ledger import Ledger
from sweeps.run.experiment_trackers import SERVICES
from sweeps.run.trackers import HOOKS
from sweeps.run.trackers import trackers as trackers_of
from tests.sweeps.running import rows

HERE = "tests.sweeps.run.test_trackers"
LOG = "TRACKER_LOG"


def trackers(names: list[str], note: Callable[[str], None]) -> list[tune.Callback]:
    """Of a sweep without stages."""
    return trackers_of(names, "sweep", {}, Ledger("results"), note)


class Lines(tune.Callback):
    """Writes a line for each epoch that it is told."""

    def on_trial_result(self, iteration, trials, trial, result, **info):
        with open(os.environ[LOG], "a") as file:
            for metrics in result.get("epochs", ()):
                line = [trial.config["stage_id"], metrics["epoch"], metrics["train_loss"]]
                file.write(json.dumps(line) + "\n")


class Broken(tune.Callback):
    calls = 0

    def on_trial_start(self, iteration, trials, trial, **info):
        Broken.calls += 1
        raise RuntimeError("no service")


def nothing() -> None:
    """No callback."""


def test_every_hook_of_tune_is_passed_on() -> None:
    told = []

    class Recorder(tune.Callback):
        def __getattribute__(self, name):
            if name in HOOKS:
                return lambda *arguments, **named: told.append((name, arguments, named))
            return super().__getattribute__(name)

    globals()["Recorder"] = Recorder
    (one,) = trackers([f"{HERE}:Recorder"], print)
    for hook in HOOKS:
        getattr(one, hook)(1, trial="t")
    assert told == [(hook, (1,), {"trial": "t"}) for hook in HOOKS]
    assert {"setup", "on_trial_result", "on_trial_error", "on_experiment_end"} <= set(HOOKS)


def test_one_that_fails_is_told_once_and_called_no_more() -> None:
    notes: list[str] = []
    (one,) = trackers([f"{HERE}:Broken"], notes.append)
    for _ in range(3):
        one.on_trial_start(iteration=0, trials=[], trial=None)
    assert Broken.calls == 1
    assert len(notes) == 1 and "no service" in notes[0] and "without it" in notes[0]


def test_a_service_that_cannot_be_reached_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(sweep: str) -> Any:
        raise ConnectionError("connection refused")

    monkeypatch.setitem(SERVICES, "mlflow", unreachable)
    notes: list[str] = []
    assert len(trackers(["mlflow", f"{HERE}:Lines"], notes.append)) == 1
    assert "connection refused" in notes[-1] and "without it" in notes[-1]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("my_tracker", "allowed: mlflow, wandb, .* write package.module:name"),
        (f"{HERE}:Linse", "nearest: Lines"),
        (f"{HERE}:nothing", "derived from ray.tune.Callback"),
    ],
)
def test_what_is_none_is_refused_by_name(path: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        trackers([path], print)


@pytest.mark.slow
def test_a_sweep_tells_them_every_epoch(undisturbed: tuple[Path, Any]) -> None:
    storage, done = undisturbed
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("no service") == 1
    seen = [json.loads(line)[:2] for line in (storage.parent / "epochs").read_text().splitlines()]
    trained = dict(rows(storage).keys())
    assert max(epoch for _, epoch in seen) == max(trained.values())
    assert {stage for stage, _ in seen} == set(trained)
    assert len(seen) == len({tuple(line) for line in seen}) == 118

"""What a sweep has left, against the undisturbed run."""

from __future__ import annotations

import subprocess
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.soak.damage import kind_of
from benchmarks.soak.running import Running
from rewind_ray.store.housekeeping import to_verify, verify
from rewind_ray.store.ledger import Ledger
from sweeps.commands.storage import KINDS

OF_THE_RUN = ("train_seconds", "finished_at", "git_commit", "examples_per_second", "kept", "epoch")
"""What differs from run to run, or says what the run meant to keep."""
AGAIN = 4
"""Times that the command may be given until all is sound."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Counts; all are 0 where nothing was lost and nothing wrong was accepted."""

    rows_missing: int = 0
    rows_different: int = 0
    weights_different: int = 0
    """Epochs whose metrics, with the checksum of their weights, aren't those of the undisturbed
    run."""
    damage_accepted: int = 0
    """Files that aren't what was written, and that ``storage verify`` didn't name."""
    sound_named: int = 0
    """Files that ``storage verify`` named though nobody had damaged them."""

    def __add__(self, other: Verdict) -> Verdict:
        ours, theirs = asdict(self), asdict(other)
        return Verdict(**{name: ours[name] + theirs[name] for name in ours})


Facts = dict[str, dict[tuple[str, int], dict[str, Any]]]


def facts(uri: str) -> Facts:
    """Everything sound that a run decides: ``rows``, and ``epochs`` with the checksums of their
    weights."""
    ledger = Ledger(uri)
    listed = ledger.listed()
    rows = ledger.sound_rows((i, n) for i in listed.stage_ids() for n in listed.row_epochs(i))
    epochs = {}
    for stage_id in listed.stage_ids():
        for epoch in ledger.metrics_epochs(stage_id):
            try:
                epochs[stage_id, epoch] = ledger.read_metrics(stage_id, epoch)
            except (ValueError, FileNotFoundError):
                continue
    return {
        "rows": {key: of_the_stage(asdict(row)) for key, row in rows.items()},
        "epochs": {key: of_the_stage(metrics) for key, metrics in epochs.items()},
    }


def of_the_stage(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in OF_THE_RUN}


def judge(running: Running, expected: Facts) -> Verdict:
    """First as the faults have left it; then the command is given again, as a user would who had
    been shown what is damaged."""
    uri = running.place.uri
    named, left = named_by_verify(uri), running.damage.left()
    verdict = Verdict(
        damage_accepted=len({path for path in left if checked(path, running)} - named),
        sound_named=len({path for path in named - left if not beside_damage(path, left)}),
    )
    for _ in range(AGAIN):
        for path in named_by_verify(uri):
            if kind_of(path) not in ("row", "sweep"):  # as the way out says
                running.place.delete(path)
        done = subprocess.run(
            [*(running.driver.args[:-2]), "--address", "local"],  # type: ignore[index]
            cwd=running.logs,
            capture_output=True,
            text=True,
        )
        found = facts(uri)
        if done.returncode == 0 and found["rows"].keys() == expected["rows"].keys():
            break
    return verdict + compared(found, expected)


def compared(found: Facts, expected: Facts) -> Verdict:
    rows, epochs = found["rows"], found["epochs"]
    return Verdict(
        rows_missing=len(expected["rows"].keys() - rows.keys()),
        rows_different=sum(rows[key] != expected["rows"].get(key) for key in rows),
        weights_different=sum(epochs[key] != expected["epochs"].get(key) for key in epochs),
    )


def named_by_verify(uri: str) -> set[str]:
    ledger = Ledger(uri)
    return {damage.path for damage in verify(ledger, to_verify(ledger.entries()))}


def checked(path: str, running: Running) -> bool:
    """Whether verify looks at the file: at tensors only with what has their checksum."""
    beside = {"tensors": ".json", "partial tensors": ".json"}.get(kind_of(path))
    if beside is None:
        return kind_of(path) in KINDS
    return path.replace(".safetensors", beside) in running.place.files()


def beside_damage(path: str, left: set[str]) -> bool:
    """Tensors can't be checked by damaged metrics, nor the facts of a partial without its
    tensors."""
    return (
        path.replace(".safetensors", ".json") in left
        or path.replace(".json", ".safetensors") in left
    )

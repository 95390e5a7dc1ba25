"""What is in a storage: how much of what, what no sweep needs, and what is damaged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from rewind_ray.spec import Stage
from rewind_ray.store.files import File
from rewind_ray.store.layout import Entry
from rewind_ray.store.leases import check_heartbeat, check_lease
from rewind_ray.store.ledger import CorruptRewindPoint, DamagedRecord, Ledger
from rewind_ray.store.opening import storage_time
from rewind_ray.store.side_by_side import side_by_side

log = logging.getLogger(__name__)

YOUNG_SECONDS = 3600.0
"""Somebody may be at work on what is younger than this: it is never deleted."""

Records = dict[str, dict[str, list[int]]]
"""Sweep -> stage_id -> lengths whose row it asked for."""


def read_records(ledger: Ledger) -> tuple[Records, dict[str, str]]:
    """Of all sweeps that can be read; and of the others what is wrong with them."""
    records: Records = {}
    damaged: dict[str, str] = {}
    for name in ledger.sweeps():
        try:
            records[name] = ledger.sweep_rows(name)
        except DamagedRecord as error:
            damaged[name] = str(error)
    return records, damaged


# How much of what


@dataclass(slots=True)
class Amount:
    files: int = 0
    bytes: int = 0

    def add(self, entry: Entry) -> None:
        self.files += 1
        self.bytes += entry.file.size


@dataclass(slots=True)
class Holdings:
    """What belongs to a sweep. Stages that several sweeps share are counted by each of them."""

    stages: int = 0
    done: int = 0
    """Stages with all rows that the sweep asked for."""
    half_done: int = 0
    """Others that were begun."""
    rows: int = 0
    rows_wanted: int = 0
    kinds: dict[str, Amount] = field(default_factory=dict)
    """Kind of file, see ``Entry.kind`` -> how much of it."""

    @property
    def not_begun(self) -> int:
        return self.stages - self.done - self.half_done

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.kinds.setdefault(entry.kind, Amount()).add(entry)


def holdings(entries: list[Entry], records: Records) -> tuple[Holdings, dict[str, Holdings]]:
    """Of the whole storage (its stages as all sweeps together want them), and of each sweep."""
    of_stage, rest = by_stage(entries)
    of_sweep = {name: _of_sweep(asked, of_stage) for name, asked in records.items()}
    for entry in rest:
        if entry.kind in ("tensorboard", "tune", "log") and entry.owner in of_sweep:
            of_sweep[entry.owner].add([entry])
    asked_by_all = {stage_id: sorted(epochs) for stage_id, epochs in asked_by(records).items()}
    unclaimed: dict[str, list[int]] = {stage_id: [] for stage_id in of_stage}
    whole = _of_sweep(unclaimed | asked_by_all, of_stage)
    whole.add(rest)
    return whole, of_sweep


def by_stage(entries: Iterable[Entry]) -> tuple[dict[str, list[Entry]], list[Entry]]:
    """stage_id -> its files; and the files that are no stage's."""
    of_stage: dict[str, list[Entry]] = {}
    rest = []
    for entry in entries:
        if entry.stage_id:
            of_stage.setdefault(entry.stage_id, []).append(entry)
        else:
            rest.append(entry)
    return of_stage, rest


def asked_by(records: Records) -> dict[str, set[int]]:
    """stage_id -> lengths whose row some sweep asked for."""
    asked: dict[str, set[int]] = {}
    for stages in records.values():
        for stage_id, epochs in stages.items():
            asked.setdefault(stage_id, set()).update(epochs)
    return asked


def _of_sweep(asked: dict[str, list[int]], of_stage: dict[str, list[Entry]]) -> Holdings:
    found = Holdings(stages=len(asked))
    for stage_id, epochs in asked.items():
        entries = of_stage.get(stage_id, [])
        found.add(entries)
        there = _epochs(entries, "row")
        rows = len(there.intersection(epochs)) if epochs else len(there)
        found.rows += rows
        found.rows_wanted += len(epochs)
        if rows and rows >= len(epochs):
            found.done += 1
        elif rows or _epochs(entries, "metrics"):
            found.half_done += 1
    return found


def _epochs(entries: Iterable[Entry], kind: str) -> set[int]:
    return {entry.epoch for entry in entries if entry.kind == kind}


# What no sweep needs

REASONS = {
    "stage": "stages that no sweep lists",
    "point": "rewind points that no stage needs",
    "tensors": "tensors without the json that makes them a rewind point",
    "temporary": "files of writers that died while writing them",
    "lease": "heartbeats and leases of drivers that died",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    reason: str
    """Key of ``REASONS``."""
    stage_id: str
    """Empty for a file that is no stage's."""
    entries: list[Entry]

    @property
    def bytes(self) -> int:
        return sum(entry.file.size for entry in self.entries)


def garbage(
    entries: list[Entry],
    records: Records,
    describe: Callable[[Iterable[str]], dict[str, Stage]],
    keep: str,
    now: float,
) -> list[Garbage]:
    """What no sweep needs. In doubt something is needed.

    records: of all sweeps; without any of them no stage is called needless.
    describe: the descriptions of stages, as far as they can be read; asked only for those that
    decide something.
    keep: ``all`` leaves all rewind points of baselines; ``referenced`` those that stages of the
    sweeps have a row at or start from.
    now: seconds since 1970, by the storage's clock.
    """
    of_stage, rest = by_stage(entries)
    asked = asked_by(records)
    someone_lives = any(entry.kind == "driver" and is_young(entry, now) for entry in rest)
    idle = {i: files for i, files in of_stage.items() if not is_busy(files, now, someone_lives)}
    unlisted = idle.keys() - asked.keys() if records else set()
    excess = {i: more for i in idle.keys() & asked.keys() if (more := _excess(idle[i], asked[i]))}
    all_decide = bool(unlisted or (excess and keep == "referenced"))
    specs = describe(asked if all_decide else excess)
    starts = _starts(asked, specs) if keep == "referenced" else None
    unlisted -= {step.stage_id for i in asked if i in specs for step in specs[i].chain}
    dead = {"temporary": "temporary", "driver": "lease"}
    if not someone_lives:
        dead["lease"] = "lease"
    found = []
    for stage_id, files in of_stage.items():
        if stage_id in unlisted:
            found.append(Garbage(reason="stage", stage_id=stage_id, entries=files))
            continue
        if stage_id in idle:
            found += _each("tensors", stage_id, _loose(files))
        if stage_id in excess and stage_id in specs:
            more = excess[stage_id]
            if specs[stage_id].parent is None:
                needed = more.keys() if starts is None else starts.get(stage_id, ())
                more = {epoch: more[epoch] for epoch in more.keys() - needed}
            found += _each("point", stage_id, [more[epoch] for epoch in sorted(more)])
        found += _left_behind(stage_id, files, dead, now)
    return found + _left_behind("", rest, dead, now)


def is_young(entry: Entry, now: float) -> bool:
    return now - entry.file.modified < YOUNG_SECONDS


def is_busy(files: list[Entry], now: float, someone_lives: bool) -> bool:
    """Whether somebody may be training the stage. someone_lives: any driver."""
    return any(is_young(e, now) or (someone_lives and e.kind == "lease") for e in files)


def _left_behind(
    stage_id: str, files: Iterable[Entry], dead: dict[str, str], now: float
) -> list[Garbage]:
    """dead: kind of file -> reason."""
    return [
        Garbage(reason=dead[entry.kind], stage_id=stage_id, entries=[entry])
        for entry in files
        if entry.kind in dead and not is_young(entry, now)
    ]


def _loose(files: Iterable[Entry]) -> list[Entry]:
    """Tensors without metrics."""
    epochs = _epochs(files, "metrics")
    return [entry for entry in files if entry.kind == "tensors" and entry.epoch not in epochs]


def _excess(files: Iterable[Entry], asked: set[int]) -> dict[int, Entry]:
    """Rewind points besides the last and those of rows, by epoch; none of an unfinished stage."""
    rows = _epochs(files, "row")
    if not asked <= rows:
        return {}
    epochs = _epochs(files, "metrics")
    points = {e.epoch: e for e in files if e.kind == "tensors" and e.epoch in epochs}
    return {epoch: points[epoch] for epoch in points.keys() - rows - {max(points, default=0)}}


def _starts(asked: Iterable[str], specs: dict[str, Stage]) -> dict[str, set[int]] | None:
    """Baseline's id -> epochs that a stage starts from; None where descriptions are missing."""
    starts: dict[str, set[int]] = {}
    for stage_id in asked:
        if stage_id not in specs:
            return None
        stage = specs[stage_id]
        epochs = starts.setdefault(stage.baseline.stage_id, set())
        epochs.add(stage.baseline.train_epochs)
        if stage.rewind_epoch is not None:
            epochs.add(stage.rewind_epoch)
    return starts


def _each(reason: str, stage_id: str, entries: Iterable[Entry]) -> list[Garbage]:
    return [Garbage(reason=reason, stage_id=stage_id, entries=[entry]) for entry in entries]


def collect(ledger: Ledger, keep: str, now: float | None = None) -> list[Garbage]:
    """What no sweep needs of the storage as it is now.

    now: by the storage's clock; this machine's, if left out. Raises DamagedRecord where a
    sweep's record can't be read: what it needs is unknown.
    """
    records = _all_records(ledger)
    entries = ledger.entries()
    now = time.time() if now is None else now
    return garbage(entries, records, partial(read_specs, ledger), keep, now)


def _all_records(ledger: Ledger) -> Records:
    records, damaged = read_records(ledger)
    if damaged:
        raise DamagedRecord(
            f"can't tell what is needed: {'; '.join(damaged.values())}; start the command of the "
            "sweep again, which writes its record anew, or delete the record if nobody wants it"
        )
    return records


def read_specs(ledger: Ledger, stage_ids: Iterable[str]) -> dict[str, Stage]:
    """Those that are there and can be read."""

    def read(stage_id: str) -> Stage | None:
        try:
            return ledger.read_spec(stage_id)
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("%s", error)
            return None

    stages = side_by_side(read, stage_ids)
    return {stage.stage_id: stage for stage in stages if stage is not None}


def delete_garbage(ledger: Ledger, keep: str) -> list[Garbage]:
    """Delete what no sweep needs; what it was."""
    began = time.monotonic()
    now = storage_time(ledger.filesystem, ledger.root)
    gone = []
    listed = Listed(ledger)
    for item in collect(ledger, keep, now):
        if item.reason == "stage":
            if not _drop_unlisted(ledger, item.stage_id, listed, now + time.monotonic() - began):
                continue
        else:
            for entry in item.entries:
                ledger.drop(entry)
        gone.append(item)
    return gone


class Listed:
    """Whether a sweep lists a stage, as the records are now; they are read where they changed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._files: list[File] | None = None
        self._stage_ids: set[str] = set()

    def __contains__(self, stage_id: str) -> bool:
        if self._files != (files := self._ledger.sweep_files()):
            self._files = files
            self._stage_ids = set(asked_by(_all_records(self._ledger)))
        return stage_id in self._stage_ids


def _drop_unlisted(ledger: Ledger, stage_id: str, listed: Listed, now: float) -> bool:
    """Delete a stage, unless a sweep has begun meanwhile that lists it. Whether it is gone.

    A sweep writes its record and then counts what has rows. So rows go first, and come back if
    there is such a record then: whoever counted the stage as done finds it done.
    """
    files = ledger.stage_entries(stage_id)
    if stage_id in listed or is_busy(files, now, someone_lives=False):
        return False
    rows = [(entry, ledger.content(entry)) for entry in files if entry.kind == "row"]
    for entry, _ in rows:
        ledger.drop(entry)
    if stage_id in listed:
        for entry, content in rows:
            ledger.put_back(entry, content)
        return False
    ledger.drop_stage(stage_id)
    return True


# What is damaged

CHECKS: dict[str, Callable[[Ledger, Entry], object]] = {
    "spec": lambda ledger, entry: ledger.read_spec(entry.owner),
    "data": lambda ledger, entry: ledger.read_data(entry.owner),
    "tensors": lambda ledger, entry: ledger.check_point(entry.owner, entry.epoch),
    "metrics": lambda ledger, entry: ledger.read_metrics(entry.owner, entry.epoch),
    "row": lambda ledger, entry: ledger.read_row(entry.owner, entry.epoch),
    "partial": lambda ledger, entry: _check_partial(ledger, entry),
    "lease": lambda ledger, entry: check_lease(ledger, entry.owner),
    "driver": lambda ledger, entry: check_heartbeat(ledger, entry.owner),
    "sweep": lambda ledger, entry: ledger.sweep_rows(entry.owner),
}
WAYS_OUT = {
    "spec": "delete it; a sweep that wants the stage writes it again",
    "data": "delete it; export reads it from another stage of the chain, or the data set itself",
    "tensors": "delete it; what starts from it trains it again, from the rewind point before",
    "metrics": "delete it; a sweep that wants the stage trains it again from the epoch before",
    "row": "start its sweep again, which makes it from the rewind point",
    "partial": "delete it; the epoch is begun anew",
    "lease": "delete it, unless a sweep runs: that replaces it",
    "driver": "delete it, unless a sweep runs: that replaces it",
    "sweep": "start the command of the sweep again, which writes it anew",
}


def _check_partial(ledger: Ledger, entry: Entry) -> None:
    from rewind_ray.store.partial import check_partial  # needs torch, and status and gc do without

    check_partial(ledger, entry.owner)


BATCH = 1000
"""Files that are waited for at once: there may be millions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    path: str
    """Below the storage root."""
    kind: str
    error: str

    @property
    def way_out(self) -> str:
        return WAYS_OUT[self.kind]


def to_verify(entries: list[Entry]) -> list[Entry]:
    """The files with something to check; tensors only where their checksum is there too."""
    points = {(entry.owner, entry.epoch) for entry in entries if entry.kind == "metrics"}
    return [
        entry
        for entry in entries
        if entry.kind in CHECKS
        and (entry.kind != "tensors" or (entry.owner, entry.epoch) in points)
    ]


def verify(
    ledger: Ledger, entries: list[Entry], checked: Callable[[Entry], None] = lambda _: None
) -> list[Damage]:
    """Read ``entries`` and check their content. checked: called with each, as it goes."""

    def damage(entry: Entry) -> Damage | None:
        try:
            CHECKS[entry.kind](ledger, entry)
        except FileNotFoundError:
            return None  # deleted since it was listed
        except (ValueError, KeyError, CorruptRewindPoint, PermissionError) as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            path = entry.file.path
            return Damage(path=path, kind=entry.kind, error=str(error).removeprefix(f"{path}: "))
        return None

    found = []
    for first in range(0, len(entries), BATCH):
        batch = entries[first : first + BATCH]
        for entry, damaged in zip(batch, side_by_side(damage, batch), strict=True):
            checked(entry)
            if damaged:
                found.append(damaged)
    return found

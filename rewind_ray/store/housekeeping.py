"""What is in a storage: how much of what, what no sweep needs, and what is damaged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rewind_ray.spec import Stage
from rewind_ray.store.layout import Entry
from rewind_ray.store.leases import check_heartbeat, check_lease
from rewind_ray.store.ledger import READERS, CorruptRewindPoint, DamagedRecord, Ledger
from rewind_ray.store.opening import storage_time

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
        if entry.kind in ("tensorboard", "tune") and entry.owner in of_sweep:
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
    entries: list[Entry], records: Records, specs: dict[str, Stage], keep: str, now: float
) -> list[Garbage]:
    """What no sweep needs. In doubt something is needed.

    records: of all sweeps; without any of them no stage is called needless.
    specs: of the stages that have one.
    keep: ``all`` leaves all rewind points of baselines; ``referenced`` those that stages of the
    sweeps have a row at or start from.
    now: seconds since 1970, by the storage's clock.
    """
    of_stage, rest = by_stage(entries)
    asked = asked_by(records)
    needed = asked.keys() | {step.stage_id for s in asked if s in specs for step in specs[s].chain}
    someone_lives = any(entry.kind == "driver" and is_young(entry, now) for entry in rest)
    dead = {"temporary": "temporary", "driver": "lease"}
    if not someone_lives:
        dead["lease"] = "lease"
    found = []
    for stage_id, files in of_stage.items():
        busy = is_busy(files, now, someone_lives)
        if records and stage_id not in needed and not busy:
            found.append(Garbage(reason="stage", stage_id=stage_id, entries=files))
            continue
        if not busy:
            found += _needless_tensors(stage_id, files, asked, specs, keep)
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


def _needless_tensors(
    stage_id: str,
    files: list[Entry],
    asked: dict[str, set[int]],
    specs: dict[str, Stage],
    keep: str,
) -> list[Garbage]:
    tensors = {entry.epoch: entry for entry in files if entry.kind == "tensors"}
    points = tensors.keys() & _epochs(files, "metrics")
    loose = [entry for epoch, entry in tensors.items() if epoch not in points]
    needed = _needed_points(stage_id, points, _epochs(files, "row"), asked, specs, keep)
    needless = [tensors[epoch] for epoch in sorted(points - needed)]
    return _each("tensors", stage_id, loose) + _each("point", stage_id, needless)


def _needed_points(
    stage_id: str,
    points: set[int],
    rows: set[int],
    asked: dict[str, set[int]],
    specs: dict[str, Stage],
    keep: str,
) -> set[int]:
    if stage_id not in asked or stage_id not in specs or not asked[stage_id] <= rows:
        return points  # unknown, or unfinished
    needed = rows | {max(points, default=0)}
    if specs[stage_id].parent is None:
        if keep == "all" or not asked.keys() <= specs.keys():
            return points
        for stage in map(specs.__getitem__, asked):
            if stage.baseline.stage_id == stage_id:
                needed.add(stage.baseline.train_epochs)
                if stage.rewind_epoch is not None:
                    needed.add(stage.rewind_epoch)
    return needed


def _each(reason: str, stage_id: str, entries: Iterable[Entry]) -> list[Garbage]:
    return [Garbage(reason=reason, stage_id=stage_id, entries=[entry]) for entry in entries]


def collect(ledger: Ledger, keep: str, now: float | None = None) -> list[Garbage]:
    """What no sweep needs of the storage as it is now.

    now: by the storage's clock; this machine's, if left out. Raises DamagedRecord where a
    sweep's record can't be read: what it needs is unknown.
    """
    records = _all_records(ledger)
    specs = read_specs(ledger, asked_by(records))
    entries = ledger.entries()
    return garbage(entries, records, specs, keep, time.time() if now is None else now)


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

    with ThreadPoolExecutor(READERS) as readers:
        stages = readers.map(read, stage_ids)
        return {stage.stage_id: stage for stage in stages if stage is not None}


def delete_garbage(ledger: Ledger, keep: str) -> list[Garbage]:
    """Delete what no sweep needs; what it was."""
    began = time.monotonic()
    now = storage_time(ledger.filesystem, ledger.root)
    gone = []
    found = collect(ledger, keep, now)
    recorded, asked = None, asked_by({})
    for item in found:
        if item.reason == "stage":
            if recorded != (there := ledger.sweep_files()):  # a sweep has begun since
                recorded, asked = there, asked_by(_all_records(ledger))
            files = ledger.stage_entries(item.stage_id)
            if item.stage_id in asked or is_busy(files, now + time.monotonic() - began, False):
                continue
            ledger.drop_stage(item.stage_id)
        else:
            for entry in item.entries:
                ledger.drop(entry)
        gone.append(item)
    return gone


# What is damaged

CHECKS: dict[str, Callable[[Ledger, Entry], object]] = {
    "spec": lambda ledger, entry: ledger.read_spec(entry.owner),
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
    """Read ``entries`` and check their content. checked: told of each, as it goes."""

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
    with ThreadPoolExecutor(READERS) as readers:
        for first in range(0, len(entries), BATCH):
            batch = entries[first : first + BATCH]
            for entry, damaged in zip(batch, readers.map(damage, batch), strict=True):
                checked(entry)
                if damaged:
                    found.append(damaged)
    return found

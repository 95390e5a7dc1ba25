"""How far the sweeps of a storage are, from its files alone: no Ray, no driver asked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rewind_ray.result import ResultRow
from rewind_ray.spec import Stage
from rewind_ray.store.control import read_control
from rewind_ray.store.files import read_sealed
from rewind_ray.store.housekeeping import by_stage
from rewind_ray.store.layout import Entry, is_epoch
from rewind_ray.store.leases import LIMIT, PATIENCE_SECONDS
from rewind_ray.store.ledger import DamagedRecord, Ledger
from rewind_ray.store.side_by_side import side_by_side

PACE_SECONDS = 600.0
"""Epochs that were finished in this time, before the latest, are the pace."""
SOON_SECONDS = 1.0
"""A pace over less than this means nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningStage:
    stage_id: str
    machine: str
    """Host that trains it."""
    epoch: int
    """Trained so far."""
    epochs: int
    """To be trained."""
    metrics: dict[str, Any]
    """Of its last epoch; empty before the first is finished."""
    stage: Stage | None
    """None where its description can't be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterNote:
    """What a driver has last said of the cluster that it works on."""

    sweep: str
    host: str
    """Where the driver runs."""
    machines: int
    pending: int
    """Stages handed out for which no machine has room yet; they count as waiting."""
    waits_for: str
    """What starts, is refused or fits nowhere; empty: nothing."""
    dollars: float | None
    """Cost of all machines since the driver started; None: none has a price."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepProgress:
    """Counts are of stages unless they say otherwise."""

    name: str
    command: list[str]
    stages: int
    done: int
    """Those with all rows that were asked for; the diverged and collapsed among them."""
    diverged: int
    collapsed: int
    failures: dict[str, str]
    """stage_id -> reason, of stages without a result."""
    running: list[RunningStage]
    epochs_done: int
    epochs_total: int
    epochs_per_hour: float | None
    """Pace of the last ten minutes of work; None until there is one."""
    examples_per_second: float | None
    """Of all running stages together, in their last epochs."""
    device_hours: dict[str, float]
    """Device -> hours of training updates; evaluation and storage left out."""
    clusters: list[ClusterNote]
    """Of its living drivers, those that work on a cluster."""
    control: str
    """What ``rewind-ray control`` asked it for; empty: nothing."""

    @property
    def waiting(self) -> int:
        """Neither done, running nor failed; also those that a failed one blocks."""
        return self.stages - self.done - len(self.running) - len(self.failures)

    @property
    def machines(self) -> dict[str, int]:
        """Host -> stages that it trains."""
        return dict(Counter(stage.machine for stage in self.running))

    @property
    def seconds_left(self) -> float | None:
        """By the pace; None where there is none or nothing runs."""
        left = self.epochs_total - self.epochs_done
        if not self.running or not self.epochs_per_hour:
            return None
        return 3600 * left / self.epochs_per_hour


@dataclass(frozen=True, kw_only=True, slots=True)
class StorageProgress:
    uri: str
    drivers: list[str]
    """Hosts of the drivers that live."""
    last_sign: float | None
    """When a file was last written, in seconds since 1970, by the storage's clock."""
    sweeps: list[SweepProgress]
    damaged: list[str]
    """Records that can't be read, and why."""


@dataclass(slots=True)
class ProgressReader:
    """Reads a storage again and again; what can't change is read once."""

    ledger: Ledger
    _rows: dict[tuple[str, int], ResultRow | None] = field(default_factory=dict)
    _specs: dict[str, Stage | None] = field(default_factory=dict)

    def read(self, only: str | None = None) -> StorageProgress:
        """only: name of a sweep; None for all. Raises UserError for an unknown one."""
        names = self.ledger.sweeps() if only is None else [only]
        entries = self.ledger.entries_of_stages()
        drivers = self._drivers()
        sweeps, damaged = [], []
        of_stage, _ = by_stage(entries)
        for name in names:
            try:
                sweeps.append(self._sweep(name, of_stage, drivers))
            except DamagedRecord as error:
                damaged.append(str(error))
        return StorageProgress(
            uri=self.ledger.uri,
            drivers=sorted(map(host_of, drivers.values())),
            last_sign=max((entry.file.modified for entry in entries), default=None),
            sweeps=sweeps,
            damaged=damaged,
        )

    def _drivers(self) -> dict[str, dict[str, Any]]:
        """token -> heartbeat, of drivers whose heartbeat is young by this machine's clock."""
        alive: dict[str, dict[str, Any]] = {}
        for entry in self.ledger.driver_entries():
            if time.time() - entry.file.modified > PATIENCE_SECONDS:
                continue
            try:
                alive[entry.owner] = read_sealed(
                    self.ledger.filesystem, self.ledger.layout.driver(entry.owner), LIMIT
                )
            except (FileNotFoundError, ValueError):
                continue
        return alive

    def _sweep(
        self, name: str, of_stage: dict[str, list[Entry]], drivers: dict[str, dict[str, Any]]
    ) -> SweepProgress:
        asked = self.ledger.sweep_rows(name)
        record = self.ledger.read_sweep(name)
        files = {stage_id: of_stage.get(stage_id, []) for stage_id in asked}
        trained = {stage_id: last_epoch(entries) for stage_id, entries in files.items()}
        there = {stage_id: epochs_of(entries, "row") for stage_id, entries in files.items()}
        done = {i for i, epochs in asked.items() if there[i] and there[i].issuperset(epochs)}
        self._read_rows((i, max(there[i])) for i in asked if there[i])
        rows = [row for i in asked if there[i] and (row := self._rows[i, max(there[i])])]
        lengths = {i: max(epochs, default=trained[i]) for i, epochs in asked.items()}
        begun = (i for i in asked if i not in done and any(e.kind == "lease" for e in files[i]))
        running = self._running(list(begun), trained, lengths, drivers)
        ids = {stage.stage_id for stage in running}
        failures = {
            str(i): str(why)
            for i, why in dict(record.get("failures") or {}).items()
            if i in asked and i not in done and i not in ids
        }
        finished = [
            entry.file.modified
            for entries in files.values()
            for entry in entries
            if entry.kind == "metrics" and entry.epoch
        ]
        speeds = [s for stage in running if (s := stage.metrics.get("examples_per_second"))]
        return SweepProgress(
            name=name,
            command=[str(word) for word in record.get("command") or ()],
            stages=len(asked),
            done=len(done),
            diverged=sum(row.status == "diverged" for row in rows),
            collapsed=sum(row.status == "collapsed" for row in rows),
            failures=failures,
            running=running,
            epochs_done=sum(n if i in done else min(trained[i], n) for i, n in lengths.items()),
            epochs_total=sum(lengths.values()),
            epochs_per_hour=pace(finished),
            examples_per_second=sum(speeds) if speeds else None,
            device_hours=device_hours(rows),
            clusters=[
                note for beat in drivers.values() if (note := note_in(beat)) and note.sweep == name
            ],
            control=read_control(self.ledger, name).describe(),
        )

    def _running(
        self,
        stage_ids: list[str],
        trained: dict[str, int],
        lengths: dict[str, int],
        drivers: dict[str, dict[str, Any]],
    ) -> list[RunningStage]:
        """Those whose lease is a living driver's."""

        def look(stage_id: str) -> RunningStage | None:
            try:
                path = self.ledger.layout.lease(stage_id)
                lease = read_sealed(self.ledger.filesystem, path, LIMIT)
            except (FileNotFoundError, ValueError):
                return None
            if lease.get("driver") not in drivers:
                return None
            return RunningStage(
                stage_id=stage_id,
                machine=str(lease.get("host") or host_of(drivers[lease["driver"]])),
                epoch=trained[stage_id],
                epochs=lengths[stage_id],
                metrics=self._metrics(stage_id, trained[stage_id]),
                stage=self._spec(stage_id),
            )

        return [stage for stage in side_by_side(look, stage_ids) if stage is not None]

    def _metrics(self, stage_id: str, epoch: int) -> dict[str, Any]:
        try:
            return self.ledger.read_metrics(stage_id, epoch) if epoch else {}
        except (FileNotFoundError, ValueError):
            return {}

    def _spec(self, stage_id: str) -> Stage | None:
        if self._specs.get(stage_id) is None:
            try:
                self._specs[stage_id] = self.ledger.read_spec(stage_id)
            except (FileNotFoundError, ValueError):
                self._specs[stage_id] = None
        return self._specs[stage_id]

    def _read_rows(self, keys: Iterable[tuple[str, int]]) -> None:
        new = [key for key in keys if self._rows.get(key) is None]
        found = self.ledger.sound_rows(new)
        self._rows.update((key, found.get(key)) for key in new)


def host_of(beat: dict[str, Any]) -> str:
    """Of a driver, from its heartbeat."""
    return (str(beat.get("place", "")).split() or ["unknown"])[0]


def note_in(beat: dict[str, Any]) -> ClusterNote | None:
    """None where its driver works on no cluster."""
    try:
        says = beat["says"]
        return ClusterNote(
            sweep=str(says["sweep"]),
            host=host_of(beat),
            machines=int(says["machines"]),
            pending=int(says["pending"]),
            waits_for=str(says["waits_for"]),
            dollars=None if says["dollars"] is None else float(says["dollars"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def epochs_of(entries: Iterable[Entry], kind: str) -> set[int]:
    return {e.epoch for e in entries if e.kind == kind and is_epoch(e.epoch)}


def last_epoch(entries: Iterable[Entry]) -> int:
    """Epochs that are trained; 0 for none."""
    return max(epochs_of(entries, "metrics"), default=0)


def pace(finished: Iterable[float]) -> float | None:
    """Epochs an hour. finished: when each epoch was, in seconds.

    Over the last ten minutes before the latest of them: a sweep that was interrupted for a day is
    no slower. The first epoch of those only starts the clock.
    """
    times = sorted(finished)
    if not times:
        return None
    recent = [when for when in times if times[-1] - when <= PACE_SECONDS]
    took = recent[-1] - recent[0]
    return 3600 * (len(recent) - 1) / took if took >= SOON_SECONDS else None


def device_hours(rows: Iterable[ResultRow]) -> dict[str, float]:
    """rows: the longest of each stage."""
    hours: dict[str, float] = {}
    for row in rows:
        device = row.device or "unknown"
        hours[device] = hours.get(device, 0.0) + row.train_seconds / 3600
    return hours

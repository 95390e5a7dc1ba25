"""What is kept: stages with their rewind points and rows, and the records of sweeps.

Exists means done: a rewind point is its json, a result
is its row, and both are written last.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from rewind_ray.errors import DataError, MissingFile, UserError
from rewind_ray.result import ResultRow, row_from_dict, row_to_dict
from rewind_ray.spec import Stage, stage_from_dict, stage_to_dict
from rewind_ray.store import layout
from rewind_ray.store.files import (
    File,
    delete,
    delete_folder,
    digest,
    discard,
    is_file,
    list_names,
    read_bytes,
    read_sealed,
    walk,
    write_atomically,
    write_sealed,
)
from rewind_ray.store.layout import Entry, Layout
from rewind_ray.store.opening import open_storage
from rewind_ray.store.side_by_side import side_by_side
from rewind_ray.store.strict_json import DamagedJson

log = logging.getLogger(__name__)

T = TypeVar("T")

JSON_LIMIT = 2**20
"""Bytes of a spec, a row or an epoch's metrics; those written have a few thousand."""
SWEEP_LIMIT = 2**24
"""Bytes of a sweep's record: enough for 300,000 stages."""
DATA_LIMIT = 2**24
"""Bytes of what is kept of the data: enough for a vocabulary of 100,000 subwords."""
POINT_LIMIT = 2**34
"""Bytes of a rewind point's tensors: enough for two thousand million weights and momentum."""

KEYS_A_REQUEST = 1000
"""Of a listing, at most; Amazon S3 API, ListObjectsV2."""
SAMPLE = 8
"""Stages whose files are counted to see which way of listing takes fewer requests."""


THREADS_LIMIT = 4096
"""Of a stage; torch ends the process where it gets many more."""


def check_metrics(metrics: dict[str, Any]) -> None:
    """Raises ValueError, naming it, for a value that no training has."""
    for name, value in metrics.items():
        fraction = "accuracy" in name or name == "density"
        if fraction and value is not None and not _between(value, 0, 1):
            raise ValueError(f"{name} is {repr(value)[:40]}; allowed: fractions in [0, 1]")
    threads = metrics.get("threads", 1)
    if type(threads) is not int or not 1 <= threads <= THREADS_LIMIT:
        raise ValueError(f"threads is {repr(threads)[:40]}; allowed: 1 to {THREADS_LIMIT}")
    compiled = metrics.get("compiled", False)
    if type(compiled) is not bool:
        raise ValueError(f"compiled is {repr(compiled)[:40]}; allowed: true and false")
    norm = metrics.get("removed_norm", 1.0)
    if not _between(norm, 0, math.inf):
        raise ValueError(f"removed_norm is {repr(norm)[:40]}; allowed: 0 and up")


def _between(value: Any, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most


class CorruptRewindPoint(Exception):
    """The tensors of a rewind point are missing, cut short or changed."""


class DamagedRecord(DataError):
    """The record of a sweep can't be read."""


class Ledger:
    """Stages, rewind points and rows under ``uri``, a local path or any ``pyarrow.fs`` URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.filesystem, self.root = open_storage(uri)

    @property
    def layout(self) -> Layout:
        """Where everything lies."""
        return Layout(self.root)

    def fence(self) -> None:
        """Raises LeaseLost where this process may no longer write; see ``FencedLedger``."""

    # stages

    def write_spec(self, stage: Stage) -> None:
        """Unless it is there. What is there and isn't it is replaced."""
        try:
            self.read_spec(stage.stage_id)
            return
        except FileNotFoundError:
            pass
        except ValueError as error:
            log.warning("written again: %s", error)
        path = self.layout.spec(stage.stage_id)
        write_sealed(self.filesystem, path, stage_to_dict(stage))

    def read_spec(self, stage_id: str) -> Stage:
        """Raises DataError where it isn't this stage's."""
        path = self.layout.spec(stage_id)
        content = self._read(path, JSON_LIMIT)
        try:
            stage = stage_from_dict(content)
        except ValueError as error:
            raise DataError(f"{self.layout.shown(path)}: {error}") from error
        if stage.stage_id != stage_id:
            raise DataError(f"{self.layout.shown(path)} describes stage {stage.stage_id}")
        return stage

    def write_data(self, stage_id: str, facts: Mapping[str, Any]) -> None:
        """What is kept of the data that the stage is trained on; see ``Task.kept_of_data``."""
        path = self.layout.data(stage_id)
        write_sealed(self.filesystem, path, {**facts, "stage_id": stage_id}, self.fence)

    def read_data(self, stage_id: str) -> dict[str, Any]:
        """Raises FileNotFoundError, or DataError where it isn't this stage's."""
        path = self.layout.data(stage_id)
        facts = self._read(path, DATA_LIMIT)
        if facts.get("stage_id") != stage_id:
            raise DataError(f"{self.layout.shown(path)} is of another stage's data")
        return facts

    def stage_ids(self) -> list[str]:
        return layout.stage_ids(list_names(self.filesystem, self.layout.stages))

    # rewind points

    def write_init(self, digest: str, weights: bytes) -> None:
        """Trained weights that dense networks are given; see ``Protocol.init``."""
        write_atomically(self.filesystem, self.layout.init(digest), weights, self.fence)

    def read_init(self, digest: str) -> bytes:
        return read_bytes(self.filesystem, self.layout.init(digest), POINT_LIMIT)

    def write_point(
        self, stage_id: str, epoch: int, tensors: bytes, metrics: dict[str, Any]
    ) -> None:
        """The tensors, then the json with their checksum that makes them a rewind point."""
        path = self.layout.tensors(stage_id, epoch)
        write_atomically(self.filesystem, path, tensors, self.fence)
        checksum = {"sha256": hashlib.sha256(tensors).hexdigest(), "bytes": len(tensors)}
        self.write_metrics(stage_id, epoch, metrics | checksum)

    def write_metrics(self, stage_id: str, epoch: int, metrics: dict[str, Any]) -> None:
        """Of an epoch. By itself, without tensors, it is no rewind point."""
        whose = {"stage_id": stage_id, "epoch": epoch}
        path = self.layout.metrics(stage_id, epoch)
        write_sealed(self.filesystem, path, metrics | whose, self.fence)

    def read_point(self, stage_id: str, epoch: int) -> bytes:
        """The tensors, checked. Raises CorruptRewindPoint where they aren't what was written."""

        def read(path: str, limit: int) -> tuple[bytes, str, int]:
            tensors = read_bytes(self.filesystem, path, limit)
            return tensors, hashlib.sha256(tensors).hexdigest(), len(tensors)

        return self._checked(stage_id, epoch, read)

    def check_point(self, stage_id: str, epoch: int) -> None:
        """As ``read_point``, a block at a time. Raises CorruptRewindPoint as well."""
        self._checked(stage_id, epoch, lambda path, _: (None, *digest(self.filesystem, path)))

    def _checked(
        self, stage_id: str, epoch: int, read: Callable[[str, int], tuple[T, str, int]]
    ) -> T:
        """read: path and largest size -> result, sha256, bytes."""
        try:
            expected, limit = self._checksum(stage_id, epoch)
            result, found, size = read(self.layout.tensors(stage_id, epoch), limit)
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise CorruptRewindPoint(f"epoch {epoch} of stage {stage_id}: {error!r}") from error
        if found != expected:
            raise CorruptRewindPoint(
                f"epoch {epoch} of stage {stage_id}: {size} bytes, not those written"
            )
        return result

    def _checksum(self, stage_id: str, epoch: int) -> tuple[Any, int]:
        """And the bytes. Raises KeyError or ValueError where the json has none."""
        metrics = self.read_metrics(stage_id, epoch)
        size = metrics.get("bytes", POINT_LIMIT)
        if type(size) is not int or not 0 <= size <= POINT_LIMIT:
            raise ValueError(f"a rewind point of {repr(size)[:40]} bytes")
        return metrics["sha256"], size

    def read_metrics(self, stage_id: str, epoch: int) -> dict[str, Any]:
        """Raises DataError where they aren't those of this epoch."""
        path = self.layout.metrics(stage_id, epoch)
        metrics = self._read(path, JSON_LIMIT)
        if (metrics.get("stage_id"), metrics.get("epoch")) != (stage_id, epoch):
            raise DataError(f"{self.layout.shown(path)} holds other metrics than its name says")
        try:
            check_metrics(metrics)
        except ValueError as error:
            raise DataError(f"{self.layout.shown(path)}: {error}") from error
        return metrics

    def metrics_epochs(self, stage_id: str) -> list[int]:
        """Epochs that have metrics, rising."""
        return layout.rows(list_names(self.filesystem, self.layout.epochs(stage_id)))

    def points(self, stage_id: str) -> list[int]:
        """Epochs whose rewind point is there, rising."""
        return layout.points(list_names(self.filesystem, self.layout.epochs(stage_id)))

    def epochs_and_points(self, stage_id: str) -> tuple[list[int], list[int]]:
        """``metrics_epochs`` and ``points``, of one listing."""
        names = list_names(self.filesystem, self.layout.epochs(stage_id))
        return layout.rows(names), layout.points(names)

    def drop_point(self, stage_id: str, epoch: int) -> None:
        """Delete the tensors; the metrics stay, for the learning curve."""
        self.fence()
        discard(self.filesystem, self.layout.tensors(stage_id, epoch))

    # rows

    def write_row(self, row: ResultRow) -> None:
        """Raises ValueError for one that couldn't be read back, and then writes nothing."""
        content = row_to_dict(row)
        row_from_dict(content)
        path = self.layout.row(row.stage_id, row.train_epochs)
        write_sealed(self.filesystem, path, content, self.fence)

    def read_row(self, stage_id: str, train_epochs: int) -> ResultRow:
        """Raises DataError where it isn't the row of this stage at this length."""
        path = self.layout.row(stage_id, train_epochs)
        content = self._read(path, JSON_LIMIT)
        try:
            row = row_from_dict(content)
        except ValueError as error:
            raise DataError(f"{self.layout.shown(path)}: {error}") from error
        if (row.stage_id, row.train_epochs) != (stage_id, train_epochs):
            raise DataError(
                f"{self.layout.shown(path)} holds stage {row.stage_id[:40]!r} at "
                f"{row.train_epochs} epochs"
            )
        return row

    def sound_row(self, stage_id: str, train_epochs: int) -> ResultRow | None:
        """None where there is none, or, with a warning that names it, a damaged one."""
        try:
            return self.read_row(stage_id, train_epochs)
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("a damaged row, taken for missing: %s", error)
            return None

    def sound_rows(self, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], ResultRow]:
        """As ``sound_row``, those that there are; many are read at a time."""
        keys = list(keys)
        rows = side_by_side(lambda key: self.sound_row(*key), keys)
        return {key: row for key, row in zip(keys, rows, strict=True) if row is not None}

    def drop_row(self, stage_id: str, train_epochs: int) -> None:
        """A damaged one, so that it counts as missing, and is made again."""
        self.fence()
        discard(self.filesystem, self.layout.row(stage_id, train_epochs))

    def read_rows(self, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], ResultRow]:
        """By (stage_id, train_epochs); many are read at a time. Raises as ``read_row``."""
        keys = list(keys)
        return dict(zip(keys, side_by_side(lambda key: self.read_row(*key), keys), strict=True))

    def row_epochs(self, stage_id: str) -> list[int]:
        """Lengths that have a row, rising."""
        return layout.rows(list_names(self.filesystem, self.layout.rows(stage_id)))

    # one by one, where a listing may be older than a file

    def has_row(self, stage_id: str, train_epochs: int) -> bool:
        return is_file(self.filesystem, self.layout.row(stage_id, train_epochs))

    def has_point(self, stage_id: str, epoch: int) -> bool:
        paths = self.layout.metrics(stage_id, epoch), self.layout.tensors(stage_id, epoch)
        return all(is_file(self.filesystem, path) for path in paths)

    # many stages at once

    def listed(self, stage_ids: Iterable[str] | None = None) -> ListedLedger:
        """The ledger, its ``points`` and ``row_epochs`` known as they are now.

        stage_ids: those that are of interest; None: all.

        Names of stage folders take a request for every 1,000. Then either every stage is listed
        by itself, or all files of all stages, whichever takes fewer requests.
        """
        everything = self.stage_ids()
        wanted = everything
        if stage_ids is not None:
            wanted = sorted(set(everything).intersection(stage_ids))
        if self.filesystem.type_name == "local":
            return ListedLedger(
                self,
                {stage_id: self.points(stage_id) for stage_id in wanted},
                {stage_id: self.row_epochs(stage_id) for stage_id in wanted},
            )
        sample = {stage_id: self._files(stage_id) for stage_id in wanted[:SAMPLE]}
        keys = sum(map(len, sample.values())) / max(len(sample), 1)
        if keys * len(everything) / KEYS_A_REQUEST < len(wanted) - len(sample):
            files = walk(self.filesystem, self.layout.stages)
            paths = (file.path for file in files)
            return ListedLedger(self, *layout.points_and_rows(wanted, paths))
        rest = wanted[SAMPLE:]
        sample |= zip(rest, side_by_side(self._files, rest), strict=True)
        paths = (f"{stage_id}/{file.path}" for stage_id in wanted for file in sample[stage_id])
        return ListedLedger(self, *layout.points_and_rows(wanted, paths))

    def _files(self, stage_id: str) -> list[File]:
        return walk(self.filesystem, self.layout.stage(stage_id))

    # sweeps

    def write_sweep(self, name: str, record: dict[str, Any]) -> None:
        write_sealed(self.filesystem, self.layout.sweep(name), record)

    def read_sweep(self, name: str) -> dict[str, Any]:
        """Raises UserError, listing the known sweeps, for an unknown name; or DamagedRecord."""
        try:
            return read_sealed(self.filesystem, self.layout.sweep(name), SWEEP_LIMIT)
        except FileNotFoundError:
            raise self._no_sweep(name) from None
        except ValueError as error:
            raise DamagedRecord(f"can't read {self._record(name)}: {error}") from error

    def sweep_rows(self, name: str) -> dict[str, list[int]]:
        """stage_id -> lengths whose row the sweep asked for. Raises as ``read_sweep``."""
        stages = self.read_sweep(name).get("stages")
        if not isinstance(stages, dict) or not all(
            layout.STAGE_ID.fullmatch(stage_id)
            and isinstance(asked, list)
            and all(map(layout.is_epoch, asked))
            for stage_id, asked in stages.items()
        ):
            raise DamagedRecord(f"{self._record(name)} doesn't list stages and their lengths")
        return stages

    def sweeps(self) -> list[str]:
        return layout.sweep_names(list_names(self.filesystem, self.layout.sweeps))

    def chosen_sweep(self, name: str | None) -> str:
        """The sweep of this name, or the only one there is; raises UserError otherwise."""
        names = self.sweeps()
        if name is None and len(names) == 1:
            return names[0]
        if name is None and names:
            raise UserError(f"which sweep? Give one by --sweep: {', '.join(names)}")
        if name is None:
            raise MissingFile(f"no sweeps in {self.uri}; give the root of a storage")
        if name not in names:
            raise self._no_sweep(name)
        return name

    def _no_sweep(self, name: str) -> UserError:
        return UserError(
            f"no sweep {name!r} in {self.uri}; there: {', '.join(self.sweeps()) or 'none'}"
        )

    def sweep_files(self) -> list[File]:
        """Other ones than before where a record has been written."""
        return walk(self.filesystem, self.layout.sweeps)

    def _record(self, name: str) -> str:
        """As people see it."""
        return f"{self.layout.shown(self.layout.sweep(name))} in {self.uri}"

    def _read(self, path: str, limit: int) -> dict[str, Any]:
        """Raises FileNotFoundError; or DamagedJson, with the path below the root."""
        try:
            return read_sealed(self.filesystem, path, limit)
        except DamagedJson as error:
            raise DamagedJson(self.layout.shown(str(error))) from error

    # all of it

    def entries(self) -> list[Entry]:
        """All files of the storage."""
        return [layout.entry(file) for file in walk(self.filesystem, self.root)]

    def entries_of_stages(self) -> list[Entry]:
        """All files of all stages."""
        files = walk(self.filesystem, self.layout.stages)
        return [layout.entry_in("stages", file) for file in files]

    def driver_entries(self) -> list[Entry]:
        """Heartbeats, of drivers that live and that died."""
        files = walk(self.filesystem, self.layout.drivers)
        entries = (layout.entry_in("drivers", file) for file in files)
        return [entry for entry in entries if entry.kind == "driver"]

    def drop(self, entry: Entry) -> None:
        delete(self.filesystem, self.layout.under(entry.file))

    def content(self, entry: Entry) -> bytes:
        return read_bytes(self.filesystem, self.layout.under(entry.file), JSON_LIMIT)

    def put_back(self, entry: Entry, content: bytes) -> None:
        write_atomically(self.filesystem, self.layout.under(entry.file), content)

    def drop_stage(self, stage_id: str) -> None:
        delete_folder(self.filesystem, self.layout.stage(stage_id))

    def stage_entries(self, stage_id: str) -> list[Entry]:
        """All files of a stage, as they are now."""
        return [layout.stage_entry(stage_id, file) for file in self._files(stage_id)]


class ListedLedger(Ledger):
    """A ledger that was listed: what is in it is not looked up again."""

    def __init__(
        self, ledger: Ledger, points: dict[str, list[int]], row_epochs: dict[str, list[int]]
    ) -> None:
        self.uri, self.filesystem, self.root = ledger.uri, ledger.filesystem, ledger.root
        self._points = points
        self._row_epochs = row_epochs

    def stage_ids(self) -> list[str]:
        return sorted(self._row_epochs)

    def points(self, stage_id: str) -> list[int]:
        return self._points.get(stage_id, [])

    def row_epochs(self, stage_id: str) -> list[int]:
        return self._row_epochs.get(stage_id, [])

    def has_row(self, stage_id: str, train_epochs: int) -> bool:
        return train_epochs in self.row_epochs(stage_id)

    def has_point(self, stage_id: str, epoch: int) -> bool:
        return epoch in self.points(stage_id)

    def drop_row(self, stage_id: str, train_epochs: int) -> None:
        super().drop_row(stage_id, train_epochs)
        there = self._row_epochs.get(stage_id, [])
        self._row_epochs[stage_id] = [epoch for epoch in there if epoch != train_epochs]

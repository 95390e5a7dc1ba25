"""Where everything is kept: one folder a stage, under one storage root that sweeps share.

The only module that knows the layout. Exists means done: a rewind point is its json, a result
is its row, and both are written last.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from rewind_ray.result import ResultRow, row_from_json, row_to_json
from rewind_ray.spec import Stage, stage_from_dict, stage_to_dict
from rewind_ray.storage import (
    TEMPORARY,
    File,
    delete,
    delete_folder,
    digest,
    is_file,
    list_names,
    open_storage,
    read_bytes,
    read_json,
    walk,
    write_atomically,
)

T = TypeVar("T")

JSON_LIMIT = 2**20
"""Bytes of a spec, a row or an epoch's metrics; those written have a few thousand."""
SWEEP_LIMIT = 2**24
"""Bytes of a sweep's record: enough for 300,000 stages."""
POINT_LIMIT = 2**34
"""Bytes of a rewind point's tensors: enough for two thousand million weights and momentum."""

STAGE_ID = re.compile(r"[0-9a-f]{16}")
SWEEP_NAME = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,199}")
EPOCH = re.compile(r"[0-9]{4}|[1-9][0-9]{4,8}")

READERS = 16
"""Requests at once: an object store answers slowly, but many at a time."""
KEYS_A_REQUEST = 1000
"""Of a listing, at most; Amazon S3 API, ListObjectsV2."""
SAMPLE = 8
"""Stages whose files are counted to see which way of listing takes fewer requests."""


class CorruptRewindPoint(Exception):
    """The tensors of a rewind point are missing, cut short or changed."""


class DamagedRecord(ValueError):
    """The record of a sweep can't be read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the storage, and what it is by its name."""

    kind: str
    """spec, tensors, metrics, row, lease, sweep, driver, tensorboard, tune, figures, temporary or
    other."""
    owner: str
    """A stage's id, the name of a sweep or a driver's token; empty where it belongs to none."""
    epoch: int
    """Of tensors and metrics; of a row its train_epochs. 0 for all else."""
    file: File
    """Its path is below the storage root."""


class Ledger:
    """Stages, rewind points and rows under ``uri``, a local path or any ``pyarrow.fs`` URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.filesystem, self.root = open_storage(uri)

    # stages

    def write_spec(self, stage: Stage) -> None:
        path = f"{self._stage(stage.stage_id)}/spec.json"
        if is_file(self.filesystem, path):
            return
        text = json.dumps(stage_to_dict(stage), indent=1, sort_keys=True)
        write_atomically(self.filesystem, path, text.encode())

    def read_spec(self, stage_id: str) -> Stage:
        """Raises ValueError where it isn't this stage's."""
        path = f"{self._stage(stage_id)}/spec.json"
        stage = stage_from_dict(read_json(self.filesystem, path, JSON_LIMIT))
        if stage.stage_id != stage_id:
            raise ValueError(f"the description of stage {stage_id} is that of {stage.stage_id}")
        return stage

    def stage_ids(self) -> list[str]:
        names = list_names(self.filesystem, f"{self.root}/stages")
        return [name for name in names if STAGE_ID.fullmatch(name)]

    # rewind points

    def write_point(
        self, stage_id: str, epoch: int, tensors: bytes, metrics: dict[str, Any]
    ) -> None:
        """The tensors, then the json with their checksum that makes them a rewind point."""
        path = self._epoch(stage_id, epoch)
        write_atomically(self.filesystem, f"{path}.safetensors", tensors)
        checksum = {"sha256": hashlib.sha256(tensors).hexdigest(), "bytes": len(tensors)}
        self.write_metrics(stage_id, epoch, metrics | checksum)

    def write_metrics(self, stage_id: str, epoch: int, metrics: dict[str, Any]) -> None:
        """Of an epoch. By itself, without tensors, it is no rewind point."""
        text = json.dumps(metrics, indent=1, allow_nan=False)
        write_atomically(self.filesystem, f"{self._epoch(stage_id, epoch)}.json", text.encode())

    def read_point(self, stage_id: str, epoch: int) -> bytes:
        """The tensors, checked. Raises CorruptRewindPoint where they aren't what was written."""

        def read(path: str, limit: int) -> tuple[bytes, str, int]:
            tensors = read_bytes(self.filesystem, path, limit)
            return tensors, hashlib.sha256(tensors).hexdigest(), len(tensors)

        return self._checked(stage_id, epoch, read)

    def check_point(self, stage_id: str, epoch: int) -> None:
        """As ``read_point``, a block at a time. Raises CorruptRewindPoint, likewise."""
        self._checked(stage_id, epoch, lambda path, _: (None, *digest(self.filesystem, path)))

    def _checked(
        self, stage_id: str, epoch: int, read: Callable[[str, int], tuple[T, str, int]]
    ) -> T:
        """read: path and largest size -> result, sha256, bytes."""
        try:
            expected, limit = self._checksum(stage_id, epoch)
            result, found, size = read(f"{self._epoch(stage_id, epoch)}.safetensors", limit)
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
        """Raises ValueError where they aren't those of this epoch."""
        path = f"{self._epoch(stage_id, epoch)}.json"
        metrics = read_json(self.filesystem, path, JSON_LIMIT)
        if not isinstance(metrics, dict) or metrics.get("epoch", epoch) != epoch:
            raise ValueError(f"epochs/{epoch:04d}.json of stage {stage_id} holds no metrics of it")
        return metrics

    def points(self, stage_id: str) -> list[int]:
        """Epochs whose rewind point is there, rising."""
        return _points(list_names(self.filesystem, f"{self._stage(stage_id)}/epochs"))

    def drop_point(self, stage_id: str, epoch: int) -> None:
        """Delete the tensors; the metrics stay, for the learning curve."""
        delete(self.filesystem, f"{self._epoch(stage_id, epoch)}.safetensors")

    # rows

    def write_row(self, row: ResultRow) -> None:
        path = self._row(row.stage_id, row.train_epochs)
        write_atomically(self.filesystem, path, row_to_json(row))

    def read_row(self, stage_id: str, train_epochs: int) -> ResultRow:
        """Raises ValueError where it isn't the row of this stage at this length."""
        path = self._row(stage_id, train_epochs)
        row = row_from_json(read_bytes(self.filesystem, path, JSON_LIMIT))
        if (row.stage_id, row.train_epochs) != (stage_id, train_epochs):
            raise ValueError(f"it holds stage {row.stage_id[:40]!r} at {row.train_epochs} epochs")
        return row

    def read_rows(self, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], ResultRow]:
        """By (stage_id, train_epochs); many are read at a time. Raises as ``read_row``."""
        keys = list(keys)
        with ThreadPoolExecutor(READERS) as readers:
            return dict(zip(keys, readers.map(lambda key: self.read_row(*key), keys), strict=True))

    def row_epochs(self, stage_id: str) -> list[int]:
        """Lengths that have a row, rising."""
        return _rows(list_names(self.filesystem, f"{self._stage(stage_id)}/rows"))

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
            files = walk(self.filesystem, f"{self.root}/stages")
            return _listed(self, wanted, (file.path for file in files))
        rest = wanted[SAMPLE:]
        with ThreadPoolExecutor(READERS) as readers:
            sample |= zip(rest, readers.map(self._files, rest), strict=True)
        paths = (f"{stage_id}/{file.path}" for stage_id in wanted for file in sample[stage_id])
        return _listed(self, wanted, paths)

    def _files(self, stage_id: str) -> list[File]:
        return walk(self.filesystem, self._stage(stage_id))

    # sweeps

    def write_sweep(self, name: str, record: dict[str, Any]) -> None:
        write_atomically(self.filesystem, self._sweep(name), json.dumps(record, indent=1).encode())

    def read_sweep(self, name: str) -> dict[str, Any]:
        """Raises ValueError, listing the known sweeps, for an unknown name; or DamagedRecord."""
        try:
            record = read_json(self.filesystem, self._sweep(name), SWEEP_LIMIT)
        except FileNotFoundError:
            raise ValueError(
                f"no sweep {name!r} in {self.uri}; there: {', '.join(self.sweeps()) or 'none'}"
            ) from None
        except ValueError as error:
            raise DamagedRecord(f"can't read sweeps/{name}.json in {self.uri}: {error}") from error
        if not isinstance(record, dict):
            raise DamagedRecord(f"sweeps/{name}.json in {self.uri} is no sweep's record")
        return record

    def sweep_rows(self, name: str) -> dict[str, list[int]]:
        """stage_id -> lengths whose row the sweep asked for. Raises as ``read_sweep``."""
        stages = self.read_sweep(name).get("stages")
        if not isinstance(stages, dict) or not all(
            STAGE_ID.fullmatch(stage_id) and isinstance(asked, list) and all(map(_is_epoch, asked))
            for stage_id, asked in stages.items()
        ):
            raise DamagedRecord(
                f"sweeps/{name}.json in {self.uri} doesn't list stages and their lengths"
            )
        return stages

    def sweeps(self) -> list[str]:
        names = list_names(self.filesystem, f"{self.root}/sweeps")
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return [stem for stem in stems if SWEEP_NAME.fullmatch(stem)]

    # all of it

    def entries(self) -> list[Entry]:
        """All files of the storage."""
        return [_entry(file) for file in walk(self.filesystem, self.root)]

    def drop(self, entry: Entry) -> None:
        delete(self.filesystem, f"{self.root}/{entry.file.path}")

    def drop_stage(self, stage_id: str) -> None:
        delete_folder(self.filesystem, self._stage(stage_id))

    def stage_entries(self, stage_id: str) -> list[Entry]:
        """All files of a stage, as they are now."""
        return [
            _entry(File(f"stages/{stage_id}/{file.path}", file.size, file.modified))
            for file in self._files(stage_id)
        ]

    # paths

    def _stage(self, stage_id: str) -> str:
        if not STAGE_ID.fullmatch(stage_id):
            raise ValueError(f"{stage_id[:80]!r} is no stage's id, which has 16 hex digits")
        return f"{self.root}/stages/{stage_id}"

    def _epoch(self, stage_id: str, epoch: int) -> str:
        return f"{self._stage(stage_id)}/epochs/{_number(epoch)}"

    def _row(self, stage_id: str, train_epochs: int) -> str:
        return f"{self._stage(stage_id)}/rows/{_number(train_epochs)}.json"

    def _sweep(self, name: str) -> str:
        if not SWEEP_NAME.fullmatch(name):
            raise ValueError(
                f"{name[:80]!r} is no sweep's name: 200 characters at most, no slashes, no dot "
                "at the start"
            )
        return f"{self.root}/sweeps/{name}.json"


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


def _listed(ledger: Ledger, wanted: list[str], paths: Iterable[str]) -> ListedLedger:
    """paths: below the folder of all stages."""
    names: dict[str, tuple[list[str], list[str]]] = {stage_id: ([], []) for stage_id in wanted}
    for path in paths:
        match path.split("/"):
            case [stage_id, "epochs", name] if stage_id in names:
                names[stage_id][0].append(name)
            case [stage_id, "rows", name] if stage_id in names:
                names[stage_id][1].append(name)
    return ListedLedger(
        ledger,
        {stage_id: _points(epochs) for stage_id, (epochs, _) in names.items()},
        {stage_id: _rows(rows) for stage_id, (_, rows) in names.items()},
    )


def _points(names: list[str]) -> list[int]:
    """Of the names in a folder of epochs."""
    there = set(names)
    return [epoch for epoch in _rows(names) if f"{epoch:04d}.safetensors" in there]


def _rows(names: list[str]) -> list[int]:
    """Of the names in a folder of rows."""
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(int(stem) for stem in stems if EPOCH.fullmatch(stem))


def _entry(file: File) -> Entry:
    """What a file is, by its path below the storage root."""
    parts = file.path.split("/")
    match parts:
        case ["stages", stage_id, _, *_] if STAGE_ID.fullmatch(stage_id):
            return _stage_entry(stage_id, parts[2:], file)
        case [name] | ["stages" | "sweeps" | "drivers" | "figures", name] if TEMPORARY.search(name):
            return Entry("temporary", "", 0, file)
        case ["drivers", name] if name.endswith(".json"):
            return Entry("driver", name.removesuffix(".json"), 0, file)
        case ["sweeps", name] if name.endswith(".json"):
            return Entry("sweep", name.removesuffix(".json"), 0, file)
        case ["tensorboard" | "tune" as kind, sweep, *_]:
            return Entry(kind, sweep, 0, file)
        case ["figures", *_]:
            return Entry("figures", "", 0, file)
    return Entry("other", "", 0, file)


def _stage_entry(stage_id: str, parts: list[str], file: File) -> Entry:
    """parts: of its path below the stage's folder."""
    if TEMPORARY.search(parts[-1]):
        return Entry("temporary", stage_id, 0, file)
    if parts in (["spec.json"], ["lease.json"]):
        return Entry(parts[0].removesuffix(".json"), stage_id, 0, file)
    if len(parts) == 2:
        stem, _, suffix = parts[1].partition(".")
        kinds = {("epochs", "safetensors"): "tensors", ("epochs", "json"): "metrics"}
        kind = {**kinds, ("rows", "json"): "row"}.get((parts[0], suffix))
        if kind and EPOCH.fullmatch(stem):
            return Entry(kind, stage_id, int(stem), file)
    return Entry("other", stage_id, 0, file)


def _is_epoch(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


def _number(epoch: int) -> str:
    """As in file names. Raises ValueError for what is no number of epochs."""
    if not _is_epoch(epoch):
        raise ValueError(f"{repr(epoch)[:40]} is no number of epochs; allowed: 0 to 999,999,999")
    return f"{epoch:04d}"

"""Where everything is kept: one folder a stage, under one storage root that sweeps share.

The only module that knows the layout. Exists means done: a rewind point is its json, a result
is its row, and both are written last.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from rewind_ray.result import ResultRow, row_from_json, row_to_json
from rewind_ray.spec import Stage, stage_from_dict, stage_to_dict
from rewind_ray.storage import list_names, open_storage, read_bytes, write_atomically


class CorruptRewindPoint(Exception):
    """The tensors of a rewind point are missing, cut short or changed."""


class Ledger:
    """Stages, rewind points and rows under ``uri``, a local path or any ``pyarrow.fs`` URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.filesystem, self.root = open_storage(uri)

    # stages

    def write_spec(self, stage: Stage) -> None:
        path = f"{self._stage(stage.stage_id)}/spec.json"
        if self._exists(path):
            return
        text = json.dumps(stage_to_dict(stage), indent=1, sort_keys=True)
        write_atomically(self.filesystem, path, text.encode())

    def read_spec(self, stage_id: str) -> Stage:
        data = read_bytes(self.filesystem, f"{self._stage(stage_id)}/spec.json")
        return stage_from_dict(json.loads(data))

    def stage_ids(self) -> list[str]:
        return list_names(self.filesystem, f"{self.root}/stages")

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
        path = self._epoch(stage_id, epoch)
        try:
            expected = json.loads(read_bytes(self.filesystem, f"{path}.json"))["sha256"]
            tensors = read_bytes(self.filesystem, f"{path}.safetensors")
        except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
            raise CorruptRewindPoint(f"epoch {epoch} of stage {stage_id}: {error!r}") from error
        if hashlib.sha256(tensors).hexdigest() != expected:
            raise CorruptRewindPoint(
                f"epoch {epoch} of stage {stage_id}: {len(tensors)} bytes, not those written"
            )
        return tensors

    def read_metrics(self, stage_id: str, epoch: int) -> dict[str, Any]:
        data = read_bytes(self.filesystem, f"{self._epoch(stage_id, epoch)}.json")
        metrics: dict[str, Any] = json.loads(data)
        return metrics

    def points(self, stage_id: str) -> list[int]:
        """Epochs whose rewind point is there, rising."""
        names = set(list_names(self.filesystem, f"{self._stage(stage_id)}/epochs"))
        stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(int(stem) for stem in stems if f"{stem}.safetensors" in names)

    def drop_point(self, stage_id: str, epoch: int) -> None:
        """Delete the tensors; the metrics stay, for the learning curve."""
        path = f"{self._epoch(stage_id, epoch)}.safetensors"
        if self._exists(path):
            self.filesystem.delete_file(path)

    # rows

    def write_row(self, row: ResultRow) -> None:
        path = self._row(row.stage_id, row.train_epochs)
        write_atomically(self.filesystem, path, row_to_json(row))

    def read_row(self, stage_id: str, train_epochs: int) -> ResultRow:
        return row_from_json(read_bytes(self.filesystem, self._row(stage_id, train_epochs)))

    def row_epochs(self, stage_id: str) -> list[int]:
        """Lengths that have a row, rising."""
        names = list_names(self.filesystem, f"{self._stage(stage_id)}/rows")
        return sorted(int(n.removesuffix(".json")) for n in names if n.endswith(".json"))

    # sweeps

    def write_sweep(self, name: str, record: dict[str, Any]) -> None:
        path = f"{self.root}/sweeps/{name}.json"
        write_atomically(self.filesystem, path, json.dumps(record, indent=1).encode())

    def read_sweep(self, name: str) -> dict[str, Any]:
        """Raises ValueError, listing the known sweeps, for an unknown name."""
        try:
            data = read_bytes(self.filesystem, f"{self.root}/sweeps/{name}.json")
        except FileNotFoundError:
            raise ValueError(
                f"no sweep {name!r} in {self.uri}; there: {', '.join(self.sweeps()) or 'none'}"
            ) from None
        record: dict[str, Any] = json.loads(data)
        return record

    def sweeps(self) -> list[str]:
        names = list_names(self.filesystem, f"{self.root}/sweeps")
        return [n.removesuffix(".json") for n in names if n.endswith(".json")]

    # paths

    def _stage(self, stage_id: str) -> str:
        return f"{self.root}/stages/{stage_id}"

    def _epoch(self, stage_id: str, epoch: int) -> str:
        return f"{self._stage(stage_id)}/epochs/{epoch:04d}"

    def _row(self, stage_id: str, train_epochs: int) -> str:
        return f"{self._stage(stage_id)}/rows/{train_epochs:04d}.json"

    def _exists(self, path: str) -> bool:
        info = self.filesystem.get_file_info(path)
        return bool(info.is_file)

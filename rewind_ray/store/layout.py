"""Where everything lies under a storage root, and what a file is by its path.

::

    <root>/
      stages/<stage_id>/
        spec.json, lease.json
        data.json                               what export has to know of the data
        partial.safetensors, partial.json       an epoch broken off
        epochs/0004.safetensors, 0004.json      a rewind point, and the metrics that make it one
        rows/0182.json                          the result at a length that was asked for
      inits/<digest>.safetensors                trained weights that dense networks were given
      sweeps/<sweep>.json                       the stages of a sweep, the command that made it
      control/<sweep>.json                      what it is asked while it runs, such as to pause
      logs/<sweep>.log                          what the sweep's drivers have printed
      drivers/<token>.json                      the heartbeat of a running driver
      studies/<name>.journal, <name>-front.csv  Optuna's journal of a search, and its result
      tensorboard/<sweep>/<chain>/              TensorBoard's files
      tune/<sweep>/                             Ray Tune's own files; nothing reads them
      figures/<sweep>.png

No other module builds a path under the root.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from rewind_ray.errors import UserError
from rewind_ray.store.files import TEMPORARY, File

STAGE_ID = re.compile(r"[0-9a-f]{16}")
SWEEP_NAME = re.compile(r"[^./\\\x00-\x1f\x7f-\x9f][^/\\\x00-\x1f\x7f-\x9f]{0,199}")
EPOCH = re.compile(r"[0-9]{4}|[1-9][0-9]{4,8}")
EPOCHS_LIMIT = 10**9
STAGE_FILES = {
    "spec.json": "spec",
    "data.json": "data",
    "lease.json": "lease",
    "partial.json": "partial",
    "partial.safetensors": "partial tensors",
}
"""Name in a stage's folder -> kind of entry."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths under a root. Each raises ValueError for a name that could lead elsewhere."""

    root: str
    """Path in its file system, without a slash at the end."""

    # stages

    @property
    def stages(self) -> str:
        return f"{self.root}/stages"

    def stage(self, stage_id: str) -> str:
        if not STAGE_ID.fullmatch(stage_id):
            raise ValueError(f"{stage_id[:80]!r} is no stage's id, which has 16 hex digits")
        return f"{self.stages}/{stage_id}"

    def spec(self, stage_id: str) -> str:
        return f"{self.stage(stage_id)}/spec.json"

    def data(self, stage_id: str) -> str:
        return f"{self.stage(stage_id)}/data.json"

    def lease(self, stage_id: str) -> str:
        return f"{self.stage(stage_id)}/lease.json"

    def partial_tensors(self, stage_id: str) -> str:
        return f"{self.stage(stage_id)}/partial.safetensors"

    def partial_facts(self, stage_id: str) -> str:
        return f"{self.stage(stage_id)}/partial.json"

    def epochs(self, stage_id: str) -> str:
        return f"{self.stage(stage_id)}/epochs"

    def tensors(self, stage_id: str, epoch: int) -> str:
        return f"{self.epochs(stage_id)}/{number(epoch)}.safetensors"

    def metrics(self, stage_id: str, epoch: int) -> str:
        return f"{self.epochs(stage_id)}/{number(epoch)}.json"

    def rows(self, stage_id: str) -> str:
        return f"{self.stage(stage_id)}/rows"

    def row(self, stage_id: str, train_epochs: int) -> str:
        return f"{self.rows(stage_id)}/{number(train_epochs)}.json"

    def init(self, digest: str) -> str:
        if not STAGE_ID.fullmatch(digest):
            raise ValueError(f"{digest[:80]!r} is no digest of weights, which has 16 hex digits")
        return f"{self.root}/inits/{digest}.safetensors"

    # sweeps and their drivers

    @property
    def sweeps(self) -> str:
        return f"{self.root}/sweeps"

    def sweep(self, name: str) -> str:
        return f"{self.sweeps}/{_sweep_name(name)}.json"

    def control(self, sweep: str) -> str:
        return f"{self.root}/control/{_sweep_name(sweep)}.json"

    def log(self, sweep: str) -> str:
        return f"{self.root}/logs/{_sweep_name(sweep)}.log"

    @property
    def drivers(self) -> str:
        return f"{self.root}/drivers"

    def driver(self, token: str) -> str:
        return f"{self.drivers}/{token}.json"

    def study(self, name: str) -> str:
        return f"{self.root}/studies/{name}.journal"

    def front(self, name: str) -> str:
        return f"{self.root}/studies/{name}-front.csv"

    def tensorboard(self, sweep: str) -> str:
        return tensorboard(self.root, sweep)

    def tune(self, sweep: str) -> str:
        return f"{self.root}/tune/{sweep}"

    @property
    def figures(self) -> str:
        return f"{self.root}/figures"

    # trials of the storage itself

    def probe(self) -> str:
        """A file written and deleted to see whether the storage can be written to."""
        return f"{self.root}/.probe.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"

    def marks(self, token: str) -> str:
        """A folder in which the nodes of a cluster leave a mark each, to see each other's."""
        return f"{self.root}/{token}"

    def shown(self, path: str) -> str:
        """A path under the root as people see it: without the root."""
        return path.removeprefix(f"{self.root}/")

    def under(self, file: File) -> str:
        """The path of a file that was listed below the root."""
        return f"{self.root}/{file.path}"


def tensorboard(root: str, sweep: str) -> str:
    """root: as the user wrote it, in a command to type."""
    return f"{root}/tensorboard/{sweep}"


def number(epoch: int) -> str:
    """As in file names. Raises ValueError for what is no number of epochs."""
    if not is_epoch(epoch):
        raise ValueError(f"{repr(epoch)[:40]} is no number of epochs; allowed: 0 to 999,999,999")
    return f"{epoch:04d}"


def is_epoch(value: Any) -> bool:
    return type(value) is int and 0 <= value < EPOCHS_LIMIT


def _sweep_name(name: str) -> str:
    if not SWEEP_NAME.fullmatch(name):
        raise UserError(
            f"{name[:80]!r} is no sweep's name: 200 characters at most, no slashes, no dot "
            "at the start"
        )
    return name


# What is there, by the names of files


def stage_ids(names: Iterable[str]) -> list[str]:
    """Of the names in the folder of stages."""
    return [name for name in names if STAGE_ID.fullmatch(name)]


def sweep_names(names: Iterable[str]) -> list[str]:
    """Of the names in the folder of sweeps."""
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return [stem for stem in stems if SWEEP_NAME.fullmatch(stem)]


def rows(names: Iterable[str]) -> list[int]:
    """Of the names in a folder of rows, rising."""
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(int(stem) for stem in stems if EPOCH.fullmatch(stem))


def points(names: Iterable[str]) -> list[int]:
    """Of the names in a folder of epochs: those with metrics and tensors, rising."""
    there = set(names)
    return [epoch for epoch in rows(there) if f"{epoch:04d}.safetensors" in there]


def points_and_rows(
    stages: Iterable[str], paths: Iterable[str]
) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Of these stages. paths: of files, below the folder of all stages."""
    epoch_names: dict[str, list[str]] = {stage_id: [] for stage_id in stages}
    row_names: dict[str, list[str]] = {stage_id: [] for stage_id in epoch_names}
    for path in paths:
        match path.split("/"):
            case [stage_id, "epochs", name] if stage_id in epoch_names:
                epoch_names[stage_id].append(name)
            case [stage_id, "rows", name] if stage_id in row_names:
                row_names[stage_id].append(name)
    return (
        {stage_id: points(names) for stage_id, names in epoch_names.items()},
        {stage_id: rows(names) for stage_id, names in row_names.items()},
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the storage, and what it is by its name."""

    kind: str
    """spec, data, init, tensors, metrics, row, partial, partial tensors, lease, sweep, control,
    log, driver, tensorboard, tune, figures, temporary or other."""
    owner: str
    """A stage's id, the name of a sweep or a driver's token; empty where it belongs to none."""
    epoch: int
    """Of tensors and metrics; of a row its train_epochs. 0 for all else."""
    file: File
    """Its path is below the storage root."""

    @property
    def stage_id(self) -> str:
        """Of the stage it belongs to; empty where it is no stage's."""
        return self.owner if self.file.path.startswith("stages/") else ""


def entry_in(folder: str, file: File) -> Entry:
    """folder: ``stages`` or ``drivers``, which the file's path is below."""
    return entry(replace(file, path=f"{folder}/{file.path}"))


def entry(file: File) -> Entry:
    """file: its path below the storage root."""
    parts = file.path.split("/")
    match parts:
        case ["stages", stage_id, _, *_] if STAGE_ID.fullmatch(stage_id):
            return _stage_entry(stage_id, parts[2:], file)
        case [name] | [
            "stages" | "sweeps" | "control" | "logs" | "drivers" | "figures" | "inits",
            name,
        ] if TEMPORARY.search(name):
            return Entry("temporary", "", 0, file)
        case ["inits", name] if name.endswith(".safetensors"):
            return Entry("init", "", 0, file)
        case ["drivers", name] if name.endswith(".json"):
            return Entry("driver", name.removesuffix(".json"), 0, file)
        case ["sweeps", name] if name.endswith(".json"):
            return Entry("sweep", name.removesuffix(".json"), 0, file)
        case ["control", name] if name.endswith(".json"):
            return Entry("control", name.removesuffix(".json"), 0, file)
        case ["logs", name] if name.endswith(".log"):
            return Entry("log", name.removesuffix(".log"), 0, file)
        case ["tensorboard" | "tune" as kind, sweep, *_]:
            return Entry(kind, sweep, 0, file)
        case ["figures", *_]:
            return Entry("figures", "", 0, file)
    return Entry("other", "", 0, file)


def stage_entry(stage_id: str, file: File) -> Entry:
    """file: its path below the stage's folder."""
    return entry(File(f"stages/{stage_id}/{file.path}", file.size, file.modified))


def _stage_entry(stage_id: str, parts: list[str], file: File) -> Entry:
    """parts: of its path below the stage's folder."""
    if TEMPORARY.search(parts[-1]):
        return Entry("temporary", stage_id, 0, file)
    if len(parts) == 1 and parts[0] in STAGE_FILES:
        return Entry(STAGE_FILES[parts[0]], stage_id, 0, file)
    if len(parts) == 2:
        stem, _, suffix = parts[1].partition(".")
        kinds = {("epochs", "safetensors"): "tensors", ("epochs", "json"): "metrics"}
        kind = {**kinds, ("rows", "json"): "row"}.get((parts[0], suffix))
        if kind and EPOCH.fullmatch(stem):
            return Entry(kind, stage_id, int(stem), file)
    return Entry("other", stage_id, 0, file)

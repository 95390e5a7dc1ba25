"""The options that all sweeps have."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import tyro

from analysis.table.metrics import difference_of
from rewind_ray.datasets.archive import check_name, folder_of, is_archive, pinned
from rewind_ray.errors import UserError
from rewind_ray.text import printable
from sweeps.run.ray_access import check_address

SEEDS_LIMIT = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    storage: Annotated[str, tyro.conf.arg(metavar="URI")] = "results"
    """Root of all results, shared by all sweeps: a folder or a URI (s3://, gs://)."""
    seeds: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of repeats, each with its own dense baseline; the recipe's if left out."""
    data: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the data set's files, or s3://.../data.tar; a cache if left out."""
    precision: Annotated[
        Literal["fp32", "tf32", "bf16"] | None, tyro.conf.arg(metavar="fp32|tf32|bf16")
    ] = None
    """Precision of the arithmetic; weights stay fp32. The recipe's if left out."""
    keep: Literal["all", "referenced"] = "all"
    """Rewind points of the baselines to keep: of all epochs, or only those this sweep needs."""
    max_concurrent: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Most stages to train at once; if left out, as many as the cluster can have room for."""
    gpus_per_trial: Annotated[str, tyro.conf.arg(metavar="F")] = "auto"
    """Share of a GPU for each stage: 1, 1/2, 1/3, ..., 0 for the CPU; auto: 1 if a machine of the
    cluster has one, or one that it can still start."""
    cpus_per_trial: Annotated[float, tyro.conf.arg(metavar="F")] = 1
    """CPU cores for each stage, which also set its number of threads."""
    compile: Literal["off", "auto", "on"] = "off"
    """Compile networks with PyTorch's Inductor: never, in long stages where it was measured to be
    faster on this machine, or always. A compiled stage rounds otherwise than one that isn't; one
    that was begun stays what it is."""
    address: Annotated[str, tyro.conf.arg(metavar="auto|local|HOST:PORT")] = "local"
    """Ray cluster: local (started for this sweep), auto (the one of this machine) or HOST:PORT."""
    max_hours: Annotated[float | None, tyro.conf.arg(metavar="F")] = None
    """End after so many hours: no stage begins any more, and those that run save their epoch."""
    max_cost: Annotated[float | None, tyro.conf.arg(metavar="USD")] = None
    """End in the same way once the cluster's machines have cost so much since the sweep's start,
    by the prices of the cluster file (labels usd-per-hour)."""
    tracker: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="mlflow|wandb|package.module:callback")
    ] = ()
    """Services that follow the sweep: MLflow, Weights & Biases, or an own Tune callback."""
    notify: Annotated[str | None, tyro.conf.arg(metavar="COMMAND")] = None
    """Command to run when a stage fails for good and when the sweep ends; reads JSON on stdin."""
    dry_run: bool = False
    """Show the stage graph and its cost in epochs, time and disk; train nothing."""
    updates_per_second: Annotated[float | None, tyro.conf.arg(metavar="F")] = None
    """With --dry-run: speed of one stage, as rewind-ray calibrate measures it."""
    smoke: bool = False
    """Try the same graph and code with a tiny network, little data and few epochs."""

    def __post_init__(self) -> None:
        for name in ("seeds", "max_concurrent"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(
                    f"--{name.replace('_', '-')} is {value}; allowed: whole numbers from 1 up"
                )
        if not self.storage.strip():
            raise UserError(
                "--storage is empty; give a folder, or a URI such as s3://bucket/folder"
            )
        if is_archive(self.data):
            check_name(str(self.data))
        if self.seeds is not None and self.seeds > SEEDS_LIMIT:
            raise UserError(f"--seeds is {self.seeds}; allowed: up to {SEEDS_LIMIT:,}")
        if not 0 < self.cpus_per_trial < math.inf:
            raise UserError(
                f"--cpus-per-trial is {self.cpus_per_trial:g}; allowed: numbers above 0"
            )
        for name in ("max_hours", "max_cost"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise UserError(
                    f"--{name.replace('_', '-')} is {limit:g}; allowed: numbers above 0"
                )
        if self.max_cost is not None and self.address == "local":
            raise UserError(
                f"--max-cost is {self.max_cost:g}, but with --address local no machine has a price"
            )
        rate = self.updates_per_second
        if rate is not None and not 0 < rate < math.inf:
            raise UserError(f"--updates-per-second is {rate:g}; allowed: numbers above 0")
        gpu_share(self.gpus_per_trial)
        check_address(self.address)

    @property
    def threads(self) -> int:
        """CPU threads of a stage."""
        return max(1, int(self.cpus_per_trial))

    @property
    def data_folder(self) -> str | None:
        """``data``, absolute: Ray's actors change their working directory. Of an archive the folder
        that it is unpacked to on this machine, if need be now."""
        if self.data is None or is_archive(self.data):
            return folder_of(self.pinned_data)
        return str(Path(self.data).expanduser().absolute())

    @property
    def pinned_data(self) -> str | None:
        """``data`` with its digest, where it is an archive."""
        return pinned(str(self.data)) if is_archive(self.data) else None


def drop_limit(text: str | None) -> float | None:
    """``--max-accuracy-drop``: ``0.5pt`` (points) or ``0.005`` -> 0.005. Raises UserError."""
    return None if text is None else difference_of(text, "--max-accuracy-drop", zero=True)


def gpu_share(text: str) -> float | None:
    """``1/4`` or ``0.25`` -> 0.25; None for ``auto``. Raises UserError unless it is 0 or 1/n.

    Shares of 1/n fill a GPU; others would leave a part of it idle.
    """
    if text == "auto":
        return None
    allowed = "allowed: auto, 0, or 1/n of a GPU (1, 1/2, 1/3, 1/4, ...)"
    try:  # not 1e999999999, which takes for ever
        exact = Fraction(text if re.fullmatch(r"[0-9./]{1,20}", text) else "")
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--gpus-per-trial is {printable(text)[:40]!r}; {allowed}") from None
    share = exact.limit_denominator(100)
    close = abs(share - exact) <= Fraction(1, 1000)
    if share == 0 == exact:
        return 0.0
    if not close or share.numerator != 1:
        raise UserError(f"--gpus-per-trial is {text!r}; {allowed}")
    return float(share)

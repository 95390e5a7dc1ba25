"""The options that all sweeps have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rewind_ray.errors import UserError

SEEDS_LIMIT = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    storage: Annotated[str, tyro.conf.arg(metavar="URI")] = "results"
    """Where everything is kept, shared by all sweeps: a local folder or a URI (s3://, gs://)."""
    seeds: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of repeats, each with a baseline of its own; as the recipe says if left out."""
    data: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the data set's files; downloaded into a cache if left out."""
    precision: Annotated[
        Literal["fp32", "tf32", "bf16"] | None, tyro.conf.arg(metavar="fp32|tf32|bf16")
    ] = None
    """Of the networks' arithmetic; weights stay fp32. tf32 needs a GPU that has it. As the recipe
    says if left out."""
    keep: Literal["all", "referenced"] = "all"
    """Rewind points of the baselines that stay: every epoch's, or only those that a stage of
    this sweep starts from."""
    max_concurrent: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Stages trained at once, at most; as many as there is room for if left out."""
    gpus_per_trial: Annotated[str, tyro.conf.arg(metavar="F")] = "auto"
    """Share of a GPU a stage takes: 1, 1/2, 1/3, ... or 0 for CPU only. auto: 1 if there is one."""
    cpus_per_trial: Annotated[float, tyro.conf.arg(metavar="F")] = 1
    """CPU cores a stage takes; as many whole ones, at least one, are its threads."""
    address: Annotated[str, tyro.conf.arg(metavar="auto|local|ray://HOST")] = "local"
    """Ray to run on: local (started for this sweep), auto (the running cluster) or ray://HOST."""
    dry_run: bool = False
    """Show the stage graph, its epochs, cost and disk, and train nothing."""
    updates_per_second: Annotated[float | None, tyro.conf.arg(metavar="F")] = None
    """With --dry-run: of one stage, to tell the hours; measured by python -m sweeps calibrate or
    known from elsewhere. Rates published for an RTX 3080 if left out, where there are any."""
    smoke: bool = False
    """The same graph and code with a tiny network, little data and few epochs: does it work?"""

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
        if self.seeds is not None and self.seeds > SEEDS_LIMIT:
            raise UserError(f"--seeds is {self.seeds}; allowed: up to {SEEDS_LIMIT:,}")
        if not 0 < self.cpus_per_trial < math.inf:
            raise UserError(
                f"--cpus-per-trial is {self.cpus_per_trial:g}; allowed: numbers above 0"
            )
        rate = self.updates_per_second
        if rate is not None and not 0 < rate < math.inf:
            raise UserError(f"--updates-per-second is {rate:g}; allowed: numbers above 0")
        gpu_share(self.gpus_per_trial)

    @property
    def threads(self) -> int:
        """Of a stage."""
        return max(1, int(self.cpus_per_trial))

    @property
    def data_folder(self) -> str | None:
        """``data``, absolute: Ray's actors change their working directory."""
        return None if self.data is None else str(Path(self.data).expanduser().absolute())


def gpu_share(text: str) -> float | None:
    """``1/4`` or ``0.25`` -> 0.25; None for ``auto``. Raises UserError unless 0, or 1/n.

    Ray packs 1/n shares onto one GPU; others leave a part of it that nobody can use.
    """
    if text == "auto":
        return None
    allowed = "allowed: auto, 0, or 1/n of a GPU (1, 1/2, 1/3, 1/4, ...)"
    try:
        exact = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--gpus-per-trial is {text!r}; {allowed}") from None
    share = exact.limit_denominator(100)
    close = abs(share - exact) <= Fraction(1, 1000)
    if share == 0 == exact:
        return 0.0
    if not close or share.numerator != 1:
        raise UserError(f"--gpus-per-trial is {text!r}; {allowed}")
    return float(share)

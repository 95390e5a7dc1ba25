"""Tiny real stages for the tests: 64 handwritten digits, 2 updates an epoch, 6 epochs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from rewind_ray.protocols import digits
from rewind_ray.result import ResultRow
from rewind_ray.retraining import METHODS
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, retrain_stage
from rewind_ray.store import checkpoint
from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Job, Runtime
from rewind_ray.training.stage import run_stage

REWINDINGS = ("finetune", "weight_rewind", "lr_rewind")
KNOBS = {"alpha": 0.5, "speedup": 1.5, "lr": 0.05}


def tiny(**changes: Any) -> Protocol:
    settings: dict[str, Any] = {
        "train_examples": 64,
        "test_examples": 50,
        "batch_size": 32,
        "epochs": 6,
        "schedule": Schedule(lr=0.1, drops=(3, 5)),
    }
    return digits(**settings | changes)


def child(parent: Stage, method: str, epochs: int, fraction: float = 0.5, **options: Any) -> Stage:
    """options: of ``Prune`` (structure, ...) and ``Retrain`` (restore_momentum, lr, ...).

    Knobs that the method needs have a value if none is given.
    """
    of_retrain = {name: KNOBS[name] for name in METHODS[method].needs}
    names = {field.name for field in fields(Retrain)}
    of_retrain |= {k: v for k, v in options.items() if k in names}
    of_prune = {k: v for k, v in options.items() if k not in names}
    return retrain_stage(
        parent,
        Prune(fraction=fraction, **of_prune),
        Retrain(method=method, epochs=epochs, **of_retrain),
    )


class Lab:
    """A storage, and what is in it."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.ledger = Ledger(str(storage))

    def runtime(self, **options: Any) -> Runtime:
        return Runtime(storage=str(self.storage), **options)

    def job(
        self, stage: Stage, rows: tuple[int, ...] | None = None, rewinds: tuple[int, ...] = ()
    ) -> Job:
        wanted = (stage.train_epochs,) if rows is None else rows
        return Job(stage=stage, row_epochs=wanted, rewind_epochs=rewinds)

    def run(
        self,
        stage: Stage,
        rows: tuple[int, ...] | None = None,
        rewinds: tuple[int, ...] = (),
        **options: Any,
    ) -> None:
        """rows: lengths that get one; None: the stage's own."""
        run_stage(self.job(stage, rows, rewinds), self.runtime(**options))

    def run_chain(self, stage: Stage, **options: Any) -> None:
        for step in stage.chain:
            self.run(step, **options)

    def bytes(self, stage: Stage, epoch: int | None = None) -> bytes:
        """The rewind point's, by default that at the stage's own length."""
        return self.ledger.read_point(
            stage.stage_id, stage.train_epochs if epoch is None else epoch
        )

    def point(self, stage: Stage, epoch: int | None = None) -> RewindPoint:
        return checkpoint.from_bytes(self.bytes(stage, epoch))

    def metrics(self, stage: Stage, epoch: int) -> dict[str, Any]:
        return self.ledger.read_metrics(stage.stage_id, epoch)

    def row(self, stage: Stage, epochs: int | None = None) -> ResultRow:
        return self.ledger.read_row(
            stage.stage_id, stage.train_epochs if epochs is None else epochs
        )

    def points(self, stage: Stage) -> list[int]:
        return self.ledger.points(stage.stage_id)

    def file(self, stage: Stage, epoch: int, suffix: str = "safetensors") -> Path:
        return self.storage / "stages" / stage.stage_id / "epochs" / f"{epoch:04d}.{suffix}"

"""Ray Tune's verbs, each a call or two into ``rewind_ray.training.stage``."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray.tune import PlacementGroupFactory

from rewind_ray.store.leases import FencedLedger, LeaseLost, claim, release
from rewind_ray.store.ledger import Ledger
from rewind_ray.text import printable
from rewind_ray.training.epoch import BrokenOff
from rewind_ray.training.failures import PASSING, failure_of
from rewind_ray.training.run import Job, Runtime, StageRun
from rewind_ray.training.stage import run_epoch, start_stage

CLAIM = ("stage_id", "driver", "instead_of")
NOBODY = "nobody"
"""Who has a stage whose lease is gone."""


class StageTrainable(tune.Trainable):
    """Trains one stage. Its checkpoints are the ledger's rewind points, one an epoch; whoever asks
    Tune's interface for one gets a pointer."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        bundle = {"CPU": config["cpus"]}
        if config["gpus"]:
            bundle["GPU"] = config["gpus"]
        return PlacementGroupFactory([bundle])

    def setup(self, config: dict[str, Any]) -> None:
        """Nothing yet: Tune may set up an actor and throw it away."""
        self._run: StageRun | None = None
        self._broken: Exception | None = None
        self._ticket = ""
        self._notes = Notes()
        self._leave = Leave()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The actor goes on with another stage; the data set stays in memory."""
        self._run = None
        self._broken = None
        return True

    def step(self) -> dict[str, Any]:
        """Train for an epoch, or for as many as fit in ``step_seconds``.

        That keeps the driver from drowning in results; each epoch is a rewind point all the same.

        An exception is reported as text, see ``Failure``. What would come again at every try ends
        the trial, and so does a want of memory, for which the searcher finds more room. Another is
        raised at the next step, which gives the trial a new process, unless the driver has had
        enough of it by then.
        """
        if self._broken is not None:
            broken, self._broken = self._broken, None
            raise broken
        self._notes.clear()
        try:
            with self._leave:
                return self._train()
        except LeaseLost as lost:  # this process was frozen, and taken for dead
            self._run = None
            if self._leave.asked():
                self._leave.go()
            return {"done": True, "elsewhere": lost.owner or NOBODY}
        except BrokenOff:  # what was trained of the epoch is saved
            self._release()
            self._leave.go()
            raise
        except Exception as error:
            if is_out_of_memory(error):
                self._release()
                self._run = None
                torch.cuda.empty_cache()
                return {"done": True, "out_of_memory": printable(str(error).splitlines()[0])}
            failure = failure_of(error, self._ledger())
            if failure.kind == PASSING:
                self._broken = error
            else:
                self._run = None
                with suppress(OSError):
                    self._release()
            return {
                "done": failure.kind != PASSING,
                "failure": failure.describe(),
                "failure_kind": failure.kind,
            }

    def _train(self) -> dict[str, Any]:
        begun = time.monotonic()
        if self._run is None and (owner := self._claimed()) != self.config["driver"]:
            return {"done": True, "elsewhere": owner}
        run = self._started()
        epochs = []
        while not run.finished:
            epochs.append(run_epoch(run))
            if time.monotonic() - begun > self.config["step_seconds"]:
                break
        if run.finished:
            self._release()
        return {
            "done": run.finished,
            "epoch": run.epoch,
            "epochs": epochs,
            "steps_per_epoch": run.task.steps_per_epoch,
            "notes": self._notes.texts(),
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The rewind point is in the ledger already; this says which."""
        epoch = self._run.epoch if self._run else None
        pointer = {"stage_id": self.config["stage_id"], "epoch": epoch}
        (Path(checkpoint_dir) / "pointer.json").write_text(json.dumps(pointer))

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        """The ledger knows better than a pointer, which may be older: nothing to do."""

    def cleanup(self) -> None:
        self._notes.close()

    def _claimed(self) -> str:
        """The driver that has the stage now; another than ours if that was faster."""
        self._ticket = uuid.uuid4().hex[:16]
        return claim(self._ledger(), *(self.config[name] for name in CLAIM), ticket=self._ticket)

    def _release(self) -> None:
        release(self._ledger(), self.config["stage_id"], self.config["driver"])

    def _ledger(self) -> Ledger:
        return Ledger(self.config["runtime"]["storage"])

    def _started(self) -> StageRun:
        if self._run is None:
            runtime = Runtime(**self.config["runtime"])
            if runtime.device != "cpu":
                torch.cuda.set_per_process_memory_fraction(self.config["gpus"])
            stage = self._ledger().read_spec(self.config["stage_id"])
            job = Job(
                stage=stage,
                row_epochs=tuple(self.config["row_epochs"]),
                rewind_epochs=tuple(self.config["rewind_epochs"]),
            )
            driver = self.config["driver"]
            ledger = FencedLedger(runtime.storage, stage.stage_id, driver, self._ticket)
            self._run = start_stage(job, runtime, ledger)
            self._run.stop = self._leave.asked
        return self._run


def is_out_of_memory(error: BaseException) -> bool:
    """On a GPU torch says so by the exception's type, on a CPU in words."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "can't allocate memory" in str(error)


class Leave:
    """A context in which SIGTERM, a spot machine's notice, waits until the run can break off.

    Outside of it, and after ``go``, the signal does what it did before. Signals come to a process's
    main thread only: in another nothing is changed.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._asked = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def asked(self) -> bool:
        return self._asked

    def go(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def _ask(self, *_: object) -> None:
        self._asked = True


class Notes(logging.Handler):
    """What the library warned of, to be shown by the driver."""

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self._texts: list[str] = []
        logging.getLogger("rewind_ray").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(record.getMessage())

    def texts(self) -> list[str]:
        return list(self._texts)

    def clear(self) -> None:
        self._texts.clear()

    def close(self) -> None:
        logging.getLogger("rewind_ray").removeHandler(self)
        super().close()

"""A stage as a Ray Tune trainable: each method is a call or two into ``training.stage``."""

from __future__ import annotations

import gc
import json
import logging
import os
import platform
import signal
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune import PlacementGroupFactory

from rewind_ray.spec import Stage
from rewind_ray.store.leases import FencedLedger, LeaseLost, claim, release
from rewind_ray.store.ledger import Ledger
from rewind_ray.text import printable
from rewind_ray.training.device import check_device
from rewind_ray.training.epoch import BrokenOff
from rewind_ray.training.failures import PASSING, NotShared, failure_of
from rewind_ray.training.memory import is_out_of_memory, share_of_memory
from rewind_ray.training.run import Job, Runtime, StageRun
from rewind_ray.training.stage import run_epoch, start_stage

CLAIM = ("stage_id", "driver", "instead_of")
SHARING_SECONDS = 10
"""Until what the driver has written shows on another machine: NFS caches names for a while."""
NOBODY = "nobody"
"""Owner of a stage whose lease is gone."""


class StageTrainable(tune.Trainable):
    """Trains one stage. Its checkpoints are the ledger's rewind points, one for each epoch; Tune's
    own are pointers to them."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        bundle = {"CPU": config["cpus"]}
        if config["gpus"]:
            bundle["GPU"] = config["gpus"]
        return PlacementGroupFactory([bundle])

    def setup(self, config: dict[str, Any]) -> None:
        """No side effects: Tune may set up an actor and discard it."""
        self._run: StageRun | None = None
        self._broken: Exception | None = None
        self._ticket = ""
        self._checked = False
        self._notes = Notes()
        self._termination = DeferredTermination()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Reuse the actor for another stage; the data set stays in memory."""
        self._run = None
        self._broken = None
        return True

    def step(self) -> dict[str, Any]:
        """Train for an epoch, or for as many as fit in ``step_seconds``, which limits the number of
        results for the driver; each epoch is a rewind point all the same.

        An exception is reported as text, see ``Failure``. One that would recur at every try ends
        the trial, and so does a lack of memory, after which the Tune searcher gives the stage more.
        Any other is raised at the next step, which gives the trial a new process, unless the driver
        has given it up by then; and so is a broken device, else Tune would reuse this process.
        """
        if self._broken is not None:
            broken, self._broken = self._broken, None
            raise broken
        self._notes.clear()
        try:
            with self._termination:
                return self._train()
        except LeaseLost as lost:  # this process was frozen, and believed dead
            self._run = None
            if self._termination.requested():
                self._termination.terminate()
            return {"done": True, "elsewhere": lost.owner or NOBODY}
        except BrokenOff:  # the partial epoch is saved
            self._release()
            self._termination.terminate()
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                return self._failed(error)
            text = printable((str(error).splitlines() or [type(error).__name__])[0])
        # here, where the exception no longer holds the frames that hold the tensors
        self._release()
        self._run = None
        gc.collect()
        torch.cuda.empty_cache()
        return {"done": True, "out_of_memory": text}

    def _failed(self, error: Exception) -> dict[str, Any]:
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
        if self._run is None:
            if broken := self._broken_device():
                self._broken = RuntimeError(broken)
                return {"done": False, "node_failure": broken, "node": this_node()}
            stage = described(self._ledger(), self.config["stage_id"])
            if (owner := self._claimed()) != self.config["driver"]:
                return {"done": True, "elsewhere": owner}
            self._run = self._started(stage)
        run = self._run
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
        """Write a pointer to the rewind point, which is in the ledger already."""
        epoch = self._run.epoch if self._run else None
        pointer = {"stage_id": self.config["stage_id"], "epoch": epoch}
        (Path(checkpoint_dir) / "pointer.json").write_text(json.dumps(pointer))

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        """No-op: the ledger may have later epochs than the pointer."""

    def cleanup(self) -> None:
        self._notes.close()

    def _broken_device(self) -> str | None:
        """What is wrong with the process's device, if something is; looked at once."""
        if not self._checked:
            try:
                check_device(torch.device(self.config["runtime"].get("device", "cpu")))
            except RuntimeError as error:
                return f"{printable(str(error))} (on {platform.node()})"
            self._checked = True
        return None

    def _claimed(self) -> str:
        """Claim the stage; the driver that has it now, which may be another one."""
        self._ticket = uuid.uuid4().hex[:16]
        stage_id, driver, instead_of = (self.config[name] for name in CLAIM)
        return claim(self._ledger(), stage_id, driver, instead_of, self._ticket)

    def _release(self) -> None:
        release(self._ledger(), self.config["stage_id"], self.config["driver"])

    def _ledger(self) -> Ledger:
        return Ledger(self.config["runtime"]["storage"])

    def _started(self, stage: Stage) -> StageRun:
        runtime = Runtime(**self.config["runtime"])
        if runtime.device != "cpu":
            torch.cuda.set_per_process_memory_fraction(share_of_memory(self.config["gpus"]))
        job = Job(
            stage=stage,
            row_epochs=tuple(self.config["row_epochs"]),
            rewind_epochs=tuple(self.config["rewind_epochs"]),
        )
        driver = self.config["driver"]
        ledger = FencedLedger(runtime.storage, stage.stage_id, driver, self._ticket)
        run = start_stage(job, runtime, ledger)
        run.stop = self._termination.requested
        return run


def this_node() -> str | None:
    """Ray's id of this machine."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else None


def described(ledger: Ledger, stage_id: str) -> Stage:
    """The stage, as the driver has written it. Raises NotShared where it hasn't, in this place."""
    for _ in range(SHARING_SECONDS):
        try:
            return ledger.read_spec(stage_id)
        except FileNotFoundError:
            time.sleep(1)
    raise NotShared(
        f"{ledger.uri} on {platform.node()} isn't the driver's: stage {stage_id} isn't there. Give "
        "--storage a folder that all machines share (NFS), or s3:// or gs://"
    )


class DeferredTermination:
    """A context in which SIGTERM, a spot machine's notice, waits until the run can break off.

    Outside of it, and after ``terminate``, the signal has its former effect. Signals only reach the
    main thread of a process: in another thread nothing is changed.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._requested = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._request)

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._before)

    def requested(self) -> bool:
        return self._requested

    def terminate(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def _request(self, *_: object) -> None:
        self._requested = True


class Notes(logging.Handler):
    """Collects the library's warnings, for the driver to show."""

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

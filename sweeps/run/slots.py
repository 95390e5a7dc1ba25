"""What Tune tells its scheduler and not its searcher: which workers are idle, why one died."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.air.execution._internal import actor_manager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from rewind_ray.text import printable

IDLE_SECONDS = 10.0
"""After which a worker that has nothing to do ends, and its share of a device is free."""
LOW_MEMORY = "node running low on memory."
"""In the text of ``ray.exceptions.OutOfMemoryError``."""


def survive_memory_kills() -> None:
    """Make Tune take a worker that Ray kills for a node's memory as one that has died: in Ray 2.60
    it doesn't know that exception, and would end the whole sweep."""
    for module in (actor_manager, tune_controller):
        vars(module)["RayActorError"] = (RayActorError, OutOfMemoryError)


class Slots(FIFOScheduler):
    """Ends idle workers, and tells of those that Ray killed because a node's memory was full.

    Tune keeps one worker for the next stage, for as long as there may be one: a paused sweep, or
    the last stage of a long chain, would hold a second device without using it.
    """

    def __init__(
        self,
        killed_for_memory: Callable[[str, str], None],
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """killed_for_memory: called with the trial's id and Ray's words, before Tune tells the
        searcher that the trial failed."""
        super().__init__()
        survive_memory_kills()
        self._killed_for_memory = killed_for_memory
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._idle_since: float | None = None

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Called at each of Tune's steps."""
        self._end_idle(tune_controller)
        return super().choose_trial_to_run(tune_controller)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        with suppress(OSError):  # the text is on this machine, and isn't needed
            text = Path(trial.error_file or "").read_text(errors="replace")
            if said := [line for line in text.splitlines() if LOW_MEMORY in line]:
                self._killed_for_memory(trial.trial_id, printable(said[-1]))

    def _end_idle(self, controller: Any) -> None:
        if not controller._actor_cache.num_cached_objects:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self._clock()
        elif self._clock() - self._idle_since >= self._idle_seconds:
            self._idle_since = None
            for worker in controller._actor_cache.flush_cached_objects(force_all=True):
                worker.set_on_stop(None)  # no trial belongs to it
                worker.set_on_error(None)
                controller._remove_actor(tracked_actor=worker)

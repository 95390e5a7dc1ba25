"""The scheduler behind Ray Tune's Searcher interface."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from ray.tune.search import Searcher

from rewind_ray.ledger import Ledger
from rewind_ray.stage import Runtime
from sweeps.scheduler import Scheduler

log = logging.getLogger(__name__)


class GraphSearcher(Searcher):  # type: ignore[misc]
    """Suggests stages as they become ready: a trial is a stage.

    None means that all that is left waits for running stages; FINISHED, without which Tune would
    wait for ever, that nothing can become ready any more.
    """

    def __init__(
        self, scheduler: Scheduler, runtime: dict[str, Any], cpus: float, gpus: float
    ) -> None:
        super().__init__()
        self.scheduler = scheduler
        self.trials: dict[str, str] = {}
        """trial_id -> stage_id of the running ones."""
        self._settings = {"runtime": runtime, "cpus": cpus, "gpus": gpus}
        self._ledger = Ledger(Runtime(**runtime).storage)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps a copy of it, but a sweep is continued from the ledger."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        node = self.scheduler.next_ready()
        if node is None:
            return Searcher.FINISHED if self.scheduler.ended else None
        self.trials[trial_id] = node.stage_id
        self._ledger.write_spec(node.stage)
        return {
            "stage_id": node.stage_id,
            "row_epochs": sorted(node.row_epochs),
            "rewind_epochs": sorted(node.rewind_epochs),
            **self._settings,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Never raises: an exception here would turn a good trial into a failed one."""
        stage_id = self.trials.pop(trial_id)
        failure = "its trial failed" if error else (result or {}).get("failure")
        try:
            self.scheduler.finish(stage_id, failure)
        except Exception as trouble:
            log.error("after stage %s: %s", stage_id, traceback.format_exc())
            self.scheduler.finish(stage_id, f"its result can't be read: {trouble}")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the truth, and a sweep is continued from there."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""

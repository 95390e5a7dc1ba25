"""The scheduler behind Ray Tune's Searcher interface."""

from __future__ import annotations

import logging
import math
import time
import traceback
from typing import Any, Protocol

from ray.tune.search import Searcher

from rewind_ray.store.leases import Watch, release
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.failures import STORAGE
from rewind_ray.training.run import Runtime
from sweeps.plan.graph import Node
from sweeps.run.dispatcher import Scheduler

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
SAME_FAILURES = 3
"""Of a stage, one after the other and with the same text: then it isn't tried again."""


WORKER_GONE = "its worker is gone"
"""Killed, or lost with its node: it couldn't report why."""


class Source(Protocol):
    """Adds stages to the scheduler while a sweep runs."""

    ended: bool
    """It will add no more."""

    def begin(self, driver: str, slots: int) -> None:
        """The driver's token, and how many stages can run at once."""

    def settle(self) -> None:
        """Look at what has ended."""

    def more(self) -> bool:
        """Add stages, because a slot is idle. False if there is nothing to add now."""


class GraphSearcher(Searcher):  # type: ignore[misc]
    """Suggests stages as they become ready: a trial is a stage.

    None means that all that is left waits for running stages; FINISHED, without which Tune would
    wait for ever, that nothing can become ready any more, or that this run of Tune has had its
    share.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runtime: dict[str, Any],
        cpus: float,
        gpus: float,
        driver: str,
        watch: Watch,
        step_seconds: float = 1.0,
        most_cpus: float = math.inf,
        source: Source | None = None,
    ) -> None:
        """driver: the token that stages are claimed with. watch: of the other drivers.
        step_seconds: a trial trains for before it reports, at least. most_cpus: of the largest
        node."""
        super().__init__()
        self.scheduler = scheduler
        self.driver = driver
        self.finished_elsewhere: list[Node] = []
        """To be taken out by whoever shows them."""
        self.crowded_out: set[str] = set()
        """Stages that ran out of memory once."""
        self.failures: dict[str, str] = {}
        """What the last try of a stage broke off with, as its worker reported it."""
        self.storage_failure: str | None = None
        """Why no stage can go on, if so."""
        self._same_failures: dict[str, int] = {}
        self._held: Node | None = None
        """A ready stage that was taken and not yet suggested."""
        self._watch = watch
        self._most_cpus = most_cpus
        self._source = source
        self._looked = time.monotonic()
        self.trials: dict[str, str] = {}
        """trial_id -> stage_id of the running ones."""
        self.left = math.inf
        """Stages that may still be handed out in this run of Tune."""
        self._settings = {
            "runtime": runtime,
            "cpus": cpus,
            "gpus": gpus,
            "step_seconds": step_seconds,
        }
        self._ledger = Ledger(Runtime(**runtime).storage)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps a copy of it, but a sweep is continued from the ledger."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        self.look_elsewhere()
        if not self.left or self.storage_failure:
            return Searcher.FINISHED
        node, self._held = self._held or self._next_node(), None
        if node is None:
            return Searcher.FINISHED if self.ended else None
        self.left -= 1
        self.trials[trial_id] = node.stage_id
        try:
            self._ledger.write_spec(node.stage)
        except OSError as error:  # the worker meets it too, and reports it
            log.warning("can't write the description of stage %s: %s", node.stage_id, error)
        return {
            "stage_id": node.stage_id,
            "row_epochs": sorted(node.row_epochs),
            "rewind_epochs": sorted(node.rewind_epochs),
            "driver": self.driver,
            "instead_of": self.scheduler.instead_of.get(node.stage_id),
            **self._settings,
            **(self._more_room() if node.stage_id in self.crowded_out else {}),
        }

    def has_next(self) -> bool:
        """Whether a run of Tune would have anything to do."""
        self._held = self._held or self._next_node()
        return self._held is not None or not self.ended

    def note_failure(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Remember what a trial reports to have broken off with. Whether to give the stage up."""
        stage_id = self.trials.get(trial_id)
        if stage_id is None:  # it has ended
            return False
        failure = result.get("failure")
        if not failure:
            if "epoch" in result:
                self.failures.pop(stage_id, None)
                self._same_failures.pop(stage_id, None)
            return False
        same = self.failures.get(stage_id) == failure
        self._same_failures[stage_id] = 1 + (self._same_failures.get(stage_id, 0) if same else 0)
        self.failures[stage_id] = failure
        if result.get("failure_kind") == STORAGE:
            self.storage_failure = failure
        return self._same_failures[stage_id] >= SAME_FAILURES

    def take_back(self) -> None:
        """Hand out once more what was running: Ray has ended, and its workers with it."""
        for stage_id in self.trials.values():
            self.scheduler.put_back(stage_id)
        self.trials.clear()

    @property
    def wants_another_run(self) -> bool:
        """This run of Tune has had its share, and came to its end."""
        return not self.left and not self.trials and not self.ended

    @property
    def ended(self) -> bool:
        """Nothing runs, and nothing will become ready or be added any more."""
        return self.scheduler.ended and (self._source is None or self._source.ended)

    def _next_node(self) -> Node | None:
        if self._source is None:
            return self.scheduler.next_ready()
        while True:
            self._source.settle()
            node = self.scheduler.next_ready()
            if node is not None or not self._source.more():
                return node

    def _more_room(self) -> dict[str, float]:
        """Twice the share of a device, so that a trial has half as many neighbours."""
        cpus, gpus = self._settings["cpus"], self._settings["gpus"]
        if gpus:
            return {"gpus": min(1.0, 2 * gpus)}
        return {"cpus": max(cpus, min(2 * cpus, self._most_cpus))}

    def look_elsewhere(self) -> None:
        """Now and then: what have other drivers finished, given up or died with?"""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            self.finished_elsewhere += self.scheduler.look_elsewhere(self._watch)
        except OSError as trouble:
            log.warning("can't see what other sweeps have done: %s", trouble)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Never raises: an exception here would turn a good trial into a failed one."""
        stage_id = self.trials.pop(trial_id)
        owner = (result or {}).get("elsewhere")
        if owner and not error:
            self.scheduler.defer(stage_id, owner)
            return
        crowded = (result or {}).get("out_of_memory")
        if crowded and not error and stage_id not in self.crowded_out:
            self.crowded_out.add(stage_id)
            self.scheduler.put_back(stage_id)
            return
        failure = (result or {}).get("failure")
        if crowded:
            failure = f"out of memory, with fewer neighbours too: {crowded}"
        if error:
            failure = self.failures.get(stage_id, WORKER_GONE)
        try:
            if error or failure:  # its worker may not have been able to
                release(self._ledger, stage_id, self.driver)
        except OSError as trouble:
            log.warning("can't give stage %s back: %s", stage_id, trouble)
        try:
            self.scheduler.finish(stage_id, failure)
        except Exception as trouble:
            log.error("after stage %s: %s", stage_id, traceback.format_exc())
            self.scheduler.finish(stage_id, f"its result can't be read: {trouble}")

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the truth, and a sweep is continued from there."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""

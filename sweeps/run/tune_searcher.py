"""The dispatcher behind Ray Tune's Searcher interface: suggests ready stages as trials."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from ray.tune.search import Searcher

from rewind_ray.store.control import Control, read_control
from rewind_ray.store.leases import Watch, release
from rewind_ray.store.ledger import DamagedRecord, Ledger
from rewind_ray.store.partial import progress_of
from rewind_ray.training.failures import PASSING, STORAGE
from rewind_ray.training.run import Runtime
from sweeps.plan.graph import Node
from sweeps.run.dispatcher import Dispatcher, State

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
IDLE_SECONDS = 10.0
"""After which a run of Tune ends in which nothing can begin, such as that of a paused sweep."""
SAME_FAILURES = 3
"""Number of times in a row that a stage may fail with the same text before it is given up."""


MAX_FAILURES = 8
"""Tries of a stage in a row, after the first, that get no further than any before; generous,
because a lost node counts as a failure."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""Before the next try of a stage; doubled with each try in a row."""
NODE_FAILURES = 2
"""Failed checks of a node's device after which it gets no more stages."""
SILENT_NODES_IN_A_ROW = 10
"""Nodes on which no worker has started, without a trial that started between them, after which a
sweep ends: an autoscaler would go on for ever, and each is paid."""
WORKER_GONE = "its worker is gone"
"""Killed, or lost with its node: it couldn't report why."""


class StageSource(Protocol):
    """Adds stages to the dispatcher while a sweep runs, as a search does."""

    ended: bool
    """Whether it will add no more."""

    def begin(self, driver: str, slots: int) -> None:
        """Called first, with the driver's token and the number of stages that run at once."""

    def settle(self) -> None:
        """Take in the results of stages that have ended."""

    def more(self) -> bool:
        """Add stages for an idle slot; False if there is nothing to add now."""


class TuneSearcher(Searcher):
    """Suggests stages as they become ready: one trial for each.

    ``suggest`` returns None while all remaining stages wait for running ones, and FINISHED, without
    which Tune would wait for ever, once nothing can become ready any more, this run of Tune has had
    its number of stages, or nothing could begin for a while.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        runtime: dict[str, Any],
        cpus: float,
        gpus: float,
        driver: str,
        watch: Watch,
        sweep: str,
        at_once: int,
        step_seconds: float = 1.0,
        most_cpus: float = math.inf,
        source: StageSource | None = None,
        max_failures: int = MAX_FAILURES,
        set_aside: Callable[[str, str], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """driver: the token that stages are claimed with. watch: on the other drivers. sweep: its
        name, under which it is asked to pause. at_once: most stages to run at once.
        step_seconds: least time between two reports of a trial. most_cpus: of the largest node.
        max_failures: see MAX_FAILURES. set_aside: gives a node, for a reason, no more stages;
        whether it could. None: there is only this machine."""
        super().__init__()
        self.dispatcher = dispatcher
        self.driver = driver
        self.finished_elsewhere: list[Node] = []
        """Stages to show as finished; whoever shows one removes it."""
        self.out_of_memory: set[str] = set()
        """Stages that ran out of memory once."""
        self.low_memory: set[str] = set()
        """Stages whose worker Ray killed, because its node's memory was full."""
        self.failures: dict[str, str] = {}
        """Stage -> the failure of its last try, as its worker reported it."""
        self.storage_failure: str | None = None
        """Why the storage can't be used, if so."""
        self.limit: str | None = None
        """Why no stage begins any more, though some are left, if so."""
        self.control = Control()
        """What the sweep is asked for from elsewhere, see ``store.control``."""
        self._sweep, self._at_once = sweep, at_once
        self._damaged_control: str | None = None
        self._leaving: set[str] = set()
        """Trials that end after their epoch, because fewer stages are to run at once."""
        self.started: set[str] = set()
        """Trials whose worker has started."""
        self._same_failures: dict[str, int] = {}
        self.max_failures = max_failures
        self.lost: Counter[str] = Counter()
        """Stage -> number of its tries in a row that failed without getting any further."""
        self._reached: dict[str, tuple[int, int]] = {}
        """Stage -> how far its last failed try got; see ``progress_of``."""
        self.later: dict[str, float] = {}
        """Stage to be tried again -> when."""
        self.settled: list[Node] = []
        """Stages that were to be tried again and turned out to be done; whoever shows one removes
        it."""
        self.notes: list[str] = []
        """To be shown; whoever shows one removes it."""
        self._set_aside = set_aside
        self._node_failures: Counter[str] = Counter()
        self._broken_nodes: dict[str, tuple[str, str]] = {}
        """Trial that is about to end with an error -> its node, which failed its check, and why."""
        self._never_started: list[str] = []
        """Why, for each trial that is about to end with an error because its worker never started;
        nobody says which trials these are."""
        self._silent_nodes: set[str] = set()
        """Nodes on which workers never started, and which therefore get no more stages."""
        self._silent_in_a_row = 0
        self._clock = clock
        self._held: Node | None = None
        """A stage taken from the dispatcher and not yet suggested."""
        self._watch = watch
        self._most_cpus = most_cpus
        self._source = source
        self._looked = -math.inf
        self.trials: dict[str, str] = {}
        """trial_id -> stage_id of running trials."""
        self.left = math.inf
        """Number of stages still to be suggested in this run of Tune."""
        self.idle = False
        """This run of Tune has ended because nothing could begin."""
        self._idle_since: float | None = None
        self._settings: dict[str, Any] = {
            "runtime": runtime,
            "cpus": cpus,
            "gpus": gpus,
            "step_seconds": step_seconds,
        }
        self._ledger = Ledger(Runtime(**runtime).storage)

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune saves it, but a sweep continues from the ledger."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        self.look_elsewhere()
        if not self.left or self.must_end():
            return Searcher.FINISHED
        node = self._next_to_begin() if len(self.trials) < self._most else None
        if node is None:
            return Searcher.FINISHED if self.ended or self._is_idle() else None
        self._held = self._idle_since = None
        self.left -= 1
        self.trials[trial_id] = node.stage_id
        try:
            self._ledger.write_spec(node.stage)
        except OSError as error:  # the worker fails at it too, and reports it
            log.warning("can't write the description of stage %s: %s", node.stage_id, error)
        return {
            "stage_id": node.stage_id,
            "row_epochs": sorted(node.row_epochs),
            "rewind_epochs": sorted(node.rewind_epochs),
            "driver": self.driver,
            "instead_of": self.dispatcher.instead_of.get(node.stage_id),
            **self._settings,
            **self._more_room(node.stage_id),
        }

    def must_end(self) -> bool:
        """Whether the sweep ends, whatever is left."""
        return self.storage_failure is not None or self.limit is not None

    def begin_run(self, stages: int) -> None:
        """Tune is about to be run, for so many stages at most."""
        self.left = stages
        self.idle, self._idle_since = False, None

    def can_begin(self) -> bool:
        """Whether a run of Tune would have a stage to begin with."""
        self.look_elsewhere()
        return self._most > 0 and self._next_to_begin() is not None

    def note_start(self, trial_id: str) -> None:
        """The worker of a trial has started."""
        self.started.add(trial_id)
        self._silent_in_a_row = 0

    def note_failure(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record the failure that a trial reports; True if its stage is to be given up."""
        stage_id = self.trials.get(trial_id)
        if stage_id is None:  # the trial has ended
            return False
        if broken := result.get("node_failure"):
            self._broken_nodes[trial_id] = (str(result.get("node")), broken)
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

    def note_low_memory(self, trial_id: str, why: str) -> None:
        """Ray has killed the worker of a trial, because its node had no memory left."""
        if (stage_id := self.trials.get(trial_id)) is not None:
            self.low_memory.add(stage_id)
            self.failures[stage_id] = why

    def is_surplus(self, trial_id: str) -> bool:
        """Whether a trial is to end after its epoch, because too many run."""
        if len(self.trials) - len(self._leaving) > self._most:
            self._leaving.add(trial_id)
        return trial_id in self._leaving

    def take_back(self) -> None:
        """Return all running stages to the dispatcher, after Ray has ended with its workers."""
        for stage_id in (*self.trials.values(), *self.later):
            self.dispatcher.put_back(stage_id)
        self.trials.clear()
        self.later.clear()
        self.started.clear()
        self._leaving.clear()
        self._broken_nodes.clear()
        self._never_started.clear()

    @property
    def wants_another_run(self) -> bool:
        """Whether this run of Tune has ended with its number of stages, or because none could
        begin, and more are left."""
        return (not self.left or self.idle) and not self.trials and not self.ended

    @property
    def ended(self) -> bool:
        """Whether nothing runs and nothing will become ready or be added any more."""
        return self.dispatcher.ended and (self._source is None or self._source.ended)

    @property
    def _most(self) -> int:
        """Stages to run at once."""
        return self.control.most(self._at_once)

    def _next_to_begin(self) -> Node | None:
        """None while nothing is ready."""
        self._put_back_due()
        self._held = self._held or self._next_node()
        return self._held

    def _is_idle(self) -> bool:
        """Whether nothing has run, and nothing could begin, for a while. The run of Tune then ends,
        as it would keep a worker with its share of a device, and not notice Ctrl-C."""
        if self.trials:
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = self._clock()
        self.idle = self._clock() - self._idle_since >= IDLE_SECONDS
        return self.idle

    def _put_back_due(self) -> None:
        for stage_id in [one for one, due in self.later.items() if due <= self._clock()]:
            del self.later[stage_id]
            self.dispatcher.put_back(stage_id)
            if self.dispatcher.states[stage_id] != State.READY:
                self.settled.append(self.dispatcher.graph[stage_id])

    def _try_later(self, stage_id: str, tries: int) -> None:
        """tries: how often it, or what it ran on, has failed in a row."""
        pause = FIRST_PAUSE_SECONDS * 2.0 ** (tries - 1)
        self.later[stage_id] = self._clock() + min(pause, LONGEST_PAUSE_SECONDS)

    def _count_failure(self, stage_id: str) -> bool:
        """Whether to try again; a try that got further than all before begins a new count."""
        self.lost[stage_id] += 1
        try:
            reached = progress_of(self._ledger, stage_id)
        except OSError as trouble:
            log.warning("can't see how far stage %s is: %s", stage_id, trouble)
        else:
            if reached > self._reached.get(stage_id, (-1, 0)):
                self.lost[stage_id] = 1
                self._reached[stage_id] = reached
        return self.lost[stage_id] <= self.max_failures

    def _node_failed(self, stage_id: str, node: str, why: str) -> None:
        """The node failed its check before it took the stage, which is no failure of the stage."""
        self.failures[stage_id] = why
        self._node_failures[node] += 1
        self._try_later(stage_id, self._node_failures[node])
        if self._node_failures[node] == NODE_FAILURES:
            self._put_aside(node, why)

    def give_up_on(self, node: str, why: str) -> None:
        """The worker of a trial never starts on the node; whoever calls this then ends the worker,
        and Tune the trial, which is no failure of its stage."""
        self._never_started.append(why)
        if node in self._silent_nodes:
            return
        self._silent_nodes.add(node)
        self._silent_in_a_row += 1
        self._put_aside(node, why)
        if self._silent_in_a_row >= SILENT_NODES_IN_A_ROW:
            self.limit = f"{why}, like {SILENT_NODES_IN_A_ROW - 1} machines before it"

    def _put_aside(self, node: str, why: str) -> None:
        alone = self._set_aside is None or not self._set_aside(node, why)
        if alone:
            self.limit = f"this machine can't train: {why}"
        else:
            self.notes.append(f"{why}; this machine gets no more stages")

    def _next_node(self) -> Node | None:
        if self._source is None:
            return self.dispatcher.next_ready()
        while True:
            self._source.settle()
            node = self.dispatcher.next_ready()
            if node is not None or not self._source.more():
                return node

    def _more_room(self, stage_id: str) -> dict[str, float]:
        """Twice the share of what it had too little of, so that half as many run beside it."""
        cpus, gpus = self._settings["cpus"], self._settings["gpus"]
        of_device, of_node = stage_id in self.out_of_memory, stage_id in self.low_memory
        room = {}
        if gpus and of_device:
            room["gpus"] = min(1.0, 2 * gpus)
        if of_node or (of_device and not gpus):
            room["cpus"] = max(cpus, min(2 * cpus, self._most_cpus))
        return room

    def look_elsewhere(self) -> None:
        """Every LOOK_SECONDS take in what other drivers have finished or given up."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._take_in()
        self._look_at_control()

    def _take_in(self, only: str | None = None) -> None:
        """What other drivers have finished or given up. only: the one stage to look at."""
        try:
            for node in self.dispatcher.look_elsewhere(self._watch, only):
                self.finished_elsewhere.append(node)
        except OSError as trouble:
            log.warning("can't read the results of other sweeps: %s", trouble)

    def _look_at_control(self) -> None:
        """What is damaged is as if it weren't there, and said once."""
        try:
            control, damaged = read_control(self._ledger, self._sweep), None
        except OSError as trouble:
            log.warning("can't read what the sweep is asked for: %s", trouble)
            return
        except DamagedRecord as error:
            control, damaged = self.control, str(error)
        if damaged and damaged != self._damaged_control:
            self.notes.append(f"{damaged}; rewind-ray control writes it anew")
        self._damaged_control = damaged
        if control != self.control:
            asked = control.describe() or "as its command says"
            self.notes.append(f"asked by rewind-ray control: {asked}")
            self.control = control

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Never raises: an exception here would turn a good trial into a failed one."""
        stage_id = self.trials.pop(trial_id)
        had_started = trial_id in self.started
        self.started.discard(trial_id)
        leaving = trial_id in self._leaving
        self._leaving.discard(trial_id)
        broken_node = self._broken_nodes.pop(trial_id, None)
        owner = (result or {}).get("elsewhere")
        if owner == self.driver and not error:  # another worker of ours has claimed it since
            self._try_later(stage_id, 1)
            return
        if owner and not error:
            self.dispatcher.defer(stage_id, owner)
            self._take_in(stage_id)  # the owner may have ended
            return
        details = (result or {}).get("out_of_memory")
        if details and not error and stage_id not in self.out_of_memory:
            self.out_of_memory.add(stage_id)
            self.dispatcher.put_back(stage_id)
            return
        if error and broken_node is not None:
            self._node_failed(stage_id, *broken_node)
            return
        if error and not had_started and self._never_started:
            self.failures[stage_id] = self._never_started.pop(0)
            self._try_later(stage_id, 1)
            return
        failure = (result or {}).get("failure")
        if details:
            failure = f"out of memory, also with fewer stages beside it: {details}"
        if error:
            failure = self.failures.get(stage_id, WORKER_GONE)
        passing = (result or {}).get("failure_kind") == PASSING
        again = error and self._count_failure(stage_id)
        try:
            if error or failure or leaving:  # its worker may not have released it
                release(self._ledger, stage_id, self.driver)
        except OSError as trouble:
            log.warning("can't release stage %s: %s", stage_id, trouble)
        try:
            if again:
                self._try_later(stage_id, self.lost[stage_id])
            elif (self.limit or leaving) and (passing or not failure):
                self.dispatcher.put_back(stage_id)
            else:
                self.dispatcher.finish(stage_id, failure)
        except Exception as trouble:
            log.error("after stage %s: %s", stage_id, traceback.format_exc())
            self.dispatcher.finish(stage_id, f"its result can't be read: {trouble}")

    def save(self, checkpoint_path: str) -> None:
        """No-op: a sweep continues from the ledger."""

    def restore(self, checkpoint_path: str) -> None:
        """No-op; see ``save``."""

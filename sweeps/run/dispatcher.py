"""Hands out stages as they become ready. No Ray."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from enum import StrEnum

from rewind_ray.result import ResultRow
from rewind_ray.spec import Stage
from rewind_ray.store.leases import Watch, owner_of
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Job
from rewind_ray.training.stage import missing_epochs
from sweeps.plan.graph import Graph, Node, add, longest_first


class State(StrEnum):
    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    ELSEWHERE = "elsewhere"
    """Trained by another sweep."""
    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    BLOCKED = "blocked"
    STOPPED = "not needed"


ENDED = (State.DONE, State.DIVERGED, State.FAILED, State.BLOCKED, State.STOPPED)
MOST_UNREADABLE = 3
"""Times in a row that a row which can't be read is made again: a disk may damage one, and a worker
with other code than the driver's writes none that it can read."""
UNREADABLE = "its row is made and can't be read; do driver and workers have the same code?"


class Dispatcher:
    """Keeps the state of every stage, and hands out those that are ready.

    A stage is ready when the rows of its parent and of its dense network trained to the end are in
    the ledger; the latter's accuracy is in all rows of the chain. Handing one out takes O(log n).
    """

    def __init__(
        self,
        graph: Graph,
        ledger: Ledger,
        stop: Callable[[Stage, ResultRow], bool] | None = None,
    ) -> None:
        """stop: whether a chain ends with a row, so that its descendants aren't needed."""
        self.graph = graph
        self.ledger = ledger
        self._stop = stop
        self.states = dict.fromkeys(graph, State.WAITING)
        self.counts = dict.fromkeys(State, 0) | {State.WAITING: len(graph)}
        self.reasons: dict[str, str] = {}
        """Why a stage failed or is blocked."""
        self.instead_of: dict[str, str] = {}
        """Ready stage -> the dead driver that had it."""
        self.grown = 0
        """Number of times that stages were added."""
        self._unreadable: Counter[str] = Counter()
        """Stage -> how often in a row a row of it couldn't be read."""
        self._jobs: dict[str, Job] = {}
        """Jobs of stages as they were handed out."""
        self._owners: dict[str, str] = {}
        """Stage trained elsewhere -> the driver that has it."""
        self._priorities = longest_first(graph)
        self._ready: list[tuple[int, int, str]] = []
        self._positions = {stage_id: position for position, stage_id in enumerate(graph)}
        self._find_finished()

    def _find_finished(self) -> None:
        """Find what is done already, with a few requests for all stages together."""
        live, self.ledger = self.ledger, self.ledger.listed(self.graph)
        there = [
            (stage_id, epoch)
            for stage_id, node in self.graph.items()
            for epoch in node.row_epochs.intersection(self.ledger.row_epochs(stage_id))
        ]
        self._rows = self.ledger.sound_rows(there)
        for stage_id, epoch in there:
            if (stage_id, epoch) not in self._rows:
                self._drop_rows(stage_id, [epoch])
        for node in self.graph.values():
            if node.parent_id is None:
                self._unlock(node)
        self.ledger = live
        self._rows.clear()

    @property
    def ended(self) -> bool:
        """Whether nothing runs and nothing can become ready any more."""
        return sum(self.counts[state] for state in ENDED) == len(self.graph)

    def extend(self, chain: list[Stage]) -> None:
        """Add a chain of stages, from the baseline on.

        A stage that was added before with another length is trained further; one that wasn't needed
        because its chain ended is needed again.
        """
        self.grown += 1
        behind = 0
        for stage in reversed(chain):
            behind += stage.train_epochs
            before = self._priorities.get(stage.stage_id, 0)
            self._priorities[stage.stage_id] = max(before, behind)
        for stage in chain:
            if stage.stage_id not in self.graph:
                self.counts[State.WAITING] += 1
                self.states[stage.stage_id] = State.WAITING
                self._positions[stage.stage_id] = len(self.graph)
            elif self.states[stage.stage_id] == State.STOPPED:
                self._set(stage.stage_id, State.WAITING)
                del self.reasons[stage.stage_id]
            add(stage, self.graph)
        for stage in chain:
            node = self.graph[stage.stage_id]
            if self.states[stage.stage_id] in (State.DONE, State.DIVERGED):
                self._unlock(node)  # another length may be wanted of it
            elif self.states[stage.stage_id] == State.WAITING:
                self._place(node)

    def _place(self, node: Node) -> None:
        """Set the state of a stage that has just been added: ready, waiting or blocked."""
        if node.parent_id is None:
            self._unlock(node)
            return
        assert node.stage.parent is not None
        parent, epochs = self.graph[node.parent_id], node.stage.parent.train_epochs
        if self.states[parent.stage_id] in (State.FAILED, State.BLOCKED, State.STOPPED):
            why = self.reasons[parent.stage_id]
            stopped = self.states[parent.stage_id] == State.STOPPED
            self._block(node, why, State.STOPPED if stopped else State.BLOCKED)
        elif self.ledger.has_row(parent.stage_id, epochs) and self._has_dense_row(node.stage):
            row = self.ledger.sound_row(parent.stage_id, epochs)
            if row is not None:  # else its parent is about to be handed out again
                self._release(node, row)

    def _has_dense_row(self, stage: Stage) -> bool:
        return self.ledger.has_row(stage.baseline.stage_id, stage.protocol.dense_epochs)

    def next_ready(self) -> Node | None:
        """The ready stage with the longest chain behind it, now running; None if none is ready."""
        while self._ready:
            _, _, stage_id = heapq.heappop(self._ready)
            if self.states[stage_id] == State.READY:
                self._set(stage_id, State.RUNNING)
                self._jobs[stage_id] = self.graph[stage_id].job
                return self.graph[stage_id]
        return None

    def finish(self, stage_id: str, error: str | None = None) -> None:
        """A running stage has ended; the ledger has its results."""
        node = self.graph[stage_id]
        missing = [] if error else missing_epochs(self.ledger, self._jobs[stage_id])
        if error or missing:
            self._fail(node, error or f"ended without epochs {missing}")
        else:
            self._unlock(node)

    def put_back(self, stage_id: str) -> None:
        """Hand a running stage out again."""
        self._unlock(self.graph[stage_id])

    def defer(self, stage_id: str, owner: str) -> None:
        """Wait for the row of a running stage that turned out to be another driver's."""
        self._owners[stage_id] = owner
        self._set(stage_id, State.ELSEWHERE)

    def look_elsewhere(self, watch: Watch, only: str | None = None) -> Iterator[Node]:
        """Yields stages that other drivers have finished; those that they gave up become ready.

        only: the one stage to look at. Raises OSError where that fails; next time that stage comes
        last, so that it holds up no other.
        """
        for stage_id in list(self._owners) if only is None else [only]:
            owner = self._owners.pop(stage_id)
            node = self.graph[stage_id]
            try:
                finished = not missing_epochs(self.ledger, node.job)
                if not (finished or self._is_given_up(stage_id, owner, watch)):
                    self._owners[stage_id] = owner
                    continue
                self._unlock(node)
            except OSError:
                self._owners[stage_id] = owner
                raise
            if finished:
                yield node
            else:
                self.instead_of[stage_id] = owner

    def _is_given_up(self, stage_id: str, owner: str, watch: Watch) -> bool:
        return owner_of(self.ledger, stage_id) != owner or watch.is_dead(owner)

    def _drop_rows(self, stage_id: str, epochs: Iterable[int]) -> str | None:
        """Delete damaged rows, which are then made again. Why one can't be, else None."""
        try:
            for epoch in epochs:
                self.ledger.drop_row(stage_id, epoch)
        except OSError as error:
            return f"a damaged row can't be deleted, remove it: {error}"
        return None

    def _rows_of(self, node: Node) -> dict[int, ResultRow]:
        """Length -> row, of those that aren't damaged."""
        rows: dict[int, ResultRow] = {}
        for epoch in node.row_epochs:
            key = (node.stage_id, epoch)
            row = self._rows.get(key) or self.ledger.sound_row(*key)
            if row is not None:
                rows[epoch] = row
        return rows

    def _settle(self, node: Node, rows: dict[int, ResultRow]) -> None:
        """The stage is complete in the ledger: set its state and release its children."""
        stage_id = node.stage_id
        self._complete(node.stage, rows.values())
        diverged = {epoch for epoch, row in rows.items() if row.status == "diverged"}
        self._set(stage_id, State.DIVERGED if diverged else State.DONE)
        if diverged:
            self.reasons[stage_id] = "its loss became NaN or infinite"
        for child_id in node.children:
            child = self.graph[child_id]
            assert child.stage.parent is not None
            if self.states[child_id] == State.WAITING:
                self._release(child, rows[child.stage.parent.train_epochs])

    def _complete(self, stage: Stage, rows: Iterable[ResultRow]) -> None:
        """Write the dense network's accuracy into rows that were made before it was known.

        These are rows of the dense network at shorter lengths, and of pruned ones that were trained
        without a sweep.
        """
        without = [row for row in rows if row.baseline_test_accuracy is None]
        if not without or not self._has_dense_row(stage):
            return
        dense = self.ledger.sound_row(stage.baseline.stage_id, stage.protocol.dense_epochs)
        if dense is None or dense.test_accuracy is None:
            return
        for row in without:
            self.ledger.write_row(replace(row, baseline_test_accuracy=dense.test_accuracy))

    def _release(self, child: Node, row: ResultRow) -> None:
        """The row of a waiting stage's parent is there: make it ready, or block it."""
        parent = child.stage.parent
        assert parent is not None
        if row.status == "diverged":
            self._block(child, f"its ancestor {parent.stage_id} diverged")
        elif self._stop and self._stop(parent, row):
            self._block(child, f"the chain ended with {parent.stage_id}", State.STOPPED)
        else:
            self._unlock(child)

    def _unlock(self, node: Node) -> None:
        """Make the stage ready if anything of it is missing, else settle it."""
        if not missing_epochs(self.ledger, node.job):
            rows = self._rows_of(node)
            damaged = node.row_epochs - rows.keys()
            if not damaged:
                del self._unreadable[node.stage_id]
                self._settle(node, rows)
                return
            if error := self._drop_rows(node.stage_id, damaged):
                self._fail(node, error)
                return
            self._unreadable[node.stage_id] += 1
            if self._unreadable[node.stage_id] > MOST_UNREADABLE:
                self._fail(node, UNREADABLE)
                return
        self._set(node.stage_id, State.READY)
        rank = (-self._priorities[node.stage_id], self._positions[node.stage_id])
        heapq.heappush(self._ready, (*rank, node.stage_id))

    def _fail(self, node: Node, reason: str) -> None:
        self.reasons[node.stage_id] = reason
        self._set(node.stage_id, State.FAILED)
        self._block_descendants(node, f"its ancestor {node.stage_id} failed")

    def _block(self, node: Node, reason: str, state: State = State.BLOCKED) -> None:
        self.reasons[node.stage_id] = reason
        self._set(node.stage_id, state)
        self._block_descendants(node, reason, state)

    def _block_descendants(self, node: Node, reason: str, state: State = State.BLOCKED) -> None:
        for child_id in node.children:
            self._block(self.graph[child_id], reason, state)

    def _set(self, stage_id: str, state: State) -> None:
        self.counts[self.states[stage_id]] -= 1
        self.counts[state] += 1
        self.states[stage_id] = state

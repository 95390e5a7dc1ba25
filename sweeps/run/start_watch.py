"""Notices machines on which workers never start.

Ray starts such a worker anew each minute, and keeps its room on the machine without end. A trial
that waits for room isn't meant: Tune asks for its worker only once it has the room, a placement
group.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray.core.generated.gcs_pb2 import ActorTableData  # type: ignore[attr-defined]

LOOK_SECONDS = 10.0
START_SECONDS = 300.0
"""Within which a worker has to start, where its environment has to be installed first, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Starting:
    """A worker that has its room on a node, and hasn't started there."""

    actor: str
    """Ray's ids."""
    node: str


class StartWatch:
    """Counts for how long workers have been starting.

    In looks and not by a clock: while the driver was frozen, or the laptop asleep, no worker was
    seen that didn't start.
    """

    def __init__(
        self,
        ask: Callable[[], Iterable[Starting]],
        start_seconds: float = START_SECONDS,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """ask: for the workers that are starting now; it may raise where Ray doesn't answer."""
        self.start_seconds = start_seconds
        self._ask = ask
        self._look_seconds = look_seconds
        self._clock = clock
        self._next = clock()
        self._looks: dict[Starting, int] = {}
        """Worker -> looks in a row that have found it starting on this node."""

    def overdue(self) -> list[Starting]:
        """Workers that haven't started in time; none between two looks."""
        if self._clock() < self._next:
            return []
        self._next = self._clock() + self._look_seconds
        try:
            self._looks = {one: self._looks.get(one, 0) + 1 for one in self._ask()}
        except Exception:  # no answer; RayWatch finds out whether Ray has ended
            return []
        enough = 1 + self.start_seconds / self._look_seconds
        return [one for one, looks in self._looks.items() if looks >= enough]


def starting_workers() -> list[Starting]:
    """Those of this driver's trials."""
    state: Any = ray._private.state.state
    job = ray._private.worker.global_worker.current_job_id
    found = []
    for packed in state._connect_and_get_accessor().get_actor_table(job, "PENDING_CREATION"):
        actor = ActorTableData.FromString(packed)
        if not actor.placement_group_id:  # not Tune's
            continue
        group = state.placement_group_table(ray.PlacementGroupID(actor.placement_group_id))
        if group.get("state") == "CREATED":  # else its node is gone
            (node,) = group["bundles_to_node_id"].values()
            found.append(Starting(actor=actor.actor_id.hex(), node=node))
    return found


def end_worker(actor: str) -> None:
    """Make Ray give up on it; Tune then ends its trial with an error."""
    worker: Any = ray._private.worker.global_worker
    worker.core_worker.kill_actor(ray.ActorID(bytes.fromhex(actor)), True)


def machine_of(node: str) -> str:
    """The host name of a node; its id where Ray doesn't know it."""
    names = {one["NodeID"]: one["NodeManagerHostname"] for one in ray.nodes()}
    return str(names.get(node, node))

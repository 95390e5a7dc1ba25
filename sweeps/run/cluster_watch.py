"""What Ray's autoscaler says of a cluster while a sweep runs: what starts, what is refused, what no
machine can hold, and what it costs."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import (  # type: ignore[attr-defined]
    GetClusterStatusReply,
    NodeState,
    NodeStatus,
)

from rewind_ray.errors import UserError
from rewind_ray.text import printable
from sweeps.run.capacity import PRICE, price_in

LOOK_SECONDS = 5.0
ANSWER_SECONDS = 10.0
SETUPS_IN_A_ROW = 10
"""Machines that were started and never joined, without one between them that did, after which a
sweep ends: Ray's autoscaler would go on for ever, and each is paid."""
LOG_BYTES = 2**16
"""Looked through, at the end of the autoscaler's log."""
LAUNCH_ERROR = re.compile(r"Failed to launch \d+ nodes of type (\S+): (.{1,300})")
REFUSED_SECONDS = 300.0
"""How long a refusal is shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterState:
    """At one moment."""

    prices: Mapping[str, float | None] = field(default_factory=dict)
    """Node that is alive -> dollars an hour; None: its machine type has no price."""
    nodes: frozenset[str] = frozenset()
    """Those that are, and as far as Ray remembers them those that were."""
    in_setup: Mapping[str, str] = field(default_factory=dict)
    """Machine that has started and isn't a node yet -> its type."""
    starting: Mapping[str, int] = field(default_factory=dict)
    """Machine type -> machines that were asked for, or are being set up."""
    refused: tuple[str, ...] = ()
    """Machine types that a launch of has failed in the last minutes."""
    impossible: tuple[str, ...] = ()
    """What is asked for and no machine type can hold."""

    def describe(self) -> str:
        """Empty where there is nothing to wait for."""
        parts = [f"{count} {name} starting" for name, count in self.starting.items()]
        parts += [f"{name} refused" for name in self.refused]
        parts += [f"no machine can hold {wanted}" for wanted in self.impossible]
        return ", ".join(parts)


def state_of(reply: GetClusterStatusReply) -> ClusterState:
    """Refusals of the last minutes only: Ray keeps them for good."""
    scaling, nodes = reply.autoscaling_state, reply.cluster_resource_state.node_states
    starting: Counter[str] = Counter()
    for request in scaling.pending_instance_requests:
        starting[request.ray_node_type_name] += request.count
    starting.update(machine.ray_node_type_name for machine in scaling.pending_instances)
    groups = [group.requests for group in scaling.infeasible_gang_resource_requests]
    alive = [node for node in nodes if is_alive(node)]
    impossible = {
        " and ".join(f"{amount:g} {name}" for name, amount in sorted(one.resources_bundle.items()))
        for requests in [*groups, scaling.infeasible_resource_requests]
        for one in requests
        # Ray calls infeasible also what only has to wait, once no more machines may start
        if not any(fits(one.resources_bundle, node.total_resources) for node in alive)
    }
    return ClusterState(
        prices={node.node_id.hex(): price_in(node.labels) for node in alive},
        nodes=frozenset(node.node_id.hex() for node in nodes),
        in_setup={one.instance_id: one.ray_node_type_name for one in scaling.pending_instances},
        starting=dict(starting),
        refused=tuple(
            dict.fromkeys(
                request.ray_node_type_name
                for request in scaling.failed_instance_requests
                if request.failed_ts > time.time() - REFUSED_SECONDS
            )
        ),
        impossible=tuple(sorted(impossible)),
    )


def last_launch_error(log: Path) -> str:
    """Of the autoscaler's log, on the head: its state names no reasons. Empty: none is there."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            found = LAUNCH_ERROR.findall(file.read().decode(errors="replace"))
    except OSError:
        return ""
    return printable(": ".join(found[-1])) if found else ""


def fits(wanted: Mapping[str, float], machine: Mapping[str, float]) -> bool:
    return all(machine.get(name, 0.0) >= amount for name, amount in wanted.items())


def is_alive(node: NodeState) -> bool:
    return node.status in (NodeStatus.RUNNING, NodeStatus.IDLE, NodeStatus.DRAINING)


def asks(gcs_address: str) -> Callable[[], ClusterState]:
    """A function that asks the cluster's control service."""
    client = GcsClient(address=gcs_address)

    def ask() -> ClusterState:
        reply = GetClusterStatusReply()
        reply.ParseFromString(client.get_cluster_status(timeout_s=ANSWER_SECONDS))
        return state_of(reply)

    return ask


class ClusterWatch:
    """A context in which a thread follows the cluster."""

    def __init__(
        self,
        ask: Callable[[], ClusterState] | None,
        log: Path | None = None,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        type_prices: Mapping[str, float | None] | None = None,
    ) -> None:
        """ask: None where there is no cluster, of which nothing is then known. log: the
        autoscaler's, if it runs here. type_prices: dollars an hour of machines that are no nodes
        yet, by their type."""
        self.state = ClusterState()
        self.dollars = 0.0
        """Cost so far of all machines with a price, whoever uses them, from their start on."""
        self.setups_lost = 0
        """Machines in a row that were started and never joined."""
        self._ask = ask
        self._log = log
        self._look_seconds = look_seconds
        self._clock = clock
        self._type_prices = type_prices or {}
        self._looked = clock()
        self._ever_in_setup: set[str] = set()
        self._joined: set[str] = set()
        self._lost_before = 0
        self._over = threading.Event()

    def __enter__(self) -> ClusterWatch:
        if self._ask is not None:
            threading.Thread(target=self._follow, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def describe(self) -> str:
        """Empty where there is nothing to say."""
        return ", ".join(filter(None, [self.waits_for(), f"${self.dollars:.2f}" * self.priced]))

    def waits_for(self) -> str:
        """Empty where there is nothing to wait for."""
        text = self.state.describe()
        error = last_launch_error(self._log) if self.state.refused and self._log else ""
        return f"{text} ({error})" if error else text

    @property
    def priced(self) -> bool:
        """Whether a machine has a price."""
        return any(price is not None for price in self.state.prices.values())

    def says(self) -> dict[str, Any]:
        """For ``rewind-ray status``; see ``ClusterNote``."""
        return {
            "machines": len(self.state.prices),
            "waits_for": self.waits_for(),
            "dollars": self.dollars if self.priced else None,
        }

    def look(self) -> None:
        """Ask now. Raises RuntimeError where nobody answers."""
        if self._ask is not None:
            self.take_in(self._ask())

    def _follow(self) -> None:
        while not self._over.is_set():
            with suppress(Exception):  # no answer; RayWatch finds out whether Ray has ended
                self.look()
            self._over.wait(self._look_seconds)

    def take_in(self, state: ClusterState) -> None:
        """Account for the time since the last state, at the prices of that one."""
        now = self._clock()
        hours = (now - self._looked) / 3600
        starting = map(self._type_prices.get, self.state.in_setup.values())
        self.dollars += hours * sum(filter(None, [*self.state.prices.values(), *starting]))
        self._looked = now
        self._ever_in_setup |= state.in_setup.keys()
        gone = len(self._ever_in_setup - state.in_setup.keys())
        if state.nodes - self._joined:
            # the one that joined is among those that are gone, and those before it are forgiven
            self._joined |= state.nodes
            self._lost_before = gone
        self.setups_lost = gone - self._lost_before
        self.state = state


def check_prices(watch: ClusterWatch) -> None:
    """Raises UserError where no machine of the cluster has a price."""
    watch.look()
    if not watch.priced:
        raise UserError(
            f"--max-cost needs prices, and no machine of this cluster has one; give each of "
            f'available_node_types in the cluster file labels: {{{PRICE}: "0.80"}}, or leave '
            "--max-cost out"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a sweep ends before it is done."""

    watch: ClusterWatch
    hours: float | None = None
    dollars: float | None = None
    begun: float = field(default_factory=time.monotonic)

    def reached(self) -> str | None:
        """Which one, if so."""
        if self.hours is not None and time.monotonic() - self.begun >= 3600 * self.hours:
            return f"--max-hours {self.hours:g} have passed"
        if self.dollars is not None and self.watch.dollars >= self.dollars:
            return f"--max-cost {self.dollars:g}: the machines have cost ${self.watch.dollars:.2f}"
        if self.watch.setups_lost >= SETUPS_IN_A_ROW:
            return (
                f"{self.watch.setups_lost} machines in a row were started and never joined the "
                "cluster; the head's /tmp/ray/session_latest/logs/monitor* say why"
            )
        return None

"""A sweep under way: its driver, started again where it ends as it may."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.soak.damage import Damage, kind_of
from benchmarks.soak.places import Disk, Place
from benchmarks.soak.processes import WORKER, descendants, find
from tests.rewind_ray.s3_store import Store

NODES = 2
STUCK_SECONDS = 600.0
"""Without an epoch, whatever happened: then something is wrong."""
BUILDS = 3
"""Tries to start a cluster."""
RESTARTS = 60
"""Of a sweep's command, at most."""


class Stuck(Exception):
    """The sweep doesn't get on, or doesn't end."""


class OwnCluster:
    """Ray with a head that trains nothing and nodes of one core each; can be built anew."""

    def __init__(self) -> None:
        self.build()

    def build(self) -> None:
        for tries_left in reversed(range(BUILDS)):
            try:
                self._build()
                return
            except Exception:  # of Ray's, where a busy machine takes longer than it waits
                if not tries_left:
                    raise

    def _build(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.nodes: list[Any] = []
        for _ in range(NODES):
            self.add_node()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add_node(self) -> None:
        self.nodes.append(self._cluster.add_node(num_cpus=1))

    def lose_node(self) -> None:
        """All of its processes at once."""
        self._cluster.remove_node(self.nodes.pop(0), allow_graceful=False)

    def pid_of(self, node: Any, process: str) -> int:
        pid: int = node.all_processes[process][0].process.pid
        return pid

    @property
    def head(self) -> Any:
        return self._cluster.head_node

    def shut_down(self) -> None:
        self._cluster.shutdown()


@dataclass(kw_only=True)
class Running:
    """One sweep, its processes, and what has happened to it."""

    command: tuple[str, ...]
    place: Place
    cache: Disk
    """Of decoded images."""
    logs: Path
    rng: random.Random
    cluster: OwnCluster | None
    """None: each driver starts a Ray of its own."""
    store: Store | None
    """The server of the bucket, where the storage is one."""
    damage: Damage
    counts: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=dict)
    restarts: int = 0
    """Times the command was given again because it had ended with a word."""
    tracebacks: int = 0
    """Ends of a driver with a traceback: each is a defect."""
    second: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        self._log_of: dict[int, Path] = {}
        self.driver = self.start()

    def start(self, address: str = "") -> subprocess.Popen[str]:
        """A driver, with a log of its own."""
        address = address or (self.cluster.address if self.cluster else "local")
        log = self.logs / f"driver{len(list(self.logs.glob('driver*.log'))):03d}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", *self.command),
                    *("--storage", self.place.uri, "--address", address),
                ],
                cwd=self.logs,  # where figures go of a storage that isn't on a disk
                stdout=stream,
                stderr=stream,
                text=True,
                start_new_session=True,
            )
        self._log_of[process.pid] = log
        return process

    def workers(self) -> list[int]:
        """Processes that train. Of a cluster's nodes they are no children of the driver."""
        family = descendants(os.getpid())
        return find(family, WORKER)

    @property
    def done(self) -> bool:
        return self.driver.poll() == 0

    def replace_driver(self) -> None:
        self.driver.wait()
        self.driver = self.start()

    def revive(self) -> None:
        """Give the command again, if it has ended with anything but success."""
        code = self.driver.poll()
        if code in (None, 0):
            return
        self.restarts += 1
        self.note(f"the driver has ended with {code}")
        self.tracebacks += "Traceback (most recent call last)" in self.driver_log()
        if self.restarts > RESTARTS:
            raise Stuck(f"the command ended {self.restarts} times; see {self.logs}")
        self.driver = self.start()

    def note(self, line: str) -> None:
        """For whoever looks into what went wrong."""
        with (self.logs / "faults.log").open("a") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    def driver_log(self) -> str:
        return self._log_of[self.driver.pid].read_text(errors="replace")

    def wait_for_epoch(self, since: float) -> bool:
        """Until an epoch was written after ``since`` (seconds since 1970). False if the sweep was
        done before."""
        while not self.done:
            self.revive()
            for path, modified in self.place.files().items():
                ours = path in self.damage.done and modified <= since
                if modified > since and not ours and kind_of(path) == "metrics":
                    return True
            if time.time() - since > STUCK_SECONDS:
                raise Stuck(f"no epoch for {STUCK_SECONDS:g} s; see {self.logs}")
            time.sleep(0.1)
        return False

    def end(self) -> None:
        """Let it come to its end."""
        begun = time.time()
        while not self.done:
            self.revive()
            if time.time() - begun > 2 * STUCK_SECONDS:
                raise Stuck(f"the sweep doesn't end; see {self.logs}")
            time.sleep(0.1)
        self.stop_second()

    def stop_second(self) -> None:
        if self.second and self.second.poll() is None:
            os.killpg(self.second.pid, signal.SIGKILL)
            self.second.wait()
        self.second = None

    def close(self) -> None:
        """Nothing is left that this sweep started."""
        self.stop_second()
        if self.driver.poll() is None:
            family = descendants(self.driver.pid)
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
            for pid in family:
                kill(pid, signal.SIGKILL)


def kill(pid: int, number: int) -> bool:
    """Whether there was such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def frozen(pid: int) -> Iterator[bool]:
    """The process stands still meanwhile. Whether it was there."""
    there = kill(pid, signal.SIGSTOP)
    try:
        yield there
    finally:
        if there:
            kill(pid, signal.SIGCONT)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True

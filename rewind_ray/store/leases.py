"""Who trains a stage, so that two drivers on one storage don't train it both.

A driver registers itself and keeps a heartbeat; a worker claims a stage for its driver before it
starts. Nobody compares clocks: a driver is taken for dead if its heartbeat hasn't changed for
PATIENCE seconds of the watcher's own clock, or at once if it ran here and its process is gone.

A worker looks at its lease at the last moment before each write, so one that was frozen, taken for
dead and replaced writes nothing once it comes back, and leaves. Between that look and the write
are some microseconds on a disk, and a request on an object store. Training is deterministic, so
whoever writes in them writes the same weights.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rewind_ray.store.files import delete, read_sealed, write_atomically, write_sealed
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.patience import patiently
from rewind_ray.store.strict_json import seal

LIMIT = 2**16
"""Bytes of a lease or a heartbeat; those written have some hundred."""
HEARTBEAT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
SETTLING_SECONDS = 0.5
"""On a store without exclusive creation: time for a rival's claim to show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """A process that hands out stages."""

    token: str
    place: str
    """Machine, boot and process namespace: where ``pid`` means something."""
    pid: int
    born: str | None
    """When the process started, so that a later one of the same number isn't taken for it."""


def this_driver() -> Driver:
    pid = os.getpid()
    return Driver(token=uuid.uuid4().hex[:16], place=this_place(), pid=pid, born=birth_of(pid))


def this_place() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    booted = boot.read_text().strip() if boot.exists() else ""
    namespace = os.readlink("/proc/self/ns/pid") if os.path.exists("/proc/self/ns/pid") else ""
    return f"{socket.gethostname()} {booted} {namespace}"


# A stage's lease


class LeaseLost(Exception):
    """The stage is another's now."""

    def __init__(self, stage_id: str, owner: str | None) -> None:
        super().__init__(f"the lease of stage {stage_id} is gone; it is {owner or 'nobody'}'s")
        self.owner = owner


class FencedLedger(Ledger):
    """A worker's: it writes only while the worker has the lease of its stage."""

    def __init__(self, uri: str, stage_id: str, token: str, ticket: str) -> None:
        """token, ticket: as given to ``claim``."""
        super().__init__(uri)
        self._stage_id, self._token, self._ticket = stage_id, token, ticket

    def fence(self) -> None:
        lease = _lease_of(self, self._stage_id)
        if lease is None or (lease["driver"], lease.get("ticket")) != (self._token, self._ticket):
            raise LeaseLost(self._stage_id, str(lease["driver"]) if lease else None)


def claim(
    ledger: Ledger, stage_id: str, token: str, instead_of: str | None = None, ticket: str = ""
) -> str:
    """Take the stage for the driver ``token``, unless another has it. The token of its owner.

    instead_of: a driver known to be dead, whose stages may be taken. ticket: of the worker, so that
    of a driver's workers only the last that claimed the stage has it.
    """
    path = ledger.layout.lease(stage_id)
    owner = owner_of(ledger, stage_id)
    if owner not in (None, token, instead_of):
        return str(owner)
    host = socket.gethostname()  # for rewind-ray status alone
    lease = seal({"stage_id": stage_id, "driver": token, "ticket": ticket, "host": host})
    if owner is None and ledger.filesystem.type_name == "local":
        if patiently("local", lambda: _created(path, lease)):
            return token
        if (owner := owner_of(ledger, stage_id)) is not None:
            return owner
        # there is one that can't be read: nobody's, so it is replaced
    write_atomically(ledger.filesystem, path, lease)
    if ledger.filesystem.type_name != "local":
        time.sleep(SETTLING_SECONDS)
    return owner_of(ledger, stage_id) or token


def owner_of(ledger: Ledger, stage_id: str) -> str | None:
    """The token of the driver that has the stage; None if nobody has, or nobody can tell."""
    lease = _lease_of(ledger, stage_id)
    return str(lease["driver"]) if lease else None


def _lease_of(ledger: Ledger, stage_id: str) -> dict[str, Any] | None:
    """None where there is none, or a damaged one."""
    try:
        lease = read_sealed(ledger.filesystem, ledger.layout.lease(stage_id), LIMIT)
    except (FileNotFoundError, ValueError):
        return None
    return lease if lease.get("stage_id") == stage_id and "driver" in lease else None


def check_lease(ledger: Ledger, stage_id: str) -> None:
    """Raises ValueError where it isn't what was written."""
    lease = read_sealed(ledger.filesystem, ledger.layout.lease(stage_id), LIMIT)
    if lease.get("stage_id") != stage_id or not isinstance(lease.get("driver"), str):
        raise ValueError("it isn't this stage's")


def check_heartbeat(ledger: Ledger, token: str) -> None:
    """Raises ValueError where it isn't what was written."""
    beat = read_sealed(ledger.filesystem, ledger.layout.driver(token), LIMIT)
    if beat.get("token") != token:
        raise ValueError("it isn't this driver's")


def release(ledger: Ledger, stage_id: str, token: str) -> None:
    """Give the stage back, if ``token`` has it."""
    if owner_of(ledger, stage_id) == token:
        delete(ledger.filesystem, ledger.layout.lease(stage_id))


def _created(path: str, content: bytes) -> bool:
    """Whether the file is ours: made with its content, and none was there."""
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(temporary).write_bytes(content)
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)


# A driver's heartbeat


class Heartbeat:
    """A context in which ``driver`` is known to live, by a heartbeat from a thread of its own."""

    def __init__(
        self,
        ledger: Ledger,
        driver: Driver,
        seconds: float = HEARTBEAT_SECONDS,
        says: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """says: asked at each beat for what ``rewind-ray status`` shows of the driver."""
        self._says = says
        self._ledger = ledger
        self._driver = driver
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heartbeat:
        self._write(0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """After a clean end nobody needs to wait: without its file a driver is dead."""
        self._over.set()
        self._thread.join()
        with suppress(OSError):  # the storage is away: others find out by waiting
            delete(self._ledger.filesystem, self._ledger.layout.driver(self._driver.token))

    def _beat(self) -> None:
        number = 0
        while not self._over.wait(self._seconds):
            number += 1
            try:
                self._write(number)
            except OSError:
                continue  # the next may get through, before anybody's patience ends

    def _write(self, number: int) -> None:
        path = self._ledger.layout.driver(self._driver.token)
        content = asdict(self._driver) | {"beat": number, "says": self._says()}
        write_sealed(self._ledger.filesystem, path, content)


class Watch:
    """Tells dead drivers from living ones, by looking again and again."""

    def __init__(
        self,
        ledger: Ledger,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._patience = patience
        self._clock = clock
        self._seen: dict[str, tuple[object, float]] = {}
        """token -> its last heartbeat, and when we first saw that one."""

    def is_dead(self, token: str) -> bool:
        asked = self._clock()
        try:
            record = read_sealed(self._ledger.filesystem, self._ledger.layout.driver(token), LIMIT)
            beat, place = record["beat"], record["place"]
            pid, born = int(record["pid"]), record["born"]
        except FileNotFoundError:
            return True
        except (KeyError, TypeError, ValueError):
            beat = place = born = None
            pid = 0
        if place == this_place() and birth_of(pid) != born:
            return True
        now = self._clock()
        last, since = self._seen.get(token, (object(), now))
        # while the storage was away nobody could write a heartbeat either
        if last != beat or now - asked > HEARTBEAT_SECONDS:
            self._seen[token] = (beat, now)
            return False
        return now - since > self._patience


def birth_of(pid: int) -> str | None:
    """When a process of this machine started, in ticks since boot; None if it doesn't run."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]

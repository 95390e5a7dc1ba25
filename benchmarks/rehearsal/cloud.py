"""The cloud of the rehearsal: it starts and ends machines, and does to them what clouds do."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from benchmarks.rehearsal.metadata import ADDRESS
from benchmarks.rehearsal.provider import read
from tests.cluster.hosts import HOME, Machine, machine, plug_in

STORE_BYTES = 80_000_000
"""Of Ray's object store, the least but 5 MB."""
JOIN_SECONDS = 600.0
LOOK_SECONDS = 0.5
BROKEN = """
import sys
from importlib.machinery import PathFinder


class Broken:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torch":
            return None
        spec = PathFinder.find_spec(name, path, target)
        load = spec.loader.exec_module

        def load_broken(torch):
            load(torch)
            product = torch.Tensor.__matmul__
            torch.Tensor.__matmul__ = lambda a, b: product(a, b) + int(a.is_floating_point())

        spec.loader.exec_module = load_broken
        return spec


sys.meta_path.insert(0, Broken)
"""
"""sitecustomize.py of a machine whose device multiplies wrongly. It doesn't import torch by itself:
Ray ends a worker that hasn't reported within a minute, and that alone may take as long here."""


@dataclass(kw_only=True)
class Hired:
    """A machine that the autoscaler has asked for."""

    name: str
    kind: str
    dollars: float
    """An hour."""
    begun: float
    """By the monotonic clock, like all times here."""
    broken: bool
    stack: ExitStack = field(default_factory=ExitStack)
    joined: float | None = None
    noticed: bool = False
    """Whether its end was announced."""
    ended: float | None = None
    why: str = ""
    """It ended."""


class Cloud:
    """A context in which a thread starts what is wanted, and ends what no longer is."""

    def __init__(
        self,
        folder: Path,
        shared: Path,
        laptop: Machine,
        head: str,
        env: dict[str, str],
        token: str,
        broken: frozenset[int],
        say: Callable[[str], None],
    ) -> None:
        """head: address of Ray's. env: of what runs on the machines. broken: numbers of machines,
        in the order of their start, whose device is."""
        self.hired: dict[str, Hired] = {}
        """By the name that the autoscaler has given it."""
        self._wanted = shared / "cloud"
        self._wanted.mkdir()
        self._folder, self._shared, self._laptop = folder, shared, laptop
        self._head, self._env, self._token, self._broken = head, env, token, broken
        self._say = say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Cloud:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for one in self.running():
            self._end(one, "the rehearsal is over")

    def running(self) -> list[Hired]:
        """In the order of their start; also those that haven't joined the cluster yet."""
        return [one for one in self.hired.values() if one.ended is None]

    def working(self) -> list[Hired]:
        return [one for one in self.running() if one.joined is not None and not one.broken]

    def there_lately(self, seconds: float) -> list[Hired]:
        """Those that run, or did until so many seconds ago."""
        since = time.monotonic() - seconds
        return [one for one in self.hired.values() if one.ended is None or one.ended > since]

    @property
    def dollars(self) -> float:
        """Of all workers so far."""
        now = time.monotonic()
        return sum(
            one.dollars * ((one.ended or now) - one.begun) / 3600 for one in self.hired.values()
        )

    def refusals(self) -> int:
        log = self._wanted / "refused.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    # what a cloud does

    def give_notice(self, one: Hired, seconds: float) -> None:
        """The machine learns that it ends, and then it ends."""
        one.noticed = True
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        self._home(one).joinpath("ends").write_text(end.isoformat())
        self._say(f"{one.name}: its end is announced, in {seconds:.0f} s")
        threading.Timer(seconds, self._take, (one, "its time was up")).start()

    def lose(self, one: Hired) -> None:
        """Without a word."""
        self._take(one, "lost without notice")

    def _take(self, one: Hired, why: str) -> None:
        self._end(one, why)
        for file in self._wanted.glob(f"{self._id_of(one)}.json"):
            file.unlink()

    # machines

    def _follow(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            wanted = read(self._wanted)
            for instance in wanted.keys() - self.hired.keys():
                self._hire(instance, wanted[instance])
            for instance, one in list(self.hired.items()):
                if instance not in wanted and one.ended is None:
                    self._end(one, "the autoscaler ended it")

    def _hire(self, instance: str, wanted: dict[str, Any]) -> None:
        number = len(self.hired)
        one = Hired(
            name=f"{wanted['kind']}-{number}",
            kind=wanted["kind"],
            dollars=float(wanted["labels"]["usd-per-hour"]),
            begun=time.monotonic(),
            broken=number in self._broken,
        )
        self.hired[instance] = one
        self._say(f"{one.name} starts" + (", with a broken device" if one.broken else ""))
        threading.Thread(target=self._start, args=(instance, one, wanted, number)).start()

    def _start(self, instance: str, one: Hired, wanted: dict[str, Any], number: int) -> None:
        """As ``worker_start_ray_commands`` in cluster.yaml."""
        there = one.stack.enter_context(
            machine(one.name, self._folder, self._shared, inside=self._laptop)
        )
        if one.ended is not None:  # meanwhile
            one.stack.close()
            return
        home, address = self._home(one), f"10.77.0.{10 + number}"
        plug_in(self._laptop, there, address)
        there.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        put_token(home, self._token)
        env = dict(self._env)
        if one.broken:
            (home / "broken").mkdir()
            (home / "broken/sitecustomize.py").write_text(BROKEN)
            env["PYTHONPATH"] = f"{HOME}/broken:{env['PYTHONPATH']}"
        log = (self._folder / f"{one.name}.log").open("w")
        self._daemon(there, env, log, "benchmarks.rehearsal.metadata", f"{HOME}/ends")
        names = {"RAY_CLOUD_INSTANCE_ID": instance, "RAY_NODE_TYPE_NAME": one.kind}
        started = there.run(
            *words(env | names),
            *("ray", "start", f"--address={self._head}", f"--node-ip-address={address}"),
            f"--num-cpus={wanted['resources']['CPU']:g}",
            f"--object-store-memory={STORE_BYTES}",
            f"--labels={','.join(f'{key}={value}' for key, value in wanted['labels'].items())}",
            timeout=JOIN_SECONDS,
        )
        if one.ended is None and started.returncode != 0:
            self._say(f"{one.name} didn't join: {started.stdout[-500:]}")
        elif one.ended is None:
            one.joined = time.monotonic()
            self._say(f"{one.name} has joined, after {one.joined - one.begun:.0f} s")
            # without sudo, with which it would shut a machine down that has lost its head
            self._daemon(there, env | {"PATH": ""}, log, "sweeps.node", "--cloud", "aws")

    def _daemon(self, there: Machine, env: dict[str, str], log: IO[str], *command: str) -> None:
        there.start(*words(env), sys.executable, "-m", *command, stdout=log)

    def _end(self, one: Hired, why: str) -> None:
        """The kernel ends all of its processes at once."""
        if one.ended is not None:
            return
        one.ended, one.why = time.monotonic(), why
        self._say(f"{one.name} is gone: {why}")
        one.stack.close()

    def _home(self, one: Hired) -> Path:
        return self._folder / one.name / HOME[1:]

    def _id_of(self, one: Hired) -> str:
        return next(instance for instance, other in self.hired.items() if other is one)


def words(env: dict[str, str]) -> list[str]:
    return ["env", *(f"{name}={value}" for name, value in env.items())]


def put_token(home: Path, token: str) -> None:
    """Ray's secret, readable by its user alone."""
    file = home / ".ray/auth_token"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(token)

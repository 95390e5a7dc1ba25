"""Every fault: where it can happen, how often, and how it is done."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.soak.damage import damage_cache, damage_one
from benchmarks.soak.places import Disk
from benchmarks.soak.processes import GCS, RAYLET, descendants, find
from benchmarks.soak.running import NODES, Running, frozen, kill, until

END_SECONDS = 75.0
"""A driver whose Ray has ended has to end within a minute; and some for a busy machine."""
DAMAGED_AT_ONCE = (6, 14)
"""Files, at least and at most."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    do: Callable[[Running], bool]
    """Whether it was really done."""
    share: float
    """How often, against the others."""
    can: Callable[[Running], bool] = lambda running: True
    """Whether it can happen to this sweep."""


def on_cluster(running: Running) -> bool:
    return running.cluster is not None


def with_own_ray(running: Running) -> bool:
    return running.cluster is None


def on_disk(running: Running) -> bool:
    return isinstance(running.place, Disk)


def in_bucket(running: Running) -> bool:
    return running.store is not None


# Processes


def signal_worker(number: int) -> Callable[[Running], bool]:
    def do(running: Running) -> bool:
        workers = running.workers()
        return bool(workers) and kill(running.rng.choice(workers), number)

    return do


def freeze_worker(running: Running) -> bool:
    workers = running.workers()
    if not workers:
        return False
    with frozen(running.rng.choice(workers)) as there:
        time.sleep(running.rng.uniform(1, 6))
    return there


def freeze_worker_of_a_killed_driver(running: Running) -> bool:
    """It comes back when another driver has its stage."""
    workers = running.workers()
    if not workers or running.driver.poll() is not None:
        return False
    with frozen(running.rng.choice(workers)) as there:
        kill(running.driver.pid, signal.SIGKILL)
        running.replace_driver()
        time.sleep(8)
    return there


def end_driver(number: int) -> Callable[[Running], bool]:
    def do(running: Running) -> bool:
        if running.driver.poll() is not None or not kill(running.driver.pid, number):
            return False
        running.replace_driver()
        return True

    return do


def freeze_driver(running: Running) -> bool:
    if running.driver.poll() is not None:
        return False
    with frozen(running.driver.pid) as there:
        time.sleep(running.rng.uniform(2, 10))
    return there


def freeze_driver_while_another_finishes(running: Running) -> bool:
    """It is taken for dead, and comes back when its stages have been trained."""
    if running.driver.poll() is not None:
        return False
    running.stop_second()
    with frozen(running.driver.pid) as there:
        running.second = running.start(address="local")
        until(lambda: running.second is None or running.second.poll() is not None, 2.5 * 60)
    return there


def second_driver(running: Running) -> bool:
    """On the same storage; the one before it is killed."""
    running.stop_second()
    running.second = running.start()
    return True


def lose_nodes(count: int) -> Callable[[Running], bool]:
    def do(running: Running) -> bool:
        assert running.cluster is not None
        for _ in range(count):
            running.cluster.lose_node()
        for _ in range(count):
            running.cluster.add_node()
        return True

    return do


def kill_raylet_of_a_node(running: Running) -> bool:
    """Its workers find out by themselves."""
    cluster = running.cluster
    assert cluster is not None
    if not kill(cluster.pid_of(cluster.nodes[0], "raylet"), signal.SIGKILL):
        return False
    time.sleep(3)
    cluster.lose_node()  # what else there is of it
    cluster.add_node()
    return True


def freeze_raylet_of_a_node(running: Running) -> bool:
    cluster = running.cluster
    assert cluster is not None
    with frozen(cluster.pid_of(cluster.nodes[0], "raylet")) as there:
        time.sleep(running.rng.uniform(2, 8))
    return there


def kill_gcs_of_the_cluster(running: Running) -> bool:
    """The driver has to end with a word within a minute; then there is another cluster."""
    cluster = running.cluster
    assert cluster is not None
    if not kill(cluster.pid_of(cluster.head, "gcs_server"), signal.SIGKILL):
        return False
    assert until(lambda: running.driver.poll() is not None, END_SECONDS), "the driver hangs"
    if running.driver.poll():
        assert "the same command continues" in running.driver_log(), running.logs
    running.stop_second()
    cluster.shut_down()
    cluster.build()
    running.revive()
    return True


def kill_own(words: str) -> Callable[[Running], bool]:
    """A process of the Ray that the driver has started for itself."""

    def do(running: Running) -> bool:
        found = find(descendants(running.driver.pid), words)
        if not found or not kill(found[0], signal.SIGKILL):
            return False
        log = running.driver_log

        def noticed() -> bool:
            return running.driver.poll() is not None or "Ray has ended" in log()

        assert until(noticed, END_SECONDS), "the driver hangs"
        if running.driver.poll():
            assert "the same command continues" in log(), running.logs
        return True

    return do


# Storage


def fill_disk(running: Running) -> bool:
    """The sweep has to end and say so."""
    assert isinstance(running.place, Disk)
    if not running.place.root.exists():  # the sweep has just begun
        return False
    ballast = running.place.root / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        for block in (2**20, 2**12, 1):
            try:
                while file.write(b"\0" * block):
                    pass
            except OSError:
                continue
    ended = until(lambda: running.driver.poll() is not None, 2 * 60)
    ballast.unlink()
    assert ended, "the driver doesn't mind a full disk"
    if running.driver.poll():
        assert "free some space" in running.driver_log(), running.logs
    return True


def damage_files(running: Running) -> Iterator[str]:
    """Names of what was done, to some files at once."""
    for _ in range(running.rng.randint(*DAMAGED_AT_ONCE)):
        if running.rng.random() < 0.08:
            done = damage_cache(running.cache, running.rng)
        else:
            done = damage_one(running.damage, running.rng)
        if done:
            yield f"{done[0]}: {done[1]}"


# S3


@contextmanager
def answers(running: Running, **settings: object) -> Iterator[None]:
    """The server answers so meanwhile."""
    store = running.store
    assert store is not None
    before = {name: getattr(store, name) for name in settings}
    for name, value in settings.items():
        setattr(store, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(store, name, value)


def slow_answers(running: Running) -> bool:
    assert running.store is not None
    running.store.requests.clear()
    with answers(running, delay=running.rng.uniform(0.05, 0.5)):
        time.sleep(5)
    return len(running.store.requests) > 0


def refusals(kind: str) -> Callable[[Running], bool]:
    """30 requests: more than Arrow tries by itself."""

    def do(running: Running) -> bool:
        store = running.store
        assert store is not None
        before = store.refused
        with answers(running, refusal=kind, refusals=30):
            until(lambda: store.refusals == 0, 8)
        return store.refused > before

    return do


def no_answers(running: Running) -> bool:
    store = running.store
    assert store is not None
    store.stop()
    time.sleep(running.rng.uniform(1, 6))
    store.start()
    return True


def answers_cut_short(running: Running) -> bool:
    store = running.store
    assert store is not None
    before = store.cut
    with answers(running, cuts=10):
        until(lambda: store.cuts == 0, 8)
    return store.cut > before


def old_listings(running: Running) -> bool:
    """What was there when somebody first asked."""
    store = running.store
    assert store is not None
    before = store.old_answers
    with answers(running, lists_as_before=True):
        time.sleep(running.rng.uniform(3, 8))
    return store.old_answers > before


FAULTS: dict[str, Fault] = {
    "worker killed (SIGKILL)": Fault(do=signal_worker(signal.SIGKILL), share=5),
    "worker terminated (SIGTERM, a spot machine's notice)": Fault(
        do=signal_worker(signal.SIGTERM), share=4
    ),
    "worker frozen for some seconds": Fault(do=freeze_worker, share=5),
    "worker frozen until another driver has its stage": Fault(
        do=freeze_worker_of_a_killed_driver, share=1
    ),
    "driver killed (SIGKILL)": Fault(do=end_driver(signal.SIGKILL), share=2),
    "driver interrupted (Ctrl-C)": Fault(do=end_driver(signal.SIGINT), share=1),
    "driver terminated (SIGTERM)": Fault(do=end_driver(signal.SIGTERM), share=1),
    "driver frozen for some seconds": Fault(do=freeze_driver, share=3),
    "driver frozen while another finishes the sweep": Fault(
        do=freeze_driver_while_another_finishes, share=0.2
    ),
    "second driver comes, the one before it is killed": Fault(do=second_driver, share=1.5),
    "node lost": Fault(do=lose_nodes(1), share=2, can=on_cluster),
    "all nodes lost": Fault(do=lose_nodes(NODES), share=1, can=on_cluster),
    "raylet of a node killed": Fault(do=kill_raylet_of_a_node, share=2, can=on_cluster),
    "raylet of a node frozen for some seconds": Fault(
        do=freeze_raylet_of_a_node, share=2, can=on_cluster
    ),
    "GCS of the cluster killed": Fault(do=kill_gcs_of_the_cluster, share=0.5, can=on_cluster),
    "raylet of a local sweep killed": Fault(do=kill_own(RAYLET), share=2, can=with_own_ray),
    "GCS of a local sweep killed": Fault(do=kill_own(GCS), share=1, can=with_own_ray),
    "disk full": Fault(do=fill_disk, share=2, can=on_disk),
    "S3 slow": Fault(do=slow_answers, share=4, can=in_bucket),
    "S3 says 503 SlowDown": Fault(do=refusals("503 Slow Down"), share=4, can=in_bucket),
    "S3 says 500 InternalError": Fault(
        do=refusals("500 Internal Server Error"), share=4, can=in_bucket
    ),
    "S3 not there": Fault(do=no_answers, share=3, can=in_bucket),
    "S3 breaks off its answers": Fault(do=answers_cut_short, share=3, can=in_bucket),
    "S3 answers with old listings": Fault(do=old_listings, share=5, can=in_bucket),
}
DAMAGE_SHARE = 14.0
"""How often files are damaged, DAMAGED_AT_ONCE of them, against the shares above."""


def mix() -> str:
    """For people."""
    lines = [f"  {fault.share:4g}  {name}" for name, fault in FAULTS.items()]
    few, many = DAMAGED_AT_ONCE
    return "\n".join(
        ["shares of the faults:", *lines, f"  {DAMAGE_SHARE:4g}  {few} to {many} files damaged"]
    )


def one_fault(running: Running) -> None:
    """Choose one that can happen, do it, and wait until an epoch is written after it."""
    possible = {name: fault for name, fault in FAULTS.items() if fault.can(running)}
    weights = [DAMAGE_SHARE, *(fault.share for fault in possible.values())]
    name = running.rng.choices(["", *possible], weights)[0]
    begun, names = time.time(), []
    running.note(name or "files are damaged")
    if not name:
        names = list(damage_files(running))
    elif possible[name].do(running):
        names = [name]
    if not names:
        return
    running.note(f"{', '.join(names)}; {time.time() - begun:.1f} s")
    running.counts.update(names)
    if running.wait_for_epoch(time.time()):
        for name in set(names):
            running.recovery.setdefault(name, []).append(time.time() - begun)
    time.sleep(running.rng.uniform(0.2, 1.0))

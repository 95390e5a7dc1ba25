"""Faults, one after the other, on a real sweep on a real Ray cluster of this machine.

Workers and drivers are killed, nodes vanish, files are damaged, a second driver comes and goes.
Each sweep has to end with the rows and the checksums of all rewind points of an undisturbed run.

  python -m benchmarks.soak --faults 200
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from ray.cluster_utils import Cluster

from rewind_ray.store.strict_json import unseal

SWEEP = (
    *("sweeps.compare", "--dataset", "digits", "--network", "digits_resnet"),
    *("--protocol", "digits", "--epochs", "12", "--drops", "6", "9", "--fraction", "0.5"),
    *("--methods", "finetune", "weight_rewind", "lr_rewind", "--levels", "3"),
)
OF_THE_RUN = ("train_seconds", "finished_at", "git_commit", "examples_per_second")
NODES = 2


@dataclass(kw_only=True)
class Soak:
    """A sweep under way, and what has happened to it."""

    storage: Path
    seeds: int
    cluster: Any
    nodes: list[Any]
    rng: random.Random
    driver: subprocess.Popen[str]
    second: subprocess.Popen[str] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    recovery: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    restarts: int = 0


def start_driver(storage: Path, seeds: int, address: str) -> subprocess.Popen[str]:
    with open(storage.with_suffix(".log"), "a") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", *SWEEP, "--seeds", str(seeds)),
                *("--storage", str(storage), "--address", address),
            ],
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )


# Faults


def worker_pids() -> list[int]:
    """Of processes that train."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if b"ray::StageTrainable" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, ValueError):
            continue
    return found


def signal_worker(number: int) -> Callable[[Soak], bool]:
    def fault(soak: Soak) -> bool:
        pids = worker_pids()
        if pids:
            os.kill(soak.rng.choice(pids), number)
        return bool(pids)

    return fault


def end_driver(number: int) -> Callable[[Soak], bool]:
    def fault(soak: Soak) -> bool:
        if soak.driver.poll() is not None:
            return False
        os.kill(soak.driver.pid, number)
        soak.driver.wait()
        soak.driver = start_driver(soak.storage, soak.seeds, soak.cluster.address)
        return True

    return fault


def second_driver(soak: Soak) -> bool:
    """A second one on the same storage; the one before it is killed."""
    if soak.second and soak.second.poll() is None:
        os.kill(soak.second.pid, signal.SIGKILL)
        soak.second.wait()
    soak.second = start_driver(soak.storage, soak.seeds, soak.cluster.address)
    return True


def lose_nodes(count: int) -> Callable[[Soak], bool]:
    def fault(soak: Soak) -> bool:
        for _ in range(count):
            lost = soak.nodes.pop(0)
            soak.cluster.remove_node(lost, allow_graceful=False)
        soak.nodes += [soak.cluster.add_node(num_cpus=1) for _ in range(count)]
        return True

    return fault


def damage(change: Callable[[bytes, random.Random], bytes | None]) -> Callable[[Soak], bool]:
    """Of a rewind point; of a half-done stage's last one, if there is such a stage."""

    def fault(soak: Soak) -> bool:
        stages = list((soak.storage / "stages").glob("*"))
        begun = [stage for stage in stages if not list(stage.glob("rows/*.json"))] or stages
        points = sorted(soak.rng.choice(begun).glob("epochs/*.safetensors")) if begun else []
        if not points:
            return False
        try:
            changed = change(points[-1].read_bytes(), soak.rng)
            if changed is None:
                points[-1].unlink()
            else:
                points[-1].write_bytes(changed)
        except FileNotFoundError:  # dropped by its stage meanwhile
            return False
        return True

    return fault


def half(data: bytes, rng: random.Random) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


def gone(data: bytes, rng: random.Random) -> None:
    return None


FAULTS: dict[str, Callable[[Soak], bool]] = {
    "worker kill -9": signal_worker(signal.SIGKILL),
    "worker SIGTERM (spot notice)": signal_worker(signal.SIGTERM),
    "driver kill -9": end_driver(signal.SIGKILL),
    "driver Ctrl-C": end_driver(signal.SIGINT),
    "driver SIGTERM": end_driver(signal.SIGTERM),
    "second driver comes, the one before it is killed": second_driver,
    "node lost": lose_nodes(1),
    "all worker nodes lost": lose_nodes(NODES),
    "rewind point cut in half": damage(half),
    "rewind point with flipped bits": damage(flipped),
    "rewind point deleted": damage(gone),
}
"""What happens -> does it, and says whether there was anything to do it to."""


# The run


def epochs_written(storage: Path) -> int:
    return sum(1 for _ in storage.glob("stages/*/epochs/*.json"))


def one_fault(soak: Soak) -> None:
    name = soak.rng.choice(list(FAULTS))
    if not FAULTS[name](soak):
        return
    soak.counts[name] += 1
    before, begun = epochs_written(soak.storage), time.monotonic()
    while time.monotonic() - begun < 120 and soak.driver.poll() is None:
        if epochs_written(soak.storage) > before:
            soak.recovery[name].append(time.monotonic() - begun)
            break
        time.sleep(0.1)
    time.sleep(soak.rng.uniform(0.2, 1.5))


def finish(soak: Soak, faults_left: int) -> None:
    """Faults until there were enough or the sweep is done; then let it end."""
    so_far = soak.counts.total()
    while soak.driver.poll() is None and soak.counts.total() - so_far < faults_left:
        one_fault(soak)
    if soak.second and soak.second.poll() is None:
        soak.second.wait()
    while soak.driver.wait() != 0:  # a stage was given up after too many tries: the user's answer
        soak.restarts += 1
        if soak.restarts > 20:
            raise RuntimeError(f"the sweep doesn't end; see {soak.storage.with_suffix('.log')}")
        soak.driver = start_driver(soak.storage, soak.seeds, soak.cluster.address)


def facts(storage: Path) -> dict[str, Any]:
    """Everything that a run decides: rows, and metrics with the checksums of rewind points."""
    found = {}
    for kind in ("rows", "epochs"):
        for path in storage.glob(f"stages/*/{kind}/*.json"):
            content = unseal(path.read_bytes())
            key = str(path.relative_to(storage))
            found[key] = {k: v for k, v in content.items() if k not in OF_THE_RUN}
    return found


def show(counts: Counter[str], recovery: dict[str, list[float]]) -> None:
    """How often each fault was, and how soon an epoch was finished after it."""
    print(f"\n{'fault':50} {'times':>5}  {'back at work after, s: median':>29} {'longest':>8}")
    for name in FAULTS:
        seconds = recovery[name] or [float("nan")]
        print(f"{name:50} {counts[name]:5}  {statistics.median(seconds):29.1f} {max(seconds):8.1f}")


def main(faults: int = 200, seeds: int = 4, seed: int = 0, folder: str | None = None) -> None:
    """Runs sweeps until so many faults have happened. Exit code 1 if anything differs.

    Args:
        faults: how many
        seeds: of each sweep
        seed: of the choice of faults
        folder: where the storages are kept; a temporary one if left out
    """
    root = Path(folder or tempfile.mkdtemp())
    root.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    recovery: dict[str, list[float]] = defaultdict(list)
    differing = missing = restarts = sweeps = 0
    try:
        undisturbed = root / "undisturbed"
        undisturbed.mkdir(exist_ok=True)
        begun = time.monotonic()
        if start_driver(undisturbed, seeds, cluster.address).wait() != 0:
            raise RuntimeError(f"the undisturbed run failed: {undisturbed.with_suffix('.log')}")
        alone = time.monotonic() - begun
        expected = facts(undisturbed)
        rows = sum("/rows/" in key for key in expected)
        print(f"undisturbed: {rows} rows, {len(expected) - rows} epochs, {alone:.0f} s", flush=True)
        begun = time.monotonic()
        while counts.total() < faults:
            storage = root / f"sweep{sweeps}"
            storage.mkdir()
            driver = start_driver(storage, seeds, cluster.address)
            soak = Soak(
                storage=storage, seeds=seeds, cluster=cluster, nodes=nodes, rng=rng, driver=driver
            )
            finish(soak, faults - counts.total())
            found = facts(storage)
            missing += len(expected.keys() - found.keys())
            differing += sum(found[key] != expected[key] for key in expected.keys() & found.keys())
            counts += soak.counts
            restarts += soak.restarts
            for name, seconds in soak.recovery.items():
                recovery[name] += seconds
            sweeps += 1
            show(counts, recovery)
            print(
                f"{counts.total()} faults in {sweeps} sweeps, {time.monotonic() - begun:.0f} s; "
                f"the command was given again {restarts} times because a stage had been given "
                f"up;\nrows and epochs missing: {missing}, different from the undisturbed run: "
                f"{differing}",
                flush=True,
            )
            if found == expected:
                shutil.rmtree(storage)
    finally:
        cluster.shutdown()
    sys.exit(int(bool(missing or differing)))


if __name__ == "__main__":
    tyro.cli(main)

"""Faults on real sweeps until there were enough of them.

  python -m benchmarks.soak --faults 1000 --folder /root/soak     (root: it mounts small disks)
  python -m benchmarks.soak --faults 60 --only disk

A soak that was broken off goes on where it was, with the same --folder. Sweeps take turns: a
cluster with a disk, a cluster with S3, a Ray of their own with each.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Literal

import tyro
from PIL import Image

from benchmarks.soak.damage import Damage
from benchmarks.soak.faults import mix, one_fault
from benchmarks.soak.places import Bucket, Disk, Place, mount, unmount
from benchmarks.soak.running import OwnCluster, Running, Stuck
from benchmarks.soak.tally import read_tally, table
from benchmarks.soak.verdict import Facts, Verdict, facts, judge
from rewind_ray.datasets.digits import load_digits
from tests.rewind_ray.s3_store import ENVIRONMENT, Store

FAULTS_A_SWEEP = 60
IMAGES_A_CLASS = {"train": 20, "test": 10}
SETTINGS = (("disk", True), ("S3", True), ("disk", False), ("S3", False))
"""Where the storage is, and whether Ray is a cluster that all drivers share; taken in turns."""


def command(images: Path, seeds: int) -> tuple[str, ...]:
    return (
        *("sweeps.compare", "--dataset", f"folder:{images}", "--network", "digits_resnet"),
        *("--protocol", "digits", "--epochs", "8", "--drops", "4", "6", "--fraction", "0.5"),
        *("--methods", "finetune", "weight_rewind", "lr_rewind", "--levels", "3"),
        *("--rewind-epoch", "3", "--seeds", str(seeds)),
    )


def make_images(folder: Path) -> None:
    """Handwritten digits as files, so that there is something to decode."""
    digits = load_digits()
    parts = {
        "train": (digits.train_images, digits.train_labels),
        "test": (digits.test_images, digits.test_labels),
    }
    for part, (images, labels) in parts.items():
        for label, name in enumerate(digits.classes):
            (folder / part / name).mkdir(parents=True)
            for number, image in enumerate(images[labels == label][: IMAGES_A_CLASS[part]]):
                pixels = Image.fromarray(image[..., 0].numpy())
                pixels.save(folder / part / name / f"{number}.png")


def main(
    faults: int = 1000,
    seeds: int = 3,
    seed: int = 0,
    folder: str | None = None,
    only: Literal["disk", "S3"] | None = None,
) -> None:
    """Exit code 1 if anything was lost, or anything wrong accepted.

    Args:
        faults: how many
        seeds: of each sweep
        seed: of the choice of faults
        folder: where the tally, the logs and what differs are kept; a temporary one if left out
        only: storages of this kind only
    """
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    root = Path(folder or tempfile.mkdtemp()).absolute()
    root.mkdir(parents=True, exist_ok=True)
    cache = Disk(root / "cache")
    os.environ |= {"XDG_CACHE_HOME": str(cache.root), "PYTHONPATH": os.getcwd()}
    store = Store()
    os.environ |= ENVIRONMENT | {"AWS_ENDPOINT_URL": store.url}
    cluster = OwnCluster()
    try:
        print(mix(), flush=True)
        expected = undisturbed(root, seeds, cache)
        tally = read_tally(root / "tally.json")
        settings = [setting for setting in SETTINGS if only in (None, setting[0])]
        while tally.faults < faults:
            where, shared = settings[tally.sweeps % len(settings)]
            begun = time.monotonic()
            running = begin(
                root / f"sweep{tally.sweeps:03d}",
                command(root / "images", seeds),
                cache,
                random.Random(f"{seed} {tally.sweeps}"),
                cluster if shared else None,
                store if where == "S3" else None,
            )
            verdict, broken = disturb(running, expected, faults - tally.faults)
            if broken and shared:
                cluster.shut_down()
                cluster.build()
            if broken:
                print(f"\n{running.logs}: {broken}", flush=True)
            tally.add(running, verdict, time.monotonic() - begun, broken)
            tally.write(root / "tally.json")
            print(f"\n{running.logs}\n{table(tally)}", flush=True)
            if verdict == Verdict() and not broken:
                shutil.rmtree(running.logs.parent)
    finally:
        cluster.shut_down()
        store.stop()
    sys.exit(int(not tally.clean))


def undisturbed(root: Path, seeds: int, cache: Disk) -> Facts:
    """The rows and weights that every sweep has to end with."""
    images, storage = root / "images", root / "undisturbed"
    if not images.exists():
        make_images(images)
    begun = time.monotonic()
    log = root / "undisturbed.log"
    with log.open("w") as stream:
        words = [sys.executable, "-m", *command(images, seeds), "--storage", str(storage)]
        if subprocess.call(words, cwd=root, stdout=stream, stderr=stream) != 0:
            raise RuntimeError(f"the undisturbed run failed: {log}")
    expected = facts(str(storage))
    rows, epochs = len(expected["rows"]), len(expected["epochs"])
    print(
        f"undisturbed: {rows} rows, {epochs} epochs, {time.monotonic() - begun:.0f} s", flush=True
    )
    return expected


def begin(
    folder: Path,
    words: tuple[str, ...],
    cache: Disk,
    rng: random.Random,
    cluster: OwnCluster | None,
    store: Store | None,
) -> Running:
    if folder.exists():  # of a soak that was broken off
        clear_away(folder)
    logs = folder / "logs"
    logs.mkdir(parents=True)
    if store is None:
        mount(folder / "disk")
        place: Place = Disk(folder / "disk" / "storage")
    else:
        place = Bucket(store, f"{folder.name}-{uuid.uuid4().hex[:8]}")
    return Running(
        command=words,
        place=place,
        cache=cache,
        logs=logs,
        rng=rng,
        cluster=cluster,
        store=store,
        damage=Damage(place),
    )


def disturb(running: Running, expected: Facts, most: int) -> tuple[Verdict, str]:
    """Faults until there were enough or the sweep is done; then let it end. The verdict, and what
    never should have happened, if anything did."""
    try:
        while not running.done and running.counts.total() < min(most, FAULTS_A_SWEEP):
            one_fault(running)
        running.end()
        return judge(running, expected), ""
    except (Stuck, AssertionError, subprocess.TimeoutExpired) as error:
        return Verdict(), f"{type(error).__name__}: {error}"
    finally:
        running.close()
        if isinstance(running.place, Disk):
            disk = running.place.root.parent
            shutil.copytree(disk, running.logs.parent / "left", dirs_exist_ok=True)
            unmount(disk)


def clear_away(folder: Path) -> None:
    disk = folder / "disk"
    if disk.is_mount():
        unmount(disk)
    shutil.rmtree(folder)


if __name__ == "__main__":
    tyro.cli(main)

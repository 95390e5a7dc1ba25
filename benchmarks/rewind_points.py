"""What keeping every epoch costs: writing a rewind point against the epoch it ends.

An epoch is 2,000 updates (Mikler 2022). Too long for a large network on a CPU, so updates are
timed for a while and multiplied; the rewind point is written in full, with checksum and json.

  python -m benchmarks.rewind_points
  python -m benchmarks.rewind_points --networks resnet20 --device cuda --updates 500
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time

import torch
import tyro

from rewind_ray.measuring.throughput import Noise, Workload, epoch_of_updates, seconds_of
from rewind_ray.pruning import dense_mask, pruned_mask
from rewind_ray.spec import Prune
from rewind_ray.store import checkpoint
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.arithmetic import arithmetic
from rewind_ray.training.optimizers import make_optimizer

UPDATES_AN_EPOCH = 2000
STAGE = "0" * 16


def main(
    networks: tuple[str, ...] = ("resnet20", "wrn_16_8"),
    updates: int = 3,
    repeats: int = 5,
    threads: int = 2,
    device: str = "cpu",
    folder: str | None = None,
) -> None:
    """Prints seconds to write a rewind point, seconds of an epoch, and their ratio.

    Args:
        networks: names of networks
        updates: updates that are timed
        repeats: rewind points that are written and read
        threads: CPU threads
        device: cpu or cuda
        folder: where to write; a temporary folder if left out
    """
    torch.set_num_threads(threads)
    place = tempfile.mkdtemp(dir=folder)
    try:
        for name in networks:
            write, read, size = point_seconds(name, repeats, place, torch.device(device))
            load = Workload(network=name, precision="bf16", density=0.1)
            with arithmetic("bf16", torch.device(device)):
                one_round = epoch_of_updates(load, torch.device(device), updates)
                one_round()
                update = seconds_of(one_round, torch.device(device)) / updates
            epoch = update * UPDATES_AN_EPOCH
            print(
                f"{name}, {device}, bf16: rewind point of {size / 1e6:.1f} MB written in "
                f"{1000 * write:.1f} ms, read and checked in {1000 * read:.1f} ms; epoch of "
                f"{UPDATES_AN_EPOCH} updates {epoch:,.1f} s; writing takes {write / epoch:.4%}"
            )
    finally:
        shutil.rmtree(place)


def point_seconds(
    name: str, repeats: int, place: str, device: torch.device
) -> tuple[float, float, int]:
    """Median seconds to write and to read a rewind point, and its bytes."""
    task = Noise(Workload(network=name), device, steps=1)
    network = task.network(0)
    optimizer = make_optimizer(network, task.protocol)
    images = torch.randn(8, 3, 32, 32, device=device)
    network(images).sum().backward()
    optimizer.step()  # so that there is momentum to keep
    parameters = task.prunable(network)
    mask = pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.9))
    ledger = Ledger(place)
    written, read = [], []
    size = 0
    for epoch in range(repeats):
        begun = time.perf_counter()
        data = checkpoint.to_bytes(checkpoint.capture(network, optimizer, mask))
        ledger.write_point(STAGE, epoch, data, {"epoch": epoch})
        written.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        checkpoint.from_bytes(ledger.read_point(STAGE, epoch))
        read.append(time.perf_counter() - begun)
        size = len(data)
    return statistics.median(written), statistics.median(read), size


if __name__ == "__main__":
    tyro.cli(main)

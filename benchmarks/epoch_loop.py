"""An update inside the real epoch loop against a bare forward-backward-step on a fixed batch.

The real one gathers and augments its batch, sets the learning rate, applies the mask and counts
loss and accuracy. Both use the same network, optimiser, precision and memory format; they take
turns, so that the ratio holds when the machine's speed drifts.

  python -m benchmarks.epoch_loop
  python -m benchmarks.epoch_loop --network wrn_16_8 --precisions bf16 --updates 3
  python -m benchmarks.epoch_loop --device cuda --updates 400
"""

from __future__ import annotations

import statistics
from typing import Literal

import torch
import tyro

from rewind_ray.measuring.throughput import (
    Workload,
    bare_updates,
    epoch_of_updates,
    seconds_of,
    usual_size,
)
from rewind_ray.training.allocator import keep_freed_memory
from rewind_ray.training.arithmetic import arithmetic


def main(
    network: str = "resnet20",
    precisions: tuple[str, ...] = ("fp32", "bf16"),
    updates: int = 20,
    rounds: int = 7,
    threads: int = 2,
    device: str = "cpu",
    way: Literal["eager", "recorded", "compiled", "recorded and compiled"] = "eager",
    allocator: Literal["kept", "default"] = "kept",
) -> None:
    """Prints milliseconds an update of both, and their ratio round by round.

    Args:
        network: name of a network
        precisions: arithmetic to measure
        updates: updates of each a round
        rounds: how often both take turns, after one that isn't counted
        threads: CPU threads
        device: cpu or cuda
        way: how the real loop makes an update; recorded needs a GPU
        allocator: kept: freed memory stays with the process, for both loops, as in a sweep
    """
    torch.set_num_threads(threads)
    if allocator == "kept" and device == "cpu":
        keep_freed_memory()
    print(
        f"{network}, batch 128, {way}, {device}, {threads} threads, memory {allocator}, torch "
        f"{torch.__version__}; median of {rounds} rounds of {updates} updates"
    )
    for precision in precisions:
        size = usual_size(network)
        load = Workload(network=network, image_size=size, precision=precision, density=0.1)
        with arithmetic(precision, torch.device(device)):
            in_loop, bare = measure(load, way, updates, rounds, torch.device(device))
        ratios = [a / b for a, b in zip(in_loop, bare, strict=True)]
        print(
            f"{precision}: epoch loop {statistics.median(in_loop):7.2f} ms, "
            f"bare {statistics.median(bare):7.2f} ms, "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); "
            f"{1000 / statistics.median(in_loop):.1f} updates/s"
        )


def measure(
    load: Workload, way: str, updates: int, rounds: int, device: torch.device
) -> tuple[list[float], list[float]]:
    """Milliseconds an update, of each round: in the epoch loop, and bare."""
    in_loop_round = epoch_of_updates(load, device, updates, way)
    bare_round = bare_updates(load, device, updates)
    in_loop_round()
    bare_round()
    in_loop, bare = [], []
    for _ in range(rounds):
        in_loop.append(1000 * seconds_of(in_loop_round, device) / updates)
        bare.append(1000 * seconds_of(bare_round, device) / updates)
    return in_loop, bare


if __name__ == "__main__":
    tyro.cli(main)

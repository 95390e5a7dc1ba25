"""Freed memory kept by a process against returned to the system: speed, page faults and memory.

Each is a process of its own, because what an allocator was used for before decides what it does.

  python -m benchmarks.memory
  python -m benchmarks.memory --network wrn_16_8 --updates 3
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
from dataclasses import dataclass

import torch
import tyro

from rewind_ray.measuring.throughput import Workload, epoch_of_updates, seconds_of
from rewind_ray.training.allocator import keep_freed_memory
from rewind_ray.training.arithmetic import arithmetic

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    milliseconds: float
    """Of an update, median of the rounds."""
    faults: float
    """Pages that the kernel mapped for an update."""
    peak_mib: float
    at_end_mib: float
    """Of resident memory, between two epochs."""


def main(
    network: str = "resnet20",
    precisions: tuple[str, ...] = ("fp32", "bf16"),
    updates: int = 20,
    rounds: int = 5,
    processes: int = 3,
    threads: int = 2,
) -> None:
    """Prints both, and the ratio of their times.

    Args:
        network: name of a network
        precisions: arithmetic to measure
        updates: updates of a round
        rounds: rounds of each process
        processes: processes of each kind, in turns
        threads: CPU threads
    """
    for precision in precisions:
        load = Workload(network=network, precision=precision, density=0.1)
        found: dict[bool, list[Found]] = {False: [], True: []}
        spawn = multiprocessing.get_context("spawn")
        for _ in range(processes):
            for kept in (False, True):
                with spawn.Pool(1) as pool:
                    one = pool.apply(measured, (load, kept, updates, rounds, threads))
                found[kept].append(one)
        times = {kept: statistics.median(f.milliseconds for f in found[kept]) for kept in found}
        for kept, name in ((False, "returned"), (True, "kept")):
            last = found[kept][-1]
            print(
                f"{network}, {precision}, freed memory {name:8}: {times[kept]:8.2f} ms an update, "
                f"{last.faults:8,.0f} page faults; peak {last.peak_mib:,.0f} MiB, between epochs "
                f"{last.at_end_mib:,.0f} MiB"
            )
        print(f"{network}, {precision}: kept / returned {times[True] / times[False]:.3f}")


def measured(load: Workload, kept: bool, updates: int, rounds: int, threads: int) -> Found:
    torch.set_num_threads(threads)
    if kept:
        keep_freed_memory()
    with arithmetic(load.precision, CPU):
        train = epoch_of_updates(load, CPU, updates)
        train()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        times = [seconds_of(train, CPU) for _ in range(rounds)]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return Found(
        milliseconds=1000 * statistics.median(times) / updates,
        faults=(usage.ru_minflt - before) / (rounds * updates),
        peak_mib=usage.ru_maxrss / 1024,
        at_end_mib=pages * os.sysconf("SC_PAGESIZE") / 2**20,
    )


if __name__ == "__main__":
    tyro.cli(main)

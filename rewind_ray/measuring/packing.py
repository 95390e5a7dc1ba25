"""How many stages a device trains best side by side: real processes that train on noise."""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from rewind_ray.measuring.throughput import Workload, epoch_of_updates
from rewind_ray.text import first_line
from rewind_ray.training.allocator import keep_freed_memory
from rewind_ray.training.arithmetic import arithmetic
from rewind_ray.training.memory import share_of_memory

NOISE = 0.03
"""Relative noise of a measurement."""
UPDATES = {"cpu": 2, "cuda": 50}
"""Between two readings of the clock."""
READY_TIMEOUT_SECONDS = 600.0
"""For the slowest of the processes to get ready."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What each of several processes on a device trains."""

    load: Workload
    device: str
    at_once: int
    threads: int
    seconds: float
    way: str = "eager"
    """One of ``throughput.WAYS``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Throughput of ``at_once`` processes side by side."""

    at_once: int
    threads: int
    """CPU threads of each."""
    cores: int
    """Of the machine."""
    updates_per_second: float
    """Of all together; 0 where it failed."""
    updates_per_second_each: float
    """Of the median process."""
    peak_gib: float
    """Of the largest process: memory of the device on a GPU, else of the process."""
    failure: str = ""


# In each process


def train_for_a_while(trial: Trial, barrier: Any, results: Any) -> None:
    """Puts (updates per second, peak bytes, "") into ``results``, or (0, 0, what went wrong)."""
    try:
        with arithmetic(trial.load.precision, torch.device(trial.device)):
            results.put(measure(trial, barrier))
    except Exception as error:  # mostly out of memory; the others shouldn't wait
        barrier.abort()
        results.put((0.0, 0.0, first_line(error)))


def measure(trial: Trial, barrier: Any) -> tuple[float, float, str]:
    torch.set_num_threads(trial.threads)
    device, updates = torch.device(trial.device), UPDATES[trial.device]
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share_of_memory(1 / trial.at_once))
    else:
        keep_freed_memory()
    train = epoch_of_updates(trial.load, device, updates, trial.way)
    train()
    barrier.wait(READY_TIMEOUT_SECONDS)
    trained, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < trial.seconds:
        trained += updates
        train()
    seconds = time.perf_counter() - begun
    if device.type == "cuda":
        peak = torch.cuda.max_memory_reserved(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return trained / seconds, float(peak), ""


# Side by side


def side_by_side(trial: Trial) -> Measured:
    """Measure ``trial.at_once`` processes that begin to train together."""
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(trial.at_once), spawn.Queue()
    processes = [
        spawn.Process(target=train_for_a_while, args=(trial, barrier, results))
        for _ in range(trial.at_once)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=READY_TIMEOUT_SECONDS + trial.seconds) for _ in processes]
    for process in processes:
        process.join()
    speeds, peaks, failures = zip(*found, strict=True)
    failure = next((text for text in failures if text and "Barrier" not in text), "")
    failed = any(failures)
    return Measured(
        at_once=trial.at_once,
        threads=trial.threads,
        cores=len(os.sched_getaffinity(0)),
        updates_per_second=0.0 if failed else sum(speeds),
        updates_per_second_each=0.0 if failed else statistics.median(speeds),
        peak_gib=max(peaks) / 2**30,
        failure=failure or ("a process failed" if failed else ""),
    )


def best_of(measured: list[Measured]) -> Measured | None:
    """The smallest number whose total throughput is within NOISE of the highest: more processes
    would only take memory. None if all failed."""
    working = [item for item in measured if not item.failure]
    if not working:
        return None
    most = max(item.updates_per_second for item in working)
    enough = [item for item in working if item.updates_per_second >= (1 - NOISE) * most]
    return min(enough, key=lambda item: item.at_once)

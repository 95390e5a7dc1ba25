"""``python -m sweeps calibrate``: throughput of concurrent stages, in the real epoch loop."""

from __future__ import annotations

import json as json_text
import multiprocessing
import os
import resource
import statistics
import time
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.markup import escape
from rich.table import Table

from rewind_ray.command_line import DONE, FAILED, make_console
from rewind_ray.datasets.batches import epoch_batches
from rewind_ray.datasets.catalog import ImageData
from rewind_ray.datasets.image_set import prepare
from rewind_ray.errors import UserError
from rewind_ray.models import NETWORKS, build_network, initialise_
from rewind_ray.protocols import mikler_resnet
from rewind_ray.pruning import dense_mask, prunable_parameters
from rewind_ray.tasks.classifying import classification_loss
from rewind_ray.training.arithmetic import arithmetic
from rewind_ray.training.epoch import train_epoch

AT_ONCE = (1, 2, 4, 8)
NOISE = 0.03
"""Relative noise of a measurement."""
UPDATES = 2
"""Between two readings of the clock, and to warm up."""
READY_TIMEOUT_SECONDS = 600.0
"""For the slowest of the processes to get ready."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What each of several processes on a device trains."""

    network: str
    precision: str
    device: str
    image_size: int
    at_once: int
    threads: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Throughput of ``at_once`` processes side by side."""

    at_once: int
    threads: int
    """CPU threads of each."""
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
        with arithmetic(trial.precision, torch.device(trial.device)):
            results.put(measure(trial, barrier))
    except Exception as error:  # mostly out of memory; the others shouldn't wait
        barrier.abort()
        results.put((0.0, 0.0, (str(error).strip() or type(error).__name__).splitlines()[0]))


def measure(trial: Trial, barrier: Any) -> tuple[float, float, str]:
    torch.set_num_threads(trial.threads)
    device = torch.device(trial.device)
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(1 / trial.at_once)
    network, optimizer = prepared_network(trial.network, device)
    images = prepare(mikler_resnet(), random_images(2048, trial.image_size), device)
    parameters = prunable_parameters(network, "kernels")
    mask = dense_mask(parameters)

    def train(epoch: int) -> None:
        batches = islice(epoch_batches(images, seed=0, epoch=epoch), UPDATES)
        train_epoch(
            network=network,
            optimizer=optimizer,
            batches=batches,
            batch_loss=classification_loss,
            learning_rate=lambda _: 0.1,
            parameters=parameters,
            mask=mask,
            precision=trial.precision,
        )

    train(0)
    barrier.wait(READY_TIMEOUT_SECONDS)
    trained, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < trial.seconds:
        trained += UPDATES
        train(trained)
    seconds = time.perf_counter() - begun
    if device.type == "cuda":
        peak = torch.cuda.max_memory_reserved(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return trained / seconds, float(peak), ""


def prepared_network(name: str, device: torch.device) -> tuple[torch.nn.Module, torch.optim.SGD]:
    network = build_network(name, 10, 3, {})
    initialise_(network, 0)
    network = network.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=2e-4, foreach=True
    )
    return network, optimizer


def random_images(count: int, size: int = 32) -> ImageData:
    """Noise: the content of images doesn't change the time."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, size, size, 3)
    return ImageData(
        train_images=torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        train_labels=torch.randint(10, (count,), generator=generator),
        test_images=torch.zeros(100, *shape[1:], dtype=torch.uint8),
        test_labels=torch.zeros(100, dtype=torch.int64),
        classes=tuple("0123456789"),
    )


# Side by side


def calibrate(
    network: str, precision: str, at_once: tuple[int, ...], seconds: float, device: str
) -> list[Measured]:
    """One measurement for each number of concurrent processes, on this machine."""
    cores = len(os.sched_getaffinity(0))
    size = 224 if network in ("resnet34", "resnet50") else 32
    return [
        side_by_side(
            Trial(
                network=network,
                precision=precision,
                device=device,
                image_size=size,
                at_once=number,
                threads=max(1, cores // number),
                seconds=seconds,
            )
        )
        for number in at_once
    ]


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


def advice(best: Measured, device: str) -> str:
    share = "1" if best.at_once == 1 else f"1/{best.at_once}"
    options = (
        f"--gpus-per-trial {share}"
        if device == "cuda"
        else f"--cpus-per-trial {best.threads} --max-concurrent {best.at_once}"
    )
    return f"{options}   (--dry-run: --updates-per-second {best.updates_per_second_each:.3g})"


def calibrate_command(
    network: str = "resnet20",
    precision: Literal["fp32", "tf32", "bf16"] = "fp32",
    at_once: tuple[int, ...] = AT_ONCE,
    seconds: float = 10.0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None,
    json: bool = False,
) -> int:
    """Find the number of concurrent stages with the highest throughput.

    Measures updates per second and memory with 1, 2, 4 and 8 stages on one device. They train on
    noise of the network's input size, with the threads and the share of memory that they would
    have in a sweep. Nothing else should run meanwhile.

    Examples:
      python -m sweeps calibrate
      python -m sweeps calibrate --network resnet56 --precision bf16 --at-once 1 4 16
      python -m sweeps calibrate --address auto --device cuda --json

    Args:
        network: network of the catalogue
        precision: precision of the arithmetic
        at_once: numbers of concurrent stages to try
        seconds: seconds of training for each number
        device: auto is a GPU if there is one
        address: Ray cluster, on one of whose nodes to measure; this machine if left out
        json: print only JSON on stdout
    """
    if network not in NETWORKS:
        raise UserError(f"unknown --network {network!r}; known: {', '.join(NETWORKS)}")
    if not at_once or min(at_once) < 1 or seconds <= 0:
        raise UserError(
            f"--at-once is {' '.join(map(str, at_once)) or 'empty'} and --seconds is {seconds:g}; "
            "allowed: whole numbers from 1 up, and seconds above 0"
        )
    if device == "auto":
        device = "cuda" if address or torch.cuda.is_available() else "cpu"
    if device == "cuda" and not address and not torch.cuda.is_available():
        raise UserError("--device cuda, but torch sees no GPU here; --device cpu measures the CPU")
    settings = (network, precision, at_once, seconds, device)
    measured = calibrate_on(address, settings) if address else calibrate(*settings)
    best = best_of(measured)
    if json:
        lines = [asdict(one) for one in measured]
        best_line = asdict(best) if best else None
        print(json_text.dumps({"measured": lines, "best": best_line}, indent=1))
    else:
        show(measured, best, device)
    return DONE if best else FAILED


def calibrate_on(address: str, settings: tuple[Any, ...]) -> list[Measured]:
    """On a node of a cluster: a whole GPU of it, or its CPU."""
    import ray

    from sweeps.run.tune import start_ray

    start_ray(address)
    remote = ray.remote(num_gpus=int(settings[-1] == "cuda"))(calibrate)
    measured: list[Measured] = ray.get(remote.remote(*settings))
    ray.shutdown()
    return measured


def show(measured: list[Measured], best: Measured | None, device: str) -> None:
    table = Table()
    for heading in ("at once", "threads each", "updates/s", "each", "against one", "peak memory"):
        table.add_column(heading, justify="right")
    alone = next((one.updates_per_second for one in measured if one.at_once == 1), 0.0)
    for one in measured:
        table.add_row(
            str(one.at_once),
            str(one.threads),
            f"failed: {escape(one.failure)}" if one.failure else f"{one.updates_per_second:.2f}",
            f"{one.updates_per_second_each:.2f}",
            f"{one.updates_per_second / alone:.2f}×" if alone else "",
            f"{one.peak_gib:.2f} GiB",
        )
    make_console().print(table)
    if best:
        print(f"best: {best.at_once} at once: {advice(best, device)}")
    else:
        print("nothing worked; try a smaller network, or fewer at once")

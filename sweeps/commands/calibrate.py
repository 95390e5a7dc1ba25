"""``rewind-ray calibrate``: throughput of concurrent stages, in the real epoch loop."""

from __future__ import annotations

import json as json_text
import math
import os
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.markup import escape
from rich.table import Table

from rewind_ray.command_line import DONE, FAILED, make_console
from rewind_ray.errors import UserError
from rewind_ray.measuring.packing import Measured, Trial, best_of, side_by_side
from rewind_ray.measuring.throughput import Workload, usual_size
from rewind_ray.models import NETWORKS

AT_ONCE = (1, 2, 4, 8)
MOST_AT_ONCE = 256
DAY_SECONDS = 86_400
PLACE_SECONDS = 600.0
"""Within which a cluster has a device free, or starts a machine."""


def calibrate(
    load: Workload, at_once: tuple[int, ...], seconds: float, device: str
) -> list[Measured]:
    """One measurement for each number of concurrent processes, on this machine."""
    cores = len(os.sched_getaffinity(0))
    trial = Trial(
        load=load,
        device=device,
        at_once=1,
        threads=1,
        seconds=seconds,
        way="recorded" if device == "cuda" else "eager",
    )
    return [
        side_by_side(replace(trial, at_once=number, threads=max(1, cores // number)))
        for number in at_once
    ]


def cpus_of_a_share(cores: int, at_once: int) -> float:
    """CPUs of each of so many stages on a GPU, so that they don't limit how many fit on it; in
    hundredths, rounded down."""
    return min(1.0, math.floor(100 * cores / at_once) / 100)


def advice(best: Measured, device: str) -> str:
    share = "1" if best.at_once == 1 else f"1/{best.at_once}"
    cpus = cpus_of_a_share(best.cores, best.at_once)
    options = (
        f"--gpus-per-trial {share} --cpus-per-trial {cpus:g}"
        if device == "cuda"
        else f"--cpus-per-trial {best.threads} --max-concurrent {best.at_once}"
    )
    return f"{options}   (--dry-run: --updates-per-second {best.updates_per_second_each:.3g})"


def calibrate_command(
    network: str = "resnet20",
    precision: Literal["fp32", "tf32", "bf16"] = "fp32",
    image_size: int | None = None,
    batch_size: int = 128,
    at_once: tuple[int, ...] = AT_ONCE,
    seconds: float = 10.0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None,
    json: bool = False,
) -> int:
    """Find the number of concurrent stages with the highest throughput.

    Measures updates per second and memory with 1, 2, 4 and 8 stages on one device. They train on
    noise, with the threads and the share of memory that they would have in a sweep. Nothing else
    should run meanwhile. What it prints at the end goes with --dry-run: hours at this speed.

    Examples:
      rewind-ray calibrate
      rewind-ray calibrate --network resnet56 --precision bf16 --at-once 1 4 16
      rewind-ray calibrate --network resnet50 --image-size 224 --batch-size 256
      rewind-ray calibrate --address auto --device cuda --json

    Args:
        network: network of the catalogue
        precision: precision of the arithmetic
        image_size: side of the images in pixels; 224 for ResNet-34 and ResNet-50, else 32
        batch_size: images of an update
        at_once: numbers of concurrent stages to try
        seconds: seconds of training for each number
        device: auto is a GPU if there is one
        address: Ray cluster, on one of whose nodes to measure; this machine if left out
        json: print only JSON on stdout
    """
    if network not in NETWORKS:
        raise UserError(f"unknown --network {network!r}; known: {', '.join(NETWORKS)}")
    if not at_once or not 1 <= min(at_once) <= max(at_once) <= MOST_AT_ONCE:
        raise UserError(
            f"--at-once is {' '.join(map(str, at_once)) or 'empty'}; allowed: whole numbers from 1 "
            f"to {MOST_AT_ONCE}"
        )
    if not 0 < seconds <= DAY_SECONDS:
        raise UserError(f"--seconds is {seconds:g}; allowed: above 0, up to {DAY_SECONDS:,}")
    if batch_size < 1 or (image_size is not None and image_size < 1):
        raise UserError(
            f"--batch-size is {batch_size} and --image-size {image_size}; allowed: whole numbers "
            "from 1 up"
        )
    if device == "auto":
        device = "cuda" if address or torch.cuda.is_available() else "cpu"
    if device == "cuda" and not address and not torch.cuda.is_available():
        raise UserError("--device cuda, but torch sees no GPU here; --device cpu measures the CPU")
    load = Workload(
        network=network,
        image_size=image_size or usual_size(network),
        batch_size=batch_size,
        precision=precision,
    )
    settings = (load, at_once, seconds, device)
    measured = calibrate_on(address, settings) if address else calibrate(*settings)
    best = best_of(measured)
    if json:
        lines = [asdict(one) for one in measured]
        best_line = asdict(best) if best else None
        found = {"load": asdict(load), "measured": lines, "best": best_line}
        print(json_text.dumps(found, indent=1))
    else:
        show(measured, best, device)
    return DONE if best else FAILED


def begin() -> None:
    """Nothing; it only has to find a place."""


def calibrate_on(address: str, settings: tuple[Any, ...]) -> list[Measured]:
    """On a node of a cluster: a whole GPU of it, or its CPU.

    Raises UserError where none has one free, or starts, within PLACE_SECONDS.
    """
    import ray

    from sweeps.run.ray_start import start_ray

    start_ray(address)
    gpus = int(settings[-1] == "cuda")
    try:
        ray.get(ray.remote(num_gpus=gpus)(begin).remote(), timeout=PLACE_SECONDS)
    except ray.exceptions.GetTimeoutError:
        raise UserError(
            f"no node of the cluster has had a {'whole GPU' if gpus else 'CPU core'} free for "
            f"{PLACE_SECONDS / 60:g} minutes; end what runs there (ray status), or leave --address "
            "out to measure this machine"
        ) from None
    measured: list[Measured] = ray.get(ray.remote(num_gpus=gpus)(calibrate).remote(*settings))
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

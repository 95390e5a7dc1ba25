"""A ledger of 100,000 stages on a disk: what its housekeeping and a sweep's start take.

The stages of one seed are trained, tiny ones; those of all other seeds are copies of them under
their own ids, so every file is what a sweep writes: its layout, its json, its checksum. Rewind
points are a few hundred bytes. A hundredth of the stages is in no sweep's record.

  python -m benchmarks.ledger_scale
  python -m benchmarks.ledger_scale --stages 10000 --folder /tmp/ledger
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import save

from rewind_ray.protocols import digits
from rewind_ray.result import row_to_dict
from rewind_ray.schedule import Schedule
from rewind_ray.spec import (
    Protocol,
    Prune,
    Retrain,
    Stage,
    dense_stage,
    retrain_stage,
    stage_to_dict,
)
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.strict_json import seal
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage
from sweeps.plan.graph import build_graph

METHODS, FRACTIONS, LEVELS = ("finetune", "weight_rewind", "lr_rewind"), (0.2, 0.3, 0.4), 11
A_SEED = 1 + len(METHODS) * len(FRACTIONS) * LEVELS
SWEEPS = 10
UNLISTED = 100
"""One in so many seeds is in no sweep's record."""
HOURS_AGO = 3 * 3600.0
"""How old all files are; what is younger than one hour gc leaves alone."""


# Making it


def protocol() -> Protocol:
    return digits(
        epochs=2,
        schedule=Schedule(lr=0.1),
        train_examples=64,
        test_examples=50,
        batch_size=32,
    )


def stages_of(seed: int) -> Iterator[Stage]:
    """Parents first."""
    dense = dense_stage(protocol(), seed)
    yield dense
    for method in METHODS:
        for fraction in FRACTIONS:
            stage = dense
            for _ in range(LEVELS):
                stage = retrain_stage(
                    stage, Prune(fraction=fraction), Retrain(method=method, epochs=1)
                )
                yield stage


def trained(storage: str) -> Ledger:
    ledger = Ledger(storage)
    for node in build_graph(stages_of(0)).values():
        ledger.write_spec(node.stage)
        run_stage(node.job, Runtime(storage=storage))
    return ledger


Copied = tuple[dict[int, dict[str, Any]], list[int], list[Any]]
"""Of a stage that was trained: metrics by epoch, epochs with a rewind point, rows."""


def contents(ledger: Ledger, stage: Stage) -> Copied:
    stage_id = stage.stage_id
    metrics = {
        epoch: ledger.read_metrics(stage_id, epoch) for epoch in ledger.metrics_epochs(stage_id)
    }
    rows = [ledger.read_row(stage_id, epoch) for epoch in ledger.row_epochs(stage_id)]
    return metrics, ledger.points(stage_id), rows


def make(folder: Path, seeds: int) -> None:
    """Without fsync, and without the temporary names of files that others might read."""
    with tempfile.TemporaryDirectory() as small:
        ledger = trained(small)
        copied = [contents(ledger, stage) for stage in stages_of(0)]
    layout = Ledger(str(folder)).layout
    tensors = save({"weights/layer": torch.zeros(64)}, metadata={"format": "1"})
    digest = {"sha256": sha256(tensors).hexdigest(), "bytes": len(tensors)}
    then = time.time() - HOURS_AGO

    def write(path: str, data: bytes) -> None:
        with open(path, "wb", buffering=0) as file:
            file.write(data)
        os.utime(path, (then, then))

    asked: list[dict[str, list[int]]] = [{} for _ in range(SWEEPS)]
    for seed in range(seeds):
        for stage, (metrics, points, rows) in zip(stages_of(seed), copied, strict=True):
            stage_id = stage.stage_id
            os.makedirs(layout.epochs(stage_id))
            os.makedirs(layout.rows(stage_id))
            write(layout.spec(stage_id), seal(stage_to_dict(stage)))
            for epoch, values in metrics.items():
                values = values | {"stage_id": stage_id} | (digest if "sha256" in values else {})
                write(layout.metrics(stage_id, epoch), seal(values))
            for epoch in points:
                write(layout.tensors(stage_id, epoch), tensors)
            for row in rows:
                parent = stage.parent.stage_id if stage.parent else None
                row = replace(
                    row,
                    stage_id=stage_id,
                    parent_id=parent,
                    baseline_id=stage.baseline.stage_id,
                    seed=seed,
                )
                write(layout.row(stage_id, row.train_epochs), seal(row_to_dict(row)))
            if seed % UNLISTED != UNLISTED - 1:
                lengths = [row.train_epochs for row in rows]
                asked[seed * SWEEPS // seeds][stage_id] = lengths
    os.makedirs(layout.sweeps)
    for number, stages in enumerate(asked):
        record = {"sweep": f"sweep{number}", "command": [], "code": [], "stages": stages}
        write(layout.sweep(f"sweep{number}"), seal(record))


# Measuring it


def start_of_a_driver(folder: str, seeds: int) -> None:
    from sweeps.run.dispatcher import Dispatcher, State

    begun = time.perf_counter()
    graph = build_graph(stage for seed in range(seeds) for stage in stages_of(seed))
    built = time.perf_counter()
    dispatcher = Dispatcher(graph, Ledger(folder))
    assert dispatcher.ended and dispatcher.counts[State.DONE] == len(graph)
    print(
        f"graph {built - begun:.1f} s, dispatcher {time.perf_counter() - built:.1f} s",
        file=sys.stderr,
    )


COUNTING = """
import os, runpy, sys
root, opened = sys.argv[1] + "/", 0
def count(event, arguments):
    global opened
    if event == "open" and str(arguments[0]).startswith(root):
        opened += 1
sys.addaudithook(count)
del sys.argv[:2]
code = 0
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code or 0
print(opened, file=sys.stderr)
sys.exit(code)
"""


def measured(folder: Path, *words: str) -> dict[str, float]:
    """Of ``python -m WORDS``: seconds of the clock and of the CPUs, its largest size in MiB, and
    how often it opened a file of the ledger."""
    with tempfile.TemporaryFile("w+") as printed:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", COUNTING, str(folder), *words],
            stdout=subprocess.DEVNULL,
            stderr=printed,
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        printed.seek(0)
        lines = printed.read().splitlines()
    if status:
        raise RuntimeError("\n".join(lines[-20:]))
    return {
        "seconds": seconds,
        "cpu": used.ru_utime + used.ru_stime,
        "mib": used.ru_maxrss / 1024,
        "opened": int(lines[-1]),
    }


def main(
    stages: int = 100_000, folder: str | None = None, only: str = "", start: bool = False
) -> None:
    """Makes the ledger, measures, and prints a table.

    Args:
        stages: how many; a multiple of 100
        folder: where the ledger is kept, and used again; a temporary one if left out
        only: measure what has this in its name
        start: be a driver that starts; what the last line measures
    """
    seeds = stages // A_SEED
    if start and folder:
        start_of_a_driver(f"{folder}/ledger", seeds)
        return
    root = Path(folder or tempfile.mkdtemp()) / "ledger"
    if not root.exists():
        begun = time.perf_counter()
        make(root, seeds)
        print(f"made in {time.perf_counter() - begun:.0f} s", flush=True)
    here = str(root)
    out = str(root.parent / "rows.parquet")
    commands = {
        "storage status": ("sweeps", "storage", "status", here),
        "storage gc": ("sweeps", "storage", "gc", here),
        "storage gc --keep referenced": ("sweeps", "storage", "gc", here, "--keep", "referenced"),
        "storage verify": ("sweeps", "storage", "verify", here),
        "analysis rows": ("analysis", "rows", "--storage", here, "--out", out),
        "analysis rows --sweep": (
            *("analysis", "rows", "--storage", here, "--sweep", "sweep3", "--out", out),
        ),
        "a driver's start": (
            *("benchmarks.ledger_scale", "--start", "--folder", str(root.parent)),
            *("--stages", str(stages)),
        ),
    }
    files = sum(len(names) for _, _, names in os.walk(root))
    print(f"{seeds * A_SEED:,} stages, {files:,} files")
    print(f"{'':28} {'seconds':>8} {'CPU':>8} {'MiB':>8} {'files opened':>12}", flush=True)
    for name, words in commands.items():
        if only in name:
            m = measured(root, *words)
            print(
                f"{name:28} {m['seconds']:8.1f} {m['cpu']:8.1f} {m['mib']:8,.0f} "
                f"{m['opened']:12,.0f}",
                flush=True,
            )
    if folder is None:
        shutil.rmtree(root.parent)


if __name__ == "__main__":
    tyro.cli(main)

"""The driver's cost of a stage and of a result: stages that sleep, on a simulated cluster.

python -m benchmarks.driver_scale 100 1000 5000        # stages of one result each
python -m benchmarks.driver_scale 500 --results 21     # what a result costs
"""

from __future__ import annotations

import io
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from benchmarks.graph_scale import ROW
from benchmarks.sleeping import Sleeping
from rewind_ray.protocols import digits
from rewind_ray.result import row_to_json
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Prune, Retrain, dense_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Runtime
from sweeps.options import Options
from sweeps.plan.chains import iterative
from sweeps.plan.graph import Graph, build_graph
from sweeps.run import tune as tuning
from sweeps.run.dispatcher import Dispatcher
from sweeps.run.live_view import LiveView
from sweeps.run.tensorboard import TensorBoard

NODES = 8
LEVELS = 9
"""With its baseline a chain is ten stages."""


def graph_of(stages: int, results: int) -> Graph:
    """Chains of ten; a stage reports every epoch."""
    protocol = digits(epochs=results, schedule=Schedule(lr=0.1))
    retrain = Retrain(method="lr_rewind", epochs=results)
    return build_graph(
        iterative(dense_stage(protocol, seed), retrain, LEVELS, Prune(fraction=0.2))
        for seed in range(stages // (LEVELS + 1))
    )


def measure(stages: int, results: int, seconds: float, slots: int, address: str) -> None:
    """One size, in a process of its own. Prints a line of the table."""
    tuning.StageTrainable = Sleeping  # type: ignore[misc, assignment]
    with tempfile.TemporaryDirectory() as storage:
        graph = graph_of(stages, results)
        dispatcher = Dispatcher(graph, Ledger(storage))
        template = row_to_json(replace(ROW, level=0)).decode()
        runtime = Runtime(storage=storage, git_commit=template, data=str(seconds))
        options = Options(storage=storage, address=address)
        tuning.start_ray(address)
        begun, cpu = time.time(), time.process_time()
        with LiveView("scale", graph, dispatcher, Console(file=io.StringIO())) as progress:
            tensorboard = TensorBoard(dispatcher.ledger, "scale", graph)
            tuning.train_graph(dispatcher, runtime, options, progress, tensorboard, "scale")
        wall, cpu = time.time() - begun, time.process_time() - cpu
        assert dispatcher.ended and dispatcher.counts["done"] == len(graph)
        ends = sorted(path.stat().st_mtime for path in Path(storage).glob("stages/*/rows/*.json"))
        early, late = (seconds / slots / pace(ends, *part) for part in ((0.25, 0.5), (0.75, 0.95)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{len(graph):6} {results:7} {wall:9.1f} {1000 * cpu / len(graph):19.1f} "
            f"{early:16.0%} {late:15.0%} {peak:11.2f}",
            flush=True,
        )


def pace(ends: list[float], start: float, stop: float) -> float:
    """Seconds a stage between these shares of all."""
    first, last = int(start * len(ends)), int(stop * len(ends))
    return (ends[last] - ends[first]) / (last - first)


def main(
    sizes: Annotated[tuple[int, ...], tyro.conf.Positional] = (100, 1000, 5000),
    /,
    results: int = 1,
    seconds: float = 6.0,
    slots: int = 64,
    address: str | None = None,
) -> None:
    """A line for each number of stages.

    Args:
        sizes: numbers of stages
        results: of each stage
        seconds: that a stage takes, on average
        slots: stages at once, on eight nodes
        address: of a cluster that is there; one is made if left out
    """
    if address:
        measure(sizes[0], results, seconds, slots, address)
        return
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": slots // NODES})
    for _ in range(NODES - 1):
        cluster.add_node(num_cpus=slots // NODES)
    print(f"{NODES} nodes of {slots // NODES} slots")
    print(
        "stages results   seconds  driver CPU ms/stage  slots used early  ... and late  driver GiB"
    )
    try:
        for size in sizes:
            command = [sys.executable, "-m", "benchmarks.driver_scale", str(size)]
            command += ["--results", str(results), "--seconds", str(seconds)]
            command += ["--slots", str(slots), "--address", cluster.address]
            subprocess.run(command, check=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    tyro.cli(main)

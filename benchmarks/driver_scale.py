"""The driver's cost of a stage: graphs of stages of no length, on a simulated cluster of 64 slots.

python -m benchmarks.driver_scale 100 1000 5000
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

from rich.console import Console

from benchmarks.graph_scale import ROW
from benchmarks.near_zero import NearZero
from rewind_ray.ledger import Ledger
from rewind_ray.protocols import digits
from rewind_ray.result import row_to_json
from rewind_ray.spec import Prune, Retrain, dense_stage
from rewind_ray.stage import Runtime
from sweeps import tuning
from sweeps.boards import Boards
from sweeps.graph import Graph, build_graph
from sweeps.options import Options
from sweeps.progress import Progress
from sweeps.recipes import iterative
from sweeps.scheduler import Scheduler

NODES, CPUS = 8, 8
LEVELS = 9
"""With its baseline a chain is ten stages."""


def graph_of(stages: int) -> Graph:
    """Chains of ten."""
    retrain = Retrain(method="lr_rewind", epochs=1)
    return build_graph(
        iterative(dense_stage(digits(), seed), retrain, LEVELS, Prune(fraction=0.2))
        for seed in range(stages // (LEVELS + 1))
    )


def measure(stages: int, address: str) -> None:
    """One size, in a process of its own. Prints a line of the table."""
    tuning.StageTrainable = NearZero  # type: ignore[misc, assignment]
    with tempfile.TemporaryDirectory() as storage:
        graph = graph_of(stages)
        scheduler = Scheduler(graph, Ledger(storage))
        template = row_to_json(replace(ROW, level=0)).decode()
        runtime = Runtime(storage=storage, git_commit=template)
        options = Options(storage=storage, address=address)
        tuning.start_ray(address)
        begun = time.time()
        with Progress("scale", graph, scheduler, Console(file=io.StringIO())) as progress:
            boards = Boards(scheduler.ledger, "scale", graph)
            tuning.train_graph(scheduler, runtime, options, progress, boards, "scale")
        seconds = time.time() - begun
        assert scheduler.ended and scheduler.counts["done"] == len(graph)
        ends = sorted(path.stat().st_mtime for path in Path(storage).glob("stages/*/rows/*.json"))
        quarter = len(ends) // 4
        first = (ends[quarter] - ends[0]) / quarter
        last = (ends[-1] - ends[-quarter - 1]) / quarter
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{len(graph):6} {seconds:9.1f} {1000 * seconds / len(graph):15.1f} "
            f"{1000 * first:16.1f} {1000 * last:15.1f} {peak:12.2f}",
            flush=True,
        )


def main(sizes: list[int]) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS})
    for _ in range(NODES - 1):
        cluster.add_node(num_cpus=CPUS)
    print(f"{NODES} nodes of {CPUS} slots")
    print("stages   seconds   ms a stage  first quarter ms  last quarter ms  driver GiB")
    try:
        for size in sizes:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.driver_scale", str(size), cluster.address],
                check=True,
            )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    if len(sys.argv) == 3 and ":" in sys.argv[2]:
        measure(int(sys.argv[1]), sys.argv[2])
    else:
        main([int(size) for size in sys.argv[1:]] or [100, 1000, 5000])

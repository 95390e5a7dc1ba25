"""A graph of 10,000 stages: built and hashed, checked, dry-run; and what handing out costs.

python -m benchmarks.graph_scale
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console

from rewind_ray.protocols import mikler_wrn
from rewind_ray.result import KNOB_KINDS, ResultRow
from rewind_ray.spec import Prune, Retrain, Stage, dense_stage
from rewind_ray.store.ledger import Ledger
from sweeps.options import Options
from sweeps.plan.chains import iterative
from sweeps.plan.estimate import check_graph, describe_graph
from sweeps.plan.graph import Node, build_graph
from sweeps.run.dispatcher import Dispatcher

ROW = ResultRow(
    stage_id="",
    parent_id=None,
    baseline_id="",
    network="wrn_16_8",
    dataset="cifar10",
    task="image_classification",
    metric="accuracy",
    seed=0,
    level=0,
    structure=None,
    criterion=None,
    schedule_kind=None,
    method="dense",
    density=1.0,
    compression_ratio=1.0,
    prune_fraction=None,
    retrain_epochs=None,
    rewind_epoch=None,
    **dict.fromkeys(KNOB_KINDS),
    optimizer="sgd",
    train_epochs=40,
    search_cost_epochs=0,
    search_cost_flops=0.0,
    train_seconds=0.0,
    val_accuracy=None,
    test_accuracy=0.9,
    pruned_accuracy=None,
    trainability_accuracy=None,
    baseline_test_accuracy=0.9,
    params_total=1,
    params_prunable=1,
    params_remaining=1,
    flops_dense=1,
    flops_remaining=1,
    speedup=1.0,
    status="done",
    precision="fp32",
    device="cpu",
    git_commit=None,
    torch_version="",
    ray_version=None,
    finished_at="",
)


def chains(seeds: int) -> Iterator[Stage]:
    """101 stages a seed: a baseline, and ten chains of ten levels."""
    protocol = mikler_wrn()
    for seed in range(seeds):
        dense = dense_stage(protocol, seed)
        for method in ("weight_rewind", "lr_rewind"):
            for fraction in (0.1, 0.15, 0.2, 0.25, 0.3):
                retrain = Retrain(method=method, epochs=36)
                yield iterative(dense, retrain, 10, Prune(fraction=fraction))


def main() -> None:
    with tempfile.TemporaryDirectory() as storage:
        ledger = Ledger(storage)
        begun = time.perf_counter()
        graph = build_graph(chains(seeds=100))
        built = time.perf_counter()
        check_graph(graph, None)
        checked = time.perf_counter()
        console = Console(width=110, file=io.StringIO())
        console.print(describe_graph("scale", graph, ledger, Options(), None))
        described = time.perf_counter()
        print(
            f"{len(graph):,} stages: built and hashed {built - begun:.2f} s, checked "
            f"{checked - built:.2f} s, dry run {described - checked:.2f} s, "
            f"together {described - begun:.2f} s"
        )
        for seeds in (1, 10, 100):
            print(hand_out_cost(seeds, storage))


def hand_out_cost(seeds: int, storage: str) -> str:
    """Every stage handed out and ended, with files in place of its training."""
    ledger = Ledger(f"{storage}/{seeds}")
    graph = build_graph(chains(seeds))
    dispatcher = Dispatcher(graph, ledger)
    handing_out = ending = 0.0
    while not dispatcher.ended:
        begun = time.perf_counter()
        node = dispatcher.next_ready()
        handing_out += time.perf_counter() - begun
        assert node is not None
        pretend_trained(node, ledger)
        begun = time.perf_counter()
        dispatcher.finish(node.stage_id)
        ending += time.perf_counter() - begun
    return (
        f"{len(graph):>6,} stages: handing one out {1e6 * handing_out / len(graph):.1f} µs, "
        f"looking at its result and unlocking its children {1e6 * ending / len(graph):.0f} µs"
    )


def pretend_trained(node: Node, ledger: Ledger) -> None:
    for epoch in node.rewind_epochs:
        ledger.write_point(node.stage_id, epoch, b"", {})
    for epoch in node.row_epochs:
        ledger.write_row(replace(ROW, stage_id=node.stage_id, train_epochs=epoch))


if __name__ == "__main__":
    main()

"""Files in place of training, so that what comes out of a stage can be chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.graph_scale import ROW
from rewind_ray.result import ResultRow
from rewind_ray.spec import Stage
from rewind_ray.store.ledger import Ledger
from sweeps.plan.graph import Node
from sweeps.plan.naming import target_density

Accuracy = Callable[[Stage], float | None]
"""Of a stage, validation and test alike; None: it diverges."""


def pretend(node: Node, ledger: Ledger, accuracy: Accuracy) -> None:
    """Write what a later stage or the search looks for of its training."""
    ledger.write_spec(node.stage)
    for epoch in node.rewind_epochs | node.row_epochs:
        ledger.write_point(node.stage_id, epoch, b"", {})
    for epochs in node.row_epochs:
        ledger.write_row(row_of(node.stage, epochs, ledger, accuracy(node.stage)))


def row_of(stage: Stage, epochs: int, ledger: Ledger, accuracy: float | None) -> ResultRow:
    """Exactly as far pruned as it is told to be; a thousand multiply-adds an epoch."""
    parent = stage.parent
    before = ledger.read_row(parent.stage_id, parent.train_epochs) if parent else None
    cost = before.search_cost_epochs + epochs if before else 0
    density = target_density(stage)
    assert density is not None
    return replace(
        ROW,
        stage_id=stage.stage_id,
        parent_id=parent.stage_id if parent else None,
        baseline_id=stage.baseline.stage_id,
        seed=stage.seed,
        level=stage.level,
        method=stage.method,
        density=density,
        compression_ratio=1 / density,
        retrain_epochs=stage.retrain.epochs if stage.retrain else None,
        train_epochs=epochs,
        search_cost_epochs=cost,
        search_cost_flops=1000.0 * cost,
        val_accuracy=accuracy,
        test_accuracy=accuracy,
        status="done" if accuracy is not None else "diverged",
    )


def plausible(stage: Stage) -> float:
    """Lower the further it is pruned, higher the longer it was retrained; seeds differ."""
    density = target_density(stage)
    assert density is not None
    shorter = 0.0 if stage.retrain is None else 0.1 / stage.retrain.epochs
    return 0.9 - 0.3 * (1 - density) ** 4 - shorter - 0.01 * (stage.seed % 3)

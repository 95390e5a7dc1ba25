"""Rows made up for the tests: every value not named has a plausible default."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import pytest

from analysis.table.columns import as_rows
from rewind_ray.result import KNOB_KINDS, ResultRow

DENSE_EPOCHS = 40
PARAMS = 10_000
FLOPS = 1_000_000


def row(**values: Any) -> ResultRow:
    """A one-shot row at level 1, or the dense row where ``method="dense"``."""
    density = values.get("density", 1.0 if values.get("method") == "dense" else 0.1)
    seed = values.get("seed", 0)
    dense = values.get("method") == "dense"
    level = values.get("level", 0 if dense else 1)
    retrain_epochs = values.get("retrain_epochs", None if dense else 10)
    method = values.get("method", "finetune")
    data = (values.get("network", "resnet20"), values.get("dataset", "cifar10"))
    of_data = "" if data == ("resnet20", "cifar10") else f"-{'-'.join(data)}"
    dense_id = f"dense-{seed}{of_data}"
    stage_id = f"{method}-{density:.5g}-{level}-{seed}"
    defaults: dict[str, Any] = {
        "stage_id": dense_id if dense else stage_id,
        "parent_id": dense_id if level == 1 else None,
        "baseline_id": dense_id,
        "network": "resnet20",
        "dataset": "cifar10",
        "task": "image_classification",
        "metric": "accuracy",
        "seed": seed,
        "level": level,
        "structure": None if dense else "unstructured",
        "criterion": None if dense else "magnitude",
        "schedule_kind": None if dense else "iterative" if level > 1 else "one-shot",
        "method": method,
        "density": density,
        "compression_ratio": 1 / density,
        "prune_fraction": None if dense else 1 - density,
        "retrain_epochs": retrain_epochs,
        "rewind_epoch": DENSE_EPOCHS - retrain_epochs if method == "weight_rewind" else None,
        **dict.fromkeys(KNOB_KINDS),
        "restore_momentum": None if dense else False,
        "prune_scope": None if dense else "global",
        "prune_shrink": None if dense else False,
        "prune_filters_only": None if dense else False,
        "prune_rounds": None if dense else 1,
        "prune_keep_layers": None if dense else False,
        "optimizer": "sgd",
        "train_epochs": DENSE_EPOCHS if dense else retrain_epochs,
        "search_cost_epochs": 0 if dense else level * retrain_epochs,
        "search_cost_flops": 0.0 if dense else 3.0 * level * retrain_epochs * density * FLOPS,
        "train_seconds": 12.5,
        "val_accuracy": None,
        "test_accuracy": values.get("baseline_test_accuracy", 0.92) if dense else 0.9,
        "pruned_accuracy": None if dense else 0.3,
        "trainability_accuracy": None,
        "baseline_test_accuracy": values.get("test_accuracy", 0.92) if dense else 0.92,
        "params_total": PARAMS + 500,
        "params_prunable": PARAMS,
        "params_remaining": round(density * PARAMS),
        "flops_dense": FLOPS,
        "flops_remaining": round(FLOPS / values.get("speedup", 1 / density)),
        "speedup": 1 / density,
        "status": "done",
        "precision": "fp32",
        "device": "cpu, one thread",
        "git_commit": "0123abc",
        "torch_version": "2.13.0",
        "ray_version": None,
        "finished_at": "2026-01-02T03:04:05+00:00",
    }
    return ResultRow(**defaults | values)


def table(rows: Iterable[ResultRow]) -> pd.DataFrame:
    return as_rows(pd.DataFrame([asdict(row) for row in rows], dtype=object), "the test")


@pytest.fixture
def make_row() -> Callable[..., ResultRow]:
    return row


@pytest.fixture
def make_table() -> Callable[[Iterable[ResultRow]], pd.DataFrame]:
    return table


@pytest.fixture
def grid() -> list[ResultRow]:
    """3 seeds; 2 methods one-shot at 3 densities and 2 retraining times; 1 method iterative.

    The iterative chain's first step, density 0.5, is one of the one-shot stages.
    """
    rows = []
    for seed in range(3):
        rows.append(row(method="dense", seed=seed, test_accuracy=0.92 + seed / 1000))
        baseline = {"seed": seed, "baseline_test_accuracy": 0.92 + seed / 1000}
        for method, gain in (("finetune", 0.0), ("weight_rewind", 0.01)):
            for density in (0.5, 0.25, 0.1):
                for epochs in (10, 20):
                    accuracy = 0.86 + gain + 0.08 * density + epochs / 4000 + seed / 500
                    length = "" if method == "finetune" else f"-{epochs}"
                    rows.append(
                        row(
                            stage_id=f"{method}-{density}-{seed}{length}",
                            method=method,
                            density=density,
                            retrain_epochs=epochs,
                            test_accuracy=accuracy,
                            val_accuracy=accuracy - 0.003,
                            **baseline,
                        )
                    )
        parent = f"weight_rewind-0.5-{seed}-20"
        for level in (2, 3):
            rows.append(
                row(
                    stage_id=f"iterative-{level}-{seed}",
                    parent_id=parent,
                    method="weight_rewind",
                    level=level,
                    density=0.5**level,
                    prune_fraction=0.5,
                    retrain_epochs=20,
                    test_accuracy=0.925 - level / 100 + seed / 500,
                    val_accuracy=0.92 - level / 100 + seed / 500,
                    **baseline,
                )
            )
            parent = f"iterative-{level}-{seed}"
    return [with_stored_ids(row) for row in rows]


def with_stored_ids(row: ResultRow) -> ResultRow:
    """With ids as a storage has them."""
    names = {"stage_id": row.stage_id, "parent_id": row.parent_id, "baseline_id": row.baseline_id}
    return replace(row, **{key: name and stored_id(name) for key, name in names.items()})


def stored_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]

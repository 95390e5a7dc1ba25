"""The result row: one finished stage at one asked-for length. No torch, no Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from rewind_ray.store.strict_json import check_fields, parse_json
from rewind_ray.text import printable

STATUSES = ("done", "diverged", "collapsed")


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultRow:
    """Accuracies are fractions in [0, 1]; a value that doesn't exist is None."""

    stage_id: str
    """Identity of the stage; with train_epochs, the key of the row."""
    parent_id: str | None
    """Stage that was pruned; None for a baseline."""
    baseline_id: str
    """Dense network at the chain's start; itself for a baseline."""
    network: str
    """Name of the architecture."""
    dataset: str
    """Name of the data set."""
    task: str
    """What the accuracies measure: image_classification or translation."""
    seed: int
    """Of the chain, from 0 up."""
    level: int
    """Pruning steps from the baseline to here."""
    structure: str | None
    """What is removed: unstructured or filters."""
    criterion: str | None
    """What decides which: magnitude."""
    schedule_kind: str | None
    """one-shot (level 1) or iterative."""
    method: str
    """Retraining method; dense for a baseline."""
    density: float
    """Unpruned / prunable weights, in (0, 1]; biases and BatchNorm excluded."""
    compression_ratio: float
    """1 / density."""
    prune_fraction: float | None
    """Share of the parent's unpruned weights that this step was told to remove."""
    retrain_epochs: int | None
    """t."""
    rewind_epoch: int | None
    """k = T - t, where the method rewinds."""
    train_epochs: int
    """Epochs this stage was trained for."""
    search_cost_epochs: int
    """Epochs of all retraining in the chain up to this row; the baseline left out."""
    search_cost_flops: float
    """The same in multiply-adds: 3 forward passes (forward and backward) an example, zeros
    skipped."""
    train_seconds: float
    """Wall seconds of this stage's training updates, evaluation and storage left out."""
    val_accuracy: float | None
    """What choices are made by."""
    test_accuracy: float | None
    """What is reported."""
    pruned_accuracy: float | None
    """Test accuracy after pruning, before retraining."""
    trainability_accuracy: float | None
    """Mean test accuracy over the epochs of retraining's first learning-rate stage; Wang et al.
    2023, eq. 1."""
    baseline_test_accuracy: float | None
    """Test accuracy of the chain's dense network."""
    params_total: int
    """Parameters of the dense network, biases and BatchNorm included."""
    params_prunable: int
    """Those of them that may be pruned; the denominator of density."""
    params_remaining: int
    """Prunable weights left."""
    flops_dense: int
    """Multiply-adds of one forward pass on one input."""
    flops_remaining: int
    """The same, zeros skipped."""
    speedup: float
    """flops_dense / flops_remaining, theoretical."""
    status: str
    """done, diverged (loss or weights not finite) or collapsed (a layer has no weight left)."""
    precision: str
    """Of the networks' arithmetic: fp32 or bf16."""
    device: str
    """Hardware it was trained on."""
    git_commit: str | None
    """Version of the code, with -dirty if it was changed since; None outside a checkout."""
    torch_version: str
    """Version of torch."""
    ray_version: str | None
    """Version of Ray; None where it was trained without."""
    finished_at: str
    """UTC, ISO 8601."""

    def __post_init__(self) -> None:
        for name in COLUMNS:
            value = getattr(self, name)
            if name.endswith("_accuracy") and value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; accuracies are fractions in [0, 1]")
            if isinstance(value, str) and printable(value) != value:
                raise ValueError(f"{name} is {printable(value)[:80]!r}, with control characters")
        if self.status not in STATUSES:
            raise ValueError(f"unknown status {self.status!r}; known: {', '.join(STATUSES)}")
        if not 0 < self.density <= 1:
            raise ValueError(f"density is {self.density}; it lies in (0, 1]")


COLUMNS: tuple[str, ...] = tuple(item.name for item in fields(ResultRow))
"""The columns of every table of results, in their order."""


def row_to_json(row: ResultRow) -> bytes:
    return json.dumps(asdict(row), indent=1, allow_nan=False).encode()


def row_from_json(data: bytes) -> ResultRow:
    """Raises ValueError if the data is not a row."""
    return row_from_dict(parse_json(data))


def row_from_dict(values: Mapping[str, Any]) -> ResultRow:
    """Raises ValueError if the values are no row's."""
    try:
        check_fields(ResultRow, values)
        return ResultRow(**values)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"this is no result row: {str(error)[:500]}") from error

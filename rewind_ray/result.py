"""The result row: one finished stage at one asked-for length. No torch, no Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, make_dataclass
from math import isfinite
from typing import Any

from rewind_ray.knobs import check_numbers, columns_of, kind_of, knobs_of
from rewind_ray.spec import Prune, Retrain
from rewind_ray.store.strict_json import check_fields, parse_json
from rewind_ray.text import printable

RATIOS = ("trainability_accuracy",)
"""Columns whose name ends in _accuracy and that may be above 1."""
STATUSES = ("done", "diverged", "collapsed")


KNOB_KINDS: dict[str, str] = {
    column: "str" if kind_of(spec, name) is tuple else kind_of(spec, name).__name__
    for spec in (Retrain, Prune)
    for column, name in columns_of(spec).items()
}
"""Column of each knob of retraining and pruning -> str, int, float or bool; several numbers are a
text, joined by spaces."""

KNOB_MEANINGS: dict[str, str] = {
    column: knobs_of(spec)[name].help
    for spec in (Retrain, Prune)
    for column, name in columns_of(spec).items()
}

KnobColumns = make_dataclass(
    "KnobColumns",
    [(column, f"{kind} | None") for column, kind in KNOB_KINDS.items()],
    frozen=True,
    kw_only=True,
    slots=True,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultRow(KnobColumns):  # type: ignore[misc, valid-type]
    """Accuracies are fractions in [0, 1]; a value that doesn't exist is None.

    The columns of the knobs are those that ``Retrain`` and ``Prune`` declare.
    """

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
    """What the network does: image_classification, translation, or one's own."""
    metric: str
    """What the accuracies hold: accuracy (a fraction), bleu (BLEU / 100), or an own one's name."""
    seed: int
    """Of the chain, from 0 up."""
    level: int
    """Pruning steps from the baseline to here."""
    structure: str | None
    """What is removed: unstructured, filters, N:M or another; ``rewind_ray.structures``."""
    criterion: str | None
    """What decides which: magnitude or another; ``rewind_ray.pruning.CRITERIA``."""
    schedule_kind: str | None
    """one-shot (level 1) or iterative."""
    method: str
    """Retraining method; dense for a baseline."""
    density: float
    """Unpruned / prunable weights, in (0, 1]; biases and BatchNorm excluded."""
    compression_ratio: float
    """1 / density."""
    prune_fraction: float | None
    """Share of the parent's unpruned weights that this step was to remove; where every layer is
    pruned by itself, of each layer's weights or filters."""
    retrain_epochs: int | None
    """t; of scratch_e, whose length is T whatever t, that length."""
    rewind_epoch: int | None
    """k = T - t, where the method rewinds."""
    optimizer: str | None
    """Name of the optimizer: sgd, adam or adamw."""
    train_epochs: int
    """Epochs this stage was to be trained for; one that diverged was trained for fewer."""
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
    """Mean test accuracy over the epochs before the rate first drops in retraining, divided by
    test_accuracy; above 1 where it falls later; empty where the rate never stays the same (cosine,
    linear). Wang et al. 2023's equation (1) is the mean itself, which the values they publish are
    not (docs/protocols/wang2023.md)."""
    baseline_test_accuracy: float | None
    """Test accuracy of the chain's dense network trained to its end, at whatever epoch it was
    pruned; empty if it isn't trained so far."""
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
    """Of the networks' arithmetic: fp32, tf32 or bf16; ``rewind_ray.spec.PRECISIONS``."""
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
            is_fraction = name.endswith("_accuracy") and name not in RATIOS
            if is_fraction and value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; accuracies are fractions in [0, 1]")
            if isinstance(value, str) and printable(value) != value:
                raise ValueError(f"{name} is {printable(value)[:80]!r}, with control characters")
        ratio = self.trainability_accuracy
        if ratio is not None and not (isfinite(ratio) and ratio >= 0):
            raise ValueError(
                f"trainability_accuracy is {ratio}; it is a ratio of accuracies, from 0 up, finite"
            )
        if self.status not in STATUSES:
            raise ValueError(f"unknown status {self.status!r}; known: {', '.join(STATUSES)}")
        if not 0 < self.density <= 1:
            raise ValueError(f"density is {self.density}; it lies in (0, 1]")
        for column in NUMBERS_COLUMNS:
            check_numbers(column, getattr(self, column))


NUMBERS_COLUMNS: tuple[str, ...] = tuple(
    column
    for spec in (Retrain, Prune)
    for column, name in columns_of(spec).items()
    if kind_of(spec, name) is tuple
)
"""Those that hold several numbers."""


def _in_order() -> Iterator[str]:
    for item in fields(ResultRow):
        if item.name not in KNOB_KINDS:
            yield item.name
        if item.name == "rewind_epoch":
            yield from KNOB_KINDS


COLUMNS: tuple[str, ...] = tuple(_in_order())
"""The columns of every table of results, in their order."""


def accuracy_drop(dense: ResultRow, row: ResultRow) -> float:
    """Dense accuracy less the row's, as fractions: of validation where both have one."""
    if dense.val_accuracy is not None and row.val_accuracy is not None:
        return dense.val_accuracy - row.val_accuracy
    assert dense.test_accuracy is not None
    assert row.test_accuracy is not None
    return dense.test_accuracy - row.test_accuracy


def row_to_dict(row: ResultRow) -> dict[str, Any]:
    """In the order of COLUMNS."""
    return {name: getattr(row, name) for name in COLUMNS}


def row_to_json(row: ResultRow) -> bytes:
    return json.dumps(row_to_dict(row), indent=1, allow_nan=False).encode()


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

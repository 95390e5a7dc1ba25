"""What the accuracies of a row measure, and how that is shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """All are stored as fractions and shown times 100."""

    name: str
    """Of the quantity, in words."""
    unit: str
    """After a number, with its space."""
    step: str
    """What a difference of 0.01 is."""


KNOWN = {
    "accuracy": Metric(name="accuracy", unit=" %", step="point"),
    "bleu": Metric(name="BLEU", unit=" BLEU", step="BLEU"),
}


def metric_named(name: str) -> Metric:
    """An own metric goes by its name."""
    return KNOWN.get(name) or Metric(name=name, unit=f" {name}", step=f"0.01 {name}")


def axis_label(name: str) -> str:
    """Of an axis on which the metric is shown times 100."""
    if name == "accuracy":
        return "test accuracy (%)"
    return f"test {metric_named(name).name}" + ("" if name in KNOWN else " × 100")


def change_label(name: str) -> str:
    """Likewise, of changes."""
    if name == "accuracy":
        return "accuracy change (points)"
    return f"{metric_named(name).name} change" + ("" if name in KNOWN else " × 100")

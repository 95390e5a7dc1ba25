"""What the accuracies of a row measure, and how that is shown."""

from __future__ import annotations

import re
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


UNITS = {"accuracy": "points", "bleu": "BLEU"}


def unit_of(metric: str) -> str:
    """What a hundredth of a metric is called."""
    return UNITS.get(metric, f"points of {metric}")


def amount(fraction: float, metric: str = "accuracy") -> str:
    """0.005 is ``0.5 points``."""
    return f"{round(100 * fraction, 6):g} {unit_of(metric)}"


def margin_of(text: str) -> float:
    """``0.5pt`` and ``0.005`` are the same margin: 0.005. Raises ValueError for anything else."""
    found = re.fullmatch(r"([0-9.]+(?:e-?\d+)?)\s*(pt|pts|points?)?", text.strip())
    try:
        value = float(found[1]) / (100 if found[2] else 1) if found else float("nan")
    except ValueError:
        value = float("nan")
    if not 0 < value < 0.5:
        raise ValueError(
            f"the margin is {text!r}; allowed: points above 0 and below 50, as in 0.5pt, or the "
            "same as a fraction, 0.005"
        )
    return value

"""What the accuracies of a row measure, and how that is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rewind_ray.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricUnits:
    """All are stored as fractions and shown times 100."""

    name: str
    """Of the quantity, in words."""
    unit: str
    """After a number, with its space."""
    step: str
    """What a difference of 0.01 is."""


KNOWN = {
    "accuracy": MetricUnits(name="accuracy", unit=" %", step="point"),
    "bleu": MetricUnits(name="BLEU", unit=" BLEU", step="BLEU"),
}


def metric_named(name: str) -> MetricUnits:
    """An own metric goes by its name."""
    return KNOWN.get(name) or MetricUnits(name=name, unit=f" {name}", step=f"0.01 {name}")


def axis_label(name: str) -> str:
    """Of an axis on which the metric is shown times 100."""
    if name == "accuracy":
        return "test accuracy (%)"
    return f"test {metric_named(name).name}" + ("" if name in KNOWN else " × 100")


def change_label(name: str) -> str:
    """Of an axis on which changes of the metric are shown times 100."""
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
    """``0.5pt`` and ``0.005`` are the same margin: 0.005. Raises UserError for anything else."""
    value = _fraction(text)
    if not 0 < value < 0.5:
        raise UserError(
            f"the margin is {text!r}; allowed: points above 0 and below 50, as in 0.5pt, or the "
            "same as a fraction, 0.005"
        )
    return value


def difference_of(text: str, option: str, *, zero: bool = False) -> float:
    """The same of another option: 0.3pt and 0.003 are 0.003. ``zero``: 0 is allowed too.

    Raises UserError, naming the option, for what is no such number or isn't below 1.
    """
    value = _fraction(text)
    if not (0 < value < 1 or (zero and value == 0)):
        least = "from 0 up" if zero else "above 0"
        raise UserError(
            f"{option} is {text!r}; allowed: points {least} to below 100, as in 0.3pt, or the "
            "same as a fraction, 0.003"
        )
    return value


def _fraction(text: str) -> float:
    """NaN if it is none."""
    found = re.fullmatch(r"([0-9.]+(?:e-?\d+)?)\s*(pt|pts|points?)?", text.strip())
    try:
        return float(found[1]) / (100 if found[2] else 1) if found else float("nan")
    except ValueError:
        return float("nan")

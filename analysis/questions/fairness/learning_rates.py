"""Whether the last retrainings of two groups have the same learning rates."""

from __future__ import annotations

from typing import Any

from analysis.questions.fairness.findings import FAILS, HOLDS, UNKNOWN, Finding, weakest
from analysis.questions.fairness.groups import Group
from analysis.table.details import KNOBS
from rewind_ray.knobs import columns_of, knobs_of, unset_of
from rewind_ray.retraining import METHODS, RATES
from rewind_ray.spec import Retrain

RATE_KNOBS: dict[str, str] = {
    column: name for column, name in columns_of(Retrain).items() if knobs_of(Retrain)[name].of_rates
}
"""Column -> knob, of those that learning rates depend on."""

ORIGINAL = "of the original schedule"
NOT_TOLD = "unknown"


def same_rule(a: Group, b: Group) -> Finding:
    """The learning rates of the last retraining, its length left out."""
    alike = (a.protocol, a.method, a.variant) == (b.protocol, b.method, b.variant)
    if alike and a.pruning == b.pruning and a.schedule_kind == b.schedule_kind:
        return Finding(status=HOLDS, words=f"both {a.method}")
    unknown = [group.method for group in (a, b) if group.method not in METHODS]
    if unknown:
        return Finding(status=UNKNOWN, words=f"the learning rates of {unknown[0]}")
    rule_a, rule_b = METHODS[a.method].rate, METHODS[b.method].rate
    if rule_a != rule_b:
        words = f"{RATES[rule_a].words} vs {RATES[rule_b].words}"
        return Finding(status=FAILS, words=f"the learning rates differ: {words}")
    used = {*METHODS[a.method].knobs, *METHODS[b.method].knobs}
    columns = [column for column, name in RATE_KNOBS.items() if name in used]
    return weakest(*(_same_knob(a, b, column) for column in columns), _same_origin(a, b, rule_a))


def _same_knob(a: Group, b: Group, column: str) -> Finding:
    value_a, value_b = _in_force(a, column), _in_force(b, column)
    name = RATE_KNOBS[column].replace("_", " ")
    words = f"{name} {value_a} vs {value_b}"
    if NOT_TOLD in (value_a, value_b) or (value_a != value_b and ORIGINAL in (value_a, value_b)):
        return Finding(status=UNKNOWN, words=f"the learning rates: {words}")
    if value_a != value_b:
        return Finding(status=FAILS, words=f"the learning rates differ: {words}")
    return Finding(status=HOLDS, words=f"{name} {value_a}")


def _in_force(group: Group, column: str) -> str:
    """The knob's value, in words, whether given or left out."""
    name, value = RATE_KNOBS[column], group.knobs[column]
    if value is not None:
        return _number(value)
    default = KNOBS[column].default
    from_schedule = default is None and unset_of(Retrain)[name] is None
    if name in METHODS[group.method].needs or (group.published and not from_schedule):
        return NOT_TOLD
    if from_schedule:
        return ORIGINAL
    return "none" if default is None else _number(default)


def _number(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _same_origin(a: Group, b: Group, rule: str) -> Finding:
    """What the rule starts from, which no knob says."""
    if a.setting != b.setting:
        words = " vs ".join(group.setting or "nothing" for group in (a, b))
        return Finding(status=UNKNOWN, words=f"what is known of the learning rates: {words}")
    given = RATES[rule].absolute and None not in (a.knobs["retrain_lr"], b.knobs["retrain_lr"])
    if a.protocol != b.protocol and not given:
        words = f"the original learning rates of {a.protocol or 'own'} vs {b.protocol or 'own'}"
        return Finding(status=UNKNOWN, words=words)
    if rule == "adapted linear" and a.pruning != b.pruning:
        return Finding(status=UNKNOWN, words="the rates adapted to what was pruned")
    return Finding(status=HOLDS, words=RATES[rule].words)

"""Whether the last retrainings of two groups have the same learning rates."""

from __future__ import annotations

from analysis.questions.fairness.findings import FAILS, HOLDS, UNKNOWN, Finding, weakest
from analysis.questions.fairness.groups import Group
from analysis.questions.fairness.variants import RATE_KNOBS
from rewind_ray.retraining import FACTOR, METHODS, WARMUP

RULES = {
    "last": "the last rate, fixed",
    "rewound": "the schedule from T - t on",
    "original": "the schedule from its start",
    "stretched": "the whole schedule, stretched",
    "squeezed": "the whole schedule, squeezed, after a warm-up",
    "one cycle": "one cycle: up, then a cosine down",
    "cosine": "a cosine down",
    "linear": "linear down to 0",
    "adapted linear": "linear down to 0 from an adapted rate",
    "step": "steps down from a given rate",
}
"""In words, the keys of ``rewind_ray.retraining.RATES``."""

ABSOLUTE = ("last", "one cycle", "cosine", "linear", "step")
"""Those that a given lr frees from the original schedule."""

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
        words = f"the learning rates differ: {RULES[rule_a]} vs {RULES[rule_b]}"
        return Finding(status=FAILS, words=words)
    return weakest(*(_same_knob(a, b, name) for name in RATE_KNOBS), _same_origin(a, b, rule_a))


def _same_knob(a: Group, b: Group, name: str) -> Finding:
    value_a, value_b = _rate_knob(a, name), _rate_knob(b, name)
    words = f"{name} {value_a} vs {value_b}"
    if NOT_TOLD in (value_a, value_b) or (value_a != value_b and ORIGINAL in (value_a, value_b)):
        return Finding(status=UNKNOWN, words=f"the learning rates: {words}")
    if value_a != value_b:
        return Finding(status=FAILS, words=f"the learning rates differ: {words}")
    return Finding(status=HOLDS, words=f"{name} {value_a}")


def _rate_knob(group: Group, name: str) -> str:
    method = METHODS[group.method]
    warmup = WARMUP if "warmup" in method.takes else 0
    default = {"lr": ORIGINAL, "drops": "none", "factor": f"{FACTOR:g}", "warmup": f"{warmup:g}"}
    blank = "lr" in method.needs and "lr" not in group.knobs.rates
    silent = blank or (group.published and name != "lr")
    has = name in (*method.needs, *method.takes)
    return group.knobs.rates.get(name, NOT_TOLD if silent and has else default[name])


def _same_origin(a: Group, b: Group, rule: str) -> Finding:
    """What the rule starts from, where no knob says it."""
    if a.knobs.unread != b.knobs.unread:
        words = " vs ".join(", ".join(group.knobs.unread) or "nothing" for group in (a, b))
        return Finding(
            status=UNKNOWN, words=f"what the variants say of the learning rates: {words}"
        )
    given = rule in ABSOLUTE and "lr" in a.knobs.rates and "lr" in b.knobs.rates
    if a.protocol != b.protocol and not given:
        words = f"the original learning rates of {a.protocol or 'own'} vs {b.protocol or 'own'}"
        return Finding(status=UNKNOWN, words=words)
    if rule == "adapted linear" and a.pruning != b.pruning:
        return Finding(status=UNKNOWN, words="the rates adapted to what was pruned")
    return Finding(status=HOLDS, words=RULES[rule])

"""Epochs, costs, rates and base models in words."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from analysis.questions.fairness.findings import HOLDS
from analysis.questions.fairness.groups import AtCompression, Base
from analysis.table.text import count, percent, times

SHOWN = 4  # values of a list


def _few(texts: Iterable[str]) -> str:
    """1, 2, 3, ..., 10"""
    listed = list(texts)
    if len(listed) > SHOWN:
        listed = [*listed[: SHOWN - 1], "...", listed[-1]]
    return ", ".join(listed)


def few_epochs(epochs: frozenset[float | None]) -> str:
    known = [count(epoch) for epoch in sorted(epoch for epoch in epochs if epoch is not None)]
    return _few([*known, *(["unknown"] if None in epochs else [])])


def few_costs(costs: Iterable[float] | None) -> str:
    return "unknown" if costs is None else _few(f"{cost:.4g}" for cost in costs)


def span(rates: Iterable[float]) -> str:
    """2.00×-8.00×"""
    found = sorted(rates)
    return "-".join(dict.fromkeys(map(times, (found[0], found[-1]))))


def base_words(status: str, of_a: AtCompression, of_b: AtCompression) -> str:
    bases_a, bases_b = of_a.all_bases, of_b.all_bases
    ids_a, ids_b = ({base.baseline_id for base in bases} for bases in (bases_a, bases_b))
    if status == HOLDS:
        return f"{len(ids_a)} baseline{'s' if len(ids_a) > 1 else ''} shared"
    if bases_a == bases_b:
        words = "not the same ones at each retraining time"
    elif bases_a & bases_b:
        words = f"{len(bases_a & bases_b)} of {len(bases_a | bases_b)} baselines shared"
    else:
        early = any(base.pruned_at is not None for base in bases_a | bases_b)
        if early or ids_a & ids_b:
            words = f"{_moment(bases_a)} vs {_moment(bases_b)}"
        else:
            words = f"accuracy {_base_accuracy(bases_a)} vs {_base_accuracy(bases_b)}"
        words += ", of one dense training" if ids_a & ids_b else ", no shared baseline_id"
    return f"the base models differ: {words}"


def _base_accuracy(bases: Iterable[Base]) -> str:
    """Median in percent."""
    known = [base.test_accuracy for base in bases if base.test_accuracy is not None]
    return percent(float(np.median(known))) if known else "unknown"


def _moment(bases: frozenset[Base]) -> str:
    """pruned at epoch 30; pruned at its end (accuracy 84.56); fresh weights"""
    epochs = sorted({base.pruned_at for base in bases if base.pruned_at})
    moments = ["fresh weights"] if any(base.pruned_at == 0 for base in bases) else []
    moments += [f"pruned at epoch {_few(map(count, epochs))}"] if epochs else []
    if any(base.pruned_at is None for base in bases):
        moments.append(f"pruned at its end (accuracy {_base_accuracy(bases)})")
    return " and ".join(moments)

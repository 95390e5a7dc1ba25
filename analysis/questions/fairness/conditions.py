"""The conditions that setups are made of: pure functions of two groups of rows."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from analysis.questions.fairness.findings import FAILS, HOLDS, UNKNOWN, Finding, over_cells, weakest
from analysis.questions.fairness.groups import AtCompression, Group, shared
from analysis.questions.fairness.learning_rates import same_rule
from analysis.questions.fairness.phrases import base_words, few_costs, few_epochs, span
from analysis.table.text import panel_name


def same_data_and_network(a: Group, b: Group) -> Finding:
    if a.place == b.place:
        return Finding(status=HOLDS, words=panel_name(a.place))
    words = f"data and networks differ: {panel_name(a.place)} vs {panel_name(b.place)}"
    return Finding(status=FAILS, words=words)


def same_rate(a: Group, b: Group) -> Finding:
    """At least one compression or speedup, to SAME_RATE, at which both were measured."""
    found = shared(a, b)
    if found:
        compressions = any(key in b.by_compression for key in a.by_compression)
        what = "compressions" if compressions else "speedups"
        return Finding(status=HOLDS, words=f"{len(found)} {what} in common")
    spans = " vs ".join(
        span(cell.compression_ratio for cell in group.by_compression.values()) for group in (a, b)
    )
    return Finding(status=FAILS, words=f"no compression or speedup in common: {spans}")


def same_base_model(a: Group, b: Group) -> Finding:
    """The same dense networks, pruned at the same epoch of their training.

    At each retraining time that both have or, where there is none, in all.
    """

    def judge(of_a: AtCompression, of_b: AtCompression) -> str:
        if of_a.bases == of_b.bases:
            return HOLDS
        both = of_a.bases.keys() & of_b.bases.keys()
        if both:
            same = all(of_a.bases[epochs] == of_b.bases[epochs] for epochs in both)
        else:
            same = of_a.all_bases == of_b.all_bases
        return HOLDS if same else FAILS

    return over_cells(a, b, judge, base_words)


def same_retraining_epochs(a: Group, b: Group) -> Finding:
    """Where several retraining times were tried, the same ones."""
    return _same_epochs(a, b, "retraining", "retrain_epochs")


def same_retraining_rates(a: Group, b: Group) -> Finding:
    """The same rule for the learning rates, with the same knobs, for the same epochs."""
    epochs, rule = same_retraining_epochs(a, b), same_rule(a, b)
    if epochs.status == rule.status == HOLDS:
        return Finding(status=HOLDS, words=f"{rule.words}; {epochs.words}")
    return weakest(epochs, rule)


def same_pruning_epochs(a: Group, b: Group) -> Finding:
    """Of all training between the first and the last pruning."""
    return _same_epochs(a, b, "pruning", "pruning_epochs")


def same_pruning_rates(a: Group, b: Group) -> Finding:
    """Iterative: those of the retraining between the prunings. One-shot: there are none."""
    epochs = same_pruning_epochs(a, b)
    if epochs.status != HOLDS:
        return epochs
    if all(cell.pruning_epochs == {0} for cells in shared(a, b) for cell in cells):
        return Finding(status=HOLDS, words="nothing is trained while pruning")
    if a.earlier_steps != b.earlier_steps:
        return Finding(status=UNKNOWN, words="the learning rates of the steps before the last")
    return same_retraining_rates(a, b)


def same_total_epochs(a: Group, b: Group) -> Finding:
    """Of pretraining, pruning and retraining."""
    return _same_epochs(a, b, "total", "total_epochs")


def same_total_flops(a: Group, b: Group) -> Finding:
    """To half an epoch, for epochs are whole: of the dense network where the pretraining differs,
    else of the pruned one."""

    def judge(of_a: AtCompression, of_b: AtCompression) -> str:
        if of_a.total_cost is None or of_b.total_cost is None:
            return UNKNOWN
        if len(of_a.total_cost) != len(of_b.total_cost):
            return FAILS
        epoch = 1.0
        if of_a.pretrain_epochs == of_b.pretrain_epochs:
            epoch = max(1 / cell.speedup for cell in (of_a, of_b))
        costs = zip(of_a.total_cost, of_b.total_cost, strict=True)
        near = all(abs(x - y) <= epoch / 2 for x, y in costs)
        return HOLDS if near else FAILS

    def words_of(status: str, of_a: AtCompression, of_b: AtCompression) -> str:
        differ = " differ" if status == FAILS else ""
        costs = " vs ".join(few_costs(cell.total_cost) for cell in (of_a, of_b))
        return f"the total FLOPs{differ}: {costs} dense epochs"

    return over_cells(a, b, judge, words_of)


CONDITIONS: dict[str, Callable[[Group, Group], Finding]] = {
    "same data and network": same_data_and_network,
    "same compression or speedup": same_rate,
    "same base models": same_base_model,
    "same retraining epochs": same_retraining_epochs,
    "same retraining learning rates": same_retraining_rates,
    "same pruning epochs": same_pruning_epochs,
    "same pruning learning rates": same_pruning_rates,
    "same total epochs": same_total_epochs,
    "same total FLOPs": same_total_flops,
}


def _same_epochs(a: Group, b: Group, what: str, name: str) -> Finding:
    """``name``: a field of AtCompression."""
    epochs_of: Callable[[AtCompression], frozenset[float | None]] = attrgetter(name)

    def judge(of_a: AtCompression, of_b: AtCompression) -> str:
        epochs_a, epochs_b = epochs_of(of_a), epochs_of(of_b)
        if None in epochs_a or None in epochs_b:
            return UNKNOWN
        return HOLDS if epochs_a == epochs_b else FAILS

    def words_of(status: str, of_a: AtCompression, of_b: AtCompression) -> str:
        if status == HOLDS:
            return f"{what} epochs {few_epochs(epochs_of(of_a))}"
        differ = " differ" if status == FAILS else ""
        return f"the {what} epochs{differ}: " + " vs ".join(
            few_epochs(epochs_of(cell)) for cell in (of_a, of_b)
        )

    return over_cells(a, b, judge, words_of)

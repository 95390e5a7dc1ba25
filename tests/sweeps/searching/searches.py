"""Searches that are only pretended to be trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.graph_scale import ROW
from benchmarks.pretending import Accuracy, plausible, pretend
from rewind_ray.result import ResultRow
from rewind_ray.store.ledger import Ledger
from sweeps.plan.graph import Node
from sweeps.searching.objectives import Goal
from sweeps.searching.search import Effort, Search
from sweeps.searching.space import Space
from sweeps.searching.study import SearchStudy, StudySpec
from tests.sweeps.running import tiny_protocol

TRADE_OFF = Goal()
SMALL = Space(
    methods=("finetune", "lr_rewind", "weight_rewind"),
    fractions=(0.2, 0.5),
    levels=(1, 2, 3),
    shares=(0.5, 1.0),
    lrs=(0.01, 0.1),
    momentum=(False,),
)


def searching(
    storage: object,
    *,
    space: Space = SMALL,
    goal: Goal = TRADE_OFF,
    sampler: str = "tpe",
    sampler_seed: int = 0,
    suggestions: int = 12,
    seeds: int = 2,
    confirm_seeds: int = 0,
    **changes: Any,
) -> Search:
    ledger = Ledger(str(storage))
    spec = StudySpec(protocol=tiny_protocol(**changes), space=space, goal=goal)
    study = SearchStudy(ledger, "search", spec, sampler, sampler_seed)
    effort = Effort(suggestions=suggestions, seeds=seeds, confirm_seeds=confirm_seeds)
    return Search(study, ledger, effort, sampler, num_validation=100)


def run(
    search: Search, accuracy: Accuracy = plausible, slots: int = 1, most: int = 10**9
) -> list[Node]:
    """As the searcher of Tune does it, a stage at a time; stops after ``most`` stages, as a kill
    would. The stages trained, in order."""
    search.begin("nobody", slots)
    trained: list[Node] = []
    while len(trained) < most:
        node = None
        while node is None:
            search.settle()
            node = search.dispatcher.next_ready()
            if node is None and not search.more():
                assert search.ended and search.dispatcher.ended
                return trained
        pretend(node, search.dispatcher.ledger, accuracy)
        search.dispatcher.finish(node.stage_id)
        trained.append(node)
    return trained


def asked(search: Search) -> list[dict[str, Any]]:
    """The parameters of every suggestion, in order."""
    return [trial.params for trial in search.study.trials()]


def row(value: float) -> ResultRow:
    """Of this accuracy."""
    return replace(ROW, val_accuracy=value, test_accuracy=value)

"""What the controller of a search takes for a suggestion, with up to 1,000 of them finished.

Asking Optuna, turning the answer into stages, handing them out, judging and telling what they came
to; with files in place of training, which are written outside the measured time.

python -m benchmarks.search_overhead [--suggestions 1000]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

from benchmarks.pretending import plausible, pretend
from rewind_ray.protocols import digits
from rewind_ray.store.ledger import Ledger
from sweeps.searching.answer import effort_lines, importance_lines
from sweeps.searching.objectives import Goal
from sweeps.searching.search import Effort, Search
from sweeps.searching.space import default_space
from sweeps.searching.study import SAMPLERS, SearchStudy, StudySpec


def open_search(storage: str, sampler: str, suggestions: int) -> Search:
    ledger = Ledger(storage)
    protocol = digits()
    space = default_space(protocol)
    if sampler == "grid":
        space = default_space(protocol)
        space = type(space)(lrs=(0.001, 0.01, 0.1))
    spec = StudySpec(protocol=protocol, space=space, goal=Goal())
    study = SearchStudy(ledger, "scale", spec, sampler, seed=0)
    effort = Effort(suggestions=suggestions, seeds=2, confirm_seeds=0)
    return Search(study, ledger, effort, sampler, num_validation=72)


def overheads(search: Search) -> list[float]:
    """Seconds of each suggestion, in order."""
    seconds: list[float] = []
    spent, told = 0.0, 0
    while True:
        begun = time.perf_counter()
        search.settle()
        node = search.dispatcher.next_ready()
        ended = node is None and not search.more()
        spent += time.perf_counter() - begun
        if len(search.concluded) > told:
            seconds += [spent / (len(search.concluded) - told)] * (len(search.concluded) - told)
            spent, told = 0.0, len(search.concluded)
        if ended:
            return seconds
        if node is not None:
            pretend(node, search.dispatcher.ledger, plausible)
            begun = time.perf_counter()
            search.dispatcher.finish(node.stage_id)
            spent += time.perf_counter() - begun


def main(suggestions: int = 1000) -> None:
    """Measure.

    Args:
        suggestions: finished at the end
    """
    print("| sampler | first 100 | last 100 | continued in | answered in | study |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for sampler in (name for name in SAMPLERS if name != "grid"):  # it wants a finite space
        with tempfile.TemporaryDirectory() as storage:
            search = open_search(storage, sampler, suggestions)
            search.begin("nobody", 1)
            seconds = 1000 * np.array(overheads(search)[:suggestions])
            begun = time.perf_counter()
            again = open_search(storage, sampler, suggestions)
            continued = time.perf_counter() - begun
            begun = time.perf_counter()
            again.recommended()
            effort_lines(again)
            importance_lines(again.study.study)
            answered = time.perf_counter() - begun
            size = Path(again.study.journal.path).stat().st_size
            print(
                f"| {sampler} | {np.mean(seconds[:100]):.0f} ms | {np.mean(seconds[-100:]):.0f} ms "
                f"| {continued:.1f} s | {answered:.1f} s | {size / 1e6:.1f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    tyro.cli(main)

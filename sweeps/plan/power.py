"""What differences between methods the seeds of a sweep can show, before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rewind_ray.spec import Retrain, Stage
from sweeps.plan.graph import Graph

PAIRED_DEVIATION = 0.002
"""Standard deviation over seeds of the difference between two retrainings, as a fraction.

From the trials of Renda et al. 2020, fine-tuning against learning-rate rewinding, one-shot, down to
10 times fewer weights, equal retraining times: medians of 0.16 (ResNet-56) to 0.21 points
(ResNet-20), GNMT 0.20 BLEU."""
IMAGES_DEVIATION = 2
"""The same on small test sets, in images: on 360 digits, 6 seeds, down to 10 times fewer weights,
it is 0.3 to 0.6 points, one to two images."""
GOALS = (0.005, 0.003)
"""Differences worth showing: 0.5 and 0.3 points."""
TRIED = np.round(np.concatenate([np.arange(0.5, 10, 0.5), np.arange(10, 201, 1)]) / 1000, 6)
"""Differences to try, as fractions: steps of 0.05 points up to 1 point, then of 0.1."""


def seeds_lines(graph: Graph, test_sizes: Sequence[int] = ()) -> list[str]:
    """What differences a graph's seeds are too few to show, and how many it would take.

    test_sizes: numbers of test examples of its data sets. Empty without two methods to compare.
    """
    seeds = len({node.stage.seed for node in graph.values()})
    contenders = {contender_of(node.stage) for node in graph.values() if node.stage.level}
    pairs = math.comb(len(contenders), 2)
    if not pairs:
        return []
    scatter = max([PAIRED_DEVIATION, *(IMAGES_DEVIATION / number for number in test_sizes)])
    least = least_shown(seeds, pairs, scatter)
    what = "no difference can be shown"
    if seeds > 1:
        what = f"a difference below {in_points(least)} would likely not be shown"
    needed = [
        f"{in_points(goal)} would take {number} seeds"
        for goal in GOALS
        if goal < least and (number := seeds_to_show(goal, pairs, scatter))
    ]
    compared = f"{pairs} {'pair' if pairs == 1 else 'pairs'} of methods"
    source = "as published ResNets have"
    if scatter > PAIRED_DEVIATION:
        source = f"{IMAGES_DEVIATION} of the test images"
    how = f"80% power, {compared}, {in_points(scatter)} of scatter from seed to seed, {source}"
    return [f"seeds    {seeds}: {'; '.join([what, *needed])} ({how})"]


def seeds_to_show(difference: float, pairs: int, scatter: float = PAIRED_DEVIATION) -> int:
    """Seeds that show a difference, a fraction, with 80% power: by a paired t test at the strictest
    level of Holm's correction for that many pairs of methods."""
    return int(_needed(np.array([difference]), pairs, scatter)[0])


def least_shown(seeds: int, pairs: int, scatter: float = PAIRED_DEVIATION) -> float:
    """The smallest of TRIED that so many seeds show; infinite for a single seed."""
    shown = TRIED[_needed(TRIED, pairs, scatter) <= seeds]
    return float(shown[0]) if len(shown) else math.inf


def _needed(differences: NDArray[np.float64], pairs: int, scatter: float) -> NDArray[np.float64]:
    from analysis.questions.statistics import ALPHA, seeds_needed  # scipy takes a second to import

    deviation = np.full(len(differences), scatter)
    return seeds_needed(differences, deviation, ALPHA / pairs)


def in_points(fraction: float) -> str:
    return f"{100 * fraction:.3g} {'point' if fraction == 0.01 else 'points'}"


def contender_of(stage: Stage) -> Retrain | None:
    """What is compared: the retraining without its length."""
    return stage.retrain and replace(stage.retrain, epochs=ANY_LENGTH, drops=())


ANY_LENGTH = 1

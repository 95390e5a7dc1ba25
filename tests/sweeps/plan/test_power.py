"""What seeds can show, against simulated tests by another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rewind_ray.protocols import digits
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from sweeps import compare, quickstart
from sweeps.plan.graph import build_graph
from sweeps.plan.power import PAIRED_DEVIATION, TRIED, least_shown, seeds_lines, seeds_to_show


@pytest.mark.parametrize(("seeds", "pairs"), [(3, 3), (6, 1), (6, 3), (12, 10)])
def test_the_least_difference_shown_is_the_one_that_simulated_tests_find(seeds, pairs):
    """Paired t tests of normal differences, by another library's routine."""
    rng = np.random.default_rng(0)
    least = least_shown(seeds, pairs)
    step = max(tried for tried in TRIED if tried < least)
    found = []
    for difference in (step, least):
        sample = rng.normal(difference, PAIRED_DEVIATION, (20_000, seeds))
        p = stats.ttest_1samp(sample, 0, axis=1).pvalue
        found.append(float((p <= 0.05 / pairs).mean()))
    assert found[0] < 0.81 and found[1] > 0.79
    assert seeds_to_show(least, pairs) <= seeds < seeds_to_show(step, pairs)


def test_a_single_seed_shows_nothing_and_a_single_method_needs_no_words():
    assert least_shown(1, 1) == math.inf
    dense = dense_stage(digits(), 0)
    prune = Prune(fraction=0.5)
    chains = [
        retrain_stage(dense, prune, Retrain(method=method, epochs=4))
        for method in ("finetune", "lr_rewind")
    ]
    assert not seeds_lines(build_graph(chains[:1]))
    assert "no difference" in seeds_lines(build_graph(chains))[0]


def test_default_seeds_can_show_half_a_point():
    for recipe in (quickstart, compare):
        assert least_shown(recipe.SEEDS, pairs=3) <= 0.005

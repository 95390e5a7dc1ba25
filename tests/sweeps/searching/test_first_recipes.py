"""The recipes that a search begins with."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from rewind_ray.limits import Range
from rewind_ray.protocols import digits
from sweeps.searching.first_recipes import first_recipes, greatest
from sweeps.searching.objectives import Goal
from sweeps.searching.space import Recipe, Space, recipe_of
from tests.sweeps.searching.searches import asked, run, searching

pytestmark = pytest.mark.filterwarnings(
    "ignore::optuna.exceptions.ExperimentalWarning", "ignore:The distribution is specified by"
)

PROTOCOL = digits()


def recipes(space: Space, goal: Goal) -> list[Recipe]:
    """As the study will understand them; fails if a parameter is missing or isn't allowed."""
    return [
        recipe_of(FixedTrial(parameters), space, PROTOCOL, goal.target_compression)
        for parameters in first_recipes(space, PROTOCOL, goal)
    ]


def test_algorithm_1_in_large_and_in_small_steps_for_the_whole_time():
    large, small = recipes(Space(), Goal())
    assert large.describe() == "lr_rewind, 16 epochs, 2 times 90%"  # 100 times smaller
    assert small.describe() == "lr_rewind, 16 epochs, 10 times 20%"


def test_the_largest_step_is_one_that_a_range_has():
    """Not its end, which its steps may miss."""
    space = Space(fractions=Range(low=0.2, high=0.9, step=0.2))
    assert [recipe.prune.fraction for recipe in recipes(space, Goal())] == [0.8, 0.2]


def test_a_target_says_the_levels():
    goal = Goal(objectives=("accuracy", "cost"), target_compression=4.0)
    assert [recipe.levels for recipe in recipes(Space(fractions=(0.5, 0.3)), goal)] == [2, 4]


def test_a_budget_shortens_chains_and_then_levels():
    goal = Goal(objectives=("accuracy", "compression"), budget_epochs=40)
    assert [(r.levels, r.retrain.epochs) for r in recipes(Space(), goal)] == [(2, 16), (2, 16)]
    goal = Goal(objectives=("accuracy", "compression"), budget_epochs=9)
    assert [(r.levels, r.retrain.epochs) for r in recipes(Space(), goal)] == [(1, 8), (1, 8)]


def test_what_the_space_has_not_got_is_not_asked():
    assert recipes(Space(methods=("finetune",)), Goal()) == []
    assert recipes(Space(levels=(5,), fractions=(0.9,)), Goal()) == []  # 100,000 times
    (only,) = recipes(Space(structures=("2:4",), layers="stages.*"), Goal())
    assert only.describe() == "lr_rewind, 16 epochs, 2:4 of stages.*"


@given(
    fractions=st.lists(st.sampled_from((0.1, 0.2, 0.5, 0.8, 0.9)), min_size=1, unique=True),
    levels=st.one_of(
        st.builds(
            lambda a, b: Range(low=a, high=a + b, step=2), st.integers(1, 9), st.integers(0, 9)
        ),
        st.lists(st.integers(1, 12), min_size=1, unique=True).map(tuple),
    ),
    low=st.floats(0.05, 1.0),
    budget=st.one_of(st.none(), st.integers(1, 200)),
    target=st.one_of(st.none(), st.floats(1.1, 90.0)),
)
def test_they_are_within_space_and_limits(fractions, levels, low, budget, target):
    goal = Goal(
        objectives=("accuracy", "compression") if target is None else ("accuracy",),
        budget_epochs=budget,
        target_compression=target,
    )
    space = Space(fractions=tuple(fractions), levels=levels, shares=Range(low=low, high=1.0))
    for recipe in recipes(space, goal):
        assert recipe.cost_epochs(PROTOCOL) <= (budget or math.inf)
        assert recipe.compression() <= space.max_compression + 1e-6 or target is not None
        assert recipe.prune.fraction in (min(fractions), max(fractions))
        deeper = replace(recipe, levels=recipe.levels + 1)
        if target is None and isinstance(levels, Range) and levels.low == 1:
            deeper = replace(recipe, levels=recipe.levels + 2)
            within = deeper.compression() <= space.max_compression
            affordable = deeper.cost_epochs(PROTOCOL) <= (budget or math.inf)
            assert not (within and affordable and deeper.levels <= levels.high)


@given(
    low=st.integers(0, 20),
    length=st.integers(0, 30),
    step=st.integers(1, 7),
    limit=st.floats(-1, 60),
    scale=st.sampled_from((1, 10)),
)
def test_the_greatest_value_up_to_a_limit(low, length, step, limit, scale):
    """Against looking at all of them."""
    values = [value / scale if scale > 1 else value for value in range(low, low + length + 1, step)]
    knob = Range(low=values[0], high=(low + length) / scale, step=step / scale)
    if scale == 1:
        knob = Range(low=low, high=low + length, step=step)
    allowed = [value for value in values if value <= limit + 1e-9]
    assert greatest(knob, limit) == (pytest.approx(max(allowed)) if allowed else None)
    assert greatest(tuple(values), limit) == max(allowed, default=None)


def test_a_search_begins_with_them(tmp_path):
    search = searching(tmp_path, suggestions=4)
    run(search)
    first, second, *_ = asked(search)
    assert first == {
        "method": "lr_rewind",
        "structure": "unstructured",
        "fraction": 0.5,
        "levels": 3,
        "share": 1.0,
        "momentum": False,
    }
    assert second == first | {"fraction": 0.2}
    assert len(asked(search)) == 4

"""Fronts, limits and what is recommended."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_ray.spec import Prune, Retrain
from sweeps.options import drop_limit
from sweeps.searching.objectives import (
    MAXIMISE,
    Goal,
    Point,
    front_of,
    is_feasible,
    is_promising,
    noise_of,
    recommended,
    violations,
)
from sweeps.searching.space import Recipe

RECIPE = Recipe(prune=Prune(fraction=0.2), retrain=Retrain(method="lr_rewind", epochs=4), levels=1)
GOALS = [
    Goal(),
    Goal(cost="flops"),
    Goal(objectives=("accuracy", "compression"), budget_epochs=20),
    Goal(objectives=("compression", "cost"), max_accuracy_drop=0.1),
    Goal(objectives=("accuracy", "cost"), target_compression=3.0),
    Goal(objectives=("cost",), max_accuracy_drop=0.1, target_compression=3.0),
    Goal(objectives=("accuracy",), target_compression=3.0, budget_epochs=20),
]


def point(accuracy=0.9, compression=4.0, epochs=10, drop=None, flops=None):
    return Point(
        recipe=RECIPE,
        seeds=(0,),
        val_accuracy=accuracy,
        drop=0.95 - accuracy if drop is None else drop,
        test_accuracies=(accuracy,),
        compression=compression,
        cost_epochs=epochs,
        cost_flops=1e6 * epochs if flops is None else flops,
    )


points = st.lists(
    st.builds(
        point,
        accuracy=st.sampled_from([0.7, 0.8, 0.85, 0.9, 0.95]),
        compression=st.sampled_from([1.5, 2.0, 2.95, 4.0, 8.0]),
        epochs=st.integers(1, 30),
        flops=st.sampled_from([1e6, 2e6, 5e6]),
    ),
    max_size=25,
)


def beats(a, b, goal):
    """As good in all objectives, and better in one: the definition, written out."""
    pairs = []
    for name in goal.objectives:
        ours, theirs = (
            {
                "accuracy": p.val_accuracy,
                "compression": p.compression,
                "cost": p.cost_flops if goal.cost == "flops" else p.cost_epochs,
            }[name]
            for p in (a, b)
        )
        pairs.append((ours, theirs) if MAXIMISE[name] else (-ours, -theirs))
    return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: " ".join(goal.objectives) + goal.cost)
@given(points)
def test_the_front_is_what_brute_force_finds(goal, given_points):
    within = [p for p in given_points if is_feasible(p, goal)]
    expected = [p for p in within if not any(beats(other, p, goal) for other in within)]
    assert front_of(given_points, goal) == expected


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: " ".join(goal.objectives) + goal.cost)
@given(points, points)
def test_promising_is_on_the_front_and_noise_only_adds(goal, others, candidates):
    for candidate in candidates:
        on_front = candidate in front_of([*others, candidate], goal)
        assert is_promising(candidate, others, goal, noise=0.0) == on_front
        assert is_promising(candidate, others, goal, noise=0.05) >= on_front
        shown = is_promising(candidate, others, goal, noise=1.0)
        if "accuracy" in goal.objectives and is_feasible(candidate, goal):
            assert shown  # nothing beats an accuracy of more than 1


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: " ".join(goal.objectives) + goal.cost)
@given(points)
def test_what_is_recommended_is_of_the_front(goal, given_points):
    front = front_of(given_points, goal)
    if front:
        assert recommended(front, goal, noise=0.01) in front


def test_as_accurate_as_dense_and_then_the_smallest():
    small, smaller = point(0.945, 4.0, 30), point(0.94, 8.0, 30)
    cheap, poor = point(0.945, 4.0, 5), point(0.85, 50.0, 5)
    front = [small, smaller, cheap, poor]
    assert recommended(front, Goal(), noise=0.006) is cheap
    assert recommended(front, Goal(), noise=0.02) is smaller
    goal = Goal(objectives=("accuracy", "cost"), target_compression=3.0)
    assert recommended(front, goal, noise=0.02) is cheap
    worse = [point(0.5, 4.0), point(0.49, 8.0), point(0.3, 99.0)]
    assert recommended(worse, Goal(), noise=0.02) is worse[1]  # near the best there is


def test_limits_tell_how_far_they_are_missed():
    goal = Goal(objectives=("cost",), max_accuracy_drop=0.01, target_compression=10.0)
    missed = violations(point(compression=5.0, drop=0.03), goal)
    assert missed["accuracy drop"] == pytest.approx(0.02)
    assert missed["compression"] == pytest.approx(0.48)
    assert violations(point(drop=0.01, compression=9.9), goal)["accuracy drop"] <= 0
    assert is_feasible(point(drop=0.01, compression=9.9), goal)  # filters come in lumps


def test_the_noise_is_the_standard_error_of_a_share():
    assert noise_of(0.9, 10_000) == pytest.approx(math.sqrt(0.9 * 0.1 / 10_000), rel=1e-3)
    assert 0 < noise_of(1.0, 72) < 0.02


@pytest.mark.parametrize(
    ("text", "fraction"), [("0.5pt", 0.005), ("0.005", 0.005), ("0", 0.0), (None, None)]
)
def test_drops_are_points_or_fractions(text, fraction):
    assert drop_limit(text) == fraction


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": ()}, "allowed"),
        ({"objectives": ("accuracy", "accuracy")}, "allowed"),
        ({"objectives": ("speed",)}, "accuracy, compression, cost"),
        ({"objectives": ("accuracy",)}, "--target-compression"),
        ({"objectives": ("compression",)}, "--max-accuracy-drop"),
        ({"objectives": ("cost",), "target_compression": 4.0}, "--max-accuracy-drop"),
        ({"target_compression": 4.0}, "leave one of the two out"),
        ({"max_accuracy_drop": 0.01}, "leave one of the two out"),
        ({"budget_epochs": 10}, "leave one of the two out"),
        ({"objectives": ("compression",), "max_accuracy_drop": 1.5}, "as 0.5pt"),
        ({"objectives": ("accuracy",), "target_compression": 0.5}, "above 1"),
        ({"objectives": ("accuracy", "compression"), "budget_epochs": 0}, "from 1 up"),
    ],
)
def test_limits_that_contradict_or_leave_the_question_open_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Goal(**settings)


def test_a_drop_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="--max-accuracy-drop is 'half a point'"):
        drop_limit("half a point")

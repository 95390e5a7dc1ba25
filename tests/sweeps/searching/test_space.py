"""Knobs, and the recipes that choices make."""

from __future__ import annotations

import itertools
import math

import optuna
import pytest
from optuna.samplers import RandomSampler

from rewind_ray.knobs import value_of
from rewind_ray.limits import Range
from rewind_ray.retraining import METHODS
from sweeps.plan.naming import target_density
from sweeps.searching.space import (
    Space,
    default_space,
    endless_knobs,
    epochs_between,
    narrowed,
    num_recipes,
    read_space,
    recipe_of,
)
from sweeps.searching.study import SAMPLERS
from tests.sweeps.running import tiny_protocol

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

PROTOCOL = tiny_protocol()
FINITE = Space(
    fractions=(0.3, 0.5),
    levels=Range(low=1, high=3, step=1),
    shares=(0.25, 1.0),
    lrs=(0.01, 0.1),
    alphas=(0.5,),
    structures=("unstructured", "filters", "2:4"),
)


def sampled(space, target=None, count=300, sampler=None):
    """Every suggestion of a study: its parameters, and the recipe they make."""
    found = []

    def objective(trial):
        found.append((trial, recipe_of(trial, space, PROTOCOL, target)))
        return 0.0

    optuna.create_study(sampler=sampler or RandomSampler(seed=0)).optimize(objective, count)
    return found


@pytest.mark.parametrize("target", [None, 6.0])
def test_what_a_recipe_says_is_what_its_stages_are(target):
    methods = set()
    for _, recipe in sampled(default_space(PROTOCOL), target):
        *_, end = chain = recipe.chain(PROTOCOL, seed=3)
        assert recipe.cost_epochs(PROTOCOL) == sum(stage.train_epochs for stage in chain[1:])
        assert recipe.compression() == pytest.approx(1 / target_density(end))
        assert [stage.level for stage in chain] == list(range(recipe.levels + 1))
        assert {stage.seed for stage in chain} == {3}
        assert target is None or recipe.compression() >= target * (1 - 1e-9)
        shorter = recipe.up_to(recipe.levels - 1).chain(PROTOCOL, seed=3)
        assert [s.stage_id for s in shorter] == [s.stage_id for s in chain[:-1]]
        methods.add(recipe.retrain.method)
    assert methods == set(METHODS)


def test_a_told_trial_gives_its_recipe_again():
    found = sampled(default_space(PROTOCOL))
    frozen_trials = found[0][0].study.trials
    for trial, recipe in found:
        frozen = frozen_trials[trial.number]
        assert recipe_of(frozen, default_space(PROTOCOL), PROTOCOL) == recipe


@pytest.mark.parametrize("target", [None, 4.0])
def test_a_grid_has_as_many_recipes_as_are_counted(target):
    """Optuna's brute-force sampler stops once it has tried all."""
    space = narrowed(FINITE, {"methods": ("finetune", "scratch_e", "scratch_b", "step", "blend")})
    found = sampled(space, target, count=None, sampler=SAMPLERS["grid"](0))
    assert len(found) == num_recipes(space, levels_known=target is not None)
    parameters = {tuple(sorted(trial.params.items())) for trial, _ in found}
    assert len(parameters) == len(found)


@pytest.mark.parametrize(
    ("structure", "target"), [("unstructured", None), ("unstructured", 4.0), ("2:4", None)]
)
def test_the_cheapest_and_the_dearest_recipe(structure, target):
    methods = ("finetune", "reinit", "scratch_b", "lr_rewind")
    for names in itertools.combinations(methods, 2):
        space = narrowed(FINITE, {"methods": names, "structures": (structure,)})
        found = sampled(space, target, count=None, sampler=SAMPLERS["grid"](0))
        costs = [recipe.cost_epochs(PROTOCOL) for _, recipe in found]
        assert epochs_between(space, PROTOCOL, target) == (min(costs), max(costs))


def test_drops_are_at_half_of_the_retraining_and_then_halfway_to_its_end():
    space = narrowed(FINITE, {"methods": ("step",), "shares": (1.0,), "decays": (2,)})
    _, recipe = sampled(space, count=1)[0]
    assert (recipe.retrain.epochs, recipe.retrain.drops) == (4, (2.0, 3.0))
    assert value_of(recipe.retrain, "factor") == 0.1


def test_rates_and_steps_are_round_numbers():
    for _, recipe in sampled(default_space(PROTOCOL)):
        lr, alpha = recipe.retrain.lr, recipe.retrain.alpha
        assert lr is None or float(f"{lr:.2g}") == lr
        assert alpha is None or len(f"{alpha}") == 3  # 0.3, not 0.30000000000000004


# files


def test_a_file_narrows_the_space(tmp_path):
    file = tmp_path / "space.toml"
    file.write_text(
        'methods = ["lr_rewind"]\nlevels = {low = 2, high = 6, step = 2}\n'
        "lrs = {low = 0.001, high = 1.0, log = true}\nmomentum = [true]\nmax_compression = 30\n"
    )
    space = read_space(str(file), Space())
    assert space.methods == ("lr_rewind",) and space.momentum == (True,)
    assert space.levels == Range(low=2, high=6, step=2) and space.max_compression == 30
    assert space.fractions == Space().fractions
    assert endless_knobs(space) == ["lrs"]
    assert num_recipes(space, levels_known=False) == 3 * 6 * 10  # lr_rewind takes no rate
    assert num_recipes(narrowed(space, {"methods": ("llr",)}), levels_known=False) == math.inf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methods = []", "no methods"),
        ('methods = ["prayer"]', "lr_rewind"),
        ("fractions = [0.2, 1.0]", "above 0 and below 1"),
        ("fractions = [0.2, 0.2]", "twice"),
        ("levels = [0]", "whole numbers from 1 to 1000"),
        ("levels = {low = 1, high = 2.5}", "whole"),
        ("levels = {low = 5, high = 2, step = 1}", "low is at most high"),
        ("shares = {low = 0.1, high = 1.0, step = 1e-9}", "allowed: up to 1,000,000 values"),
        ("shares = {low = 0.1, high = 1.0, step = 5e-324}", "allowed: up to 1,000,000 values"),
        ("shares = {low = 0.5, high = 1.5, step = 0.5}", "above 0, up to 1"),
        ("shares = {low = 0.5}", "a range has low, high"),
        ("lrs = {low = 0, high = 1, log = true}", "0"),
        ("lrs = 0.1", "give a list"),
        ("momentum = [1]", "true or false"),
        ("colours = [1]", "known: methods"),
        ("max_compression = 1", "above 1"),
        ("fractions = [", "space.toml"),
    ],
)
def test_a_wrong_file_is_refused_by_name(text, message, tmp_path):
    file = tmp_path / "space.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"space\.toml") as refused:
        read_space(str(file), Space())
    assert message in str(refused.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ValueError, match="no space file"):
        read_space(str(tmp_path / "none.toml"), Space())

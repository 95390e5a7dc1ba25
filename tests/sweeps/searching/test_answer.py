"""What a search says at its end: commands to paste, intervals, comparisons, importance."""

from __future__ import annotations

import shlex
from typing import Annotated

import optuna
import pytest
import tyro
from optuna.samplers import RandomSampler
from scipy import stats

from rewind_ray.retraining import METHODS
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol
from sweeps.compare import Comparison, Training, chosen_protocol, compare
from sweeps.options import Options
from sweeps.plan.chains import prepared, scaled, seeds
from sweeps.plan.graph import build_graph
from sweeps.searching.answer import command_of, importance_lines, interval
from sweeps.searching.confirm import Confirmation, confirmation
from sweeps.searching.objectives import Point
from sweeps.searching.rival import STEP, published_cost, rivals_at
from sweeps.searching.space import default_space, narrowed, recipe_of
from tests.sweeps.searching.searches import row

DIGITS = Training(network="digits_resnet", dataset="digits", protocol="digits")
SHORT = Training(
    network="digits_resnet",
    dataset="digits",
    protocol="digits",
    epochs=6,
    lr=0.05,
    drops=(3, 5),
    validation=0.3,
    train_examples=100,
)


def parsed(command):
    """The stages that a pasted ``rewind-ray compare`` would train, without training them."""
    words = shlex.split(command)
    assert words[:2] == ["rewind-ray", "compare"]

    def main(
        *,
        training: Annotated[Training, tyro.conf.arg(name="")],
        comparison: Annotated[Comparison, tyro.conf.arg(name="")],
        options: Annotated[Options, tyro.conf.arg(name="")],
    ):
        return training, comparison, options

    config = (tyro.conf.FlagCreatePairsOff,)
    training, comparison, options = tyro.cli(main, args=words[2:], config=config)
    full, _ = chosen_protocol(training, None)
    protocol = prepared(full, options)
    rewind_epoch = scaled(comparison.rewind_epoch, full.epochs, protocol)
    stages = compare(protocol, comparison, rewind_epoch, seeds(options, 3))
    return {i: node.row_epochs for i, node in build_graph(stages).items()}


@pytest.mark.parametrize("training", [DIGITS, SHORT], ids=["digits", "short"])
@pytest.mark.parametrize(
    "options",
    [Options(), Options(smoke=True), Options(precision="bf16", storage="some where")],
    ids=["plain", "smoke", "bf16"],
)
def test_the_command_trains_the_very_recipe(training, options):
    full, _ = chosen_protocol(training, None)
    protocol = prepared(full, options)
    space = narrowed(
        default_space(protocol),
        {"structures": ("unstructured", "filters", "2:4"), "layers": "stages.*"},
    )
    methods = set()

    def objective(trial):
        recipe = recipe_of(trial, space, protocol)
        command = command_of(recipe, training, options, 2, protocol, full.epochs)
        ours = build_graph(recipe.chain(protocol, seed)[-1] for seed in (0, 1))
        assert parsed(command) == {i: node.row_epochs for i, node in ours.items()}, command
        methods.add(recipe.retrain.method)
        return 0.0

    optuna.create_study(sampler=RandomSampler(seed=0)).optimize(objective, 60)
    assert methods == set(METHODS)


def test_intervals_are_student_s():
    values = [0.91, 0.93, 0.90, 0.94]
    low, high = interval(values)
    t = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((t.low, t.high))
    assert interval([0.9]) is None and interval([0.0, 1.0]) == (0.0, 1.0)


# Rivals


@pytest.mark.parametrize("compression", [1.25, 2.0, 10.0, 60.0])
@pytest.mark.parametrize("cost", [1, 3, 10, 40, 200, 2000])
def test_rivals_prune_as_far_for_no_more(compression, cost):
    protocol = Protocol(
        network="digits_resnet",
        dataset="digits",
        epochs=16,
        schedule=Schedule(lr=0.1),
        batch_size=64,
        weight_decay=0.0,
    )
    point = Point(
        recipe=None,
        seeds=(0,),
        val_accuracy=0.9,
        drop=0.0,
        test_accuracies=(0.9,),
        compression=compression,
        cost_epochs=cost,
        cost_flops=1.0,
    )
    rivals = rivals_at(point, protocol)
    for rival in rivals.values():
        assert rival.compression() == pytest.approx(compression)
        assert rival.cost_epochs(protocol) <= cost
        assert rival.retrain.epochs == 16 or rival.cost_epochs(protocol) > cost - rival.levels
        assert len(rival.chain(protocol, seed=1)) == rival.levels + 1
    full = published_cost(compression, protocol)
    if cost >= full:  # then Algorithm 1 as it is
        (rival,) = rivals.values()
        assert rival.retrain.epochs == 16 and rival.prune.fraction == pytest.approx(STEP, abs=0.05)
    elif cost >= 32 and compression > 2:
        longest = max(rival.retrain.epochs for rival in rivals.values())
        assert longest == 16 and len(rivals) == 2


# The comparison


def rows(values):
    return {1000 + number: row(value) for number, value in enumerate(values)}


def test_the_comparison_is_paired():
    ours, theirs = [0.9, 0.92, 0.91, 0.93, 0.94, 0.92], [0.89, 0.9, 0.9, 0.9, 0.92, 0.91]
    found = confirmation(rows(ours), rows(theirs))
    oracle = stats.ttest_rel(ours, theirs)
    assert found.judged.p == pytest.approx(oracle.pvalue)
    assert found.judged.low == pytest.approx(oracle.confidence_interval().low)
    assert "recommended recipe is better by 1.67 points" in found.verdict()
    turned = confirmation(rows(theirs), rows(ours))
    assert "recommended recipe is worse by 1.67 points" in turned.verdict()


def test_several_rivals_are_corrected_for():
    ours, theirs = [0.9, 0.92, 0.91, 0.93], [0.895, 0.91, 0.905, 0.928]
    one, two = (confirmation(rows(ours), rows(theirs), number) for number in (1, 2))
    assert one.judged.p == two.judged.p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert 0.025 < one.judged.p < 0.05
    assert "is better" in one.verdict() and "no difference shown" in two.verdict()


def test_what_could_not_be_shown_is_said():
    same = confirmation(rows([0.9, 0.8, 0.9]), rows([0.5, 0.4, 0.5]))
    assert same.judged.p == 0.25 and "no difference shown" in same.verdict()
    few = confirmation(rows([0.9, 0.8, 0.9]), rows([0.88, 0.81, 0.9]))
    needed = f"--confirm-seeds {few.judged.seeds_needed:.0f}"
    assert few.judged.seeds_needed > 3 and needed in few.verdict()
    one = confirmation(rows([0.9]), rows([0.8]))
    assert "interval" not in one.verdict() and isinstance(one, Confirmation)


def test_what_is_inside_the_margin_is_equivalent():
    ours, theirs = [0.9, 0.92, 0.91, 0.93], [0.901, 0.9195, 0.9105, 0.9295]
    assert "equivalent within 0.5 points" in confirmation(rows(ours), rows(theirs)).verdict()


def test_only_seeds_that_both_have_are_compared():
    ours, theirs = rows([0.9, 0.8, 0.7]), rows([0.8, 0.8, 0.8])
    del ours[1001], theirs[1002]
    assert confirmation(ours, theirs).seeds == (1000,)
    assert confirmation({}, theirs) is None


# Importance


def test_the_knob_that_decides_is_the_most_important():
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RandomSampler(seed=0))

    def objective(trial):
        deciding = trial.suggest_float("deciding", 0, 1)
        trial.suggest_float("idle", 0, 1)
        if trial.number < 10:
            trial.suggest_float("rare", 0, 1)
        return deciding, -deciding

    study.optimize(objective, 24)
    (line,) = importance_lines(study)
    assert "24 finished suggestions are too few" in line
    study.optimize(objective, 40)
    (line,) = importance_lines(study)
    assert "deciding" in line.split(": ")[1].split(",")[0]
    assert line.endswith("too rarely suggested: rare")

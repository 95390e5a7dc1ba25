"""Recipes against the papers' own points."""

from __future__ import annotations

import pytest

from rewind_ray.errors import UserError
from rewind_ray.protocols import digits, mikler_wrn, renda_cifar
from rewind_ray.spec import Prune, Retrain, dense_stage
from sweeps import mikler2022
from sweeps.iterative_wrn import iterative_wrn
from sweeps.mikler2022 import FIGURES, RESNET_DENSITIES, REWINDINGS, WRN_DENSITIES, retrainings
from sweeps.options import Options
from sweeps.plan.chains import iterative, one_shot, prepared, scaled, smoke, steps_to
from sweeps.plan.graph import build_graph
from sweeps.plan.naming import chain_names, stage_title, target_density
from sweeps.quickstart import quickstart
from tests.sweeps.running import tiny_protocol

# Compression ratios of the points of figures 1, 2 and 5 (vector coordinates of the PDF).
PUBLISHED_RESNET = (1.25, 1.5625, 1.9531, 2.439, 3.0488, 3.8168, 4.7619, 5.9524, 7.4627, 9.3458)
PUBLISHED_RESNET56 = (*PUBLISHED_RESNET, 11.6279, 14.4928, 18.1818, 22.7273)
PUBLISHED_WRN_ONE_SHOT = (1.3333, 2, 5, 10, 20, 40)
PUBLISHED_WRN_ITERATIVE = (
    *(1.4286, 2.0408, 2.9155, 4.1667, 5.9524, 8.4746, 12.1951),
    *(17.2414, 25, 35.7143, 50, 71.4286, 100),
)


def stages_of(figure, seeds=1):
    return build_graph(s for seed in range(seeds) for s in mikler2022.stages_of(figure, seed))


def ratios(graph, method, step=None):
    """Compression of the chain of this step, or of the one-shot stages."""
    chosen = [node.stage for node in graph.values() if node.stage.method == method]
    if step is None:
        chosen = [s for s in chosen if s.level == 1]
    else:
        chosen = [s for s in chosen if s.prune.fraction == step]
    return sorted(1 / target_density(stage) for stage in chosen)


def test_densities_are_those_of_the_figures():
    assert [1 / d for d in RESNET_DENSITIES] == pytest.approx(PUBLISHED_RESNET, abs=1e-4)
    assert [1 / d for d in WRN_DENSITIES] == pytest.approx(PUBLISHED_WRN_ONE_SHOT, abs=1e-4)


@pytest.mark.parametrize("method", ["weight_rewind", "lr_rewind", "finetune"])
def test_iterative_chains_reach_the_figures_points(method):
    """The figures round 0.8^k to three digits, so they agree to half a percent."""
    assert ratios(stages_of("fig1"), method, step=0.2) == pytest.approx(PUBLISHED_RESNET, rel=5e-3)
    assert ratios(stages_of("fig2"), method, step=0.2) == pytest.approx(
        PUBLISHED_RESNET56, rel=5e-3
    )


def test_wide_resnet_chains_reach_the_figures_points():
    graph = stages_of("fig5")
    for method in ("weight_rewind", "lr_rewind"):
        assert ratios(graph, method, step=0.3) == pytest.approx(PUBLISHED_WRN_ITERATIVE, rel=0.035)
    six = stages_of("fig6")
    assert ratios(six, "lr_rewind", step=0.2) == pytest.approx(PUBLISHED_RESNET, rel=5e-3)
    assert ratios(six, "lr_rewind", step=0.3) == pytest.approx(
        PUBLISHED_WRN_ITERATIVE[:8], rel=0.035
    )


@pytest.mark.parametrize(
    ("figure", "stages"),
    [  # dense + methods x (one-shot + iterative - shared first steps)
        ("fig1", 1 + 3 * (10 + 10 - 1)),
        ("fig2", 1 + 3 * (10 + 14 - 1)),
        ("fig3", 1 + 3 * 10),
        ("fig4", 1 + 3 * 10),
        ("fig5", 1 + 2 * (6 + 13)),
        ("fig6", 1 + 8 + 10),
        ("table5", 1 + 3),
    ],
)
def test_stages_of_the_figures(figure, stages):
    assert len(stages_of(figure)) == stages
    assert len(stages_of(figure, seeds=3)) == 3 * stages


def test_methods_retrain_as_the_paper_says():
    """Weights go back to epoch 4 of 40; rates always to the start (Mikler 2022, §5.3)."""
    for node in stages_of("fig5").values():
        if node.stage.method == "weight_rewind":
            assert (node.stage.rewind_epoch, node.stage.train_epochs) == (4, 36)
        if node.stage.method == "lr_rewind":
            assert (node.stage.rewind_epoch, node.stage.train_epochs) == (0, 40)


def test_filters_and_networks_of_the_figures():
    assert {n.stage.prune.structure for n in stages_of("fig3").values() if n.stage.prune} == {
        "filters"
    }
    networks = {name: (p().network, p().dataset) for name, (p, _, _) in FIGURES.items()}
    assert networks == {
        "fig1": ("resnet20", "cifar10"),
        "fig2": ("resnet56", "cifar10"),
        "fig3": ("resnet20", "cifar10"),
        "fig4": ("resnet56", "cifar100"),
        "fig5": ("wrn_16_8", "cifar10"),
        "fig6": ("wrn_16_8", "cifar10"),
        "table5": ("resnet110", "cifar10"),
    }


@pytest.mark.parametrize(
    ("ratio", "fraction", "steps"), [(100, 0.3, 13), (100, 0.2, 21), (2, 0.5, 1), (2.01, 0.5, 2)]
)
def test_steps_to_a_compression(ratio, fraction, steps):
    assert steps_to(ratio, fraction) == steps
    assert (1 - fraction) ** -steps >= ratio > (1 - fraction) ** -(steps - 1) * 0.999


@pytest.mark.parametrize("fraction", [1e-9, 1e-320])
def test_a_chain_that_would_never_end_is_refused(fraction):
    with pytest.raises(UserError, match=r"levels with a fraction of .*allowed: up to 1,000"):
        steps_to(100, fraction)
    dense = dense_stage(tiny_protocol(), 0)
    with pytest.raises(UserError, match=r"100,000,000 levels; allowed: up to 1,000"):
        iterative(dense, Retrain(method="lr_rewind", epochs=1), 10**8, Prune(fraction=0.5))


def test_iterative_wrn_holds_both_figures():
    """Stages it shares with them are trained once."""
    dense = dense_stage(mikler_wrn(), 0)
    retrained = retrainings(dense.protocol, 4, "as_run", REWINDINGS)
    sweep = build_graph(iterative_wrn(dense, retrained, (0.2, 0.3), 100.0))
    assert set(stages_of("fig5")) | set(stages_of("fig6")) <= set(sweep)


def test_quickstart_is_26_stages_with_a_baseline_a_seed():
    protocol = prepared(digits(), Options())
    graph = build_graph(quickstart(protocol, range(2)))
    assert len(graph) == 26
    assert sum(node.stage.level == 0 for node in graph.values()) == 2
    retrained = {n.stage.train_epochs for n in graph.values() if n.stage.level}
    assert len(retrained) == 1  # all methods at the same search cost


@pytest.mark.parametrize("figure", FIGURES)
def test_smoke_is_the_same_graph(figure):
    protocol, recipe, methods = FIGURES[figure]
    small = smoke(protocol())
    full = stages_of(figure)
    rewind_epoch = scaled(4, protocol().epochs, small)
    retrained = retrainings(small, rewind_epoch, "as_run", methods)
    tiny = build_graph(recipe(dense_stage(small, 0), retrained))

    def shape(graph):
        place = {stage_id: number for number, stage_id in enumerate(graph)}
        return [(place.get(n.parent_id), n.stage.method, n.stage.prune) for n in graph.values()]

    assert shape(tiny) == shape(full)
    assert max(node.epochs for node in tiny.values()) <= 10


@pytest.mark.parametrize("epochs", [0, 1, 4, 17, 36])
def test_scaled_keeps_the_ends(epochs):
    small = smoke(FIGURES["fig1"][0]())
    there = scaled(epochs, 36, small)
    assert 0 <= there <= small.epochs
    assert (there == 0) == (epochs == 0)
    assert scaled(36, 36, small) == small.epochs


@pytest.mark.parametrize("density", [0, 1, -0.5, 1.5, float("nan")])
def test_impossible_densities_are_refused(density):
    dense = dense_stage(renda_cifar(), 0)
    with pytest.raises(ValueError, match="density is"):
        list(
            one_shot(dense, Retrain(method="lr_rewind", epochs=1), (density,), Prune(fraction=0.5))
        )


def test_chains_have_names_of_their_own():
    for figure in FIGURES:
        graph = stages_of(figure, seeds=2)
        names = chain_names(graph)
        assert set(names) == set(graph)
        of_chain = {}
        for stage_id, name in names.items():
            of_chain.setdefault(name, set()).add(graph[stage_id].stage.seed)
        assert all(len(seeds) == 1 for seeds in of_chain.values())
        assert not any(set(name) & set(' :*?"<>|\\') for name in of_chain)


def test_stages_that_differ_in_a_detail_keep_their_chains_apart():
    dense = dense_stage(renda_cifar(), 0)
    retrains = [
        Retrain(method="lr_rewind", epochs=5, restore_momentum=momentum)
        for momentum in (False, True)
    ]
    graph = build_graph(
        s for r in retrains for s in one_shot(dense, r, (0.5,), Prune(fraction=0.5))
    )
    assert len(set(chain_names(graph).values())) == 3


def test_titles_say_what_a_person_wants_to_know():
    stage = next(n.stage for n in stages_of("fig1").values() if n.stage.level == 3)
    assert stage_title(stage) == "resnet20 cifar10 weight_rewind 1.95× level 3 seed 0"

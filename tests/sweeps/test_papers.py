"""The recipes of Renda et al. and Wang et al., and the growing chain of Algorithm 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewind_ray.protocols import renda_cifar
from rewind_ray.spec import dense_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage
from sweeps import renda2020, wang2023
from sweeps.algorithm1 import Algorithm, algorithm1, answers, drop_from_dense
from sweeps.commands.list import catalogue, list_command
from sweeps.options import Options
from sweeps.plan.graph import build_graph
from sweeps.run.dispatcher import Dispatcher, State
from tests.sweeps.running import tiny_protocol

# Of the 22,590 published trials: (network, technique, iterative, method) -> points a seed.
PUBLISHED_POINTS = {
    ("resnet56", "unstructured", False, "finetune"): 10 * 10,
    ("resnet56", "unstructured", False, "weight_rewind"): 10 * 10,
    ("resnet56", "unstructured", False, "lr_rewind"): 10 * 10,
    ("resnet56", "unstructured", False, "low_lr_weight_rewind"): 10 * 10,
    ("resnet56", "unstructured", False, "reinit"): 10 * 10,
    ("resnet50", "unstructured", False, "reinit"): 10 * 10,
    ("resnet56", "filters", False, "finetune"): 2 * 5 * 10,
    ("resnet110", "filters", False, "reinit"): 2 * 5 * 10,
    ("resnet34", "filters", False, "weight_rewind"): 2 * 5 * 10,
}


def graph_of(figure, options=None, seeds=1):
    networks = renda2020.networks_of(figure, renda2020.FIGURES[figure])
    stages = renda2020.renda2020(
        renda2020.FIGURES[figure], networks, options or Options(), range(seeds)
    )
    return build_graph(stages)


@pytest.mark.parametrize("key", PUBLISHED_POINTS)
def test_figure_7_has_the_published_points(key):
    network, structure, _, method = key
    rows = sum(
        len(node.row_epochs)
        for node in graph_of("fig7").values()
        if node.stage.protocol.network == network
        and node.stage.method == method
        and node.stage.prune.structure == structure
    )
    assert rows == PUBLISHED_POINTS[key]


def test_figure_8_has_the_published_levels():
    """17 of ResNet-56, 10 of the others, for each of ten retraining times."""
    graph = graph_of("fig8")
    for network, levels in renda2020.ITERATIVE_LEVELS.items():
        chosen = [n.stage for n in graph.values() if n.stage.protocol.network == network]
        assert max(stage.level for stage in chosen) == levels
        ends = [stage for stage in chosen if stage.level == levels and stage.method == "lr_rewind"]
        assert len({stage.train_epochs for stage in ends}) == 10


def test_finetuning_of_all_lengths_is_one_stage_and_rewinding_ten():
    nodes = [n for n in graph_of("fig3").values() if n.stage.protocol.network != "gnmt"]
    of = {
        method: [n for n in nodes if n.stage.method == method and n.stage.level == 1]
        for method in ("finetune", "lr_rewind")
    }
    assert len(of["finetune"]) == 2 * 10  # networks x densities
    assert len(of["lr_rewind"]) == 2 * 10 * 10


def test_renda_s_search_cost_of_algorithm_1():
    """T * (1 + k) epochs to 1 / 0.8^k; Renda et al. 2020, §6."""
    protocol = renda_cifar("resnet56")
    end = algorithm1(protocol, protocol, Algorithm(target_compression=9.0), 0)
    levels = end.level
    assert 0.8**-levels >= 9.0 > 0.8 ** -(levels - 1)
    graph = build_graph([end])
    assert sum(node.epochs for node in graph.values()) == 182 * (1 + levels)


@pytest.mark.parametrize("figure", renda2020.FIGURES)
def test_every_figure_of_renda_builds_in_full_and_small(figure):
    full, small = graph_of(figure), graph_of(figure, Options(smoke=True))
    assert {n.stage.method for n in small.values()} == {n.stage.method for n in full.values()}
    networks = {n.stage.protocol.network for n in full.values()}
    expected = {"gnmt_tiny" if network == "gnmt" else "resnet8" for network in networks}
    assert {n.stage.protocol.network for n in small.values()} == expected


def test_momentum_is_restored_as_the_authors_did():
    for node in graph_of("fig7").values():
        if node.stage.retrain:
            has_none = node.stage.method == "reinit" or (  # fresh weights, or those of epoch 0
                node.stage.method.endswith("weight_rewind") and node.stage.rewind_epoch == 0
            )
            assert node.stage.retrain.restore_momentum != has_none


def wang_graph(table, seeds=1):
    make_protocol, recipe = wang2023.TABLES[table]
    protocol = make_protocol()
    return build_graph(s for seed in range(seeds) for s in recipe(protocol, protocol, seed))


def test_table_4_has_a_line_for_every_setting():
    """12 lines x 6 pruning ratios; the settings prune at epochs of one dense trajectory."""
    graph = wang_graph("table4")
    (dense,) = [node for node in graph.values() if node.stage.level == 0]
    assert {0, 15, 30, 45, 60, 75, 90} <= dense.row_epochs
    assert len(graph) - 1 == 12 * 6


def test_setup_4_2_goes_on_with_the_original_schedule():
    """P30F90, 1e-2: the rates of epochs 30 to 120 of 0.1, x0.1 at 30/60/90/105."""
    from rewind_ray.training.stage import epoch_rates

    protocol = wang2023.wang_imagenet100()
    for setting in wang2023.S42:
        stage = wang2023.pruned(protocol, protocol, 0, 0.5, setting)
        assert setting.pruned_at + setting.finetuned == 120
        dense = dense_stage(protocol, 0)
        for epoch in range(setting.finetuned):
            original = epoch_rates(dense, setting.pruned_at + epoch, 100)(0)
            assert epoch_rates(stage, epoch, 100)(0) == pytest.approx(original), setting


def test_p30_over_k_is_pruned_k_times_earlier():
    protocol = wang2023.wang_imagenet100()
    stage = wang2023.pruned(protocol, protocol, 0, 0.9, wang2023.SXB[0])
    assert stage.parent.train_epochs == round(30 / 7.68)


@pytest.mark.parametrize("table", wang2023.TABLES)
def test_every_table_of_wang_builds(table):
    assert len(wang_graph(table)) > 10


def test_the_catalogue_names_every_recipe():
    commands = {entry.command for entry in catalogue()}
    assert {f"renda2020 {figure}" for figure in renda2020.FIGURES} <= commands
    assert {f"wang2023 {table}" for table in wang2023.TABLES} <= commands
    assert {"quickstart", "algorithm1", "iterative-wrn"} <= commands
    assert len(commands) == 4 + 7 + 13 + 5


@pytest.mark.slow
def test_the_page_is_what_the_command_prints(capsys):
    list_command(markdown=True)
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    page = Path(__file__).parents[2] / "docs" / "catalogue.md"
    assert [line for line in page.read_text().splitlines() if line.startswith("|")] == printed


# Algorithm 1


def run_chain(storage, limit, steps=4):
    protocol = tiny_protocol()
    ledger = Ledger(str(storage))
    algorithm = Algorithm(target_compression=0.8**-steps * 0.999, max_accuracy_drop=limit)
    end = algorithm1(protocol, protocol, algorithm, 0)
    dispatcher = Dispatcher(
        build_graph([end]),
        ledger,
        lambda stage, row: limit is not None and drop_from_dense(ledger, stage, row) > limit,
    )
    while (node := dispatcher.next_ready()) is not None:
        run_stage(node.job, Runtime(storage=str(storage)))
        dispatcher.finish(node.stage_id)
    return dispatcher, end


def test_without_a_limit_the_chain_goes_to_its_target(storage):
    dispatcher, end = run_chain(storage, None)
    assert dispatcher.counts[State.DONE] == 5 and dispatcher.ended
    (line,) = answers([end], dispatcher.ledger, None)
    assert "2.44×" in line and "target compression reached" in line


def test_a_chain_stops_after_the_first_level_that_is_too_low(storage):
    dispatcher, end = run_chain(storage, None)
    ledger = dispatcher.ledger
    drops = [
        drop_from_dense(ledger, stage, ledger.read_row(stage.stage_id, stage.train_epochs))
        for stage in end.chain
    ]
    limit = max(drops[1:]) - 1e-9
    stops_at = next(level for level, drop in enumerate(drops) if drop > limit)
    again, _ = run_chain(storage, limit)  # all is known already
    assert again.counts[State.DONE] == stops_at + 1
    assert again.counts[State.STOPPED] == 4 - stops_at
    lines = answers([end], ledger, limit)
    assert [f"stopped at level {stops_at}" in line for line in lines] == [True] * (stops_at > 0)


def test_nothing_below_a_stopped_level_is_trained(storage):
    dispatcher, _ = run_chain(storage, -1.0)  # any level is too low
    assert dispatcher.counts[State.STOPPED] == 4
    assert len(Ledger(str(storage)).stage_ids()) == 1

from __future__ import annotations

from rewind_ray.protocols import renda_cifar
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Job, Runtime
from rewind_ray.training.stage import run_stage
from sweeps.plan.chains import iterative, one_shot
from sweeps.plan.graph import (
    build_graph,
    cost,
    kept_points,
    lineages,
    longest_first,
    unfinished,
)
from tests.sweeps.running import tiny_protocol

HALF = Prune(fraction=0.5)


def chain(protocol, method="lr_rewind", steps=3, seed=0, epochs=2, fraction=0.5):
    retrain = Retrain(method=method, epochs=epochs)
    return iterative(dense_stage(protocol, seed), retrain, steps, Prune(fraction=fraction))


def test_every_stage_is_there_once_and_after_its_parent():
    protocol = tiny_protocol()
    ends = [chain(protocol, method) for method in ("lr_rewind", "weight_rewind", "finetune")] * 2
    graph = build_graph(ends)
    assert len(graph) == 1 + 3 * 3
    seen = set()
    for stage_id, node in graph.items():
        assert node.parent_id is None or node.parent_id in seen
        seen.add(stage_id)


def test_a_baseline_serves_all_methods_and_densities():
    dense = dense_stage(tiny_protocol(), 0)
    stages = [
        stage
        for method in ("finetune", "weight_rewind", "lr_rewind")
        for stage in one_shot(dense, Retrain(method=method, epochs=2), (0.2, 0.1), HALF)
    ]
    graph = build_graph(stages)
    assert len(graph) == 7
    assert len(graph[dense.stage_id].children) == 6


def test_rewind_points_are_those_that_children_start_from():
    dense = dense_stage(tiny_protocol(), 0)
    stages = [
        retrain_stage(dense, HALF, Retrain(method="weight_rewind", epochs=3)),
        retrain_stage(dense, HALF, Retrain(method="weight_rewind", epochs=1)),
        retrain_stage(dense, HALF, Retrain(method="lr_rewind", epochs=2)),
    ]
    node = build_graph(stages)[dense.stage_id]
    assert node.rewind_epochs == {4 - 3, 4 - 1, 4}
    assert node.row_epochs == {4}


def test_lengths_of_one_trajectory_are_one_stage_with_several_rows():
    dense = dense_stage(tiny_protocol(), 0)
    lengths = [1, 3, 7]
    stages = [
        retrain_stage(dense, HALF, Retrain(method="finetune", epochs=epochs)) for epochs in lengths
    ]
    graph = build_graph(stages)
    assert len(graph) == 2
    node = graph[stages[0].stage_id]
    assert node.row_epochs == set(lengths) and node.epochs == 7


def test_a_first_step_is_shared_by_one_shot_and_iterative():
    dense = dense_stage(tiny_protocol(), 0)
    retrain = Retrain(method="lr_rewind", epochs=2)
    (alone,) = one_shot(dense, retrain, (0.8,), HALF)
    graph = build_graph([alone, iterative(dense, retrain, 3, Prune(fraction=0.2))])
    assert len(graph) == 1 + 3


def test_cost_by_hand():
    protocol = tiny_protocol()
    dense = dense_stage(protocol, 0)
    finetunes = [
        retrain_stage(dense, HALF, Retrain(method="finetune", epochs=epochs)) for epochs in (1, 3)
    ]
    ends = [chain(protocol, "lr_rewind", steps=2, epochs=2), *finetunes]
    whole = cost(build_graph(ends))
    assert whole.stages == 4  # dense, two levels, one fine-tuning
    assert whole.rows == 5
    assert whole.epochs == 4 + 2 + 2 + 3
    alone = [4, 4 + 2, 4 + 2 + 2, 4 + 1, 4 + 3]
    assert whole.epochs_unshared == sum(alone)
    assert whole.sharing_factor == sum(alone) / 11


def test_rendas_grid_is_cut_several_fold_by_sharing():
    """Five methods and ten retraining times, 182 epochs; design: about 4.5-fold. Three of the
    methods exist so far."""
    protocol = renda_cifar()
    times = [round(182 * share / 10) for share in range(1, 11)]
    stages = [
        stage
        for seed in range(3)
        for method in ("finetune", "weight_rewind", "lr_rewind")
        for t in times
        for stage in one_shot(
            dense_stage(protocol, seed),
            Retrain(method=method, epochs=t),
            [0.8**level for level in range(1, 15)],
            HALF,
        )
    ]
    assert cost(build_graph(stages)).sharing_factor > 3


def test_what_is_kept():
    dense = dense_stage(tiny_protocol(), 0)
    child = retrain_stage(dense, HALF, Retrain(method="weight_rewind", epochs=3))
    graph = build_graph([child])
    assert kept_points(graph[dense.stage_id], "all") == 5  # epochs 0 to 4
    assert kept_points(graph[dense.stage_id], "referenced") == 2  # 1 and 4
    assert kept_points(graph[child.stage_id], "all") == 1


def test_longest_chain_goes_first():
    protocol = tiny_protocol()
    graph = build_graph([chain(protocol, "lr_rewind", 3), chain(protocol, "finetune", 1, epochs=1)])
    dense_id = next(iter(graph))
    longest = longest_first(graph)
    assert longest[dense_id] == 4 + 3 * 2
    by_method = {graph[child].stage.method: longest[child] for child in graph[dense_id].children}
    assert by_method == {"lr_rewind": 6, "finetune": 1}


def test_lineages_end_in_the_last_stage_of_a_chain():
    end = chain(tiny_protocol(), steps=3)
    last = lineages(build_graph([end]))
    assert [last[stage.stage_id] for stage in end.chain[1:]] == [end.stage_id] * 3
    assert last[end.baseline.stage_id] == end.baseline.stage_id


def test_finished_stages_are_found(storage):
    dense = dense_stage(tiny_protocol(), 0)
    graph = build_graph([retrain_stage(dense, HALF, Retrain(method="lr_rewind", epochs=2))])
    ledger = Ledger(str(storage))
    assert list(unfinished(graph, ledger)) == list(graph)
    run_stage(graph[dense.stage_id].job, Runtime(storage=str(storage)))
    assert list(unfinished(graph, ledger)) == list(graph)[1:]


def test_a_new_rewind_point_reopens_a_finished_baseline(storage):
    """``--keep referenced`` dropped an epoch that a later sweep starts from."""
    dense = dense_stage(tiny_protocol(), 0)
    runtime = Runtime(storage=str(storage), keep="referenced")
    run_stage(Job(stage=dense, row_epochs=(4,)), runtime)
    child = retrain_stage(dense, HALF, Retrain(method="weight_rewind", epochs=3))
    graph = build_graph([child])
    assert dense.stage_id in unfinished(graph, Ledger(str(storage)))
    run_stage(graph[dense.stage_id].job, runtime)
    assert dense.stage_id not in unfinished(graph, Ledger(str(storage)))

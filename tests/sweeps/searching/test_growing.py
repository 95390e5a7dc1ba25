"""A graph that grows while it is trained."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rewind_ray.schedule import Schedule
from rewind_ray.spec import Prune, Retrain, dense_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage
from sweeps.plan.chains import iterative
from sweeps.plan.graph import build_graph
from sweeps.run.dispatcher import Scheduler, State
from sweeps.run.progress import Progress
from sweeps.run.tensorboard import Boards
from tests.sweeps.run.test_dispatcher import train_all
from tests.sweeps.running import tiny_protocol


def chain(method="lr_rewind", epochs=1, levels=2, seed=0, **changes):
    dense = dense_stage(tiny_protocol(**changes), seed)
    retrain = Retrain(method=method, epochs=epochs)
    return iterative(dense, retrain, levels, Prune(fraction=0.5)).chain


def scheduler_of(stages, storage, stop=None):
    return Scheduler(build_graph(stages), Ledger(str(storage)), stop)


def train_next(scheduler, storage):
    node = scheduler.next_ready()
    run_stage(node.job, Runtime(storage=str(storage)))
    scheduler.finish(node.stage_id)
    return node


def test_it_ends_as_if_it_had_been_whole_from_the_beginning(storage, tmp_path):
    chains = [chain(), chain("weight_rewind", 2), chain("finetune", 1), chain("finetune", 3, 1)]
    whole = scheduler_of([stage for stages in chains for stage in stages], tmp_path / "whole")
    train_all(whole, tmp_path / "whole")
    scheduler = scheduler_of(chains[0][:1], storage)
    for number, stages in enumerate(chains):
        scheduler.extend(stages)
        for _ in range(number + 1):  # in the middle of the one before
            if not scheduler.ended:
                train_next(scheduler, storage)
    train_all(scheduler, storage)
    assert scheduler.ended and set(scheduler.graph) == set(whole.graph)
    assert scheduler.counts == whole.counts
    for stage_id, node in whole.graph.items():
        assert scheduler.graph[stage_id].row_epochs == node.row_epochs
        for epochs in node.row_epochs:
            ours, theirs = (s.ledger.read_row(stage_id, epochs) for s in (scheduler, whole))
            assert ours.test_accuracy == theirs.test_accuracy
            assert ours.search_cost_epochs == theirs.search_cost_epochs


def test_a_stage_that_grows_while_it_runs_is_trained_on(storage):
    short, long = chain("finetune", 1, 1), chain("finetune", 3, 1)
    scheduler = scheduler_of(short, storage)
    train_next(scheduler, storage)  # the baseline
    node = scheduler.next_ready()
    job = node.job
    scheduler.extend(long)
    run_stage(job, Runtime(storage=str(storage)))
    scheduler.finish(node.stage_id)
    assert scheduler.states[node.stage_id] == State.READY and not scheduler.ended
    train_all(scheduler, storage)
    assert scheduler.ledger.row_epochs(node.stage_id) == [1, 3]
    assert scheduler.counts[State.DONE] == 2


def test_a_child_of_a_shorter_length_doesn_t_wait_for_the_longer(storage):
    scheduler = scheduler_of(chain("finetune", 1, 1), storage)
    train_all(scheduler, storage)
    scheduler.extend(chain("finetune", 3, 1))
    grown = scheduler.next_ready()
    scheduler.extend(chain("finetune", 1, 2))
    child = scheduler.next_ready()
    assert child.stage.parent.stage_id == grown.stage_id and child.stage.level == 2


def test_what_comes_after_a_failure_or_a_divergence_is_blocked(storage):
    stages = chain(levels=1)
    scheduler = scheduler_of(stages, storage)
    train_next(scheduler, storage)
    scheduler.finish(scheduler.next_ready().stage_id, error="out of luck")
    scheduler.extend(chain(levels=3))
    assert scheduler.ended and scheduler.counts[State.BLOCKED] == 2
    hot = {"schedule": Schedule(lr=1e20)}
    scheduler = scheduler_of(chain(levels=1, **hot)[:1], storage)
    train_all(scheduler, storage)
    assert scheduler.counts[State.DIVERGED] == 1
    scheduler.extend(chain(levels=2, **hot))
    assert scheduler.ended and scheduler.counts[State.BLOCKED] == 2


def test_a_chain_that_was_ended_goes_on_when_it_is_wanted_again(storage):
    ends = True
    scheduler = scheduler_of(chain(levels=3), storage, lambda stage, row: ends and stage.level == 1)
    train_all(scheduler, storage)
    assert scheduler.ended and scheduler.counts[State.STOPPED] == 2
    ends = False
    scheduler.extend(chain(levels=2))
    assert not scheduler.ended
    train_all(scheduler, storage)
    assert scheduler.ended and scheduler.counts[State.STOPPED] == 1
    assert scheduler.counts[State.DONE] == 3


@pytest.mark.parametrize("keep", ["all", "referenced"])
def test_a_rewind_point_that_was_not_kept_is_trained_again(keep, storage):
    scheduler = scheduler_of(chain(levels=1), storage)
    runtime = Runtime(storage=str(storage), keep=keep)
    while (node := scheduler.next_ready()) is not None:
        run_stage(node.job, runtime)
        scheduler.finish(node.stage_id)
    scheduler.extend(chain("weight_rewind", 2, 1))
    baseline = next(node for node in scheduler.graph.values() if node.stage.level == 0)
    again = scheduler.states[baseline.stage_id] == State.READY
    assert again == (keep == "referenced")
    while (node := scheduler.next_ready()) is not None:
        run_stage(node.job, runtime)
        scheduler.finish(node.stage_id)
    assert scheduler.ended and scheduler.counts[State.DONE] == 3


def test_view_and_boards_know_what_was_added(storage):
    stages = chain(levels=1)
    scheduler = scheduler_of(stages[:1], storage)
    progress = Progress("grows", scheduler.graph, scheduler, Console(file=io.StringIO()))
    boards = Boards(scheduler.ledger, "grows", scheduler.graph)
    assert progress.epochs_total == 4
    scheduler.extend(chain("finetune", 3, 1))
    assert progress.epochs_total == 7
    train_all(scheduler, storage)
    for node in scheduler.graph.values():
        boards.epochs(node.stage_id, node.epochs, 2)
        boards.finish(node.stage_id)
    boards.close()
    folders = {path.parent.name for path in (storage / "tensorboard/grows").glob("*/events*")}
    assert folders == {"dense-seed0", "finetune-3ep-oneshot-2x-seed0"}

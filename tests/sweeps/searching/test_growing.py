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
from sweeps.run.dispatcher import Dispatcher, State
from sweeps.run.live_view import LiveView
from sweeps.run.tensorboard import TensorBoard
from tests.sweeps.run.test_dispatcher import train_all
from tests.sweeps.running import tiny_protocol


def chain(method="lr_rewind", epochs=1, levels=2, seed=0, **changes):
    dense = dense_stage(tiny_protocol(**changes), seed)
    retrain = Retrain(method=method, epochs=epochs)
    return iterative(dense, retrain, levels, Prune(fraction=0.5)).chain


def dispatcher_of(stages, storage, stop=None):
    return Dispatcher(build_graph(stages), Ledger(str(storage)), stop)


def train_next(dispatcher, storage):
    node = dispatcher.next_ready()
    run_stage(node.job, Runtime(storage=str(storage)))
    dispatcher.finish(node.stage_id)
    return node


def test_it_ends_as_if_it_had_been_whole_from_the_beginning(storage, tmp_path):
    chains = [chain(), chain("weight_rewind", 2), chain("finetune", 1), chain("finetune", 3, 1)]
    whole = dispatcher_of([stage for stages in chains for stage in stages], tmp_path / "whole")
    train_all(whole, tmp_path / "whole")
    dispatcher = dispatcher_of(chains[0][:1], storage)
    for number, stages in enumerate(chains):
        dispatcher.extend(stages)
        for _ in range(number + 1):  # in the middle of the one before
            if not dispatcher.ended:
                train_next(dispatcher, storage)
    train_all(dispatcher, storage)
    assert dispatcher.ended and set(dispatcher.graph) == set(whole.graph)
    assert dispatcher.counts == whole.counts
    for stage_id, node in whole.graph.items():
        assert dispatcher.graph[stage_id].row_epochs == node.row_epochs
        for epochs in node.row_epochs:
            ours, theirs = (s.ledger.read_row(stage_id, epochs) for s in (dispatcher, whole))
            assert ours.test_accuracy == theirs.test_accuracy
            assert ours.search_cost_epochs == theirs.search_cost_epochs


def test_a_stage_that_grows_while_it_runs_is_trained_on(storage):
    short, long = chain("finetune", 1, 1), chain("finetune", 3, 1)
    dispatcher = dispatcher_of(short, storage)
    train_next(dispatcher, storage)  # the baseline
    node = dispatcher.next_ready()
    job = node.job
    dispatcher.extend(long)
    run_stage(job, Runtime(storage=str(storage)))
    dispatcher.finish(node.stage_id)
    assert dispatcher.states[node.stage_id] == State.READY and not dispatcher.ended
    train_all(dispatcher, storage)
    assert dispatcher.ledger.row_epochs(node.stage_id) == [1, 3]
    assert dispatcher.counts[State.DONE] == 2


def test_a_child_of_a_shorter_length_doesn_t_wait_for_the_longer(storage):
    dispatcher = dispatcher_of(chain("finetune", 1, 1), storage)
    train_all(dispatcher, storage)
    dispatcher.extend(chain("finetune", 3, 1))
    grown = dispatcher.next_ready()
    dispatcher.extend(chain("finetune", 1, 2))
    child = dispatcher.next_ready()
    assert child.stage.parent.stage_id == grown.stage_id and child.stage.level == 2


def test_what_comes_after_a_failure_or_a_divergence_is_blocked(storage):
    stages = chain(levels=1)
    dispatcher = dispatcher_of(stages, storage)
    train_next(dispatcher, storage)
    dispatcher.finish(dispatcher.next_ready().stage_id, error="out of luck")
    dispatcher.extend(chain(levels=3))
    assert dispatcher.ended and dispatcher.counts[State.BLOCKED] == 2
    hot = {"schedule": Schedule(lr=1e20)}
    dispatcher = dispatcher_of(chain(levels=1, **hot)[:1], storage)
    train_all(dispatcher, storage)
    assert dispatcher.counts[State.DIVERGED] == 1
    dispatcher.extend(chain(levels=2, **hot))
    assert dispatcher.ended and dispatcher.counts[State.BLOCKED] == 2


def test_a_chain_that_was_ended_goes_on_when_it_is_wanted_again(storage):
    ends = True
    dispatcher = dispatcher_of(
        chain(levels=3), storage, lambda stage, row: ends and stage.level == 1
    )
    train_all(dispatcher, storage)
    assert dispatcher.ended and dispatcher.counts[State.STOPPED] == 2
    ends = False
    dispatcher.extend(chain(levels=2))
    assert not dispatcher.ended
    train_all(dispatcher, storage)
    assert dispatcher.ended and dispatcher.counts[State.STOPPED] == 1
    assert dispatcher.counts[State.DONE] == 3


@pytest.mark.parametrize("keep", ["all", "referenced"])
def test_a_rewind_point_that_was_not_kept_is_trained_again(keep, storage):
    dispatcher = dispatcher_of(chain(levels=1), storage)
    runtime = Runtime(storage=str(storage), keep=keep)
    while (node := dispatcher.next_ready()) is not None:
        run_stage(node.job, runtime)
        dispatcher.finish(node.stage_id)
    dispatcher.extend(chain("weight_rewind", 2, 1))
    baseline = next(node for node in dispatcher.graph.values() if node.stage.level == 0)
    again = dispatcher.states[baseline.stage_id] == State.READY
    assert again == (keep == "referenced")
    while (node := dispatcher.next_ready()) is not None:
        run_stage(node.job, runtime)
        dispatcher.finish(node.stage_id)
    assert dispatcher.ended and dispatcher.counts[State.DONE] == 3


def test_view_and_tensorboard_show_added_stages(storage):
    stages = chain(levels=1)
    dispatcher = dispatcher_of(stages[:1], storage)
    progress = LiveView("grows", dispatcher.graph, dispatcher, Console(file=io.StringIO()))
    tensorboard = TensorBoard(dispatcher.ledger, "grows", dispatcher.graph)
    assert progress.epochs_total == 4
    dispatcher.extend(chain("finetune", 3, 1))
    assert progress.epochs_total == 7
    train_all(dispatcher, storage)
    for node in dispatcher.graph.values():
        tensorboard.epochs(node.stage_id, node.epochs, 2)
        tensorboard.finish(node.stage_id)
    tensorboard.close()
    folders = {path.parent.name for path in (storage / "tensorboard/grows").rglob("events*")}
    dense, pruned = (node.stage.stage_id[:6] for node in dispatcher.graph.values())
    assert folders == {f"seed0-{dense}", f"finetune-3ep-oneshot-2x-seed0-{pruned}"}

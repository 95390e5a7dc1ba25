from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ray.tune.search import Searcher

from rewind_ray.result import row_to_dict
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.store.control import Control, write_control
from rewind_ray.store.files import write_sealed
from rewind_ray.store.leases import Heartbeat, Watch, claim, owner_of, this_driver
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Job, Runtime
from rewind_ray.training.stage import run_epoch, run_stage, start_stage
from sweeps.plan.chains import iterative
from sweeps.plan.graph import build_graph
from sweeps.run.dispatcher import MOST_UNREADABLE, Dispatcher, State
from sweeps.run.tune_searcher import IDLE_SECONDS, SILENT_NODES_IN_A_ROW, TuneSearcher
from tests.sweeps.running import tiny_protocol


def two_chains(**changes):
    """Two seeds; a chain of three levels each."""
    protocol = tiny_protocol(**changes)
    retrain = Retrain(method="lr_rewind", epochs=1)
    ends = [
        iterative(dense_stage(protocol, seed), retrain, 3, Prune(fraction=0.5)) for seed in (0, 1)
    ]
    return build_graph(ends)


def many_chains():
    return build_graph([dense_stage(tiny_protocol(), seed) for seed in range(6)])


def dispatcher_of(graph, storage):
    return Dispatcher(graph, Ledger(str(storage)))


def train_all(dispatcher, storage):
    order = []
    while (node := dispatcher.next_ready()) is not None:
        run_stage(node.job, Runtime(storage=str(storage)))
        order.append(node.stage_id)
        dispatcher.finish(node.stage_id)
    return order


def test_parents_come_before_their_children_and_each_stage_once(storage):
    graph = two_chains()
    dispatcher = dispatcher_of(graph, storage)
    order = train_all(dispatcher, storage)
    assert sorted(order) == sorted(graph)
    assert all(
        order.index(node.parent_id) < order.index(stage_id)
        for stage_id, node in graph.items()
        if node.parent_id
    )
    assert dispatcher.ended and dispatcher.counts[State.DONE] == len(graph)


def test_only_baselines_are_ready_at_first(storage):
    graph = two_chains()
    dispatcher = dispatcher_of(graph, storage)
    first, second = dispatcher.next_ready(), dispatcher.next_ready()
    assert {first.stage.level, second.stage.level} == {0}
    assert dispatcher.next_ready() is None
    assert not dispatcher.ended


def test_what_the_ledger_has_is_not_done_again(storage):
    graph = two_chains()
    ids = list(graph)
    for stage_id in ids[:3]:  # a baseline and two levels
        run_stage(graph[stage_id].job, Runtime(storage=str(storage)))
    dispatcher = dispatcher_of(two_chains(), storage)
    assert dispatcher.counts[State.DONE] == 3
    assert set(train_all(dispatcher, storage)) == set(ids[3:])


def pruned_early(at=1, seed=0):
    dense = dense_stage(tiny_protocol(), seed, train_epochs=at)
    return retrain_stage(dense, Prune(fraction=0.5), Retrain(method="finetune", epochs=1))


def test_every_row_has_the_accuracy_of_the_whole_dense_network(storage):
    """Also where the network is pruned before its end, and its own rows of earlier epochs."""
    ledger = Ledger(str(storage))
    graph = build_graph([pruned_early(at) for at in (0, 1, 3)])
    (dense,) = [node for node in graph.values() if node.parent_id is None]
    assert dense.row_epochs == {0, 1, 3, 4}  # tiny_protocol has four epochs
    order = train_all(dispatcher_of(graph, storage), storage)
    assert order[0] == dense.stage_id
    whole = ledger.read_row(dense.stage_id, 4).test_accuracy
    assert whole != ledger.read_row(dense.stage_id, 1).test_accuracy
    for stage_id, node in graph.items():
        for epochs in node.row_epochs:
            assert ledger.read_row(stage_id, epochs).baseline_test_accuracy == whole


def test_rows_that_were_there_before_their_dense_network_was_trained_get_its_accuracy(storage):
    """Of stages trained one by one, without a sweep; and none is trained again."""
    ledger, stage = Ledger(str(storage)), pruned_early()
    for step in stage.chain:
        run_stage(Job(stage=step, row_epochs=(1,)), Runtime(storage=str(storage)))
    assert ledger.read_row(stage.stage_id, 1).baseline_test_accuracy is None
    before = ledger.read_row(stage.stage_id, 1)
    graph = build_graph([stage])
    assert train_all(dispatcher_of(graph, storage), storage) == [stage.parent.stage_id]
    whole = ledger.read_row(stage.parent.stage_id, 4).test_accuracy
    for stage_id in graph:
        assert ledger.read_row(stage_id, 1).baseline_test_accuracy == whole
    assert ledger.read_row(stage.stage_id, 1) == replace(before, baseline_test_accuracy=whole)


def test_a_chain_that_is_added_waits_for_the_whole_dense_network(storage):
    dense = dense_stage(tiny_protocol(), 0, train_epochs=1)
    dispatcher = dispatcher_of(build_graph([dense]), storage)
    train_all(dispatcher, storage)
    assert dispatcher.ended
    stage = pruned_early()
    dispatcher.extend(stage.chain)
    assert dispatcher.states[stage.stage_id] == State.WAITING
    assert train_all(dispatcher, storage) == [dense.stage_id, stage.stage_id]
    row = dispatcher.ledger.read_row(stage.stage_id, 1)
    assert row.baseline_test_accuracy == dispatcher.ledger.read_row(dense.stage_id, 4).test_accuracy


def test_descendants_of_a_failed_stage_are_blocked_and_the_rest_goes_on(storage):
    graph = two_chains()
    dispatcher = dispatcher_of(graph, storage)
    failed = dispatcher.next_ready()
    dispatcher.finish(failed.stage_id, error="out of luck")
    train_all(dispatcher, storage)
    assert dispatcher.ended
    assert dispatcher.counts == dict.fromkeys(State, 0) | {
        State.FAILED: 1,
        State.BLOCKED: 3,
        State.DONE: 4,
    }
    assert dispatcher.reasons[failed.stage_id] == "out of luck"
    for child_id in failed.children:
        assert failed.stage_id in dispatcher.reasons[child_id]


def test_a_stage_that_ends_without_its_rows_has_failed(storage):
    dispatcher = dispatcher_of(two_chains(), storage)
    node = dispatcher.next_ready()
    dispatcher.finish(node.stage_id)
    assert dispatcher.states[node.stage_id] == State.FAILED
    assert "4" in dispatcher.reasons[node.stage_id]  # the epoch whose row is missing


def test_descendants_of_a_diverged_stage_are_blocked_now_and_in_the_next_run(storage):
    graph = two_chains(schedule=Schedule(lr=1e20))
    for _ in range(2):
        dispatcher = dispatcher_of(graph, storage)
        train_all(dispatcher, storage)
        assert dispatcher.ended
        assert dispatcher.counts[State.DIVERGED] == 2
        assert dispatcher.counts[State.BLOCKED] == 6


def searcher_of(dispatcher, storage):
    watch = Watch(dispatcher.ledger)
    return TuneSearcher(dispatcher, {"storage": str(storage)}, 1, 0, "ours", watch, "some", 100)


def test_what_others_train_is_waited_for(storage, monkeypatch):
    monkeypatch.setattr("sweeps.run.tune_searcher.LOOK_SECONDS", 0.0)
    graph = two_chains()
    dispatcher = dispatcher_of(graph, storage)
    searcher = searcher_of(dispatcher, storage)
    theirs = this_driver()
    with Heartbeat(dispatcher.ledger, theirs):
        stage_id = searcher.suggest("a")["stage_id"]
        claim(dispatcher.ledger, stage_id, theirs.token)
        searcher.on_trial_complete("a", result={"done": True, "elsewhere": theirs.token})
        assert dispatcher.states[stage_id] == State.ELSEWHERE
        searcher.look_elsewhere()
        assert searcher.finished_elsewhere == [] and not dispatcher.ended
        run_stage(graph[stage_id].job, Runtime(storage=str(storage)))
        searcher.look_elsewhere()
        assert [node.stage_id for node in searcher.finished_elsewhere] == [stage_id]
    assert dispatcher.states[stage_id] == State.DONE


def test_a_stage_out_of_memory_gets_more_room_once(storage):
    dispatcher = dispatcher_of(two_chains(), storage)
    watch = Watch(dispatcher.ledger)
    runtime = {"storage": str(storage)}
    for share, larger, most in [(0.25, 0.5, 8), (1.0, 1.0, 8)]:
        dispatcher = dispatcher_of(two_chains(), storage)
        searcher = TuneSearcher(
            dispatcher, runtime, 1, share, "ours", watch, "some", 100, most_cpus=most
        )
        first = searcher.suggest("a")
        searcher.on_trial_complete("a", result={"done": True, "out_of_memory": "tried 9 GiB"})
        assert dispatcher.states[first["stage_id"]] == State.READY
        again = searcher.suggest("b")
        assert (again["stage_id"], again["gpus"]) == (first["stage_id"], larger)
        searcher.on_trial_complete("b", result={"done": True, "out_of_memory": "tried 9 GiB"})
        assert dispatcher.states[first["stage_id"]] == State.FAILED
        assert "tried 9 GiB" in dispatcher.reasons[first["stage_id"]]


@pytest.mark.parametrize(("cpus", "most", "larger"), [(1, 8, 2), (1, 1, 1), (0.5, 8, 1), (6, 8, 8)])
def test_more_room_on_a_cpu_is_more_cores(storage, cpus, most, larger):
    dispatcher = dispatcher_of(two_chains(), storage)
    watch = Watch(dispatcher.ledger)
    searcher = TuneSearcher(
        dispatcher, {"storage": str(storage)}, cpus, 0, "us", watch, "some", 100, most_cpus=most
    )
    searcher.suggest("a")
    searcher.on_trial_complete("a", result={"done": True, "out_of_memory": "tried 9 GiB"})
    assert searcher.suggest("b")["cpus"] == larger


def test_what_a_dead_driver_had_is_handed_out_again(storage, monkeypatch):
    monkeypatch.setattr("sweeps.run.tune_searcher.LOOK_SECONDS", 0.0)
    dispatcher = dispatcher_of(two_chains(), storage)
    searcher = searcher_of(dispatcher, storage)
    dead = this_driver()
    with Heartbeat(dispatcher.ledger, dead):
        stage_id = searcher.suggest("a")["stage_id"]
        claim(dispatcher.ledger, stage_id, dead.token)
        searcher.on_trial_complete("a", result={"done": True, "elsewhere": dead.token})
        assert dispatcher.states[stage_id] == State.ELSEWHERE
    config = searcher.suggest("b")
    assert (config["stage_id"], config["instead_of"]) == (stage_id, dead.token)


def test_what_a_driver_had_that_ended_before_is_taken_over_at_once(storage):
    dispatcher = dispatcher_of(two_chains(), storage)
    searcher = searcher_of(dispatcher, storage)
    ended = this_driver()
    stage_id = searcher.suggest("a")["stage_id"]
    claim(dispatcher.ledger, stage_id, ended.token)
    searcher.on_trial_complete("a", result={"done": True, "elsewhere": ended.token})
    assert dispatcher.states[stage_id] == State.READY
    assert searcher.suggest("b")["instead_of"] == ended.token


def test_tune_is_told_to_wait_and_then_that_all_is_finished(storage):
    graph = two_chains()
    dispatcher = dispatcher_of(graph, storage)
    searcher = searcher_of(dispatcher, storage)
    configs = {}
    for number in range(len(graph) + 2):
        config = searcher.suggest(f"trial{number}")
        if config is None or config == TuneSearcher.FINISHED:
            assert config is None and dispatcher.counts[State.RUNNING] > 0
            trial_id, stage_id = next(iter(searcher.trials.items()))
            run_stage(graph[stage_id].job, Runtime(storage=str(storage)))
            searcher.on_trial_complete(trial_id=trial_id, result={"done": True}, error=False)
        else:
            configs[config["stage_id"]] = config
    while searcher.trials:
        trial_id, stage_id = next(iter(searcher.trials.items()))
        run_stage(graph[stage_id].job, Runtime(storage=str(storage)))
        searcher.on_trial_complete(trial_id=trial_id, result={"done": True}, error=False)
        number += 1
        config = searcher.suggest(f"trial{number}")
        if isinstance(config, dict):
            configs[config["stage_id"]] = config
    assert set(configs) == set(graph)
    assert searcher.suggest("last") == TuneSearcher.FINISHED
    dense_id = next(iter(graph))
    assert configs[dense_id]["row_epochs"] == [4] and configs[dense_id]["rewind_epochs"] == [4]


def test_a_failure_that_a_trial_reports_is_its_reason(storage):
    dispatcher = dispatcher_of(two_chains(), storage)
    searcher = searcher_of(dispatcher, storage)
    stage_id = searcher.suggest("a")["stage_id"]
    searcher.on_trial_complete("a", result={"done": True, "failure": "pruning leaves none"})
    assert dispatcher.reasons[stage_id] == "pruning leaves none"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def patient_searcher(storage, clock, **settings):
    dispatcher = dispatcher_of(two_chains(), storage)
    watch = Watch(dispatcher.ledger)
    arguments = (dispatcher, {"storage": str(storage)}, 1, 0, "us", watch, "some", 100)
    return dispatcher, TuneSearcher(*arguments, max_failures=2, clock=clock, **settings)


def lose(searcher, clock, name):
    """The worker of the first stage; the pause until the stage is handed out again."""
    stage_id = searcher.suggest(name)["stage_id"]
    searcher.on_trial_complete(name, error=True)
    pause = searcher.later.get(stage_id, clock.now) - clock.now
    clock.now += pause
    return stage_id, pause


def test_a_stage_whose_worker_is_gone_is_handed_out_until_it_was_lost_too_often(storage):
    """With growing pauses; the other stages go on meanwhile."""
    clock = Clock()
    dispatcher, searcher = patient_searcher(storage, clock)
    first, pause = lose(searcher, clock, "a")
    assert lose(searcher, clock, "b") == (first, 2 * pause)
    assert lose(searcher, clock, "c")[0] == first
    assert dispatcher.states[first] == State.FAILED
    assert dispatcher.reasons[first] == "its worker is gone"


def test_while_a_stage_pauses_others_are_handed_out(storage):
    clock = Clock()
    _, searcher = patient_searcher(storage, clock)
    first = searcher.suggest("a")["stage_id"]
    searcher.on_trial_complete("a", error=True)
    assert searcher.suggest("b")["stage_id"] != first
    clock.now += 60
    assert searcher.suggest("c")["stage_id"] == first


def test_losses_after_progress_are_not_counted(storage):
    """A spot machine that comes for an epoch each time trains a stage of any length."""
    clock = Clock()
    dispatcher, searcher = patient_searcher(storage, clock)
    job = next(iter(dispatcher.graph.values())).job
    run = start_stage(job, Runtime(storage=str(storage)), dispatcher.ledger)
    for epoch in range(run.target_epoch - 1):
        run_epoch(run)
        assert lose(searcher, clock, f"trial {epoch}") == (job.stage.stage_id, 1)
    assert run.target_epoch - 1 > 2


def fail_check(searcher, name, node):
    """As the worker of a trial does whose device is broken: it reports, and then it ends."""
    searcher.suggest(name)
    broken = {"done": False, "node_failure": "cuda can't be used", "node": node}
    assert not searcher.note_failure(name, broken)
    searcher.on_trial_complete(name, error=True)


def test_a_node_that_fails_its_check_twice_is_set_aside_and_no_stage_is_given_up(storage):
    clock, aside = Clock(), []
    dispatcher, searcher = patient_searcher(
        storage, clock, set_aside=lambda node, why: not aside.append(node)
    )
    for name in "abcd":
        fail_check(searcher, name, "bad")
        clock.now += 60
    assert aside == ["bad"]
    assert searcher.limit is None
    assert not dispatcher.counts[State.FAILED]


def test_a_single_machine_that_fails_its_check_ends_the_sweep(storage):
    clock = Clock()
    dispatcher, searcher = patient_searcher(storage, clock)
    for name in "ab":
        fail_check(searcher, name, "only")
        clock.now += 60
    assert "cuda can't be used" in searcher.limit
    assert searcher.suggest("c") == TuneSearcher.FINISHED
    searcher.take_back()
    assert not dispatcher.counts[State.FAILED] and not dispatcher.counts[State.RUNNING]


def never_start(searcher, clock, name, node):
    """The worker of a trial is given up on, and Ray ends it."""
    stage_id = searcher.suggest(name)["stage_id"]
    searcher.give_up_on(node, f"no worker started (on {node})")
    searcher.on_trial_complete(name, error=True)
    clock.now += 60
    return stage_id


def test_a_node_on_which_workers_never_start_is_set_aside_and_no_stage_is_given_up(storage):
    """However often that happens to one stage; a worker that is gone by itself still counts."""
    clock, aside = Clock(), []
    dispatcher, searcher = patient_searcher(
        storage, clock, set_aside=lambda node, why: not aside.append(node)
    )
    stages = {never_start(searcher, clock, f"trial {n}", f"node {n // 2}") for n in range(8)}
    assert len(stages) == 1
    assert aside == [f"node {n}" for n in range(4)]
    assert [note for note in searcher.notes if "gets no more stages" in note] == searcher.notes
    assert searcher.limit is None and not searcher.lost
    for name in "abc":
        lose(searcher, clock, name)
    assert dispatcher.states[stages.pop()] == State.FAILED


def test_machines_on_which_no_worker_starts_are_not_bought_for_ever(storage):
    """A trial that starts between them begins a new count."""
    clock = Clock()
    _, searcher = patient_searcher(storage, clock, set_aside=lambda node, why: True)
    for number in range(2 * SILENT_NODES_IN_A_ROW - 1):
        assert searcher.limit is None
        never_start(searcher, clock, f"trial {number}", f"node {number}")
        if number == SILENT_NODES_IN_A_ROW - 2:
            searcher.suggest("good")
            searcher.note_start("good")
    assert f"node {2 * SILENT_NODES_IN_A_ROW - 2}" in searcher.limit


def test_a_single_machine_on_which_no_worker_starts_ends_the_sweep(storage):
    clock = Clock()
    dispatcher, searcher = patient_searcher(storage, clock)
    never_start(searcher, clock, "a", "only")
    assert "no worker started (on only)" in searcher.limit
    assert searcher.suggest("b") == TuneSearcher.FINISHED
    searcher.take_back()
    assert not dispatcher.counts[State.FAILED] and not dispatcher.counts[State.RUNNING]


def test_at_a_limit_nothing_begins_and_what_ran_is_left_to_go_on(storage):
    dispatcher, searcher = patient_searcher(storage, Clock())
    stage_id = searcher.suggest("a")["stage_id"]
    searcher.limit = "--max-hours 1 have passed"
    assert searcher.suggest("b") == TuneSearcher.FINISHED
    searcher.on_trial_complete("a", result={"done": True, "epoch": 1})
    assert dispatcher.states[stage_id] == State.READY


def test_a_ledger_that_breaks_does_not_break_the_searcher(storage, monkeypatch):
    graph = two_chains()
    dispatcher = dispatcher_of(graph, storage)
    searcher = searcher_of(dispatcher, storage)
    stage_id = searcher.suggest("a")["stage_id"]
    run_stage(graph[stage_id].job, Runtime(storage=str(storage)))
    (row,) = (storage / "stages" / stage_id / "rows").iterdir()
    good = row.read_bytes()
    row.write_text("{}")
    searcher.on_trial_complete("a", result={"done": True}, error=False)
    assert dispatcher.states[stage_id] == State.READY  # the row is to be made again
    assert searcher.suggest("b")["stage_id"] == stage_id
    row.write_bytes(good)

    def breaks(*_):
        raise OSError("the storage is away")

    monkeypatch.setattr(dispatcher.ledger, "row_epochs", breaks)
    searcher.on_trial_complete("b", result={"done": True}, error=False)
    assert dispatcher.states[stage_id] == State.FAILED
    assert "away" in dispatcher.reasons[stage_id]


def test_a_run_of_tune_has_its_share_and_the_next_one_goes_on(storage):
    dispatcher = dispatcher_of(two_chains(), storage)
    searcher = searcher_of(dispatcher, storage)
    searcher.left = 1
    stage_id = searcher.suggest("a")["stage_id"]
    assert searcher.suggest("b") == Searcher.FINISHED  # though another is ready
    assert not searcher.wants_another_run  # one still runs
    run_stage(dispatcher.graph[stage_id].job, Runtime(storage=str(storage)))
    searcher.on_trial_complete("a", result={"done": True})
    assert searcher.wants_another_run
    searcher.left = 1
    assert searcher.suggest("b")["stage_id"] != stage_id


def ask(dispatcher, **control):
    write_control(dispatcher.ledger, "some", Control(**control))


def test_a_paused_sweep_ends_its_stages_after_their_epoch_and_later_goes_on(storage, monkeypatch):
    monkeypatch.setattr("sweeps.run.tune_searcher.LOOK_SECONDS", 0.0)
    dispatcher = dispatcher_of(two_chains(), storage)
    searcher = searcher_of(dispatcher, storage)
    first = searcher.suggest("a")["stage_id"]
    claim(dispatcher.ledger, first, "ours")
    assert not searcher.is_surplus("a")
    ask(dispatcher, paused=True)
    assert searcher.suggest("b") is None
    assert searcher.notes == ["asked by rewind-ray control: paused"]
    assert searcher.is_surplus("a")
    searcher.on_trial_complete("a", result={"epoch": 1})
    assert dispatcher.states[first] == State.READY
    assert owner_of(dispatcher.ledger, first) is None  # another sweep may train it meanwhile
    assert searcher.suggest("b") is None and searcher.trials == {}
    ask(dispatcher)
    assert searcher.suggest("b")["stage_id"] == first
    assert searcher.notes[1:] == ["asked by rewind-ray control: as its command says"]


def test_a_smaller_share_ends_the_surplus_stages_only(storage, monkeypatch):
    monkeypatch.setattr("sweeps.run.tune_searcher.LOOK_SECONDS", 0.0)
    dispatcher = dispatcher_of(many_chains(), storage)
    searcher = searcher_of(dispatcher, storage)
    for trial in "abcd":
        assert searcher.suggest(trial)
    ask(dispatcher, at_once=2)
    assert searcher.suggest("e") is None
    surplus = [searcher.is_surplus(trial) for trial in "abcdab"]
    assert surplus == [True, True, False, False, True, True]
    for trial in "ab":
        searcher.on_trial_complete(trial, result={"epoch": 1})
    assert searcher.suggest("e") is None
    ask(dispatcher, at_once=3)
    assert searcher.suggest("e") and searcher.suggest("f") is None


def test_the_commands_own_share_holds_where_nothing_else_is_asked_for(storage):
    dispatcher = dispatcher_of(many_chains(), storage)
    runtime = {"storage": str(storage)}
    searcher = TuneSearcher(dispatcher, runtime, 1, 0, "us", Watch(dispatcher.ledger), "some", 2)
    assert [searcher.suggest(trial) is None for trial in "abc"] == [False, False, True]


def test_a_sweep_that_starts_paused_begins_nothing_and_one_that_is_done_ends(storage):
    dispatcher = dispatcher_of(two_chains(), storage)
    ask(dispatcher, paused=True)
    searcher = searcher_of(dispatcher, storage)
    assert searcher.suggest("a") is None
    train_all(dispatcher, storage)
    assert searcher.suggest("a") == TuneSearcher.FINISHED


def test_a_run_of_tune_in_which_nothing_can_begin_ends_after_a_while(storage, monkeypatch):
    """And the next one begins once the sweep is resumed."""
    monkeypatch.setattr("sweeps.run.tune_searcher.LOOK_SECONDS", 0.0)
    clock = Clock()
    dispatcher, searcher = patient_searcher(storage, clock)
    ask(dispatcher, paused=True)
    searcher.begin_run(100)
    assert searcher.suggest("a") is None and not searcher.wants_another_run
    clock.now += IDLE_SECONDS
    assert searcher.suggest("a") == TuneSearcher.FINISHED and searcher.wants_another_run
    assert not searcher.can_begin()
    ask(dispatcher)
    assert searcher.can_begin()
    searcher.begin_run(100)
    assert searcher.suggest("a")
    clock.now += IDLE_SECONDS
    assert searcher.suggest("b") and searcher.suggest("c") is None  # two run
    clock.now += IDLE_SECONDS
    assert searcher.suggest("c") is None and not searcher.wants_another_run


def test_a_damaged_request_is_said_once_and_changes_nothing(storage, monkeypatch):
    monkeypatch.setattr("sweeps.run.tune_searcher.LOOK_SECONDS", 0.0)
    dispatcher = dispatcher_of(many_chains(), storage)
    searcher = searcher_of(dispatcher, storage)
    ask(dispatcher, paused=True)
    assert searcher.suggest("a") is None
    Path(dispatcher.ledger.layout.control("some")).write_text("{")
    for _ in range(3):
        assert searcher.suggest("a") is None
    assert sum("control/some.json" in note for note in searcher.notes) == 1


def test_a_stage_that_was_killed_for_a_nodes_memory_is_tried_again_with_more_cores(storage):
    clock = Clock()
    _, searcher = patient_searcher(storage, clock, most_cpus=8)
    first = searcher.suggest("a")
    searcher.note_low_memory("a", "the node ran low on memory")
    searcher.on_trial_complete("a", error=True)
    clock.now += 1
    again = searcher.suggest("b")
    assert (again["stage_id"], again["cpus"]) == (first["stage_id"], 2)
    assert searcher.failures[first["stage_id"]] == "the node ran low on memory"


# what could go on without end


@pytest.mark.parametrize("unreadable", [1, 10**9])
def test_a_row_that_can_not_be_read_is_made_again_a_few_times(storage, monkeypatch, unreadable):
    """As that of a worker whose version has a column more."""
    dispatcher = dispatcher_of(many_chains(), storage)
    first = next(iter(dispatcher.graph))
    made = []

    def write_row(ledger, row):
        made.append(row.stage_id)
        newer = {"column": 1} if row.stage_id == first and made.count(first) <= unreadable else {}
        path = ledger.layout.row(row.stage_id, row.train_epochs)
        write_sealed(ledger.filesystem, path, row_to_dict(row) | newer)

    monkeypatch.setattr(Ledger, "write_row", write_row)
    train_all(dispatcher, storage)
    assert made.count(first) == 1 + min(unreadable, MOST_UNREADABLE)
    failed = {first} if unreadable > 1 else set()
    assert {one for one, state in dispatcher.states.items() if state == State.FAILED} == failed
    assert dispatcher.counts[State.DONE] == 6 - len(failed)
    assert all("same code" in dispatcher.reasons[one] for one in failed)


def test_a_row_that_could_not_be_read_back_is_not_written(storage):
    dispatcher = dispatcher_of(many_chains(), storage)
    train_all(dispatcher, storage)
    ledger, stage_id = dispatcher.ledger, next(iter(dispatcher.graph))
    row = ledger.read_row(stage_id, 4)
    with pytest.raises(ValueError, match="metric"):
        ledger.write_row(replace(row, metric="m" * 1001))
    assert ledger.read_row(stage_id, 4) == row


def test_a_stage_elsewhere_that_can_not_be_looked_at_once_is_looked_at_again(storage, monkeypatch):
    """And holds up no other."""
    dispatcher = dispatcher_of(many_chains(), storage)
    first, second = (dispatcher.next_ready().stage_id for _ in range(2))
    for stage_id in (first, second):
        dispatcher.defer(stage_id, "a driver that is dead")
    read, watch = dispatcher.ledger.has_row, Watch(dispatcher.ledger)
    asked = []

    def has_row(stage_id, epoch):
        asked.append(stage_id)
        if stage_id == first and asked.count(first) in (2, 3):  # when it is to become ready
            raise PermissionError(13, "Permission denied")
        return read(stage_id, epoch)

    monkeypatch.setattr(dispatcher.ledger, "has_row", has_row)
    with pytest.raises(PermissionError):
        list(dispatcher.look_elsewhere(watch))
    with pytest.raises(PermissionError):
        list(dispatcher.look_elsewhere(watch))
    assert dispatcher.states[first] == State.ELSEWHERE
    assert dispatcher.states[second] == State.READY
    list(dispatcher.look_elsewhere(watch))
    assert dispatcher.states[first] == State.READY


def test_a_driver_never_waits_for_itself(storage):
    """Its worker has lost the stage to an older one of its own, which has ended since."""
    dispatcher = dispatcher_of(many_chains(), storage)
    searcher = searcher_of(dispatcher, storage)
    stage_id = searcher.suggest("one")["stage_id"]
    searcher.on_trial_complete("one", {"elsewhere": searcher.driver})
    assert dispatcher.states[stage_id] == State.RUNNING and stage_id in searcher.later


def test_tries_that_only_reach_what_was_reached_before_are_counted(storage, monkeypatch):
    """Such as that of a stage whose last rewind point is dropped and written again."""
    searcher = searcher_of(dispatcher_of(many_chains(), storage), storage)
    reached = iter([(3, 0), (2, 0)] * 50)
    monkeypatch.setattr("sweeps.run.tune_searcher.progress_of", lambda *_: next(reached))
    tries = [searcher._count_failure("stage") for _ in range(20)]
    assert tries == [True] * searcher.max_failures + [False] * (20 - searcher.max_failures)

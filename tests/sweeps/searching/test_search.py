"""A search while it runs: what it suggests, trains, reports, gives up and continues."""

from __future__ import annotations

import random
from collections import Counter

import optuna
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from benchmarks.pretending import plausible, pretend
from rewind_ray.limits import Range
from rewind_ray.spec import Prune, Retrain
from rewind_ray.store.leases import Heartbeat, this_driver
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage
from sweeps.run.dispatcher import State
from sweeps.searching.answer import confirmation_lines, effort_lines, nearest_line, trouble_lines
from sweeps.searching.journal import Journal, lines_of
from sweeps.searching.objectives import Goal, is_feasible
from sweeps.searching.search import CONFIRM_FROM, Search, Suggestion
from sweeps.searching.space import Recipe, narrowed
from sweeps.searching.study import SAMPLERS
from tests.sweeps.searching.searches import SMALL, asked, run, searching

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

ONE = narrowed(
    SMALL, {"methods": ("lr_rewind",), "fractions": (0.5,), "levels": (3,), "shares": (0.5,)}
)
SINGLE = Goal(objectives=("accuracy",), target_compression=4.0)


def train(search: Search, storage, most=10**9) -> int:
    """Really, as a worker does. The stages trained."""
    search.begin("nobody", 1)
    for trained in range(most):
        node = None
        while node is None:
            search.settle()
            node = search.dispatcher.next_ready()
            if node is None and not search.more():
                return trained
        run_stage(node.job, Runtime(storage=str(storage)))
        search.dispatcher.finish(node.stage_id)
    return most


# Repeatable


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize(
    "goal", [pytest.param(Goal(), marks=pytest.mark.slow), SINGLE], ids=["three", "one"]
)
def test_one_seed_asks_the_same_again_and_another_something_else(sampler, goal, tmp_path):
    settings = {"goal": goal, "sampler": sampler, "suggestions": 25}
    searches = [
        searching(tmp_path / name, sampler_seed=seed, **settings)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    for search in searches:
        run(search)
    first, again, other = map(asked, searches)
    assert first == again != other


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_a_search_killed_anywhere_goes_on_as_if_it_had_not_been(sampler, tmp_path):
    settings = {"sampler": sampler, "suggestions": 15, "confirm_seeds": 1}
    whole = searching(tmp_path / "whole", **settings)
    trained = run(whole)
    pieces = []
    while True:
        search = searching(tmp_path / "pieces", **settings)
        pieces += run(search, most=7)
        if search.ended and search.dispatcher.ended:
            break
    assert asked(search) == asked(whole)
    assert Counter(node.stage_id for node in pieces) == Counter(node.stage_id for node in trained)
    assert search.points == whole.points and search.recommended() == whole.recommended()
    assert search.confirmed == whole.confirmed and search.sharing() == whole.sharing()
    assert run(searching(tmp_path / "pieces", **settings)) == []


def test_really_trained_it_repeats_too_and_rows_are_what_is_told(tmp_path):
    space = narrowed(SMALL, {"levels": (1, 2), "shares": (0.5,)})
    searches = []
    for name in ("a", "b"):
        search = searching(tmp_path / name, space=space, suggestions=4)
        train(search, tmp_path / name)
        searches.append(search)
    a, b = searches
    assert asked(a) == asked(b) and a.points == b.points
    values = [trial.values for trial in a.study.trials()]
    assert values == [trial.values for trial in b.study.trials()]
    for trial in a.study.trials():
        if trial.values is not None:
            point = a.points[a.study.recipe(trial)]
            assert trial.values[1:] == [point.compression, point.cost_epochs]


# Shared


def test_equal_suggestions_train_once(tmp_path):
    search = searching(tmp_path, space=ONE, suggestions=5, sampler="random")
    trained = [node.stage_id for node in run(search)]
    assert len(set(map(str, asked(search)))) == 1 and len(asked(search)) == 5
    assert len(trained) == len(set(trained)) == 2 * (1 + 3)  # seeds of baseline and three levels
    sharing = search.sharing()
    assert sharing.epochs_trained == 2 * (4 + 3 * 2)
    assert sharing.epochs_asked == 5 * sharing.epochs_trained
    assert sharing.epochs_of_baselines == 5 * 2 * 4
    assert "1 different" in effort_lines(search)[0]
    assert "5.0 times fewer" in effort_lines(search)[1]


def test_no_stage_is_trained_twice_whatever_is_asked(tmp_path):
    search = searching(tmp_path, suggestions=40)
    lengths: Counter[str] = Counter()
    for node in run(search):
        lengths[node.stage_id] += 1
    twice = [search.dispatcher.graph[stage_id] for stage_id in lengths if lengths[stage_id] > 1]
    assert all(len(node.row_epochs) > 1 for node in twice)  # trained on, for a longer row
    assert {node.stage.method for node in twice} <= {"finetune"}
    rows = {
        (node.stage_id, epochs)
        for node in search.dispatcher.graph.values()
        if search.dispatcher.states[node.stage_id] == State.DONE
        for epochs in node.row_epochs
    }
    ledger = search.dispatcher.ledger
    assert all(epochs in ledger.row_epochs(stage_id) for stage_id, epochs in rows)


def test_another_sweep_s_stages_are_used(tmp_path):
    first = searching(tmp_path, suggestions=10, sampler="random")
    ids = {node.stage_id for node in run(first)}
    (tmp_path / "studies/search.journal").unlink()
    again = searching(tmp_path, suggestions=10, sampler="random")
    assert run(again) == [] and asked(again) == asked(first)
    assert {node.stage_id for node in again.dispatcher.graph.values()} >= ids


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_as_many_are_under_way_as_keep_the_slots_busy(slots, tmp_path):
    search = searching(tmp_path, suggestions=20, sampler="random")
    search.begin("nobody", slots)
    most = 0
    for _ in range(200):
        search.settle()
        handed = []
        while len(handed) < slots:
            node = search.dispatcher.next_ready()
            if node is None and not search.more():
                break
            search.settle()
            handed += [node] if node else []
        waiting = [t for t in search.study.trials() if t.state == optuna.trial.TrialState.RUNNING]
        most = max(most, len(waiting))
        for node in handed:
            pretend(node, search.dispatcher.ledger, plausible)
            search.dispatcher.finish(node.stage_id)
        if search.ended:
            break
    assert search.ended and search.num_suggested == 20
    assert slots <= most <= 2 * slots - 1 or slots == 1 == most


# Seeds


def test_seeds_are_spent_on_what_may_be_on_the_front(tmp_path):
    """Of one objective: only the best so far, and what is near."""
    space = narrowed(SMALL, {"methods": ("lr_rewind",), "fractions": (0.5,), "levels": (2,)})
    space = narrowed(space, {"shares": Range(low=0.25, high=1.0, step=0.25)})
    search = searching(tmp_path, space=space, goal=SINGLE, suggestions=30, seeds=3)
    chains = Counter()
    for node in run(search, lambda stage: 0.9 if stage.level == 0 else 0.2 * stage.train_epochs):
        if node.stage.level == 2:
            chains[node.stage.train_epochs] += 1
    assert chains.pop(4) == 3  # the most accurate, with all seeds
    better_before = [recipe.retrain.epochs for recipe in search.points if recipe.levels == 2]
    for epochs, count in chains.items():
        first = better_before.index(epochs)
        expected = 3 if epochs == max(better_before[: first + 1]) else 1
        assert count == expected


def test_what_ends_on_the_front_has_all_seeds(tmp_path):
    """Also where a rival looked better at first, by a lucky seed, and was alone repeated."""
    space = narrowed(SMALL, {"methods": ("lr_rewind", "weight_rewind"), "fractions": (0.5,)})
    space = narrowed(space, {"levels": (2,), "shares": (1.0,)})

    def lucky(stage):
        if stage.method == "weight_rewind":
            return 0.9 if stage.seed == 0 else 0.2
        return 0.6

    search = searching(tmp_path, space=space, goal=SINGLE, suggestions=8, seeds=3)
    run(search, lucky)
    assert {point.recipe.retrain.method for point in search.front()} == {"lr_rewind"}
    assert all(point.seeds == (0, 1, 2) for point in search.front())
    assert search.recommended().val_accuracy == 0.6


def test_the_front_is_confirmed_on_seeds_that_chose_nothing(tmp_path):
    search = searching(tmp_path, suggestions=10, confirm_seeds=3)
    trained = run(search)
    fresh = {node.stage.seed for node in trained if node.stage.seed >= CONFIRM_FROM}
    assert fresh == set(range(CONFIRM_FROM, CONFIRM_FROM + 3))
    assert all(max(point.seeds) < 2 for point in search.points.values())
    best, protocol = search.recommended(), search.protocol
    for who, rival in search.confirmed.items():
        assert rival.cost_epochs(protocol) <= best.cost_epochs
        assert rival.compression() == pytest.approx(best.compression, rel=1e-6), who
    lines = confirmation_lines(search, best)
    assert "on 3 fresh seeds" in lines[0]
    assert sum(line.startswith("  against ") for line in lines) == sum(
        rival != best.recipe for rival in search.confirmed.values()
    )


# Given up


def hopeless_search(storage, rivals, lucky_seed=None, **settings):
    """``rivals`` good chains of one method, then poor ones of another, one by one."""
    space = narrowed(SMALL, {"methods": ("lr_rewind", "weight_rewind"), "fractions": (0.5,)})
    space = narrowed(
        space, {"levels": (3,), "shares": (1.0,), "momentum": (False, True), **settings}
    )
    search = searching(storage, space=space, suggestions=0, seeds=2)
    goods = 0
    for number in range(rivals):
        epochs = 1 + number % 4
        recipe = next_recipe(space, "lr_rewind", epochs, momentum=number >= 4)
        finish(search, recipe, lambda stage: 0.9 - 0.001 * stage.level)
        goods += 1
    assert goods == rivals
    return search, next_recipe(space, "weight_rewind", 4, momentum=False)


def next_recipe(space, method, epochs, momentum):
    retrain = Retrain(method=method, epochs=epochs, restore_momentum=momentum)
    return Recipe(prune=Prune(fraction=0.5), retrain=retrain, levels=3)


def finish(search, recipe, accuracy, seeds=(0,), asked=False):
    """Train a suggestion that somebody else made; its stages, and how it ended."""
    trial = search.study.study.ask() if asked else None
    suggestion = Suggestion(recipe=recipe, seeds=list(seeds), trial=trial)
    search._start(suggestion)
    trained = []
    while (node := search.dispatcher.next_ready()) is not None:
        pretend(node, search.dispatcher.ledger, accuracy)
        search.dispatcher.finish(node.stage_id)
        trained += [node.stage] if node.stage.level else []
    search.settle()
    return trained


def poor(stage):
    return 0.9 if stage.level == 0 else 0.5


def test_a_hopeless_chain_is_given_up_at_its_first_level(tmp_path):
    search, recipe = hopeless_search(tmp_path, rivals=5)
    trained = finish(search, recipe, poor, asked=True)
    assert [stage.level for stage in trained] == [1]
    assert search.num_given_up == 1
    (trial,) = search.study.trials()
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert trial.user_attrs["ended"] == "given up after level 1"
    stopped = [s for s in search.dispatcher.states.values() if s == State.STOPPED]
    assert len(stopped) == 2


def test_four_rivals_are_too_few_to_give_anything_up(tmp_path):
    search, recipe = hopeless_search(tmp_path, rivals=4)
    assert len(finish(search, recipe, poor, asked=True)) == 3 and search.num_given_up == 0


def test_rivals_that_cost_more_don_t_count(tmp_path):
    search, _ = hopeless_search(tmp_path, rivals=8)
    cheap = next_recipe(None, "weight_rewind", 1, momentum=False)
    levels = [stage.level for stage in finish(search, cheap, poor, asked=True)]
    assert levels == [1, 2, 3]  # at 1 epoch a level only two of eight cost as little


def test_one_lucky_rival_gives_nothing_up(tmp_path):
    """The median decides: of six rivals, five are worse than the poor chain."""
    search, recipe = hopeless_search(tmp_path, rivals=1)
    for number in range(5):
        other = next_recipe(None, "lr_rewind", 1 + number % 4, momentum=number < 4)
        finish(search, other, lambda stage: 0.9 if stage.level == 0 else 0.4)
    assert len(finish(search, recipe, poor, asked=True)) == 3


def test_seeds_that_disagree_give_nothing_up(tmp_path):
    """Poor with the second seed only: the first goes on saying otherwise."""
    search, recipe = hopeless_search(tmp_path, rivals=0)
    for number in range(6):
        other = next_recipe(None, "lr_rewind", 1 + number % 4, momentum=number >= 4)
        finish(search, other, lambda stage: 0.9 - 0.01 * stage.level, seeds=(0, 1))

    def unlucky(stage):
        return 0.95 if stage.seed == 0 or stage.level == 0 else 0.3

    trained = finish(search, recipe, unlucky, asked=True)
    assert [(s.seed, s.level) for s in trained if s.level] == [(0, 1), (0, 2), (0, 3)]
    search.settle()
    more = finish(search, next_recipe(None, "finetune", 4, momentum=False), plausible)
    seconds = [s.level for s in more if s.seed == 1 and s.method == "weight_rewind"]
    assert seconds == [1, 2, 3]  # promising with the first, so trained to the end with the second


def test_what_is_trained_already_is_not_given_up(tmp_path):
    search, recipe = hopeless_search(tmp_path, rivals=0)
    assert len(finish(search, recipe, poor)) == 3  # by another sweep, so to speak
    for number in range(6):
        other = next_recipe(None, "lr_rewind", 1 + number % 4, momentum=number >= 4)
        finish(search, other, lambda stage: 0.9)
    finish(search, recipe, poor, asked=True)
    (trial,) = search.study.trials()
    assert trial.state == optuna.trial.TrialState.COMPLETE


# Troubles


def test_diverging_recipes_are_told_and_never_recommended(tmp_path):
    def diverging(stage):
        return None if stage.method == "weight_rewind" and stage.level == 2 else plausible(stage)

    search = searching(tmp_path, suggestions=20)
    run(search, diverging)
    ended = [t for t in search.study.trials() if "diverged" in t.user_attrs.get("ended", "")]
    assert ended and all(t.params["method"] == "weight_rewind" for t in ended)
    for recipe in search.points:
        assert recipe.retrain.method != "weight_rewind" or recipe.levels < 2
    again = searching(tmp_path, suggestions=20)
    assert run(again, diverging) == [] and again.points == search.points


def test_a_baseline_that_diverges_ends_the_search_with_a_word(tmp_path):
    search = searching(tmp_path, suggestions=20)
    run(search, lambda stage: None)
    assert search.ended and search.num_suggested == 1
    assert "dense network of seed 0 diverged" in trouble_lines(search)[0]


def test_a_stage_that_fails_is_tried_again_by_the_same_command(tmp_path):
    search = searching(tmp_path, space=ONE, suggestions=1)
    search.begin("nobody", 1)
    while not search.ended:
        search.settle()
        node = search.dispatcher.next_ready()
        if node is None:
            if not search.more():
                break
            continue
        if node.stage.level == 2:
            search.dispatcher.finish(node.stage_id, "out of luck")
        else:
            pretend(node, search.dispatcher.ledger, plausible)
            search.dispatcher.finish(node.stage_id)
    assert "not finished" in trouble_lines(search)[0]
    again = searching(tmp_path, space=ONE, suggestions=1)
    levels = [node.stage.level for node in run(again)]
    assert sorted(levels) == [2, 2, 3, 3]  # the first levels were on the front, so of both seeds
    (trial,) = again.study.trials()
    assert trial.state == optuna.trial.TrialState.COMPLETE and not again.trouble


def test_what_is_beyond_the_limits_is_not_trained(tmp_path):
    goal = Goal(objectives=("accuracy", "compression"), budget_epochs=6)
    search = searching(tmp_path, goal=goal, suggestions=15, sampler="random")
    run(search)
    assert search.num_beyond > 0 and search.num_suggested == 15
    for trial in search.study.trials():
        cost = search.study.recipe(trial).cost_epochs(search.protocol)
        assert (cost > 6) == ("beyond" in trial.user_attrs)
    assert all(point.cost_epochs <= 6 for point in search.points.values())


def test_a_grid_ends_when_it_is_empty(tmp_path):
    search = searching(tmp_path, space=ONE, suggestions=50, sampler="grid")
    run(search)
    assert search.num_suggested == 1 and not search.trouble


def test_a_target_never_reached_is_told_with_the_best_there_is(tmp_path):
    goal = Goal(objectives=("cost",), max_accuracy_drop=0.01, target_compression=4.0)
    search = searching(tmp_path, goal=goal, suggestions=10, confirm_seeds=2)
    run(search, lambda stage: 0.9 if stage.level == 0 else 0.6 + 0.05 * stage.train_epochs)
    assert search.recommended() is None and not search.confirmed
    line = nearest_line(search)
    assert "target not reached" in line and "10.00 points below" in line


def test_limits_are_kept_by_what_is_recommended(tmp_path):
    goal = Goal(objectives=("cost",), max_accuracy_drop=0.2, target_compression=4.0)
    search = searching(tmp_path, goal=goal, suggestions=20)
    run(search)
    best = search.recommended()
    assert is_feasible(best, goal)
    assert all(
        best.cost_epochs <= point.cost_epochs
        for point in search.points.values()
        if is_feasible(point, goal)
    )
    constraints = [t.constraints for t in search.study.trials() if t.values is not None]
    assert all(set(found) == {"accuracy drop", "compression"} for found in constraints)


# The study


def test_optuna_and_its_dashboard_read_the_file(tmp_path):
    """By Optuna's own file backend, which the dashboard uses."""
    search = searching(tmp_path, suggestions=6)
    run(search)
    backend = optuna.storages.journal.JournalFileBackend(search.study.journal.path)
    storage = optuna.storages.JournalStorage(backend)
    study = optuna.load_study(study_name="search", storage=storage)
    assert [t.params for t in study.trials] == asked(search)
    assert study.metric_names == ["accuracy", "compression", "cost"]
    assert {t.user_attrs["recipe"] for t in study.trials} == {
        search.study.recipe(t).describe() for t in search.study.trials()
    }


def test_a_line_cut_off_by_a_kill_is_as_if_it_was_never_asked(tmp_path):
    search = searching(tmp_path, suggestions=6)
    run(search)
    path = tmp_path / "studies/search.journal"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":4,"study')
    again = searching(tmp_path, suggestions=6)
    assert asked(again) == asked(search) and path.read_bytes() == whole


@pytest.mark.parametrize("cut", range(1, 12))
def test_an_ask_is_in_the_file_whole_or_not_at_all(cut, tmp_path):
    search = searching(tmp_path, suggestions=3, sampler="random")
    path = tmp_path / "studies/search.journal"
    run(search, most=2)  # the baselines
    before = path.read_bytes()
    search.more()
    after = path.read_bytes()
    assert after.startswith(before) and len(after) > len(before)
    ledger = Ledger(str(tmp_path))
    journal = Journal(ledger, "other")
    with journal.atomically():
        for number in range(cut):
            journal.append_logs([{"op_code": number}])
        assert not (tmp_path / "studies/other.journal").exists()
    assert len(Journal(ledger, "other")._read()) == cut


def test_every_change_of_the_file_is_noticed(tmp_path):
    """Any byte, any value, a line gone, doubled or moved: refused, with its line. What can't be
    distinguished from a kill, lines gone at the end, is as if it had never been asked."""
    search = searching(tmp_path, suggestions=6)
    run(search)
    ledger, path = Ledger(str(tmp_path)), tmp_path / "studies/search.journal"
    whole = path.read_bytes()
    logs = Journal(ledger, "search")._read()
    lines = whole.splitlines(keepends=True)
    rng = random.Random(0)
    changed = [b"".join(lines[:n] + lines[n + 1 :]) for n in range(len(lines) - 1)]
    changed += [b"".join([*lines[:n], lines[n], *lines[n:]]) for n in range(len(lines))]
    changed += [b"".join([*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]]) for n in range(5)]
    for _ in range(300):
        data = bytearray(whole)
        data[rng.randrange(len(data) - 1)] ^= 1 << rng.randrange(8)
        changed.append(bytes(data))
    for number in range(10):
        changed.append(whole.replace(str(number).encode(), str((number + 1) % 10).encode(), 1))
    for data in changed:
        path.write_bytes(data)
        if data == whole:
            continue
        try:
            read = Journal(ledger, "search")._read()
        except ValueError as error:
            assert "line" in str(error)
        else:
            assert read == logs[: len(read)] and len(read) < len(logs)


@pytest.mark.parametrize("broken", [b"nonsense\n", b"[1]\n", b'{"a": 1}\n', b"\xff\xfe\n"])
def test_a_broken_file_is_refused_with_its_line(broken, tmp_path):
    search = searching(tmp_path, suggestions=3)
    run(search)
    path = tmp_path / "studies/search.journal"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], broken, *lines[4:]]))
    with pytest.raises(ValueError, match=r"line 5.*move it away"):
        searching(tmp_path, suggestions=3)
    path.unlink()
    assert run(searching(tmp_path, suggestions=3)) == []


def test_a_file_that_is_no_study_is_refused(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/search.journal").write_bytes(lines_of([{"op_code": 4}], ""))
    with pytest.raises(ValueError, match="is no study of this Optuna"):
        searching(tmp_path)


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"space": ONE}, "space"),
        ({"goal": SINGLE}, "goal"),
        ({"epochs": 5}, "protocol"),
    ],
)
def test_another_space_goal_or_protocol_is_refused_with_both_digests(changed, part, tmp_path):
    search = searching(tmp_path)
    with pytest.raises(ValueError, match=f"another {part}") as refused:
        searching(tmp_path, **changed)
    before = search.study.spec.digests()[part]
    assert before in str(refused.value) and f"now {before}" not in str(refused.value)
    other = searching(tmp_path, suggestions=99, seeds=5, sampler="random", sampler_seed=3)
    assert other.study.spec == search.study.spec  # these may change


def test_a_second_driver_is_refused_while_the_first_lives(tmp_path):
    ledger = Ledger(str(tmp_path))
    ours = this_driver()
    searching(tmp_path).begin(ours.token, 1)
    refused = pytest.raises(ValueError, match=f"another driver .{ours.token}")
    with Heartbeat(ledger, ours, seconds=0.2), refused:
        searching(tmp_path)
    searching(tmp_path)  # it ended in order


def test_it_lives_on_an_object_store_too(tmp_path, monkeypatch):
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "anything")
        place = f"endpoint_override={host}:{port}&scheme=http"
        uri = f"s3://bucket/storage?{place}"
        filesystem, _ = fs.FileSystem.from_uri(f"s3://bucket?{place}&allow_bucket_creation=true")
        filesystem.create_dir("bucket")
        run(searching(uri, suggestions=4), most=5)
        again = searching(uri, suggestions=4)
        run(again)
        local = searching(tmp_path, suggestions=4)
        run(local)
        assert asked(again) == asked(local)
        files = filesystem.get_file_info(fs.FileSelector("bucket/storage/studies"))
        assert [file.base_name for file in files] == ["search.journal"]
    finally:
        server.stop()

"""``rewind-ray search`` as its user types it."""

from __future__ import annotations

import json
import os
import shlex
import signal

import optuna
import pytest

from tests.sweeps.running import rows, run, start, wait_until

pytestmark = pytest.mark.slow  # a Ray for each, and searches trained for real

DIGITS = ("--dataset", "digits", "--network", "digits_resnet", "--protocol", "digits")
SMOKE = (
    *("sweeps.search", *DIGITS, "--smoke", "--suggestions", "4", "--confirm-seeds", "1"),
    *("--levels", "1", "2", "--shares", "0.5", "--max-concurrent", "1"),
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search that nothing happened to: its storage and output."""
    storage = tmp_path_factory.mktemp("searched") / "storage"
    return storage, run(*SMOKE, "--storage", str(storage))


def study_of(storage):
    path = str(storage / "studies/search-smoke.journal")
    backend = optuna.storages.journal.JournalFileBackend(path)
    journal = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name="search-smoke", storage=journal)


@pytest.mark.parametrize("module", ["sweeps.search", "sweeps.between_rewindings"])
def test_help_has_examples_and_every_common_option(module, typed):
    command = module.partition(".")[2].replace("_", "-")
    result = typed(module, "--help")
    assert result.returncode == 0 and f"  rewind-ray {command}" in result.stdout
    for option in (
        *("storage", "seeds", "max-concurrent", "gpus-per-trial", "cpus-per-trial", "address"),
        *("data", "dry-run", "smoke", "precision", "keep"),
    ):
        assert f"--{option}" in result.stdout


def test_dry_run_tells_space_and_cost_and_leaves_nothing_behind(storage, typed):
    result = typed(
        *("sweeps.search", *DIGITS, "--objectives", "accuracy", "--target-compression", "10"),
        *("--budget-epochs", "60", "--dry-run", "--storage", str(storage)),
    )
    assert result.returncode == 0
    for fact in ("methods", "from 10× on", "at most 60 epochs", "60 suggestions by tpe"):
        assert fact in result.stdout
    assert not storage.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--objectives", "accuracy"), "--target-compression"),
        (("--objectives", "accuracy", "cost", "--budget-epochs", "9"), "leave one of the two"),
        (("--max-accuracy-drop", "half"), "0.3pt"),
        (("--max-accuracy-drop", "2"), "0.3pt"),
        (("--methods", "prayer"), "lr_rewind"),
        (("--fractions", "1.2"), "below 1"),
        (("--space", "nowhere.toml"), "nowhere.toml"),
        (("--sampler", "grid"), "lrs"),
        (("--sampler", "guess"), "nsga2"),
        (("--suggestions", "0"), "from 1 to 1,000,000"),
        (("--name", "a b"), "without spaces"),
        (("--objectives", "accuracy", "--target-compression", "1e9"), "the space reaches"),
        (
            (
                *("--objectives", "accuracy", "compression", "--budget-epochs", "4"),
                *("--methods", "reinit"),
            ),
            "the cheapest recipe of the space takes 18 epochs",
        ),
        (
            (
                *("--objectives", "accuracy", "--target-compression", "3"),
                *("--structures", "2:4"),
            ),
            "the space reaches 2 at most",
        ),
        (("--protocol", "mikler_resnet", "--dataset", "cifar10"), "--validation 0.2"),
        (("--network", "resnet21"), "resnet20"),
    ],
)
def test_wrong_usage_names_the_way_out(arguments, message, storage, typed):
    result = typed("sweeps.search", *DIGITS, *arguments, "--storage", str(storage))
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not storage.exists()


def test_a_search_ends_with_front_recipe_confirmation_and_figure(searched):
    storage, result = searched
    assert result.returncode == 0, result.stdout + result.stderr
    for fact in (
        *(
            "The front",
            "recommended",
            "on a fresh seed",
            "Algorithm 1",
            "a single seed can show none",
        ),
        *("epochs   asked for", "optuna-dashboard", "rewind-ray compare"),
    ):
        assert fact in result.stdout
    assert (storage / "figures/search-smoke.png").stat().st_size > 10_000
    lines = (storage / "studies/search-smoke-front.csv").read_text().splitlines()
    assert len(lines) > 1 and lines[0].startswith("recipe,compression_ratio")
    assert len(study_of(storage).trials) >= 4
    record = json.loads((storage / "sweeps/search-smoke.json").read_text())
    assert set(record["stages"]) == {stage_id for stage_id, _ in rows(storage)}


def test_the_recommended_command_can_be_pasted_and_has_nothing_left_to_train(searched):
    """It is the very recipe: all of its stages are there already."""
    storage, result = searched
    (pasted,) = [line for line in result.stdout.splitlines() if "rewind-ray compare" in line]
    before = rows(storage)
    again = run("sweeps.entry", *shlex.split(pasted)[1:])
    assert again.returncode == 0, again.stdout + again.stderr
    first = again.stdout.splitlines()[0]
    assert "stages" in first
    count = int(first.split(": ")[1].split()[0])
    assert f"{count} stages, {count} of them done already" in first
    assert rows(storage) == before


def test_the_rows_feed_the_analysis(searched, tmp_path):
    storage, _ = searched
    out = str(tmp_path / "rows.csv")
    rows_command = run(
        "analysis", "rows", "--storage", str(storage), "--sweep", "search-smoke", "--out", out
    )
    assert rows_command.returncode == 0, rows_command.stderr
    assert run("analysis", "pareto", out).returncode == 0


def test_the_same_command_again_asks_and_trains_nothing(searched):
    storage, first = searched
    before, asked = rows(storage), [t.params for t in study_of(storage).trials]
    result = run(*SMOKE, "--storage", str(storage))
    assert result.returncode == 0, result.stderr
    assert rows(storage) == before and [t.params for t in study_of(storage).trials] == asked
    answer = first.stdout[first.stdout.index("The front") :]
    assert answer in result.stdout


def test_a_study_of_something_else_is_left_alone(searched):
    storage, _ = searched
    result = run(*SMOKE, "--storage", str(storage), "--fractions", "0.5")
    assert result.returncode == 2
    assert "another space" in result.stderr and "now" in result.stderr


def test_a_killed_search_continues_as_if_nothing_had_happened(searched, storage):
    expected, undisturbed = searched
    for finished, how in ((1, signal.SIGINT), (3, signal.SIGKILL)):
        process = start(*SMOKE, "--storage", str(storage))
        wait_until(lambda n=finished: num_finished(storage) >= n)
        os.kill(process.pid, how)
        stdout, stderr = process.communicate(timeout=60)
        code = -signal.SIGKILL if how == signal.SIGKILL else 130
        assert process.returncode == code, stdout + stderr
    result = run(*SMOKE, "--storage", str(storage))
    assert result.returncode == 0, result.stderr
    assert rows(storage) == rows(expected)
    ours, theirs = study_of(storage), study_of(expected)
    assert [t.params for t in ours.trials] == [t.params for t in theirs.trials]
    assert [t.values for t in ours.trials] == [t.values for t in theirs.trials]
    front, other = (out.stdout[out.stdout.index("The front") :] for out in (result, undisturbed))
    assert front.replace(str(storage), "") == other.replace(str(expected), "")


def num_finished(storage):
    try:
        return sum(trial.state.is_finished() for trial in study_of(storage).trials)
    except (KeyError, OSError):
        return 0

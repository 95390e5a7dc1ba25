"""The commands as a user types them: dry runs, bad input, whole sweeps, interruptions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest

from rewind_ray.command_line import FAILED, INCOMPLETE, OF_A_SERVICE, WRONG_USAGE
from rewind_ray.store.ledger import Ledger
from sweeps.run.sweep_log import read_lines
from tests.sweeps.running import QUICKSTART, ROOT, rows, run, start

# usage


@pytest.mark.parametrize(
    "module",
    ["sweeps.quickstart", "sweeps.iterative_wrn", "sweeps.mikler2022", "sweeps.compare"],
)
def test_help_has_examples_and_every_common_option(module, typed):
    result = typed(module, "--help")
    assert result.returncode == 0
    assert f"  rewind-ray {module.removeprefix('sweeps.').replace('_', '-')}" in result.stdout
    for option in (
        *("storage", "seeds", "max-concurrent", "gpus-per-trial", "cpus-per-trial", "address"),
        *("data", "dry-run", "smoke", "precision", "keep"),
    ):
        assert f"--{option}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sweeps.mikler2022", "fig7"), "fig1"),
        (("sweeps.quickstart", "--seeds", "0"), "--seeds is 0"),
        (("sweeps.quickstart", "--gpus-per-trial", "0.7"), "1/n"),
        (("sweeps.quickstart", "--precision", "fp8"), "bf16"),
        (("sweeps.quickstart", "--keep", "some"), "referenced"),
        (("sweeps.iterative_wrn", "--fractions", "1.5", "--dry-run"), "1.5"),
        (("sweeps.iterative_wrn", "--target-compression", "0.5"), "0.5"),
        (("sweeps.iterative_wrn", "--target-compression", "inf"), "inf"),
        (("sweeps.mikler2022", "fig1", "--rewind-epoch", "40", "--dry-run"), "retrain"),
        (("sweeps.compare", "--network", "resnet21"), "resnet20"),
        (("sweeps.compare", "--dataset", "cifar11"), "cifar10"),
        (("sweeps.compare", "--dataset", "folder:/nowhere"), "/nowhere"),
        (("sweeps.compare", "--methods", "prayer"), "lr_rewind"),
        (("sweeps.compare", "--densities", "1.2"), "density is 1.2"),
        (("sweeps.compare", "--protocol", "mine"), "renda_cifar"),
        (("sweeps.compare", "--epochs", "4", "--drops", "6"), "6"),
        (("sweeps.quickstart", "--storage", "ftp://host/x"), "ftp"),
        (("sweeps.quickstart", "--storage", ""), "--storage"),
        (("sweeps.quickstart", "--storage", "s3:/bucket/x"), "s3://bucket/x"),
        (("sweeps.quickstart", "--storage", "s3:bucket/x"), "s3://bucket/x"),
        (("sweeps.quickstart", "--seeds", "1000000"), "1000000"),
        (("sweeps.compare", "--epochs", "0"), "--epochs is 0"),
        (("sweeps.compare", "--lr", "0"), "--lr is 0"),
        (("sweeps.compare", "--lr", "nan"), "--lr is nan"),
        (("sweeps.compare", "--optimizer", "lion"), "adamw"),
        (("sweeps.compare", "--optimizer-options", "beta1=0.5"), "momentum, nesterov"),
        (("sweeps.compare", "--schedule", "cosine", "--drops", "2"), "steps"),
    ],
)
def test_wrong_usage_names_what_is_allowed(arguments, message, storage, typed):
    if "--storage" not in arguments:
        arguments = (*arguments, "--storage", str(storage))
    result = typed(*arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not storage.exists()


def test_a_storage_that_can_t_be_written_is_named(tmp_path, typed):
    (tmp_path / "file").write_text("not a folder")
    result = typed(*QUICKSTART, "--storage", str(tmp_path / "file" / "storage"))
    assert result.returncode == 1
    assert "can't write to the storage" in result.stderr and "--storage" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_name_in_brackets_is_no_markup(tmp_path, typed):
    """As a folder's name; Rich would take it for a colour, or fail at its end."""
    finished = typed(*QUICKSTART, "--dry-run", "--storage", str(tmp_path / "[red]a[/red][/x]"))
    assert finished.returncode == 0, finished.stderr


def test_a_dry_run_does_not_wait_long_for_a_storage_that_is_away(monkeypatch, typed):
    """A port where nobody listens."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setattr("sweeps.run.launch.DRY_RUN_PATIENCE_SECONDS", 1.0)
    begun = time.monotonic()
    result = typed(*QUICKSTART, "--dry-run", "--storage", "s3://nobodys-bucket/x")
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert time.monotonic() - begun < 60


def test_dry_run_shows_the_graph_and_leaves_nothing_behind(storage, typed):
    result = typed("sweeps.iterative_wrn", "--dry-run", "--storage", str(storage))
    assert result.returncode == 0
    for fact in ("wrn_16_8", "weight_rewind", "36 of 40", "stages   162", "updates  12,320,000"):
        assert fact in result.stdout
    assert "GB to write" in result.stdout and "GPU-hours" in result.stdout
    assert not storage.exists()


# sweeps


def test_a_sweep_ends_with_table_figure_and_next_commands(undisturbed):
    storage, result = undisturbed
    assert result.returncode == 0, result.stderr
    assert "[13/13] done" in result.stdout
    for fact in ("compression", "finetune", "weight_rewind", "lr_rewind", "50."):
        assert fact in result.stdout
    assert "tensorboard --logdir" in result.stdout
    assert (storage / "figures" / "quickstart-smoke.png").stat().st_size > 10_000
    assert len(rows(storage)) == 13
    record = json.loads((storage / "sweeps" / "quickstart-smoke.json").read_text())
    assert set(record["stages"]) == {stage_id for stage_id, _ in rows(storage)}
    assert "--smoke" in record["command"]
    logged = read_lines(Ledger(str(storage)), "quickstart-smoke")
    assert "quickstart --smoke" in logged[0] and logged[-1].endswith("ended with exit code 0")
    assert sum("/13] done" in line for line in logged) == 13


def test_other_code_than_before_is_told_and_recorded(undisturbed, storage):
    finished, _ = undisturbed
    shutil.copytree(finished, storage)
    path = storage / "sweeps" / "quickstart-smoke.json"
    record = Ledger(str(storage)).read_sweep("quickstart-smoke")
    (now,) = record["code"]
    Ledger(str(storage)).write_sweep("quickstart-smoke", record | {"code": ["01234567"]})
    result = run(*QUICKSTART, "--storage", str(storage))
    assert result.returncode == 0
    assert f"the code has changed since this sweep last ran (01234567, now {now})" in result.stdout
    assert json.loads(path.read_text())["code"] == ["01234567", now]


def test_the_next_commands_work(undisturbed, tmp_path):
    _, result = undisturbed
    lines = [line.strip() for line in result.stdout.splitlines()]
    shown = [line.split() for line in lines if line.startswith("rewind-ray analysis")]
    assert len(shown) == 2
    for words in shown:
        words = [
            str(tmp_path / word) if word.endswith((".csv", ".html")) else word for word in words
        ]
        shown_command = start(*words[1:], cwd=tmp_path)  # figures go where it is called
        assert shown_command.communicate() and shown_command.returncode == 0


def test_the_same_command_again_trains_nothing(undisturbed):
    storage, first = undisturbed
    before = {path: path.stat().st_mtime_ns for path in storage.glob("stages/*/*/*")}
    result = run(*QUICKSTART, "--storage", str(storage))
    assert result.returncode == 0
    assert "13 of them done already" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in storage.glob("stages/*/*/*")} == before
    table = first.stdout[first.stdout.index("digits_resnet · ") :]
    assert table in result.stdout


@pytest.mark.slow
def test_an_address_without_ray_is_refused_in_time(storage):
    begun = time.monotonic()
    refused = run(*QUICKSTART, "--storage", str(storage), "--address", "127.0.0.1:9")
    assert time.monotonic() - begun < 180  # Ray alone would try for 14 minutes
    assert refused.returncode == WRONG_USAGE and "Traceback" not in refused.stderr
    assert "127.0.0.1:9" in refused.stderr and "ray start --head" in refused.stderr


@pytest.mark.slow
def test_a_stage_without_anything_left_fails_alone(storage):
    """Pruning 99.9999% leaves no weight: its stage fails at once, the others are trained."""
    result = run(
        *("sweeps.compare", "--protocol", "digits", "--network", "digits_resnet"),
        *("--dataset", "digits", "--smoke", "--seeds", "1", "--methods", "lr_rewind"),
        *("--densities", "0.5", "0.000001", "--storage", str(storage)),
    )
    assert result.returncode == FAILED
    (failure,) = [line for line in result.stdout.splitlines() if line.startswith("failed")]
    assert "leaves none" in failure
    assert "1 failed" in result.stdout
    assert len(rows(storage)) == 2


@pytest.mark.slow
def test_a_diverging_stage_is_recorded_its_descendants_blocked_and_told(storage, monkeypatch):
    arguments = (
        *("sweeps.compare", "--protocol", "digits", "--network", "digits_resnet", "--smoke"),
        *("--dataset", "digits", "--seeds", "1", "--densities", "0.5", "--lr", "1e20"),
        *("--methods", "lr_rewind", "--levels", "2", "--storage", str(storage)),
    )
    result = run(*arguments)
    assert result.returncode == FAILED
    lines = result.stdout.splitlines()
    assert len([line for line in lines if line.startswith("diverged")]) == 1
    assert len([line for line in lines if line.startswith("blocked")]) == 3
    (row,) = rows(storage).values()
    assert row["status"] == "diverged" and row["test_accuracy"] is None
    monkeypatch.setenv(OF_A_SERVICE, "1")
    again = run(*arguments)  # nothing is trained, and the result is reported again
    assert again.returncode == INCOMPLETE and "diverged" in again.stdout


@pytest.mark.slow
def test_a_sweep_of_several_runs_of_tune(undisturbed, storage):
    """As a large one is; here of seven stages each."""
    expected, _ = undisturbed
    program = (
        "import sys, sweeps.run.tune as tuning\n"
        "from sweeps import quickstart\n"
        "tuning.RUN_STAGES, tuning.RUN_STAGES_PER_SLOT = 7, 1\n"
        f"sys.argv = {[*QUICKSTART, '--storage', str(storage)]}\n"
        "quickstart.command(quickstart.main)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(storage.glob("tune/*/*"))) == 2
    assert rows(storage) == rows(expected)

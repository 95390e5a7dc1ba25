"""MLflow and Weights & Biases, each with its own store: what they hold is what the ledger holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rewind_ray.errors import UserError
from rewind_ray.spec import dense_stage
from rewind_ray.store.ledger import Ledger
from sweeps.plan.graph import build_graph
from sweeps.run.experiment_trackers import (
    EPOCH_METRICS,
    SERVICES,
    ExperimentTracker,
    needs,
    settings_of,
)
from tests.rewind_ray.tiny_stages import Lab, child, tiny

DENSE = dense_stage(tiny(), 0)
TUNED = child(DENSE, "finetune", 3)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.run_chain(TUNED)
    return lab


def package(name: str) -> Any:
    return pytest.importorskip(name, reason=f"NOT TESTED: {name} is not installed")


def follow(service: Any, ledger: Ledger, stops: tuple[int, ...]) -> None:
    """A sweep of both stages as Tune reports it. stops: of the dense network's interrupted
    trainings; each is followed by a tracker of its own, as after ``kill -9``."""
    graph = build_graph([TUNED])
    for stage_id, ends in ((DENSE.stage_id, stops), (TUNED.stage_id, (3,))):
        trial = SimpleNamespace(config={"stage_id": stage_id})
        before = 0
        for end in ends:
            tracker = ExperimentTracker(service("tried"), "tried", graph, ledger)
            epochs = [ledger.read_metrics(stage_id, epoch) for epoch in range(before + 1, end + 1)]
            result = {"epoch": end, "epochs": epochs}
            tracker.on_trial_result(1, [], trial, result)
            tracker.on_trial_result(1, [], trial, result)  # told twice
            before = end
        tracker.on_trial_complete(1, [], trial)
        tracker.on_experiment_end([])


def test_settings_are_the_stage_s() -> None:
    found = settings_of(TUNED, "tried")
    assert (found["method"], found["level"], found["retrain_epochs"]) == ("finetune", 1, 3)
    dense = settings_of(DENSE, "tried")
    assert (dense["method"], dense["compression"]) == ("dense", "1.00×")


def test_a_missing_package_says_how_to_install_it() -> None:
    with pytest.raises(UserError, match=r"pip install 'rewind-ray\[no_such_package\]'"):
        needs("no_such_package")


@pytest.fixture
def mlflow_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    mlflow = package("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    yield mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.slow
def test_mlflow_has_each_stage_once_with_all_its_epochs(mlflow_store: Any, lab: Lab) -> None:
    follow(SERVICES["mlflow"], lab.ledger, stops=(2, 6))
    experiment = mlflow_store.get_experiment_by_name("tried")
    runs = {
        r.data.tags["stage_id"]: r for r in mlflow_store.search_runs([experiment.experiment_id])
    }
    assert runs.keys() == {DENSE.stage_id, TUNED.stage_id}
    for stage in (DENSE, TUNED):
        run = runs[stage.stage_id]
        assert run.info.status == "FINISHED" and run.data.params["method"] == stage.method
        for name in ("train_loss", "test_accuracy"):
            history = mlflow_store.get_metric_history(run.info.run_id, name)
            assert [(point.step, point.value) for point in history] == [
                (epoch, lab.ledger.read_metrics(stage.stage_id, epoch)[name])
                for epoch in range(1, stage.train_epochs + 1)
            ]
        row = lab.row(stage)
        assert run.data.metrics["final/test_accuracy"] == row.test_accuracy
        assert run.data.metrics["final/compression_ratio"] == row.compression_ratio


@pytest.mark.slow
def test_wandb_offline_gets_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Lab
) -> None:
    wandb = package("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    logged: list[tuple[str, dict[str, float], int]] = []
    log = wandb.Run.log

    def recorded(run: Any, metrics: dict[str, float], step: int) -> None:
        logged.append((run.id, metrics, step))
        log(run, metrics, step=step)

    monkeypatch.setattr(wandb.Run, "log", recorded)
    follow(SERVICES["wandb"], lab.ledger, stops=(6,))
    expected = [
        (stage.stage_id, epoch)
        for stage in (DENSE, TUNED)
        for epoch in range(1, stage.train_epochs + 1)
    ]
    assert [(run, step) for run, _, step in logged] == expected
    for run, metrics, step in logged:
        known = lab.ledger.read_metrics(run, step)
        assert metrics == {n: known[n] for n in EPOCH_METRICS if known.get(n) is not None}
    files = sorted(path.name for path in tmp_path.rglob("*.wandb"))
    assert [name.removesuffix(".wandb").removeprefix("run-") for name in files] == sorted(
        [DENSE.stage_id, TUNED.stage_id]
    )

"""MLflow and Weights & Biases: a run for each stage, with its settings, epochs and result.

A stage keeps its run: when a sweep continues, MLflow's is found by its tag and W&B's by its id,
both the stage's own, so nothing is there twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial

from rewind_ray.errors import UserError
from rewind_ray.result import ResultRow
from rewind_ray.spec import Stage
from rewind_ray.store.ledger import Ledger
from sweeps.plan.graph import Graph
from sweeps.plan.naming import amount, method_label, title_in

EPOCH_METRICS = (
    "train_loss",
    "train_accuracy",
    "val_accuracy",
    "test_accuracy",
    "lr",
    "density",
    "examples_per_second",
)
RESULTS = (
    "test_accuracy",
    "val_accuracy",
    "pruned_accuracy",
    "compression_ratio",
    "speedup",
    "search_cost_epochs",
    "train_seconds",
)
"""Columns of the row, in the run under ``final/``."""
DONE, FAILED = "done", "failed"


class Service(Protocol):
    """Where runs are kept."""

    def begin(self, stage_id: str, title: str, settings: dict[str, Any]) -> int:
        """Open the stage's run, a new one or that of before; the last epoch it has."""

    def log(self, stage_id: str, metrics: dict[str, float], epoch: int) -> None:
        """Add numbers at an epoch."""

    def end(self, stage_id: str, results: dict[str, float], state: str) -> None:
        """Add the results and close the run."""


def settings_of(stage: Stage, sweep: str) -> dict[str, Any]:
    """What a stage is, as columns of a service's table."""
    retrain, prune = stage.retrain, stage.prune
    return {
        "sweep": sweep,
        "stage_id": stage.stage_id,
        "baseline_id": stage.baseline.stage_id,
        "network": stage.protocol.network,
        "dataset": stage.protocol.dataset,
        "seed": stage.seed,
        "level": stage.level,
        "method": method_label(stage),
        "compression": amount(stage),
        "schedule_kind": stage.schedule_kind or "dense",
        "retrain_epochs": 0 if retrain is None else retrain.epochs,
        "structure": "dense" if prune is None else prune.structure,
        "criterion": "dense" if prune is None else prune.criterion,
    }


def numbers(values: dict[str, Any], names: tuple[str, ...]) -> dict[str, float]:
    """Those that exist."""
    return {name: float(values[name]) for name in names if values.get(name) is not None}


class ExperimentTracker(tune.Callback):
    """Reports every epoch of the sweep's stages to a service, in epochs of the stage."""

    def __init__(self, service: Service, sweep: str, graph: Graph, ledger: Ledger) -> None:
        self._service = service
        self._sweep = sweep
        self._graph = graph
        self._ledger = ledger
        self._title = title_in(node.stage for node in graph.values())
        self._reported: dict[str, int] = {}
        """Open runs -> the last epoch that they have."""

    def on_trial_result(
        self, iteration: int, trials: Any, trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Also the epochs that were trained before a sweep was interrupted."""
        if "epoch" in result:
            self._report(trial.config["stage_id"], result["epoch"], result["epochs"])

    def on_trial_complete(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        stage_id = trial.config["stage_id"]
        if stage_id not in self._reported:
            return
        lengths = self._ledger.row_epochs(stage_id)
        row = self._ledger.sound_row(stage_id, lengths[-1]) if lengths else None
        self._end(stage_id, row)

    def on_trial_error(self, iteration: int, trials: Any, trial: Trial, **info: Any) -> None:
        if trial.config["stage_id"] in self._reported:
            self._end(trial.config["stage_id"], None)

    def on_experiment_end(self, trials: Any, **info: Any) -> None:
        """Close what an interruption has left open."""
        for stage_id in list(self._reported):
            self._end(stage_id, None)

    def _report(self, stage_id: str, up_to: int, metrics: list[dict[str, Any]]) -> None:
        if stage_id not in self._reported:
            stage = self._graph[stage_id].stage
            settings = settings_of(stage, self._sweep)
            self._reported[stage_id] = self._service.begin(stage_id, self._title(stage), settings)
        at_hand = {each["epoch"]: each for each in metrics}
        for epoch in range(self._reported[stage_id] + 1, up_to + 1):
            known = at_hand.get(epoch) or self._ledger.read_metrics(stage_id, epoch)
            self._service.log(stage_id, numbers(known, EPOCH_METRICS), epoch)
            self._reported[stage_id] = epoch

    def _end(self, stage_id: str, row: ResultRow | None) -> None:
        del self._reported[stage_id]
        found = {name: getattr(row, name) for name in RESULTS} if row else {}
        self._service.end(stage_id, numbers(found, RESULTS), DONE if row else FAILED)


def needs(package: str) -> None:
    """Raises UserError where the package isn't installed."""
    if find_spec(package) is None:
        raise UserError(
            f"--tracker {package}: the package isn't installed; pip install 'rewind-ray[{package}]'"
        )


@dataclass(kw_only=True, slots=True)
class Mlflow:
    """Runs of an MLflow experiment with the sweep's name, at MLFLOW_TRACKING_URI."""

    client: Any
    entities: Any
    """The module with its classes."""
    experiment: str
    """Its id."""
    runs: dict[str, str] = field(default_factory=dict)
    """stage_id -> id of its run."""

    def begin(self, stage_id: str, title: str, settings: dict[str, Any]) -> int:
        query = f"tags.stage_id = '{stage_id}'"
        found = self.client.search_runs([self.experiment], query, max_results=1)
        if found:
            run = found[0]
            self.client.update_run(run.info.run_id, status="RUNNING")
        else:
            tags = {"stage_id": stage_id}
            run = self.client.create_run(self.experiment, tags=tags, run_name=title)
            params = [self.entities.Param(name, str(value)) for name, value in settings.items()]
            self.client.log_batch(run.info.run_id, params=params)
        self.runs[stage_id] = run.info.run_id
        history = self.client.get_metric_history(run.info.run_id, "train_loss")
        return max((each.step for each in history), default=0)

    def log(self, stage_id: str, metrics: dict[str, float], epoch: int) -> None:
        self._batch(self.runs[stage_id], metrics, epoch)

    def end(self, stage_id: str, results: dict[str, float], state: str) -> None:
        run_id = self.runs.pop(stage_id)
        self._batch(run_id, {f"final/{name}": value for name, value in results.items()}, 0)
        self.client.set_terminated(run_id, "FINISHED" if state == DONE else "FAILED")

    def _batch(self, run_id: str, values: dict[str, float], step: int) -> None:
        """All in one request, which the sweep's driver waits for."""
        now = int(1000 * time.time())
        metrics = [self.entities.Metric(name, value, now, step) for name, value in values.items()]
        self.client.log_batch(run_id, metrics=metrics)


def mlflow_service(sweep: str) -> Service:
    """Raises UserError where MLflow isn't installed."""
    needs("mlflow")
    from mlflow import MlflowClient, entities

    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a stage
    # Half a minute, during which the driver waits; with its own default it tries for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    client = MlflowClient()
    found = client.get_experiment_by_name(sweep)
    experiment = found.experiment_id if found else client.create_experiment(sweep)
    return Mlflow(client=client, entities=entities, experiment=experiment)


@dataclass(kw_only=True, slots=True)
class Wandb:
    """Runs in the project WANDB_PROJECT (rewind-ray if it isn't set), grouped by sweep."""

    init: Callable[..., Any]
    sweep: str
    runs: dict[str, Any] = field(default_factory=dict)
    """stage_id -> its run."""

    def begin(self, stage_id: str, title: str, settings: dict[str, Any]) -> int:
        run = self.init(
            project=None if os.environ.get("WANDB_PROJECT") else "rewind-ray",
            id=stage_id,
            name=title,
            group=self.sweep,
            config=settings,
            resume="allow",
            reinit="create_new",
        )
        self.runs[stage_id] = run
        return int(run.step)

    def log(self, stage_id: str, metrics: dict[str, float], epoch: int) -> None:
        self.runs[stage_id].log(metrics, step=epoch)

    def end(self, stage_id: str, results: dict[str, float], state: str) -> None:
        run = self.runs.pop(stage_id)
        run.summary.update({f"final/{name}": value for name, value in results.items()})
        run.finish(exit_code=0 if state == DONE else 1)


def wandb_service(sweep: str) -> Service:
    """Raises UserError where Weights & Biases isn't installed."""
    needs("wandb")
    import wandb

    return Wandb(init=wandb.init, sweep=sweep)


SERVICES: dict[str, Callable[[str], Service]] = {"mlflow": mlflow_service, "wandb": wandb_service}
"""``--tracker`` -> what it reports to."""

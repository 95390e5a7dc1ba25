"""A stage's result row, made of its run."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import torch

from rewind_ray.datasets import DATASETS
from rewind_ray.flops import multiply_adds, remaining_multiply_adds
from rewind_ray.pruning import empty_layers, unpruned
from rewind_ray.result import ResultRow
from rewind_ray.retraining import METHODS, original_and_more
from rewind_ray.run import StageRun
from rewind_ray.spec import Stage
from rewind_ray.tasks import image

FORWARD_AND_BACKWARD = 3
"""Cost of training on an example, in forward passes: the backward pass costs about two."""


def make_row(run: StageRun, train_epochs: int, metrics: dict[str, Any]) -> ResultRow:
    """The result at ``train_epochs``; ``metrics`` are those of the last epoch trained."""
    stage, ledger, task = run.stage, run.ledger, run.task
    parent = stage.parent
    parent_row = ledger.read_row(parent.stage_id, parent.train_epochs) if parent else None
    history = [run.metrics(epoch) for epoch in range(1, metrics["epoch"] + 1)]
    dense = task.meta_network()
    flops_dense = sum(multiply_adds(dense, task.input_shape).values())
    flops = multiply_adds(run.network, task.input_shape)
    flops_remaining = remaining_multiply_adds(flops, {**run.mask, **run.companions})
    prunable = run.num_prunable
    remaining = unpruned(run.mask) if run.mask else prunable
    examples = len(history) * task.steps_per_epoch * stage.protocol.batch_size
    cost_epochs, cost_flops, baseline_accuracy = 0, 0.0, metrics["test_accuracy"]
    if parent_row:
        cost_epochs = parent_row.search_cost_epochs + len(history)
        cost_flops = (
            parent_row.search_cost_flops + FORWARD_AND_BACKWARD * flops_remaining * examples
        )
        baseline_accuracy = parent_row.baseline_test_accuracy
    status = "collapsed" if empty_layers(run.mask) else "done"
    return ResultRow(
        stage_id=stage.stage_id,
        parent_id=parent.stage_id if parent else None,
        baseline_id=stage.baseline.stage_id,
        network=stage.protocol.network,
        dataset=row_dataset(stage.protocol.dataset),
        task=image.NAME,
        seed=stage.seed,
        level=stage.level,
        structure=stage.prune.structure if stage.prune else None,
        criterion=stage.prune.criterion if stage.prune else None,
        schedule_kind=stage.schedule_kind,
        method=stage.method,
        density=remaining / prunable,
        compression_ratio=prunable / remaining,
        prune_fraction=stage.prune.fraction if stage.prune else None,
        retrain_epochs=retrain_epochs_of(stage, train_epochs),
        rewind_epoch=stage.rewind_epoch,
        train_epochs=train_epochs,
        search_cost_epochs=cost_epochs,
        search_cost_flops=cost_flops,
        train_seconds=sum(epoch["train_seconds"] for epoch in history),
        val_accuracy=metrics["val_accuracy"],
        test_accuracy=metrics["test_accuracy"],
        pruned_accuracy=run.metrics(0)["pruned_accuracy"],
        trainability_accuracy=trainability(history) if stage.retrain else None,
        baseline_test_accuracy=baseline_accuracy,
        params_total=sum(parameter.numel() for parameter in dense.parameters()),
        params_prunable=prunable,
        params_remaining=remaining,
        flops_dense=flops_dense,
        flops_remaining=flops_remaining,
        speedup=flops_dense / flops_remaining,
        status="diverged" if run.diverged else status,
        precision=stage.protocol.precision,
        device=device_name(task.device),
        git_commit=run.runtime.git_commit,
        torch_version=torch.__version__,
        ray_version=run.runtime.ray_version,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def retrain_epochs_of(stage: Stage, train_epochs: int) -> int | None:
    """t, of a row at this length: what ``reinit`` trains beyond T, else the whole length."""
    if stage.retrain is None:
        return None
    beyond = METHODS[stage.retrain.method].length is original_and_more
    return train_epochs - stage.protocol.epochs if beyond else train_epochs


def trainability(history: list[dict[str, Any]]) -> float | None:
    """Mean test accuracy over the epochs before the rate first drops; Wang et al. 2023, eq. 1."""
    if any(epoch["diverged"] for epoch in history):
        return None
    first_stage = [history[0]]
    for before, epoch in pairwise(history):
        if epoch["lr"] < before["lr"]:
            break
        first_stage.append(epoch)
    accuracies: list[float] = [epoch["test_accuracy"] for epoch in first_stage]
    return sum(accuracies) / len(accuracies)


def row_dataset(dataset: str) -> str:
    """A folder goes by its name, unless that is the name of a known data set."""
    name = dataset.removeprefix("folder:")
    return dataset if name in DATASETS else name


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

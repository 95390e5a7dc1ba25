"""A stage's result row, made of its run."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import torch

from rewind_ray.datasets import DATASETS
from rewind_ray.knobs import cells_of
from rewind_ray.pruning import empty_layers, unpruned
from rewind_ray.pruning.flops import multiply_adds, remaining_multiply_adds
from rewind_ray.result import ResultRow
from rewind_ray.retraining import METHODS, equal_flops, original_and_more, stays_at_first
from rewind_ray.spec import Prune, Retrain, Stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.tasks.task import Task
from rewind_ray.training.run import StageRun

FORWARD_AND_BACKWARD = 3
"""Cost of training on an example, in forward passes: the backward pass costs about two."""


def dense_multiply_adds(task: Task) -> int:
    """Of one forward pass of the unpruned network on one example."""
    try:
        counts = multiply_adds(task.meta_network(), task.example())
    except RuntimeError:  # its forward pass asks for values, ``if x.mean() > 0``: there are none
        counts = multiply_adds(task.network(0), task.example())
    return sum(counts.values())


def make_row(run: StageRun, train_epochs: int, metrics: dict[str, Any]) -> ResultRow:
    """The result at ``train_epochs``; ``metrics`` are those of the last epoch trained."""
    stage, ledger, task = run.stage, run.ledger, run.task
    parent = stage.parent
    parent_row = ledger.read_row(parent.stage_id, parent.train_epochs) if parent else None
    trained = 0 if stage.adopted else metrics["epoch"]
    history = [run.metrics(epoch) for epoch in range(1, trained + 1)]
    dense = task.meta_network()
    flops_dense = dense_multiply_adds(task)
    flops = multiply_adds(run.network, task.example())
    flops_remaining = remaining_multiply_adds(flops, {**run.mask, **run.companions})
    prunable = run.num_prunable
    remaining = unpruned(run.mask) if run.mask else prunable
    examples = len(history) * task.steps_per_epoch * stage.protocol.batch_size
    cost_epochs, cost_flops = 0, 0.0
    if parent_row:
        cost_epochs = parent_row.search_cost_epochs + len(history)
        cost_flops = (
            parent_row.search_cost_flops + FORWARD_AND_BACKWARD * flops_remaining * examples
        )
    status = "collapsed" if empty_layers(run.mask) else "done"
    return ResultRow(
        stage_id=stage.stage_id,
        parent_id=parent.stage_id if parent else None,
        baseline_id=stage.baseline.stage_id,
        network=stage.protocol.network,
        dataset=row_dataset(stage.protocol.dataset),
        task=task.name,
        metric=task.metric.name,
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
        **cells_of(stage.retrain, Retrain),
        **cells_of(stage.prune, Prune),
        optimizer=stage.protocol.optimizer,
        train_epochs=train_epochs,
        search_cost_epochs=cost_epochs,
        search_cost_flops=cost_flops,
        train_seconds=sum(epoch["train_seconds"] for epoch in history),
        val_accuracy=metrics["val_accuracy"],
        test_accuracy=metrics["test_accuracy"],
        pruned_accuracy=run.metrics(0)["pruned_accuracy"] if parent else None,
        trainability_accuracy=trainability(history) if has_first_rate(stage) else None,
        baseline_test_accuracy=dense_accuracy(ledger, stage, train_epochs, metrics),
        params_total=sum(parameter.numel() for parameter in dense.parameters()),
        params_prunable=prunable,
        params_remaining=remaining,
        flops_dense=flops_dense,
        flops_remaining=flops_remaining,
        speedup=flops_dense / flops_remaining,
        status="diverged" if run.diverged else status,
        precision=stage.protocol.precision,
        device=devices_of(history, device_name(task.device)),
        git_commit=run.runtime.git_commit,
        torch_version=str(torch.__version__),  # which is of a class of its own
        ray_version=run.runtime.ray_version,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def retrain_epochs_of(stage: Stage, train_epochs: int) -> int | None:
    """t, of a row at this length: what ``reinit`` trains beyond T and ``scratch_b`` beyond its
    equivalent, else the whole length."""
    if stage.retrain is None:
        return None
    length = METHODS[stage.retrain.method].length
    if length is equal_flops:  # it trains longer, and its t is in the id
        return stage.retrain.epochs
    return train_epochs - stage.protocol.epochs if length is original_and_more else train_epochs


def dense_accuracy(
    ledger: Ledger, stage: Stage, train_epochs: int, metrics: dict[str, Any]
) -> float | None:
    """Test accuracy of the chain's dense network after all T epochs (0 where it was given trained,
    without its history), at whatever epoch it was pruned; None as long as it has no row of that
    length. A sweep trains it before what is pruned.
    """
    dense, whole = stage.baseline, stage.protocol.dense_epochs
    if stage.parent is None and train_epochs == whole:
        accuracy: float | None = metrics["test_accuracy"]
        return accuracy
    row = ledger.sound_row(dense.stage_id, whole)
    return row.test_accuracy if row else None


def has_first_rate(stage: Stage) -> bool:
    """Whether its retraining begins with a rate that stays for a while."""
    retrain, schedule = stage.retrain, stage.protocol.schedule
    return retrain is not None and stays_at_first(METHODS[retrain.method], schedule)


def trainability(history: list[dict[str, Any]]) -> float | None:
    """Mean test accuracy of the epochs before the rate first drops / the final test accuracy.

    history: the metrics of every epoch, from the first. None if it diverged, or ended at 0.

    Wang et al. 2023's equation (1) is the mean itself, over the epochs of the first learning rate.
    But that is not what their Table 5 has: read from the curves of their figures 2 and 3, the means
    are 67.45, 58.19 and 17.93%, and the table says 77.45, 68.19 and 37.93% (the last beside a final
    29.89%). The mean is this ratio times ``test_accuracy``.
    """
    if any(epoch["diverged"] for epoch in history) or not history[-1]["test_accuracy"]:
        return None
    first_stage = [history[0]]
    for before, epoch in pairwise(history):
        if epoch["lr"] < before["lr"]:
            break
        first_stage.append(epoch)
    accuracies: list[float] = [epoch["test_accuracy"] for epoch in first_stage]
    final: float = history[-1]["test_accuracy"]
    return sum(accuracies) / len(accuracies) / final


def row_dataset(dataset: str) -> str:
    """A folder goes by its name, unless that is the name of a known data set."""
    name = dataset.removeprefix("folder:")
    return dataset if name in DATASETS else name


def devices_of(history: list[dict[str, Any]], here: str) -> str:
    """Models of the devices that trained the epochs, in their order: ``NVIDIA L4 + NVIDIA A10G``.

    history: metrics of the epochs. here: the device of those that don't say, and where none is.
    """
    return " + ".join(dict.fromkeys(str(epoch.get("device", here)) for epoch in history)) or here


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

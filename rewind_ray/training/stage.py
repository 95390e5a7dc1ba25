"""A stage from start to row: start_stage, run_epoch until finished, or run_stage for all of it.

Everything a run has done is in the ledger at the end of every epoch, so it may die at any
moment; starting it again goes on from the last rewind point, to the same bits.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from rewind_ray.datasets.archive import folder_of
from rewind_ray.errors import DataError
from rewind_ray.models.own import load_weights_, weights_from_bytes
from rewind_ray.pruning import (
    Mask,
    Probe,
    dense_mask,
    pruned_mask,
    unpruned,
)
from rewind_ray.retraining import METHODS, RATES, RateContext
from rewind_ray.schedule import learning_rate
from rewind_ray.seeding import seed_of, seeded
from rewind_ray.spec import BUILDER, Stage
from rewind_ray.store import checkpoint
from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.store.ledger import CorruptRewindPoint, Ledger
from rewind_ray.store.partial import drop_partial, read_partial, write_partial
from rewind_ray.store.side_by_side import beside
from rewind_ray.tasks import Task, as_loss, load_task
from rewind_ray.text import printable
from rewind_ray.training import limits
from rewind_ray.training.allocator import keep_freed_memory
from rewind_ray.training.arithmetic import arithmetic, check_precision
from rewind_ray.training.compiling import compiled_loss, is_worth_it
from rewind_ray.training.epoch import BrokenOff, EpochMetrics, Progress, evaluate, train_epoch
from rewind_ray.training.optimizers import make_optimizer
from rewind_ray.training.recalibrate import RECALIBRATED, batch_norms, recalibrated
from rewind_ray.training.replay import Recorder, can_record
from rewind_ray.training.row import device_name, make_row
from rewind_ray.training.run import (
    Job,
    Runtime,
    StageRun,
    apply_masks_,
    cut_network_,
    data_seed,
    going_along,
    in_order_of_modules,
    set_mask_,
    shrink_run_,
)
from rewind_ray.training.update import BatchLoss

log = logging.getLogger(__name__)


def run_stage(job: Job, runtime: Runtime, ledger: Ledger | None = None) -> None:
    """Do whatever is still missing of the job. ledger: see ``start_stage``."""
    ledger = ledger or Ledger(runtime.storage)
    if not missing_epochs(ledger, job):
        return
    run = start_stage(job, runtime, ledger)
    while not run.finished:
        run_epoch(run)


def missing_epochs(ledger: Ledger, job: Job, listed: list[int] | None = None) -> list[int]:
    """Epochs whose row or rewind point is wanted and not there, rising. Empty: done.

    Those that aren't listed are looked for one by one: some object stores list late. listed: the
    lengths that have a row, where they are at hand.
    """
    stage_id = job.stage.stage_id
    listed = ledger.row_epochs(stage_id) if listed is None else listed
    rows = {n for n in job.row_epochs if n in listed or ledger.has_row(stage_id, n)}
    missing = set(job.row_epochs) - rows
    if job.rewind_epochs:
        unsaved = set(job.rewind_epochs).difference(ledger.points(stage_id))
        if not missing:
            unsaved = {epoch for epoch in unsaved if not ledger.has_point(stage_id, epoch)}
        if unsaved:
            found = {epoch: ledger.sound_row(stage_id, epoch) for epoch in rows}
            missing |= {epoch for epoch, row in found.items() if row is None}
            if not any(row and row.status == "diverged" for row in found.values()):
                missing |= unsaved
    return sorted(missing)


def start_stage(job: Job, runtime: Runtime, ledger: Ledger | None = None) -> StageRun:
    """Ready to train: from the last good rewind point, or from the beginning.

    ledger: of the runtime's storage, where it has to be one that is fenced.
    """
    ledger = ledger or Ledger(runtime.storage)
    stage = job.stage
    ledger.write_spec(stage)
    rows = ledger.row_epochs(stage.stage_id)
    missing = missing_epochs(ledger, job, rows)
    for epoch in set(missing).intersection(rows):
        ledger.drop_row(stage.stage_id, epoch)  # a damaged one
        rows.remove(epoch)
    device = torch.device(runtime.device)
    check_precision(stage.protocol.precision, device)
    if device.type == "cpu":
        keep_freed_memory()
    task = load_task(stage.protocol, folder_of(runtime.data), device)
    keep_of_data(ledger, stage, task)
    network = task.network(stage.seed)
    parameters = task.prunable(network)
    epochs, points = ledger.epochs_and_points(stage.stage_id)
    settings = settings_before(ledger, stage, epochs)
    run = StageRun(
        job=job,
        runtime=runtime,
        ledger=ledger,
        task=task,
        network=network,
        optimizer=make_optimizer(network, stage.protocol),
        parameters=parameters,
        num_prunable=sum(parameter.numel() for parameter in parameters.values()),
        mask={},
        companions={},
        cut=None,
        threads=int(settings.get("threads", runtime.threads)),
        compiled=bool(settings.get("compiled")),
        target_epoch=0 if stage.adopted else max(missing, default=0),
        kept_epochs={*job.row_epochs, *job.rewind_epochs},
        recorder=Recorder(task) if runtime.replay and can_record(task) else None,
    )
    torch.set_num_threads(run.threads)
    check_data(run)
    if "compiled" not in settings:
        run.compiled = is_compiled(run)
    run.kept_epochs |= kept_before(run, points, rows)
    if stage.adopted:
        with arithmetic(stage.protocol.precision, device):
            adopt_(run, missing, rows)
        return run
    if not resume_(run, points, no_later_than=min(missing, default=0)):
        with arithmetic(stage.protocol.precision, device):
            begin_(run)
    drop_left_behind(run, points)
    write_late_row(run, rows)
    return run


def keep_of_data(ledger: Ledger, stage: Stage, task: Task) -> None:
    """Write what export has to know of the data, unless it is there and sound."""
    try:
        ledger.read_data(stage.stage_id)
        return
    except FileNotFoundError:
        pass
    except ValueError as error:
        log.warning("written again: %s", error)
    with seeded(0):  # an own task may draw its example
        kept = task.kept_of_data()
    ledger.write_data(stage.stage_id, kept)


def kept_before(run: StageRun, points: list[int], rows: list[int]) -> set[int]:
    """Epochs whose rewind point stays though this job doesn't want it: other stages start where
    there is a row, and at what another job wanted of a baseline.

    What else is there was left behind by a run that was interrupted. points, rows: the epochs that
    have a rewind point, and those that have a row.
    """
    if run.stage.parent is not None:
        return set(rows)
    return {*rows} | {epoch for epoch in points if was_wanted(run, epoch)}


def was_wanted(run: StageRun, epoch: int) -> bool:
    """Whether the job that wrote this rewind point meant it to stay; True if that can't be read."""
    try:
        return run.metrics(epoch).get("kept", True) is not False
    except (FileNotFoundError, ValueError):
        return True


def drop_left_behind(run: StageRun, points: list[int]) -> None:
    """Drop rewind points that a run before this one had no time to drop."""
    for epoch in points:
        if epoch < run.epoch if run.finished else epoch < run.epoch - 1:
            drop_needless(run, epoch)


def settings_before(ledger: Ledger, stage: Stage, epochs: list[int]) -> dict[str, Any]:
    """What the stage started with, empty if it never did: its ``threads``, and whether it is
    ``compiled``. With others it would have other bits. epochs: those that have metrics."""
    for epoch in epochs:
        try:
            metrics = ledger.read_metrics(stage.stage_id, epoch)
        except (FileNotFoundError, ValueError):  # damaged: another epoch knows it too
            continue
        return {name: metrics[name] for name in ("threads", "compiled") if name in metrics}
    return {}


def is_compiled(run: StageRun) -> bool:
    """Of a stage that begins: as the runtime asks, by the stage's whole length.

    Only where all batches have one shape: for each other one all would be compiled again.
    """
    wanted = run.runtime.compile
    if wanted != "auto" or not run.task.records or run.stage.adopted:
        return wanted == "on" and run.task.records
    with arithmetic(run.stage.protocol.precision, run.task.device):
        return is_worth_it(run.task, run.stage.train_epochs * run.task.steps_per_epoch)


# The start


def resume_(run: StageRun, points: list[int], no_later_than: int) -> bool:
    """Go on from the last good rewind point of the stage itself; False if it has none."""
    stage_id = run.stage.stage_id
    known = unbroken_history(run, no_later_than)
    for epoch in reversed(points):
        if epoch > known:
            continue
        try:
            point = sound_point(run.stage, epoch, run)
            cut_network_(run, point.cut)
            checkpoint.load_network_(run.network, point)
            checkpoint.load_optimizer_(run.network, run.optimizer, point.optimizer)
        except (CorruptRewindPoint, ValueError) as error:
            log.warning("unusable rewind point, going back to the one before: %s", error)
            run.ledger.drop_point(stage_id, epoch)
            continue
        run.epoch = epoch
        resume_epoch_(run)
        set_mask_(run, point.mask)
        run.removed_norm = run.metrics(0).get("removed_norm", 1.0)
        report_other_device(run)
        return True
    return False


def report_other_device(run: StageRun) -> None:
    """Devices of another model may round otherwise; the row names them all."""
    here = device_name(run.task.device)
    before = run.metrics(run.epoch).get("device", here)
    if before != here:
        log.warning(
            "stage %s goes on on %s after %s, which may round otherwise; its row names both",
            *(run.stage.stage_id, here, printable(str(before))),
        )


def resume_epoch_(run: StageRun) -> None:
    """Go on in the middle of the epoch, if it was stopped there."""
    steps = run.task.steps_per_epoch
    saved = read_partial(run.ledger, run.stage.stage_id, run.epoch + 1, steps)
    if saved is None:
        return
    point, progress = saved
    try:
        checkpoint.load_network_(run.network, point)
    except ValueError as error:
        log.warning("the epoch that was broken off is begun anew: %s", error)
        return
    checkpoint.load_optimizer_(run.network, run.optimizer, point.optimizer)
    run.progress = progress


def unbroken_history(run: StageRun, no_later_than: int) -> int:
    """The last epoch up to which all metrics can be read, -1 if none: rows are made of them."""
    for epoch in range(no_later_than + 1):
        try:
            run.metrics(epoch)
        except (FileNotFoundError, ValueError):
            return epoch - 1
    return no_later_than


def begin_(run: StageRun) -> None:
    """Set weights, optimizer state and mask of epoch 0, and save them as its rewind point."""
    metrics: dict[str, Any] = dict.fromkeys(("pruned_accuracy", *RECALIBRATED))
    stage = run.stage
    torch.manual_seed(seed_of(f"start {stage.seed} {stage.level}"))  # of what SNIP's pass draws
    if stage.parent and stage.prune and stage.retrain:
        parent = rewind_point(stage.parent, stage.parent.train_epochs, run)
        cut_network_(run, parent.cut)
        checkpoint.load_network_(run.network, parent)
        set_mask_(run, next_mask(run, parent))
        apply_masks_(run)
        run.removed_norm = removed_norm_of(parent, run.mask, run.companions)
        metrics["removed_norm"] = run.removed_norm
        metrics["pruned_accuracy"] = evaluate(run.task, run.network, "test")
        metrics |= recalibrated_accuracies(run)
        start = ORIGINS[METHODS[stage.retrain.method].weights](run, parent)
        checkpoint.load_network_(run.network, start)
        apply_masks_(run)
        if stage.retrain.restore_momentum:
            checkpoint.load_optimizer_(run.network, run.optimizer, start.optimizer)
        if stage.prune.shrink:
            shrink_run_(run)
    save_point(run, metrics)


def adopt_(run: StageRun, epochs: list[int], rows: list[int]) -> None:
    """Save what was given of a trained network at these epochs as rewind points, and write their
    rows, unless they are there. Nothing is trained, and the optimizer has no state."""
    metrics: dict[str, Any] = dict.fromkeys(("pruned_accuracy", *RECALIBRATED))
    for epoch in epochs:
        digest = run.stage.protocol.given[epoch]
        if digest != BUILDER:
            weights = weights_from_bytes(run.ledger.read_init(digest), digest)
            load_weights_(run.network, weights, "the stage")
        run.epoch = epoch
        save_point(run, metrics)
        write_late_row(run, rows)
    run.epoch = 0


def next_mask(run: StageRun, parent: RewindPoint) -> Mask:
    """The parent's mask without what this stage prunes."""
    stage = run.stage
    assert stage.prune is not None
    return pruned_mask(
        run.parameters,
        in_order_of_modules(parent.mask, run) if parent.mask else dense_mask(run.parameters),
        stage.prune,
        seed=stage.seed,
        level=stage.level,
        probe=Probe(
            network=run.network,
            example=run.task.example(),
            loss=lambda network, batch: as_loss(run.task.loss(network, batch), batch).mean,
            batches=lambda: run.task.batches("train", data_seed(stage), 0),
        ),
        **going_along(run),
    )


def recalibrated_accuracies(run: StageRun) -> dict[str, float | None]:
    """Of a copy of the network with BatchNorm statistics of its own; None without BatchNorm.

    The batches are those that the stage's first epoch will see again. Costs at most 50 forward
    passes on a batch and two evaluations.
    """
    if not batch_norms(run.network):
        return dict.fromkeys(RECALIBRATED)
    batches = run.task.batches("train", data_seed(run.stage), 0)
    precision = run.stage.protocol.precision
    probe = recalibrated(run.network, batches, run.task.loss, precision)
    return {name: evaluate(run.task, probe, part) for name, part in RECALIBRATED.items()}


def removed_norm_of(parent: RewindPoint, mask: Mask, companions: Mask) -> float:
    """||dW|| / ||W|| / sqrt(share), of W all of the parent's parameters (BatchNorm and biases too)
    and dW those that this step removes.

    share: removed / parent's unpruned prunable weights. Zimmer et al. 2023 and their code: 1 if
    weights were removed whatever their size, less the smaller they were.
    """
    kept = {**mask, **companions}
    before = removed = 0.0
    for name in sorted(parent.weights):  # read from a file, they come in any order, and sums differ
        squares = parent.weights[name].double().square()
        before += float(squares.sum())
        if name in kept:
            removed += float(squares[~kept[name].cpu()].sum())
    count_before = unpruned(parent.mask) if parent.mask else sum(m.numel() for m in mask.values())
    share = (count_before - unpruned(mask)) / count_before
    return math.sqrt(removed / before / share) if before and share else 0.0


def parent_weights(run: StageRun, parent: RewindPoint) -> RewindPoint:
    return parent


def fresh_weights(run: StageRun, parent: RewindPoint) -> RewindPoint:
    """Random, and others than the baseline started from (W'_0; Renda et al. 2020, App. E)."""
    network = run.task.network(data_seed(run.stage))
    point = checkpoint.capture(network, make_optimizer(network, run.stage.protocol), {})
    return checkpoint.cut_point(point, parent.cut) if parent.cut else point


def blended_weights(run: StageRun, parent: RewindPoint) -> RewindPoint:
    """alpha * parent + (1 - alpha) * baseline at T - t: weights, buffers, optimizer state."""
    assert run.stage.retrain is not None and run.stage.retrain.alpha is not None
    return checkpoint.blend(parent, baseline_weights(run, parent), run.stage.retrain.alpha)


def baseline_weights(run: StageRun, parent: RewindPoint) -> RewindPoint:
    """Of the original run at epoch T - t, also in an iterative chain (Renda et al. 2020, §2.4)."""
    assert run.stage.rewind_epoch is not None
    point = rewind_point(run.stage.baseline, run.stage.rewind_epoch, run)
    return checkpoint.cut_point(point, parent.cut) if parent.cut else point


ORIGINS: dict[str, Callable[[StageRun, RewindPoint], RewindPoint]] = {
    "parent": parent_weights,
    "baseline": baseline_weights,
    "blend": blended_weights,
    "fresh": fresh_weights,
}


def rewind_point(stage: Stage, epoch: int, run: StageRun) -> RewindPoint:
    """That of another stage; trained again, to the same bits, where it is lost or corrupt."""
    try:
        return sound_point(stage, epoch, run)
    except (CorruptRewindPoint, ValueError) as error:
        log.warning("unusable rewind point, training it again: %s", error)
    run.ledger.drop_point(stage.stage_id, epoch)
    rows = (epoch,) if epoch == stage.train_epochs else ()  # a child's row needs its parent's
    job = Job(stage=stage, row_epochs=rows, rewind_epochs=(epoch,))
    run_stage(job, run.runtime, run.ledger)
    torch.set_num_threads(run.threads)
    return sound_point(stage, epoch, run)


def sound_point(stage: Stage, epoch: int, run: StageRun) -> RewindPoint:
    """That of a stage of the run's chain. Raises CorruptRewindPoint or ValueError."""
    point = checkpoint.from_bytes(run.ledger.read_point(stage.stage_id, epoch))
    checkpoint.check_mask(point, run.parameters, pruned=stage.level > 0)
    return point


# An epoch


def run_epoch(run: StageRun) -> dict[str, Any]:
    """Train one epoch, save its rewind point, write the row if one is wanted. Its metrics.

    Raises BrokenOff, with what was trained of it saved, once ``run.stop`` says so.
    """
    with arithmetic(run.stage.protocol.precision, run.task.device):
        return _run_epoch(run)


def _run_epoch(run: StageRun) -> dict[str, Any]:
    is_first = run.epoch == run.progress.updates == 0
    try:
        # The last two rewind points stay: one may turn out to be corrupt
        with beside(partial(drop_needless, run, run.epoch - 2)):
            trained = train_one_epoch(run)
    except BrokenOff as broken:
        if broken.progress.updates > run.progress.updates:
            save_partial(run, broken.progress)
        raise
    if is_first:
        report_limit(run, trained)
    run.epoch += 1
    run.diverged = not (math.isfinite(trained.train_loss) and all_finite(run.network))
    metrics: dict[str, Any] = {
        "train_loss": None if run.diverged else trained.train_loss,
        "train_accuracy": trained.train_accuracy,
        "lr": trained.last_lr,
        "train_seconds": trained.train_seconds,
        "examples_per_second": trained.examples_per_second,
    }
    metrics = save_point(run, metrics)
    if run.progress.updates:
        drop_partial(run.ledger, run.stage.stage_id)
        run.progress = Progress()
    if run.finished:  # before the row is written, with which the stage is done
        for epoch in (run.epoch - 2, run.epoch - 1):
            drop_needless(run, epoch)
    wanted = [epoch for epoch in run.job.row_epochs if epoch == run.epoch]
    if run.diverged:
        wanted = [epoch for epoch in run.job.row_epochs if epoch >= run.epoch]
    for train_epochs in wanted:
        write_row(run, train_epochs, metrics)
    return metrics


def report_limit(run: StageRun, trained: EpochMetrics) -> None:
    """Of an epoch's training, where its batches are read meanwhile and it took a while."""
    long = trained.train_seconds >= limits.SECONDS
    if long and run.task.epoch_table(data_seed(run.stage), 0) is None:
        reading, line = limits.limit_of(trained.waited_seconds, trained.train_seconds)
        log.log(logging.WARNING if reading else logging.INFO, line)


def save_partial(run: StageRun, progress: Progress) -> None:
    point = checkpoint.capture(run.network, run.optimizer, run.mask, run.cut)
    write_partial(run.ledger, run.stage.stage_id, run.epoch + 1, point, progress)
    run.progress = progress


def write_row(run: StageRun, train_epochs: int, metrics: dict[str, Any]) -> None:
    """The row at ``train_epochs``; its parent's row first, where that is lost or damaged."""
    try:
        row = make_row(run, train_epochs, metrics)
    except (FileNotFoundError, ValueError):
        parent = run.stage.parent
        if parent is None or run.ledger.sound_row(parent.stage_id, parent.train_epochs):
            raise
        run.ledger.drop_row(parent.stage_id, parent.train_epochs)
        run_stage(Job(stage=parent, row_epochs=(parent.train_epochs,)), run.runtime, run.ledger)
        torch.set_num_threads(run.threads)
        row = make_row(run, train_epochs, metrics)
    run.ledger.write_row(row)


def train_one_epoch(run: StageRun) -> EpochMetrics:
    stage, task = run.stage, run.task
    table = task.epoch_table(data_seed(stage), run.epoch) if run.recorder else None
    return train_epoch(
        network=run.network,
        optimizer=run.optimizer,
        batches=task.batches("train", data_seed(stage), run.epoch),
        batch_loss=batch_loss_of(run),
        learning_rate=epoch_rates(stage, run.epoch, task.steps_per_epoch, run.removed_norm),
        parameters=dict(run.network.named_parameters()),
        mask={**run.mask, **run.companions},
        precision=stage.protocol.precision,
        progress=run.progress,
        seed=seed_of(f"network {stage.seed} {stage.level} {run.epoch}"),
        stop=run.stop,
        save=partial(save_partial, run),
        save_seconds=run.save_seconds,
        backward=task.backward,
        max_gradient_norm=stage.protocol.max_gradient_norm,
        replay=partial(run.recorder.steps, table) if run.recorder and table else None,
    )


def batch_loss_of(run: StageRun) -> BatchLoss:
    """The task's; of a compiled stage, that of the network compiled once for all epochs."""
    if not run.compiled:
        return run.task.loss
    if run.compiled_loss is None:
        run.compiled_loss = compiled_loss(run.task.loss, run.network)
    return run.compiled_loss


def all_finite(network: nn.Module) -> bool:
    """Parameters and running statistics; the loss predates the last update."""
    running = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    largest = torch._foreach_norm([*network.parameters(), *running], math.inf)
    return bool(torch.stack(largest).isfinite().all())


def epoch_rates(
    stage: Stage, epoch: int, steps_per_epoch: int, removed_norm: float = 1.0
) -> Callable[[int], float]:
    """Learning rate of an update of the stage's epoch (both from 0)."""
    first = epoch * steps_per_epoch
    schedule, retrain = stage.protocol.schedule, stage.retrain
    if retrain is None:
        epochs = stage.protocol.epochs
        return lambda update: learning_rate(first + update, schedule, steps_per_epoch, epochs)
    method = METHODS[retrain.method]
    context = RateContext(
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
        dense_epochs=stage.protocol.epochs,
        train_epochs=stage.train_epochs,
        retrain=retrain,
        removed_norm=removed_norm,
    )
    return lambda update: RATES[method.rate].rate(first + update, context)


def save_point(run: StageRun, metrics: dict[str, Any]) -> dict[str, Any]:
    """Measure the network and write the rewind point."""
    metrics = {
        "epoch": run.epoch,
        **metrics,
        "val_accuracy": None if run.diverged else evaluate_run(run, "val"),
        "test_accuracy": None if run.diverged else evaluate_run(run, "test"),
        "density": unpruned(run.mask) / run.num_prunable if run.mask else 1.0,
        "diverged": run.diverged,
        "threads": run.threads,
        "compiled": run.compiled,
        "device": device_name(run.task.device),
        **{name: text for name, text in details_of(run.task).items() if text},
        "kept": keeps(run, run.epoch),
    }
    run.history[run.epoch] = metrics
    stage_id = run.stage.stage_id
    if run.diverged:
        run.ledger.write_metrics(stage_id, run.epoch, metrics)
        return metrics
    point = checkpoint.capture(run.network, run.optimizer, run.mask, run.cut)
    run.ledger.write_point(stage_id, run.epoch, checkpoint.to_bytes(point), metrics)
    return metrics


def evaluate_run(run: StageRun, part: str) -> float | None:
    forward = run.recorder.forward(run.network) if run.recorder else None
    return evaluate(run.task, run.network, part, forward)


def details_of(task: Task) -> dict[str, str]:
    """What an epoch's metrics say of the task; empty texts say nothing."""
    return {"metric_details": task.metric_details, "prepared_digest": task.prepared_digest}


def check_data(run: StageRun) -> None:
    """Raises DataError where this stage or its parent was trained on data that is another now:
    other text, or the same text with another vocabulary."""
    stage, here = run.stage, run.task.prepared_digest
    earlier = [(stage, 0), *([(stage.parent, stage.parent.train_epochs)] if stage.parent else [])]
    for one, epoch in earlier:
        try:
            there = run.ledger.read_metrics(one.stage_id, epoch).get("prepared_digest", "")
        except (FileNotFoundError, ValueError):  # not yet begun, or damaged: nothing to compare
            continue
        if here and there and there != here:
            raise DataError(
                f"stage {one.stage_id} was trained on data of digest {there}, and the data of "
                f"{stage.protocol.dataset} is {here} here: its text or its vocabulary differs; "
                "give the same --data DIR and version of sentencepiece, or another --storage"
            )


def keeps(run: StageRun, epoch: int) -> bool:
    """Whether the epoch's rewind point stays when the stage is done."""
    keeps_all = run.stage.parent is None and run.runtime.keep == "all"
    return keeps_all or epoch in run.kept_epochs


def drop_needless(run: StageRun, epoch: int) -> None:
    if epoch >= 0 and not keeps(run, epoch):
        run.ledger.drop_point(run.stage.stage_id, epoch)


def write_late_row(run: StageRun, rows: list[int]) -> None:
    """The row of the epoch that the run starts at, if it is wanted and was never written. rows: the
    lengths that have one."""
    if run.epoch in set(run.job.row_epochs).difference(rows):
        metrics = run.metrics(run.epoch)
        write_row(run, run.epoch, metrics)

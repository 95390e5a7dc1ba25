"""A stage while it runs: what is wanted of it, and its network with mask and optimizer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from rewind_ray.pruning import Mask, apply_mask_, prunable_parameters
from rewind_ray.pruning.channels import follower_mask
from rewind_ray.pruning.cut import Cut
from rewind_ray.pruning.shrink import cut_of, kept_kernels, shrink_
from rewind_ray.pruning.trace import channels_of, followers
from rewind_ray.spec import Stage
from rewind_ray.store import checkpoint
from rewind_ray.store.ledger import Ledger
from rewind_ray.tasks import Task
from rewind_ray.training.epoch import SAVE_SECONDS, Progress, never
from rewind_ray.training.optimizers import make_optimizer
from rewind_ray.training.replay import Recorder
from rewind_ray.training.update import BatchLoss


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A stage, and what is wanted of it."""

    stage: Stage
    row_epochs: tuple[int, ...]
    """Lengths at which a result row is wanted, rising."""
    rewind_epochs: tuple[int, ...] = ()
    """Epochs whose rewind point other stages start from, rising."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """Where and how stages run. Nothing of it is in a stage's id."""

    storage: str
    data: str | None = None
    """Folder of the data set's files, where it needs one, or an archive with its digest; see
    ``datasets.archive``."""
    device: str = "cpu"
    threads: int = 1
    """CPU threads of a stage that starts now; one that goes on keeps what it started with."""
    keep: str = "all"
    """Rewind points that stay. all: every epoch's of baselines, of retrainings those that have a
    row or a child. referenced: those that have a row, or that a stage of the sweep starts from."""
    compile: str = "off"
    """One of ``compiling.COMPILES``; of stages that start now, as with threads."""
    replay: bool = True
    """Whether a GPU records updates and repeats them from the recording, where it can: the same
    bits, sooner."""
    git_commit: str | None = None
    ray_version: str | None = None


@dataclass(kw_only=True, slots=True)
class StageRun:
    """A stage while it runs."""

    job: Job
    runtime: Runtime
    ledger: Ledger
    task: Task
    network: nn.Module
    optimizer: torch.optim.Optimizer
    parameters: dict[str, nn.Parameter]
    """The prunable ones."""
    num_prunable: int
    """Prunable weights of the dense network."""
    mask: Mask
    """Empty for the dense network."""
    companions: Mask
    """What pruned filters take with them, as masks: scales and shifts of BatchNorm channels, and
    what reads these of kernels that can't be pruned. Density doesn't count them."""
    cut: Cut | None
    """What was physically removed from the dense network."""
    followers: dict[str, list[str]] | None = None
    """See ``shrink.followers``; None: not yet needed."""
    threads: int
    compiled: bool
    compiled_loss: BatchLoss | None = None
    """Of a compiled stage, once it has been compiled."""
    target_epoch: int
    """The last epoch that is wanted."""
    epoch: int = 0
    """Epochs trained so far."""
    diverged: bool = False
    removed_norm: float = 1.0
    """How much pruning took away, see ``removed_norm_of``."""
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Epoch -> its metrics, as far as this run wrote or read them."""
    kept_epochs: set[int] = field(default_factory=set)
    progress: Progress = field(default_factory=Progress)
    """Of the next epoch, as it was last saved in the middle, by this run or one before it."""
    save_seconds: float = SAVE_SECONDS
    """See ``train_epoch``."""
    recorder: Recorder | None = None
    """None: nothing is recorded."""
    stop: Callable[[], bool] = never
    """Asked before every update: must the run break off? Then it raises BrokenOff."""

    @property
    def stage(self) -> Stage:
        return self.job.stage

    @property
    def finished(self) -> bool:
        return self.diverged or self.epoch >= self.target_epoch

    def metrics(self, epoch: int) -> dict[str, Any]:
        """Of one of the stage's epochs, 0 being its start."""
        if epoch not in self.history:
            self.history[epoch] = self.ledger.read_metrics(self.stage.stage_id, epoch)
        return self.history[epoch]


def data_seed(stage: Stage) -> int:
    """Of the batches' order and augmentation.

    A function of seed and level: methods compared at a level see the same batches, and the
    levels of a chain don't see the same ones again.
    """
    digest = hashlib.sha256(f"batches {stage.seed} {stage.level}".encode()).digest()
    return int.from_bytes(digest[:7])


def set_mask_(run: StageRun, mask: Mask) -> None:
    run.mask = in_order_of_modules(mask, run) if mask else {}
    run.companions = companions_of(run, run.mask)
    if run.companions and run.mask.keys() < prunable_parameters(run.network, "kernels").keys():
        kept = kept_kernels(run.network, {**run.mask, **run.companions}, run.task.example())
        run.companions = {n: m.to(run.task.device) for n, m in kept.items() if n not in run.mask}


def companions_of(run: StageRun, mask: Mask) -> Mask:
    """What goes with the filters that ``mask`` prunes; nothing where BatchNorm stays."""
    if not run.stage.channels_take_norms:
        return {}
    if run.followers is None:
        run.followers = followers(run.task.meta_network(), run.task.example())
    return follower_mask(run.network, mask, run.followers)


def going_along(run: StageRun) -> dict[str, Callable[[Mask], Mask]]:
    """What channels that the stage prunes take along: ``close`` and ``companions`` of
    ``pruned_mask``; empty where it prunes none."""
    if not run.stage.prunes_channels:
        return {}
    channels = channels_of(run.network, run.task.example())
    companions = partial(companions_of, run)
    return {"companions": companions, "close": partial(channels.closed, companions=companions)}


def in_order_of_modules(mask: Mask, run: StageRun) -> Mask:
    """On the run's device. Ties, random criteria and sums go by this order; safetensors gives
    back any."""
    return {name: mask[name].to(run.task.device) for name in run.parameters}


def apply_masks_(run: StageRun) -> None:
    apply_mask_(dict(run.network.named_parameters()), {**run.mask, **run.companions})


def cut_network_(run: StageRun, cut: Cut | None) -> None:
    """Make the run's network the dense one without what ``cut`` removes."""
    if run.cut is None and cut is None:
        return
    network = run.task.network(run.stage.seed)
    run.network = run.task.placed(shrink_(network, cut)) if cut else network
    run.parameters = run.task.prunable(run.network)
    run.optimizer = make_optimizer(run.network, run.stage.protocol)
    run.cut = cut


def shrink_run_(run: StageRun) -> None:
    """Cut out what the mask has left without use, and go on with the smaller network."""
    here = checkpoint.capture(run.network, run.optimizer, run.mask, run.cut)
    mask = {**run.mask, **run.companions}
    small = checkpoint.cut_point(here, cut_of(run.network, mask, run.task.example()))
    cut_network_(run, small.cut)
    checkpoint.load_network_(run.network, small)
    checkpoint.load_optimizer_(run.network, run.optimizer, small.optimizer)
    set_mask_(run, small.mask)

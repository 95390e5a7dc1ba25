"""BatchNorm's running statistics, measured anew for a network that was just pruned.

The statistics it was pruned with are those of the dense network's activations. How accurate it
can be with its own is a separate question, and costs a few forward passes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rewind_ray.store.ledger import Ledger
from rewind_ray.tasks import Batch
from rewind_ray.training.update import BatchLoss, autocast

NUM_BATCHES = 50
"""At most. Their forward passes are 4% of the work of an epoch of CIFAR-10 at batch 128."""
RECALIBRATED = {
    "pruned_accuracy_recalibrated": "test",
    "val_pruned_accuracy_recalibrated": "val",
}
"""Metric of a stage's epoch 0 -> the part of the data it is measured on."""


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Those that have running statistics."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]


@torch.no_grad()
def recalibrated(
    network: nn.Module, batches: Iterable[Batch], batch_loss: BatchLoss, precision: str
) -> nn.Module:
    """A copy whose running statistics are the plain mean over the first 50 of the batches.

    The adaptive BatchNorm of EagleEye (Li et al. 2020). Nothing of the network itself changes,
    and no random number is drawn: all but BatchNorm works as in evaluation. ``batch_loss`` passes a
    batch through the network; the loss itself goes unused.
    """
    probe = copy.deepcopy(network).eval()
    for norm in batch_norms(probe):
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's word for the mean over all batches so far
        norm.train()
    device = next(probe.parameters()).device
    for batch in islice(batches, NUM_BATCHES):
        with autocast(device, precision):
            batch_loss(probe, batch)
    return probe.eval()


def pruned_accuracies(ledger: Ledger, stage_id: str) -> dict[str, float | None]:
    """Of the network right after pruning: as it was, and with statistics of its own.

    None for a dense stage, for a network without BatchNorm, for a protocol without validation,
    and where the stage was begun before this was measured. Raises FileNotFoundError if it was
    never begun.
    """
    metrics = ledger.read_metrics(stage_id, 0)
    return {name: metrics.get(name) for name in ("pruned_accuracy", *RECALIBRATED)}

"""The hot loop: one epoch of training, and an evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.pruning import Mask, apply_mask_

Batches = Iterable[tuple[Tensor, Tensor]]
"""Images (N, C, H, W) float32 standardised, channels last; labels (N,) int64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochMetrics:
    train_loss: float
    """Mean cross-entropy over the epoch's batches, label smoothing included, weight decay not."""
    train_accuracy: float
    """Over the epoch, on augmented images, each seen before its update."""
    last_lr: float
    train_seconds: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far an epoch is: what its metrics are made of so far."""

    updates: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    images_seen: int = 0
    seconds: float = 0.0


class BrokenOff(Exception):
    """An epoch was stopped between two updates; ``progress`` tells where."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(f"stopped after {progress.updates} updates of the epoch")
        self.progress = progress


def never() -> bool:
    return False


def train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    learning_rate: Callable[[int], float],
    parameters: dict[str, nn.Parameter],
    mask: Mask,
    precision: str,
    label_smoothing: float = 0.0,
    progress: Progress = Progress(),
    stop: Callable[[], bool] = never,
) -> EpochMetrics:
    """Train on every batch once; on those that are left, where ``progress`` says how far it was.

    learning_rate: of an update of this epoch, from 0. parameters: the prunable ones; those that
    ``mask`` prunes are zero after every update, whatever momentum and weight decay did. An empty
    mask prunes nothing. label_smoothing: see ``Protocol.label_smoothing``. stop: asked before
    every update whether to raise BrokenOff.
    """
    network.train()
    device = next(network.parameters()).device
    loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float32, device=device)
    correct = torch.tensor(progress.correct, dtype=torch.long, device=device)
    images_seen, updates = progress.images_seen, progress.updates
    lr = 0.0
    begun = time.perf_counter() - progress.seconds
    for images, labels in islice(batches, updates, None):
        if stop():
            break_off = Progress(
                updates=updates,
                loss_sum=float(loss_sum),
                correct=int(correct),
                images_seen=images_seen,
                seconds=time.perf_counter() - begun,
            )
            raise BrokenOff(break_off)
        lr = learning_rate(updates)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        with autocast(device, precision):
            logits = network(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if mask:
            apply_mask_(parameters, mask)
        loss_sum += loss.detach()
        correct += (logits.detach().argmax(dim=1) == labels).sum()
        images_seen += len(labels)
        updates += 1
    train_loss = float(loss_sum) / updates  # waits for the device, so the clock is read after
    seconds = time.perf_counter() - begun
    return EpochMetrics(
        train_loss=train_loss,
        train_accuracy=int(correct) / images_seen,
        last_lr=lr,
        train_seconds=seconds,
        images_per_second=images_seen / seconds,
    )


@torch.inference_mode()
def evaluate(network: nn.Module, batches: Batches, precision: str) -> float:
    """Share of the images that are classified right, in [0, 1]."""
    network.eval()
    device = next(network.parameters()).device
    correct = torch.zeros((), dtype=torch.long, device=device)
    images_seen = 0
    for images, labels in batches:
        with autocast(device, precision):
            logits = network(images)
        correct += (logits.argmax(dim=1) == labels).sum()
        images_seen += len(labels)
    return int(correct) / images_seen


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where the protocol says so; weights, momentum and BatchNorm stay fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

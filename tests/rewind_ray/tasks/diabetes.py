"""An own task, as a user would write it: regression on a table of 442 patients.

Ten measurements of each, and how far the disease has come a year later (Efron et al. 2004).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol
from rewind_ray.tasks import Metric, Task

PARTS = {"train": slice(0, 320), "val": slice(320, 380), "test": slice(380, 442)}


class Diabetes(Task):
    metric = Metric("R2")
    option_defaults: ClassVar = {"hidden": 32}

    def load(self) -> None:
        table, target = load_diabetes(return_X_y=True, scaled=True)
        order = torch.randperm(len(target), generator=torch.Generator().manual_seed(0))
        self.inputs = (torch.tensor(table).float() * len(target) ** 0.5)[order].to(self.device)
        self.targets = ((torch.tensor(target).float() - 152) / 77)[order].to(self.device)

    def network(self, seed: int) -> nn.Module:
        hidden = int(self.options["hidden"])
        network = nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        generator = torch.Generator().manual_seed(seed)
        for parameter in network.parameters():
            nn.init.uniform_(parameter, -0.3, 0.3, generator=generator)
        return network.to(self.device)

    def batches(self, part: str, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, targets = self.inputs[PARTS[part]], self.targets[PARTS[part]]
        size = self.protocol.batch_size
        order = torch.arange(len(inputs))
        if part == "train":
            generator = torch.Generator().manual_seed(1000 * (seed % 10**6) + epoch)
            order = torch.randperm(len(inputs), generator=generator)
        for chosen in order.split(size):
            yield inputs[chosen], targets[chosen]

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        return F.mse_loss(network(inputs).squeeze(1), targets)

    def evaluate(self, network: nn.Module, part: str) -> float:
        """Explained share of the variance, 0 where it is negative."""
        residual = total = 0.0
        mean = self.targets[PARTS[part]].mean()
        for inputs, targets in self.batches(part, 0, 0):
            residual += float((network(inputs).squeeze(1) - targets).square().sum())
            total += float((targets - mean).square().sum())
        return max(0.0, 1 - residual / total)


class Absolute(Diabetes):
    """With another loss."""

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, targets = batch
        return F.l1_loss(network(inputs).squeeze(1), targets)


class OutOfRange(Diabetes):
    """Its metric is no share."""

    def evaluate(self, network: nn.Module, part: str) -> float:
        return 27.5


NO_TASK = "a text"


def diabetes(**changes: Any) -> Protocol:
    settings: dict[str, Any] = {
        "task": "tests.rewind_ray.tasks.diabetes:Diabetes",
        "network": "perceptron",
        "dataset": "diabetes",
        "epochs": 6,
        "schedule": Schedule(lr=0.05, drops=(4,)),
        "batch_size": 32,
        "weight_decay": 1e-4,
    }
    return Protocol(**settings | changes)

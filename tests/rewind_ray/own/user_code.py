"""Networks and data as a user would write them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

SCALE = 1.0


def squashed(values: Tensor) -> Tensor:
    return F.relu(values) * SCALE


class Perceptron(nn.Module):
    """For a table of 13 columns and 3 classes."""

    def __init__(self, width: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(13, width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.out(self.dropout(squashed(self.hidden(inputs))))
        return found


def perceptron(width: int = 16, dropout: float = 0.0) -> nn.Module:
    return Perceptron(width, dropout)


def cnn(num_classes: int, in_channels: int, width: int = 8) -> nn.Module:
    """For images of any size."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )


def wine() -> dict[str, tuple[Tensor, Tensor]]:
    """178 wines of three growers, standardised; every third tests."""
    table, grower = load_wine(return_X_y=True)
    inputs = torch.tensor((table - table.mean(0)) / table.std(0)).float()
    labels = torch.tensor(grower)
    tests = torch.arange(len(labels)) % 3 == 0
    return {"train": (inputs[~tests], labels[~tests]), "test": (inputs[tests], labels[tests])}


class Noisy(Dataset[Any]):
    """Items with noise that each reading draws anew, of all three kinds of generators."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels
        self.classes = ["a", "b", "c"]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.randn(13) + np.random.randn() + random.random()
        return self.inputs[index] + 0.1 * noise, int(self.labels[index])


def noisy_wine() -> tuple[Dataset[Any], Dataset[Any]]:
    parts = wine()
    return Noisy(*parts["train"]), TensorDataset(*parts["test"])


def one_table() -> tuple[Tensor, Tensor]:
    parts = wine().values()
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


# What won't do


def text() -> str:
    return "no network"


def without_weights() -> nn.Module:
    return nn.ReLU()


class WithoutForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(13, 2)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def only_norms() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(13))


_calls = [0.0]


def never_the_same() -> nn.Module:
    network = Perceptron()
    _calls[0] += 1
    nn.init.constant_(network.out.bias, _calls[0])
    return network


def one_class() -> dict[str, tuple[Tensor, Tensor]]:
    return {"train": (torch.rand(8, 13), torch.zeros(8).long()), "test": wine()["test"]}


def unequal() -> dict[str, tuple[Tensor, Tensor]]:
    return {"train": (torch.rand(8, 13), torch.zeros(7).long()), "test": wine()["test"]}


def real_targets() -> dict[str, tuple[Tensor, Tensor]]:
    return {"train": (torch.rand(8, 13), torch.rand(8)), "test": wine()["test"]}

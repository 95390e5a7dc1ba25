"""A perceptron on a table: which retraining is best, and how small can it be?

python examples/perceptron_on_table.py

178 wines of three growers, 13 measurements each.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_wine
from torch import Tensor, nn

import rewind_ray


def perceptron(width: int = 64) -> nn.Module:
    return nn.Sequential(nn.Linear(13, width), nn.ReLU(), nn.Linear(width, 3))


def wines() -> dict[str, tuple[Tensor, Tensor]]:
    """Standardised; every third tests."""
    table, grower = load_wine(return_X_y=True)
    inputs = torch.tensor((table - table.mean(0)) / table.std(0)).float()
    labels, tests = torch.tensor(grower), torch.arange(len(grower)) % 3 == 0
    return {"train": (inputs[~tests], labels[~tests]), "test": (inputs[tests], labels[tests])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--storage", default="results")
    given = parser.parse_args()

    results = rewind_ray.compare(
        perceptron,
        wines,
        epochs=given.epochs,
        seeds=given.seeds,
        densities=[0.5, 0.2, 0.1],
        batch_size=16,
        storage=given.storage,
    )
    print(results.table())
    best = results.best(max_accuracy_drop=0.05)
    print(f"{best.row.compression_ratio:.1f}× by {best.row.method}, {best.row.test_accuracy:.1%}")
    best.export("perceptron.safetensors")


if __name__ == "__main__":
    main()

"""A ResNet-18 of torchvision that is trained already, with the checkpoints of its training.

python examples/trained_resnet.py

Trains it here without this package, as your own script would, and keeps a checkpoint of every
epoch. These are adopted as they are: the last one is the dense network, and weights are rewound to
the others.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.models import resnet18

import rewind_ray
from rewind_ray.schedule import Schedule

LR, BATCH_SIZE = 0.02, 64


def network() -> nn.Module:
    return resnet18(num_classes=10)


@cache
def images(number: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Digits as the network wants images: three channels, 32 pixels; every fourth tests."""
    pixels, labels = load_digits(return_X_y=True)
    small = torch.tensor(pixels[:number] / 16).float().view(-1, 1, 8, 8).expand(-1, 3, -1, -1)
    inputs = nn.functional.interpolate(small, size=32).contiguous()
    classes, tests = torch.tensor(labels[:number]), torch.arange(len(small)) % 4 == 0
    return (inputs[~tests], classes[~tests]), (inputs[tests], classes[tests])


def train(folder: Path, epochs: int, number: int) -> None:
    """A training like anybody's, with a checkpoint at the start and after every epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = network()
    (inputs, labels), _ = images(number)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4)
    torch.save(model.state_dict(), folder / "0000.pt")
    for epoch in range(epochs):
        for batch in torch.randperm(len(inputs)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
        torch.save(model.state_dict(), folder / f"{epoch + 1:04d}.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--number", type=int, default=800, help="images, of which a fourth tests")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--storage", default="results")
    given = parser.parse_args()

    if not given.checkpoints.exists():
        train(given.checkpoints, given.epochs, given.number)
    results = rewind_ray.compare(
        network,
        *images(given.number),
        init_history=given.checkpoints,
        methods=["finetune", "weight_rewind", "lr_rewind"],
        densities=[0.1],
        seeds=1,
        batch_size=BATCH_SIZE,
        schedule=Schedule(lr=LR, shape="constant"),  # that of the training above
        storage=given.storage,
    )
    print(results.table())
    best = results.best(max_accuracy_drop=0.1)
    best.export("trained_resnet.safetensors")
    print("trained_resnet.safetensors: network.load_state_dict(safetensors.torch.load_file(...))")


if __name__ == "__main__":
    main()

"""A small vision transformer of torchvision, its attention pruned along with the rest.

python examples/vision_transformer.py

`prunable` is a pattern of parameters' names: without it only convolutions and linear layers are
pruned, and the attention's input projections are not among these. A ViT of timm's is given the same
way, by a function that returns `timm.create_model(...)`.
"""

from __future__ import annotations

import argparse
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import rewind_ray
from rewind_ray.schedule import Schedule


def transformer() -> nn.Module:
    return VisionTransformer(
        image_size=16,
        patch_size=4,
        num_layers=2,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=10,
    )


@cache
def images(number: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Digits in three channels of 16 pixels; every fourth tests."""
    pixels, labels = load_digits(return_X_y=True)
    small = torch.tensor(pixels[:number] / 16).float().view(-1, 1, 8, 8).expand(-1, 3, -1, -1)
    inputs = nn.functional.interpolate(small, size=16).contiguous()
    classes, tests = torch.tensor(labels[:number]), torch.arange(len(small)) % 4 == 0
    return (inputs[~tests], classes[~tests]), (inputs[tests], classes[tests])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--number", type=int, default=1200, help="images, of which a fourth tests")
    parser.add_argument("--storage", default="results")
    given = parser.parse_args()

    small = rewind_ray.prune(
        transformer,
        *images(given.number),
        target_compression=3,
        max_accuracy_drop=0.05,
        prunable="encoder.*weight",
        epochs=given.epochs,
        optimizer="adamw",
        schedule=Schedule(lr=0.001, shape="cosine", warmup_epochs=0.5),
        storage=given.storage,
    )
    for name, value in small.summary().items():
        print(f"{name:24} {value}")
    small.export("vision_transformer.pt2")


if __name__ == "__main__":
    main()

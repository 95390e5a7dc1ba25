"""A small vision transformer of timm's, its attention pruned along with the rest.

pip install timm
python examples/vision_transformer.py

`prunable` is a pattern of parameters' names: here the matrices of the blocks, attention and
perceptron, and neither the embedding of the patches nor the classifier. Any network of timm's is
given this way, by a function that returns `timm.create_model(...)`.
"""

from __future__ import annotations

import argparse
from functools import cache

import torch
from sklearn.datasets import load_digits
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import rewind_ray
from rewind_ray.schedule import Schedule


def transformer() -> nn.Module:
    return VisionTransformer(
        img_size=16, patch_size=4, depth=2, num_heads=4, embed_dim=64, mlp_ratio=2, num_classes=10
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
        prunable="blocks.*weight",
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

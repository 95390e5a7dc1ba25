"""A CNN of your own on a folder of images, pruned by whole filters until its file is small enough.

python examples/own_cnn.py                                   makes a small folder of digits
python examples/own_cnn.py --images photos --size 64         photos/cat/1.png, photos/dog/2.png, ...

A fifth of the images tests. 3 minutes on two busy cores; run again, it trains nothing twice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import rewind_ray


def cnn(num_classes: int, in_channels: int, width: int = 32) -> nn.Module:
    """The classes and channels are those of the data."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, num_classes),
    )


def make_digits(folder: Path, number: int) -> Path:
    """Images of handwritten digits, a folder for each class."""
    pixels, labels = load_digits(return_X_y=True)
    for position in range(number):
        place = folder / str(labels[position])
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels[position].reshape(8, 8) * 15.9).astype("uint8"))
        image.save(place / f"{position}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="folder with a folder of images for each class")
    parser.add_argument("--size", type=int, default=16, help="side that images are resized to")
    parser.add_argument(
        "--number", type=int, default=1000, help="digits in the folder that is made"
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--target-size", default="150kB", help="of the file, such as 150kB")
    parser.add_argument("--storage", default="results")
    given = parser.parse_args()

    folder = given.images or make_digits(Path("digits"), given.number)
    as_tensor = v2.Compose(
        [
            v2.Resize((given.size, given.size)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    images = ImageFolder(str(folder), as_tensor)
    train, test = random_split(images, [0.8, 0.2], torch.Generator().manual_seed(0))

    small = rewind_ray.prune(
        cnn,
        train,
        test,
        structure="filters",
        target_size=given.target_size,
        max_accuracy_drop=0.02,
        epochs=given.epochs,
        storage=given.storage,
    )
    for name, value in small.summary().items():
        print(f"{name:24} {value}")
    small.export("own_cnn.pt2")
    print("own_cnn.pt2: torch.export.load('own_cnn.pt2').module()(images)")


if __name__ == "__main__":
    main()

"""What measurements train is what stages train."""

from __future__ import annotations

import math

import pytest
import torch

from rewind_ray.measuring.throughput import (
    Noise,
    Workload,
    bare_updates,
    epoch_of_updates,
    usual_size,
)
from rewind_ray.training.arithmetic import arithmetic

CPU = torch.device("cpu")


@pytest.mark.parametrize("load", [Workload(network="resnet8", image_size=12, batch_size=24)])
def test_it_trains_what_it_says(load: Workload) -> None:
    task = Noise(load, CPU, steps=3)
    batches = list(task.batches("train", 0, 0))
    assert len(batches) == task.steps_per_epoch == 3
    assert {tuple(images.shape) for images, _ in batches} == {(24, 3, 12, 12)}
    with arithmetic("fp32", CPU):
        for train in (epoch_of_updates(load, CPU, 3), bare_updates(load, CPU, 3)):
            first, second = train(), train()
            assert 0 < second < math.inf
            assert first != second  # it learns


def test_networks_have_the_images_that_they_are_for() -> None:
    assert {name: usual_size(name) for name in ("resnet20", "resnet50")} == {
        "resnet20": 32,
        "resnet50": 224,
    }

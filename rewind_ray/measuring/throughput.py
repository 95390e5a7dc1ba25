"""Training on noise, to measure its speed: what images show changes no time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import nn

from rewind_ray.datasets import image_set
from rewind_ray.datasets.catalog import DatasetInfo, ImageData
from rewind_ray.datasets.image_set import ImageSet
from rewind_ray.protocols import mikler_resnet
from rewind_ray.pruning import Mask, dense_mask, pruned_mask
from rewind_ray.spec import Protocol, Prune
from rewind_ray.tasks.image import ImageClassification
from rewind_ray.training.compiling import compiled_loss
from rewind_ray.training.epoch import train_epoch
from rewind_ray.training.optimizers import make_optimizer
from rewind_ray.training.replay import Recorder

WAYS = ("eager", "recorded", "compiled", "recorded and compiled")
"""In which an update is made; what is recorded needs a GPU."""
IMAGES = 1024
"""That are in memory, at least."""
TEST_IMAGES = 100
LARGE = ("resnet34", "resnet50")
"""Networks for images of 224 pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What is trained: SGD with momentum, images shifted and mirrored, as in Mikler 2022."""

    network: str
    image_size: int = 32
    """Side in pixels."""
    batch_size: int = 128
    precision: str = "fp32"
    num_classes: int = 10
    density: float = 1.0
    """Unpruned / prunable weights; 1: a mask that prunes nothing."""

    def protocol(self, steps: int) -> Protocol:
        return mikler_resnet(
            self.network,
            batch_size=self.batch_size,
            precision=self.precision,
            steps_per_epoch=steps,
        )


def usual_size(network: str) -> int:
    """Side of the images, in pixels, that the catalogue's network is for."""
    return 224 if network in LARGE else 32


class Noise(ImageClassification):
    """Images of noise in memory, in place of the protocol's data set."""

    def __init__(self, load: Workload, device: torch.device, steps: int) -> None:
        info = DatasetInfo(
            num_train=max(IMAGES, load.batch_size),
            num_test=TEST_IMAGES,
            num_classes=load.num_classes,
            channels=3,
            image_size=load.image_size,
        )
        super().__init__(load.protocol(steps), None, device, info)

    @cached_property
    def _loaded(self) -> tuple[ImageSet, tuple[str, ...]]:
        noise = random_images(self.info)
        return image_set.prepare(self.protocol, noise, self.device), noise.classes


def random_images(info: DatasetInfo) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    shape = (info.image_size, info.image_size, info.channels)
    return ImageData(
        train_images=torch.randint(
            256, (info.num_train, *shape), dtype=torch.uint8, generator=generator
        ),
        train_labels=torch.randint(info.num_classes, (info.num_train,), generator=generator),
        test_images=torch.zeros(info.num_test, *shape, dtype=torch.uint8),
        test_labels=torch.zeros(info.num_test, dtype=torch.int64),
        classes=tuple(map(str, range(info.num_classes))),
    )


def epoch_of_updates(
    load: Workload, device: torch.device, steps: int, way: str = "eager"
) -> Callable[[], float]:
    """A function that makes ``steps`` updates in the real epoch loop and returns its mean loss.

    way: one of WAYS. The first call also allocates, compiles and records. To be called within
    ``arithmetic``.
    """
    task = Noise(load, device, steps)
    network = task.network(0)
    optimizer = make_optimizer(network, task.protocol)
    parameters = task.prunable(network)
    mask: Mask = dense_mask(parameters)
    if load.density < 1:
        mask = pruned_mask(parameters, mask, Prune(fraction=1 - load.density))
    loss = compiled_loss(task.loss, network) if "compiled" in way else task.loss
    recorder = Recorder(task) if "recorded" in way else None
    epochs = iter(range(10**9))

    def train() -> float:
        epoch = next(epochs)
        table = task.epoch_table(0, epoch)
        assert table is not None
        metrics = train_epoch(
            network=network,
            optimizer=optimizer,
            batches=task.batches("train", 0, epoch),
            batch_loss=loss,
            learning_rate=lambda _: 0.01,
            parameters=parameters,
            mask=mask,
            precision=load.precision,
            replay=partial(recorder.steps, table) if recorder else None,
        )
        if recorder and recorder.recorded is None:
            raise RuntimeError(f"an update of {load.network} can't be recorded on this device")
        return metrics.train_loss

    return train


def bare_updates(load: Workload, device: torch.device, steps: int) -> Callable[[], float]:
    """The same without the epoch loop: one batch, again and again, with no mask and no count."""
    task = Noise(load, device, steps)
    network: nn.Module = task.network(0).train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=2e-4, foreach=True
    )
    images, labels = next(task.batches("train", 0, 0))

    def train() -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=load.precision == "bf16"):
                loss = nn.functional.cross_entropy(network(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return float(loss.detach())

    return train


def seconds_of(function: Callable[[], float], device: torch.device) -> float:
    """Until the device has finished."""
    begun = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun

"""open_lth's ``training.train`` on noise: its ResNet-20 in a ``PrunedModel``, as it retrains.

Started by ``benchmarks.peers``: python open_lth.py UPDATES THREADS CHECKOUT
"""

from __future__ import annotations

import sys
import tempfile
import time
from importlib import import_module
from typing import Any

import numpy as np
import torch
from turns import take_turns

BATCH = 128


def main(updates: int, threads: int, checkout: str) -> None:
    sys.path[0] = checkout
    torch.set_num_threads(threads)
    # of before NumPy 2 and today's torch, which it can't be imported with otherwise
    np.product = np.prod  # type: ignore[attr-defined]
    torch.nn.parallel.DistributedDataParallel = torch.nn.Module  # type: ignore[misc, assignment]
    import_module("platforms.platform")._PLATFORM = import_module("platforms.local").Platform()
    described = import_module("models.cifar_resnet").Model.default_hparams()
    model = import_module("models.registry").get(described.model_hparams)
    mask = {name: torch.ones_like(model.state_dict()[name]) for name in model.prunable_layer_names}
    pruned = import_module("pruning.pruned_model").PrunedModel(
        model, import_module("pruning.mask").Mask(mask)
    )
    loader = loader_of(updates + 1)
    steps = import_module("foundations.step").Step
    train = import_module("training.train").train

    def round_of_updates() -> float:
        """Loading a batch included, from the first update on to the call after the last."""
        times: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            train(
                described.training_hparams,
                pruned,
                loader,
                folder,
                callbacks=[lambda *_: times.append(time.perf_counter())],
                end_step=steps.from_iteration(updates, loader.iterations_per_epoch),
            )
        assert len(times) == updates + 1
        return times[-1] - times[0]

    take_turns(round_of_updates)


def loader_of(batches: int) -> Any:
    """Theirs, with its augmentation, of so many batches of noise."""
    datasets = import_module("datasets.cifar10")
    transforms = import_module("torchvision").transforms
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batches * BATCH, 32, 32, 3), dtype=np.uint8)
    augment = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, 4)]
    noise = datasets.Dataset(images, rng.integers(0, 10, len(images)), augment)
    return datasets.DataLoader(noise, BATCH, num_workers=0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

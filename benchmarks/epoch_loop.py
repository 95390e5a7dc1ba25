"""An update inside the real epoch loop against a bare forward-backward-step on a fixed batch.

The real one gathers and augments its batch, sets the learning rate, applies the mask and counts
loss and accuracy. Both use the same network, optimiser, precision and memory format; they take
turns, so that the ratio holds when the machine's speed drifts.

  python -m benchmarks.epoch_loop
  python -m benchmarks.epoch_loop --network wrn_16_8 --precisions bf16 --updates 3
  python -m benchmarks.epoch_loop --device cuda --updates 400
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice

import torch
import tyro
from torch.nn import functional as F

from rewind_ray.datasets.batches import Batch, epoch_batches
from rewind_ray.datasets.image_set import prepare
from rewind_ray.protocols import mikler_resnet
from rewind_ray.pruning import apply_mask_, dense_mask, prunable_parameters, pruned_mask
from rewind_ray.spec import Prune
from rewind_ray.tasks.image import classification_loss
from rewind_ray.training.arithmetic import arithmetic
from rewind_ray.training.epoch import train_epoch
from rewind_ray.training.update import autocast
from sweeps.commands.calibrate import prepared_network, random_images


def main(
    network: str = "resnet20",
    precisions: tuple[str, ...] = ("fp32", "bf16"),
    updates: int = 20,
    rounds: int = 7,
    threads: int = 2,
    device: str = "cpu",
) -> None:
    """Prints milliseconds an update of both, and their ratio round by round.

    Args:
        network: name of a network
        precisions: arithmetic to measure
        updates: updates of each a round
        rounds: how often both take turns, after one that isn't counted
        threads: CPU threads
        device: cpu or cuda
    """
    torch.set_num_threads(threads)
    print(
        f"{network}, batch 128, 32x32 images, {device}, {threads} threads, torch "
        f"{torch.__version__}; median of {rounds} rounds of {updates} updates"
    )
    for precision in precisions:
        with arithmetic(precision, torch.device(device)):
            in_loop, bare = measure(network, precision, updates, rounds, torch.device(device))
        ratios = [a / b for a, b in zip(in_loop, bare, strict=True)]
        print(
            f"{precision}: epoch loop {statistics.median(in_loop):7.2f} ms, "
            f"bare {statistics.median(bare):7.2f} ms, "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}); "
            f"{1000 / statistics.median(in_loop):.1f} updates/s"
        )


def measure(
    name: str, precision: str, updates: int, rounds: int, device: torch.device
) -> tuple[list[float], list[float]]:
    """Milliseconds an update, of each round: in the epoch loop, and bare."""
    in_loop_round, bare_round = (
        epoch_loop(name, precision, updates, device),
        bare_loop(name, precision, updates, device),
    )
    in_loop_round()
    bare_round()
    in_loop, bare = [], []
    for _ in range(rounds):
        in_loop.append(timed(in_loop_round, device) / updates)
        bare.append(timed(bare_round, device) / updates)
    return in_loop, bare


def timed(function: Callable[[], None], device: torch.device) -> float:
    begun = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - begun)


def epoch_loop(name: str, precision: str, updates: int, device: torch.device) -> Callable[[], None]:
    network, optimizer = prepared_network(name, device)
    images = prepare(mikler_resnet(), random_images(50_000), device)
    parameters = prunable_parameters(network, "kernels")
    mask = pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.9))
    apply_mask_(parameters, mask)
    epochs = iter(range(1_000_000))

    def batches() -> Iterator[Batch]:
        return islice(epoch_batches(images, seed=0, epoch=next(epochs)), updates)

    def one_round() -> None:
        train_epoch(
            network=network,
            optimizer=optimizer,
            batches=batches(),
            batch_loss=classification_loss,
            learning_rate=lambda _: 0.1,
            parameters=parameters,
            mask=mask,
            precision=precision,
        )

    return one_round


def bare_loop(name: str, precision: str, updates: int, device: torch.device) -> Callable[[], None]:
    network, optimizer = prepared_network(name, device)
    images = torch.randn(128, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (128,), device=device)
    network.train()

    def one_round() -> None:
        for _ in range(updates):
            optimizer.zero_grad()
            with autocast(device, precision):
                loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()

    return one_round


if __name__ == "__main__":
    tyro.cli(main)

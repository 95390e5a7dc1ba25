"""How long a forward pass takes, of networks side by side.

They take turns, every other round in reverse, so that ratios hold when the machine's speed
drifts. A pruned network with its zeros in place is computed as the dense one is.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rewind_ray.training.arithmetic import arithmetic

BATCH_SIZES = (1, 128)
ROUNDS = 15
ROUND_SECONDS = 0.1
"""Of each network, about: long against the clock, short against the drift."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Of a network and of the dense one that it was made from; milliseconds a forward pass."""

    batch_size: int
    dense_ms: float
    """Median over the rounds."""
    exported_ms: float
    ratio: float
    """exported / dense, the median of the rounds' ratios; below 1: faster."""
    lowest_ratio: float
    highest_ratio: float
    rounds: int
    forwards: int
    """Forward passes of each network a round."""


def compare(
    dense: nn.Module,
    exported: nn.Module,
    input_shape: tuple[int, ...],
    device: torch.device,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
) -> list[Latency]:
    """In fp32 and evaluation mode, channels last, on random images of (C, H, W).

    The networks themselves stay where and as they are.
    """
    networks = {
        name: copy.deepcopy(network).eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, network in (("dense", dense), ("exported", exported))
    }
    with arithmetic("fp32", device):
        return [
            _compare(networks, random_images(size, input_shape, device), rounds, round_seconds)
            for size in batch_sizes
        ]


def _compare(
    networks: Mapping[str, nn.Module], images: Tensor, rounds: int, round_seconds: float
) -> Latency:
    warm = forward_times(networks, images, forwards=1, rounds=2)
    forwards = math.ceil(1000 * round_seconds / max(times[-1] for times in warm.values()))
    times = forward_times(networks, images, forwards, rounds)
    ratios = [a / b for a, b in zip(times["exported"], times["dense"], strict=True)]
    return Latency(
        batch_size=len(images),
        dense_ms=statistics.median(times["dense"]),
        exported_ms=statistics.median(times["exported"]),
        ratio=statistics.median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
        rounds=rounds,
        forwards=forwards,
    )


def random_images(batch_size: int, input_shape: tuple[int, ...], device: torch.device) -> Tensor:
    """(N, ...) float32, images channels last; the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, *input_shape, generator=generator)
    image_like = len(input_shape) == 3
    layout = torch.channels_last if image_like else torch.preserve_format
    return images.to(device=device, memory_format=layout)


def forward_times(
    networks: Mapping[str, nn.Module], images: Tensor, forwards: int, rounds: int
) -> dict[str, list[float]]:
    """Name -> milliseconds a forward pass, of each round, after a round that isn't counted.

    The networks are in evaluation mode and on the device of the images.
    """
    times: dict[str, list[float]] = {name: [] for name in networks}
    for network in networks.values():
        _milliseconds(network, images, forwards)
    for turn in range(rounds):
        names = list(networks)
        for name in names if turn % 2 == 0 else reversed(names):
            times[name].append(_milliseconds(networks[name], images, forwards))
    return times


@torch.inference_mode()
def _milliseconds(network: nn.Module, images: Tensor, forwards: int) -> float:
    wait_for(images.device)
    begun = time.perf_counter()
    for _ in range(forwards):
        network(images)
    wait_for(images.device)
    return 1000 * (time.perf_counter() - begun) / forwards


def wait_for(device: torch.device) -> None:
    """Until an accelerator has done what it was given; a CPU has by then."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)

"""How long a forward pass takes: the dense network, the masked one, and the shrunk one.

The masked network computes with its zeros, so it takes as long as the dense one; the shrunk one
should come near the share of multiply-adds that is left of it. They take turns, so that the
ratios hold when the machine's speed drifts. Outputs are compared before anything is measured.

  python -m benchmarks.shrinking
  python -m benchmarks.shrinking --network wrn_16_8 --fraction 0.7 --batch-sizes 1 32
  python -m benchmarks.shrinking --device cuda --forwards 50
"""

from __future__ import annotations

import copy
import statistics
from typing import Literal

import torch
import tyro
from torch import nn

from rewind_ray.export.latency import forward_times, random_images
from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import Mask, apply_mask_, dense_mask, prunable_parameters
from rewind_ray.pruning.channels import follower_mask
from rewind_ray.pruning.flops import multiply_adds
from rewind_ray.pruning.shrink import cut_of, shrink_
from rewind_ray.pruning.trace import followers

Layers = Literal["alike", "apart"]


def main(
    network: str = "resnet20",
    fraction: float = 0.5,
    layers: Layers = "alike",
    batch_sizes: tuple[int, ...] = (1, 128),
    image_size: int = 32,
    forwards: int = 10,
    rounds: int = 15,
    threads: int = 2,
    device: str = "cpu",
) -> None:
    """Prints milliseconds a forward pass of all three, and ratios round by round.

    Args:
        network: name of a network
        fraction: share of every layer's filters that is pruned
        layers: alike: the same channels in all layers, so residual streams shrink too;
            apart: at random in each, so hardly anything of a residual stream can go
        batch_sizes: images a forward pass
        image_size: height and width in pixels
        forwards: forward passes of each a round
        rounds: how often all take turns, after one that isn't counted
        threads: CPU threads
        device: cpu or cuda
    """
    torch.set_num_threads(threads)
    on = torch.device(device)
    networks = three_networks(network, fraction, layers, image_size)
    costs = {name: size(one, image_size) for name, one in networks.items()}
    print(
        f"{network}, {fraction:.0%} of the filters pruned ({layers}), {image_size}x{image_size} "
        f"images, {device}, {threads} threads, torch {torch.__version__}; median of {rounds} "
        f"rounds of {forwards} forward passes"
    )
    for what, dense, small in zip(
        ("parameters", "multiply-adds"), costs["dense"], costs["shrunk"], strict=True
    ):
        print(f"{what}: dense {dense:,}, shrunk {small:,} ({small / dense:.3f})")
    for batch_size in batch_sizes:
        times = measure(networks, batch_size, image_size, forwards, rounds, on)
        medians = {name: statistics.median(of_rounds) for name, of_rounds in times.items()}
        listed = ", ".join(f"{name} {median:8.3f} ms" for name, median in medians.items())
        print(f"batch {batch_size}: {listed}; shrunk / dense {ratio(times, 'dense')}, ", end="")
        print(f"shrunk / masked {ratio(times, 'masked')}")


def ratio(times: dict[str, list[float]], to: str) -> str:
    ratios = [a / b for a, b in zip(times["shrunk"], times[to], strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def three_networks(
    name: str, fraction: float, layers: Layers, image_size: int
) -> dict[str, nn.Module]:
    """The same weights: all of them, some masked, and what is left without those."""
    dense = build_network(name, 10, 3, {})
    initialise_(dense, 0)
    dense.eval()
    mask = random_filters(dense, fraction, layers)
    input_shape = (3, image_size, image_size)
    masked = copy.deepcopy(dense)
    apply_mask_(prunable_parameters(masked, "convolutions"), mask)
    mask |= follower_mask(masked, mask, followers(masked, (torch.zeros(1, *input_shape),)))
    apply_mask_(dict(masked.named_parameters()), mask)
    shrunk = shrink_(copy.deepcopy(masked), cut_of(masked, mask, (torch.zeros(1, *input_shape),)))
    images = torch.randn(2, *input_shape)
    with torch.no_grad():
        torch.testing.assert_close(shrunk(images), masked(images), rtol=1e-5, atol=1e-5)
    return {"dense": dense, "masked": masked, "shrunk": shrunk}


def random_filters(network: nn.Module, fraction: float, layers: Layers) -> Mask:
    generator = torch.Generator().manual_seed(0)
    mask = dense_mask(prunable_parameters(network, "convolutions"))
    for kept in mask.values():
        if layers == "alike":
            generator.manual_seed(0)
        pruned = torch.randperm(len(kept), generator=generator)[: round(fraction * len(kept))]
        kept[pruned] = False
    return mask


def size(network: nn.Module, image_size: int) -> tuple[int, int]:
    """Parameters, and multiply-adds of one forward pass on one image."""
    one_image = torch.zeros(1, 3, image_size, image_size)
    flops = multiply_adds(network, (one_image,))
    return sum(parameter.numel() for parameter in network.parameters()), sum(flops.values())


def measure(
    networks: dict[str, nn.Module],
    batch_size: int,
    image_size: int,
    forwards: int,
    rounds: int,
    device: torch.device,
) -> dict[str, list[float]]:
    """Name -> milliseconds a forward pass, of each round."""
    for network in networks.values():
        network.to(device=device, memory_format=torch.channels_last)
    images = random_images(batch_size, (3, image_size, image_size), device)
    return forward_times(networks, images, forwards, rounds)


if __name__ == "__main__":
    tyro.cli(main)

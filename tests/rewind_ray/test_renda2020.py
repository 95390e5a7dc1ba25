"""What is counted of Renda et al. 2020's networks, against the counts published with their trials.

They count a multiply-add as 1, 2 for every value that BatchNorm and ReLU each put out, and 2 for
every weight of the dense layer, 1 for each of its biases. All else than the dense layer costs whole
multiples of 64 on CIFAR (the last stage has 8x8 places), so what is left modulo 64 says how many
weights of the dense layer were left: the published numbers themselves show that it was pruned.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from analysis.reference import published
from rewind_ray.models import build_network, initialise_
from rewind_ray.protocols import renda_cifar, renda_imagenet
from rewind_ray.pruning import dense_mask, density, prunable_parameters, pruned_mask
from rewind_ray.pruning.flops import multiply_adds, remaining_multiply_adds
from rewind_ray.spec import Protocol, Prune
from tests.rewind_ray.examples import one_image

CIFAR = ("resnet20", "resnet56", "resnet110")
BIASES = 10
OURS = {"resnet20": 41_075_328, "resnet56": 126_009_984, "resnet110": 253_411_968}
"""Multiply-adds of the kernels; docs/protocols/renda2020.md."""


def network_of(protocol: Protocol, num_classes: int = 10) -> nn.Module:
    network = build_network(protocol.network, num_classes, 3, dict(protocol.network_options))
    initialise_(network, 0, protocol.initial_weights)
    return network.eval()


def values_put_out(network: nn.Module) -> int:
    """Of BatchNorm and ReLU, for one image: ReLU follows the stem, and both sums of a block."""
    count = 0

    def add(_module: nn.Module, _inputs: object, out: torch.Tensor) -> None:
        nonlocal count
        count += out.numel()

    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(add)
            if "shortcut" not in name:  # a projection's is not activated by itself
                module.register_forward_hook(add)
    network(torch.zeros(1, 3, 32, 32))
    return count


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    rows = published("renda2020")
    return rows[rows["network"].isin(CIFAR) & rows["flops_remaining"].notna()]


@pytest.mark.parametrize("name", CIFAR)
def test_our_dense_count_is_the_published_one(name: str, trials: pd.DataFrame) -> None:
    """To the last addition; without the projection in the first block it would be less."""
    (theirs,) = trials[(trials["network"] == name) & (trials["level"] == 0)][
        "flops_remaining"
    ].unique()
    network = network_of(renda_cifar(name))
    kernels = multiply_adds(network, one_image((3, 32, 32)))
    assert sum(kernels.values()) == OURS[name]
    dense = kernels["dense"]
    ours = sum(kernels.values()) + dense + BIASES + 2 * values_put_out(network)
    assert ours == theirs


@pytest.mark.parametrize("name", CIFAR)
def test_the_dense_layer_was_pruned(name: str, trials: pd.DataFrame) -> None:
    """Residues modulo 64 of published counts; 10 if all 640 dense weights were left."""
    pruned = trials[(trials["network"] == name) & (trials["level"] > 0)]
    residues = (pruned["flops_remaining"] - BIASES).astype("int64") % 64
    assert len(pruned) > 1000
    assert (residues % 2 == 0).all()  # 2 for each dense weight
    assert (residues != 0).mean() > 0.95
    assert residues.nunique() == 32


@pytest.mark.parametrize("name", CIFAR)
def test_counts_of_pruned_networks_are_made_of_what_ours_are(
    name: str, trials: pd.DataFrame
) -> None:
    """At every published level, count / dense count lies between those of pruning weights at
    random (all layers alike) and of pruning the layers that cost most last."""
    network = network_of(renda_cifar(name))
    kernels = multiply_adds(network, one_image((3, 32, 32)))
    parameters = prunable_parameters(network, "kernels")
    fixed = BIASES + 2 * values_put_out(network)
    pruned = trials[(trials["network"] == name) & (trials["level"] > 0)]
    for level, rows in pruned.groupby(pruned["density"].round(4)):
        cost = {n: kernels[n.removesuffix(".weight")] / p.numel() for n, p in parameters.items()}
        sizes = np.array([parameters[n].numel() for n in cost])
        each = np.array(list(cost.values()))
        kept = level * sizes.sum()
        bounds = []
        for order in (np.argsort(each), np.argsort(-each)):
            filled = np.clip(kept - (np.cumsum(sizes[order]) - sizes[order]), 0, sizes[order])
            bounds.append((filled * each[order]).sum() + fixed)
        assert (rows["flops_remaining"] >= bounds[0]).all()
        assert (rows["flops_remaining"] <= bounds[1] + 2 * 640).all()


@pytest.mark.parametrize("name", [*CIFAR, "resnet34", "resnet50"])
def test_unstructured_recipes_prune_all_kernels(name: str) -> None:
    """``prune_all_to_global_80``, again and again: 0.8^k of all kernels, the dense one included."""
    protocol = renda_imagenet(name) if name in ("resnet34", "resnet50") else renda_cifar(name)
    with torch.device("meta"):
        classes = 1000 if protocol.dataset == "imagenet" else 10
        network = build_network(name, classes, 3, dict(protocol.network_options))
    kernels = {
        f"{path}.weight"
        for path, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    found = prunable_parameters(network, protocol.prunable)
    assert found.keys() == kernels
    if name == "resnet50":  # 25.5M in Table 1, without BatchNorm and biases
        assert sum(kernel.numel() for kernel in found.values()) == 25_502_912
    if name != "resnet20":
        return
    network = network_of(protocol)
    parameters = prunable_parameters(network, protocol.prunable)
    mask = dense_mask(parameters)
    for level in range(1, 4):
        mask = pruned_mask(parameters, mask, Prune(fraction=0.2))
        assert density(mask) == pytest.approx(0.8**level, abs=1e-5)
    assert not mask["dense.weight"].all()
    left = remaining_multiply_adds(multiply_adds(network, one_image((3, 32, 32))), mask)
    assert left % 64 == int(mask["dense.weight"].sum()) % 64

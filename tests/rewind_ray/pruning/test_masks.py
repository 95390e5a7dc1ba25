"""What may be pruned, and what a mask does to the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rewind_ray.models import NETWORKS, build_network, initialise_
from rewind_ray.pruning import (
    apply_mask_,
    dense_mask,
    density,
    empty_layers,
    prunable_parameters,
    unpruned,
)


def network_named(name: str) -> nn.Module:
    network = build_network(name, 10, 3, {})
    initialise_(network, 0)
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_biases_and_batch_norm_are_never_prunable(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, 10, 3, {})
    kernels = prunable_parameters(network, "kernels")
    others = {n: p for n, p in network.named_parameters() if n not in kernels}
    assert {p.dim() for p in kernels.values()} == {2, 4}
    assert {p.dim() for p in others.values()} == {1}
    for parameter_name, parameter in kernels.items():
        assert network.get_parameter(parameter_name) is parameter


@pytest.mark.parametrize("name", NETWORKS)
def test_convolutions_are_the_kernels_without_the_dense_layers(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, 10, 3, {})
    kernels = prunable_parameters(network, "kernels")
    convolutions = prunable_parameters(network, "convolutions")
    assert list(convolutions) == [n for n, kernel in kernels.items() if kernel.dim() == 4]
    assert kernels.keys() - convolutions.keys()


def test_pruned_weights_become_zero_and_the_others_stay() -> None:
    network = network_named("resnet8")
    parameters = prunable_parameters(network, "kernels")
    generator = torch.Generator().manual_seed(0)
    mask = {n: torch.rand(p.shape, generator=generator) < 0.3 for n, p in parameters.items()}
    before = {name: p.detach().clone() for name, p in network.named_parameters()}

    apply_mask_(parameters, mask)

    for name, parameter in network.named_parameters():
        if name in mask:
            assert (parameter[~mask[name]] == 0).all()
            assert torch.equal(parameter[mask[name]], before[name][mask[name]])
        else:
            assert torch.equal(parameter, before[name])
        assert parameter.requires_grad


def test_sizes_of_masks() -> None:
    parameters = {
        "a.weight": nn.Parameter(torch.ones(3, 4)),
        "b.weight": nn.Parameter(torch.ones(2, 2)),
    }
    mask = dense_mask(parameters)
    assert (unpruned(mask), density(mask), empty_layers(mask)) == (16, 1.0, [])
    mask["a.weight"][:] = False
    assert (unpruned(mask), density(mask), empty_layers(mask)) == (4, 0.25, ["a.weight"])

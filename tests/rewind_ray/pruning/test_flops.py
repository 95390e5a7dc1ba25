"""Multiply-adds against formulas over the layers' shapes, and against published counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import Mask, dense_mask, prunable_parameters
from rewind_ray.pruning.flops import multiply_adds, remaining_multiply_adds
from tests.rewind_ray.examples import one_image


def network_named(name: str, in_channels: int = 3) -> nn.Module:
    network = build_network(name, 10, in_channels, {})
    initialise_(network, 0)
    return network


def output_positions(network: nn.Module, shape: tuple[int, int, int]) -> dict[str, int]:
    """Name of a kernel -> places of the image it is applied to; 1 for dense layers."""
    positions = {}

    def remember(name: str) -> None:
        def hook(_module: nn.Module, _inputs: object, out: torch.Tensor) -> None:
            positions[f"{name}.weight"] = math.prod(out.shape[2:])

        network.get_submodule(name).register_forward_hook(hook)

    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            remember(name)
    network.eval()(torch.zeros(1, *shape))
    return positions


def random_mask(network: nn.Module, keep: float) -> Mask:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(kept.shape, generator=generator) < keep
        for name, kept in dense_mask(prunable_parameters(network, "kernels")).items()
    }


def resnet_cifar_by_hand(blocks: int) -> int:
    """Side² * 3² * in * out of every convolution, projections 1², and the dense layer."""
    total = 32**2 * 9 * 3 * 16
    for side, before, width in ((32, 16, 16), (16, 16, 32), (8, 32, 64)):
        total += side**2 * 9 * before * width  # the first of the stage
        total += (2 * blocks - 1) * side**2 * 9 * width * width
        if before != width:
            total += side**2 * before * width  # the projection
    return total + 64 * 10


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet56", 9), ("resnet110", 18)])
def test_resnets_cost_what_the_formula_says(name: str, blocks: int) -> None:
    counts = multiply_adds(network_named(name), one_image((3, 32, 32)))
    assert sum(counts.values()) == resnet_cifar_by_hand(blocks)


def test_resnet20_costs_about_41_million() -> None:
    assert resnet_cifar_by_hand(3) == 40_813_184
    assert (
        sum(multiply_adds(network_named("resnet20"), one_image((3, 32, 32))).values()) == 40_813_184
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [("resnet8", (3, 32, 32)), ("digits_resnet", (1, 8, 8)), ("wrn_10_1", (3, 17, 17))],
)
def test_every_layer_is_counted_by_itself(name: str, shape: tuple[int, int, int]) -> None:
    network = network_named(name, shape[0])
    positions = output_positions(network, shape)
    counts = multiply_adds(network, one_image(shape))
    assert {f"{module}.weight": count for module, count in counts.items()} == {
        kernel: places * network.get_parameter(kernel).numel()
        for kernel, places in positions.items()
    }


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize(("name", "shape"), [("resnet8", (3, 32, 32)), ("wrn_10_1", (3, 17, 17))])
def test_zeros_are_skipped(name: str, shape: tuple[int, int, int], keep: float) -> None:
    """Brute force: each weight that is left costs as many as places it is applied to."""
    network = network_named(name)
    mask = random_mask(network, keep)
    positions = output_positions(network, shape)
    expected = sum(positions[kernel] * int(kept.sum()) for kernel, kept in mask.items())
    assert remaining_multiply_adds(multiply_adds(network, one_image(shape)), mask) == expected


def test_layers_without_a_mask_cost_all_they_do() -> None:
    network = network_named("resnet8")
    counts = multiply_adds(network, one_image((3, 32, 32)))
    assert remaining_multiply_adds(counts, {}) == sum(counts.values())
    mask = random_mask(network, 0.0)
    del mask["dense.weight"]
    assert remaining_multiply_adds(counts, mask) == 640


def test_counting_changes_nothing() -> None:
    network = network_named("resnet8").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    multiply_adds(network, one_image((3, 32, 32)))
    assert network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


# Beyond convolutions


class Attention(nn.Module):
    """Weights of its own, used by functions, beside a module inside."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.ones(6, 8))
        self.key = nn.Parameter(torch.ones(6, 8))
        self.out = nn.Linear(6, 8)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        queries, keys = (nn.functional.linear(given, w) for w in (self.query, self.key))
        out: torch.Tensor = self.out(queries * keys)
        return out


def test_weights_that_functions_use_count_for_their_module() -> None:
    network = nn.Sequential(Attention(), nn.Linear(8, 5))
    counts = multiply_adds(network, (torch.zeros(1, 7, 8),))
    assert counts == {"0": 7 * 2 * 48, "0.out": 7 * 48, "1": 7 * 40}
    mask = {"0.query": torch.zeros(6, 8, dtype=torch.bool), "0.key": torch.ones(6, 8).bool()}
    assert remaining_multiply_adds(counts, mask) == 7 * (48 + 48 + 40)


def test_a_network_that_is_one_layer() -> None:
    counts = multiply_adds(nn.Linear(8, 5), (torch.zeros(1, 8),))
    assert counts == {"": 40}
    kept = torch.arange(40).view(5, 8) < 10
    assert remaining_multiply_adds(counts, {"weight": kept}) == 10


def test_whole_numbers_are_looked_up() -> None:
    network = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3)).double()
    assert multiply_adds(network, (torch.tensor([[1, 2]]),)) == {"1": 2 * 12}


class Global(nn.Module):
    """PyTorch's counter calls its total so."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) @ torch.ones(3, 2)


def test_a_class_of_any_name() -> None:
    assert multiply_adds(Global(), (torch.zeros(1, 4),)) == {"inner": 12, "": 6}

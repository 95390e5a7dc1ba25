"""Truncated normal kernels against SciPy's distribution and TensorFlow's definition."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from scipy import stats
from torch import nn

from rewind_ray.models import build_network, initialise_
from rewind_ray.models.initial import DRAW
from rewind_ray.pruning import prunable_parameters
from rewind_ray.spec import INITIAL_WEIGHTS


def test_the_kinds_are_those_of_the_spec() -> None:
    assert DRAW.keys() == INITIAL_WEIGHTS.keys()


def test_convolutions_are_truncated_normal_of_variance_one_over_fan_in() -> None:
    network = build_network("resnet20", 10, 3, {})
    initialise_(network, 0, "truncated_normal")
    *convolutions, dense = prunable_parameters(network, "kernels").values()
    for kernel in convolutions:
        weights = kernel.detach().double().flatten().numpy()
        fan_in = math.prod(kernel.shape[1:])
        expected = stats.truncnorm(-2, 2)
        deviation = math.sqrt(1 / fan_in) / expected.std()
        assert stats.kstest(weights / deviation, expected.cdf).pvalue > 1e-3
        assert abs(weights).max() <= 2 * deviation * (1 + 1e-6)
        if len(weights) > 4000:
            assert weights.var() == pytest.approx(1 / fan_in, rel=0.06)
            assert abs(weights).max() > 1.95 * deviation
    assert tuple(dense.shape) == (10, 64)
    weights = dense.detach().flatten().numpy()
    assert stats.kstest(weights / 0.01, "norm").pvalue > 1e-3


def test_a_function_of_the_seed_alone() -> None:
    networks = [build_network("resnet8", 10, 3, {}) for _ in range(3)]
    for network, seed in zip(networks, (5, 5, 6), strict=True):
        torch.manual_seed(seed + 17)
        initialise_(network, seed, "truncated_normal")
    one, same, other = ([p.detach() for p in network.parameters()] for network in networks)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True) if a.dim() == 4)


@pytest.mark.parametrize("kind", ["he_normal", "torchvision_resnet"])
def test_wang_s_networks_start_as_pytorch_s(kind: str) -> None:
    """``kaiming_normal_`` of every kernel, or torchvision's ResNet: the same spread and shape."""
    ours = build_network("resnet34", 100, 3, {})
    theirs = torchvision.models.resnet34(num_classes=100)
    initialise_(ours, 0, kind)
    torch.manual_seed(1)
    if kind == "he_normal":
        for module in theirs.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)
    others = dict(theirs.named_parameters())
    for name, drawn in ours.named_parameters():
        if drawn.numel() > 30_000:
            assert float(drawn.detach().std() / others[name].detach().std()) == pytest.approx(
                1, abs=0.03
            ), name
            assert abs(float(drawn.detach().mean() / drawn.detach().std())) < 0.02
            largest = [
                float(p.detach().abs().max() / p.detach().std()) for p in (drawn, others[name])
            ]
            assert (largest[0] < 2) == (largest[1] < 2), name  # uniform, or with tails

"""Filters by published rates: counts, whole filters, and the densities published with them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import (
    RATES,
    Mask,
    check_fits,
    check_prune,
    dense_mask,
    density,
    empty_layers,
    prunable_parameters,
    pruned_mask,
    unpruned,
)
from rewind_ray.pruning.rates import counted_convolutions
from rewind_ray.spec import Prune

# Renda et al. 2020, their published results (column density), levels 1 to 5
PUBLISHED = {
    "resnet110-A": (0.977263228, 0.965894842, 0.960210650, 0.957368553, 0.956198278),
    "resnet110-B": (0.687592298, 0.478986133, 0.338367373, 0.246807285, 0.183073737),
    "resnet34-A": (0.924638115, 0.872033751, 0.835514777, 0.809372714, 0.791377644),
    "resnet34-B": (0.893715975, 0.833170276, 0.798666749, 0.778347744, 0.766707504),
    "resnet56-A": (0.920916690, 0.845252184, 0.778003193, 0.716276886, 0.664356157),
    "resnet56-B": (0.871174979, 0.776312576, 0.699859115, 0.638095238, 0.587902696),
}
COUNTED_TOO = {
    "resnet56": {18: 32, 36: 64},
    "resnet110": {36: 32, 72: 64},
    "resnet34": {6: 64},
}
"""Convolution -> weights of a projection that they counted as removed with each of its filters."""
CLASSES = {"resnet34": 1000}


@cache
def parameters_of(network_name: str) -> dict[str, nn.Parameter]:
    options = {} if network_name == "vgg16" else {"first_projection": True}
    network = build_network(network_name, CLASSES.get(network_name, 10), 3, options)
    initialise_(network, 0)
    return prunable_parameters(network, "kernels")


def by_rates(name: str, power: int = 1, **changes: bool) -> Prune:
    return Prune(fraction=None, structure="filters", rates=name, power=power, **changes)


def gone(kept: torch.Tensor) -> list[int]:
    return (~kept.flatten(1).any(dim=1)).nonzero().squeeze(1).tolist()


@pytest.mark.parametrize(
    ("name", "power"),
    [
        pytest.param(name, power, marks=pytest.mark.slow if "34" in name and 1 < power < 5 else ())
        for name in PUBLISHED
        for power in (1, 2, 3, 4, 5)
    ],
)
def test_published_densities(name: str, power: int) -> None:
    """To the single weight, once what their counting adds is added."""
    network = name.split("-")[0]
    parameters = parameters_of(network)
    mask = dense_mask(parameters)
    published = PUBLISHED[name][power - 1]

    pruned = pruned_mask(parameters, mask, by_rates(name, power))

    assert density(pruned) == pytest.approx(published, abs=0.002)
    counted = counted_convolutions({n: tuple(p.shape) for n, p in parameters.items()})
    of_projections = sum(
        outputs * len(gone(pruned[counted[number - 1]]))
        for number, outputs in COUNTED_TOO[network].items()
        if number in RATES[name].shares
    )
    kept = unpruned(pruned) - of_projections
    assert kept == round(published * unpruned(mask))
    assert kept / unpruned(mask) == pytest.approx(published, abs=1e-9)


def test_filters_only_leaves_what_read_them() -> None:
    """The same filters as without, and not one weight more."""
    parameters = parameters_of("resnet56")
    mask = dense_mask(parameters)
    with_readers = pruned_mask(parameters, mask, by_rates("resnet56-B", 2))
    alone = pruned_mask(parameters, mask, by_rates("resnet56-B", 2, filters_only=True))
    for name, kept in alone.items():
        whole = kept.flatten(1).any(dim=1)
        assert torch.equal(whole, with_readers[name].flatten(1).any(dim=1))
        assert kept[whole].all()
    assert unpruned(alone) > unpruned(with_readers)


@pytest.mark.parametrize("name", RATES)
def test_least_filters_and_what_read_them_go(name: str) -> None:
    """Against numpy: the L1 norms of a layer; the next layer loses these inputs; no other does."""
    network = name.split("-")[0]
    parameters = parameters_of(network)
    shapes = {n: tuple(p.shape) for n, p in parameters.items()}
    counted = [n for n in shapes if len(shapes[n]) == 4 and "shortcut" not in n]
    counted = [n for n in counted if "downsample" not in n]
    assert counted == counted_convolutions(shapes)
    assert len(counted) == RATES[name].convolutions
    pruned = pruned_mask(parameters, dense_mask(parameters), by_rates(name))
    expected = {n: np.ones(shape, dtype=bool) for n, shape in shapes.items()}
    for number, rate in RATES[name].shares.items():
        layer = counted[number - 1]
        weights = abs(parameters[layer].detach().numpy().astype(np.float64))
        order = np.argsort(weights.reshape(len(weights), -1).sum(axis=1))
        removed = gone(pruned[layer])
        amount = rate * len(weights)
        assert amount - 1 < len(removed) < amount + 1
        assert sorted(order[: len(removed)]) == removed
        expected[layer][removed] = False
        reader = counted[number] if number < len(counted) else "dense.weight"
        expected[reader][:, removed] = False
    for n, kept in pruned.items():
        np.testing.assert_array_equal(kept.numpy(), expected[n], err_msg=n)


def test_exact_counts_where_nothing_is_rounded() -> None:
    """Half of 16 filters, again and again; the second step counts what the first one left."""
    parameters = parameters_of("resnet110")
    once = pruned_mask(parameters, dense_mask(parameters), by_rates("resnet110-A"))
    for pruned, left in [
        (once, 8),
        (pruned_mask(parameters, once, by_rates("resnet110-A")), 4),
        (pruned_mask(parameters, dense_mask(parameters), by_rates("resnet110-A", 3)), 2),
    ]:
        for block in range(17):
            assert 16 - len(gone(pruned[f"stages.0.{block}.conv1.weight"])) == left
        assert pruned["stages.0.17.conv1.weight"].all()  # convolution 36 is skipped
    again = pruned_mask(parameters, once, by_rates("resnet110-A"))
    for name, kept in again.items():
        assert not (kept & ~once[name]).any()


def test_layers_may_be_emptied_unless_they_are_kept() -> None:
    """As Renda et al. trained it: at level 5 of ResNet-110-A, 7 layers lose all filters."""
    parameters = parameters_of("resnet110")
    mask = dense_mask(parameters)
    emptied = empty_layers(pruned_mask(parameters, mask, by_rates("resnet110-A", 5)))
    assert sum("conv1" in name for name in emptied) == 7
    kept = pruned_mask(parameters, mask, by_rates("resnet110-A", 5, keep_layers=True))
    assert empty_layers(kept) == []


def test_the_outputs_stay_the_same_where_the_shift_is_not_above_zero() -> None:
    """Inputs are masked that are zero anyway, as long as BatchNorm makes no more of a zero."""
    network = build_network("resnet56", 10, 3, {})
    initialise_(network, 0)
    network.eval()
    parameters = prunable_parameters(network, "kernels")
    pruned = pruned_mask(parameters, dense_mask(parameters), by_rates("resnet56-B", 2))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def outputs(mask: Mask) -> torch.Tensor:
        with torch.no_grad():
            for name, kept in mask.items():
                parameters[name] *= kept
            return network(images)

    filters_only = {
        n: kept.flatten(1).any(dim=1).view(-1, *[1] * (kept.dim() - 1)).expand_as(kept)
        for n, kept in pruned.items()
    }
    torch.testing.assert_close(outputs(filters_only), outputs(pruned))


@pytest.mark.parametrize("network", ["resnet56", "resnet20", "resnet50", "wrn_16_8", "vgg19"])
def test_rates_of_another_network_are_refused(network: str) -> None:
    with torch.device("meta"):
        parameters = prunable_parameters(build_network(network, 10, 3, {}), "convolutions")
    with pytest.raises(ValueError, match=r"for a network of 109 conv.*there are resnet56-A \(55\)"):
        check_fits(by_rates("resnet110-A"), parameters)


def test_rates_for_as_many_convolutions_that_are_wired_otherwise() -> None:
    parameters = {
        f"{number}.weight": nn.Parameter(torch.ones(4, 3, 1, 1, device="meta"))
        for number in range(13)
    }
    with pytest.raises(
        ValueError, match=r"remove filters of 0, convolution 1, which has 4, but 1 after it reads 3"
    ):
        check_fits(by_rates("vgg16-A"), parameters)


def test_unknown_rates_list_the_known() -> None:
    with pytest.raises(ValueError, match="unknown rates 'resnet56-C'; known: resnet56-A, "):
        check_prune(by_rates("resnet56-C"))


@pytest.mark.parametrize("name", RATES)
def test_rates_fit_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name.split("-")[0], 10, 3, {})
    check_fits(by_rates(name), prunable_parameters(network, "convolutions"))

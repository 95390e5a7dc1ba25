"""What weights are compared by."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import (
    Mask,
    dense_mask,
    loss_gradients,
    prunable_parameters,
    pruned_mask,
    unpruned,
)
from rewind_ray.spec import STRUCTURES, Prune


def network_and_parameters() -> tuple[nn.Module, dict[str, nn.Parameter]]:
    network = build_network("resnet8", 10, 3, {})
    initialise_(network, 0)
    return network, prunable_parameters(network, "kernels")


def same(one: Mask, other: Mask) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def batches(count: int, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(size, 3, 8, 8, generator=generator),
            torch.randint(10, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    return F.cross_entropy(network(images), labels)


# Random


def prune_of(structure: str, criterion: str) -> Prune:
    if ":" in structure:
        return Prune(fraction=None, structure=structure, criterion=criterion, layers="stages.*")
    return Prune(fraction=0.3, structure=structure, criterion=criterion)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_random_depends_on_seed_and_level_and_not_on_weights(structure: str) -> None:
    _, parameters = network_and_parameters()
    mask = dense_mask(parameters)
    prune = prune_of(structure, "random")
    pruned = pruned_mask(parameters, mask, prune, seed=3, level=2)
    torch.manual_seed(99)
    assert same(pruned, pruned_mask(parameters, mask, prune, seed=3, level=2))
    assert not same(pruned, pruned_mask(parameters, mask, prune, seed=4, level=2))
    assert not same(pruned, pruned_mask(parameters, mask, prune, seed=3, level=1))
    others = {name: nn.Parameter(torch.randn_like(p)) for name, p in parameters.items()}
    assert same(pruned, pruned_mask(others, mask, prune, seed=3, level=2))


def test_random_leaves_other_random_numbers_alone() -> None:
    _, parameters = network_and_parameters()
    state = torch.random.get_rng_state()
    pruned_mask(parameters, dense_mask(parameters), prune_of("unstructured", "random"))
    assert torch.equal(state, torch.random.get_rng_state())


def test_random_takes_the_same_share_everywhere() -> None:
    """Of weights, and of filters whatever their size, within four standard deviations."""
    parameters = {
        "small.weight": nn.Parameter(torch.ones(2000, 1, 1, 1)),
        "large.weight": nn.Parameter(torch.ones(2000, 8, 3, 3)),
    }
    mask = dense_mask(parameters)
    filters = pruned_mask(parameters, mask, prune_of("filters", "random"))
    weights = pruned_mask(parameters, mask, prune_of("unstructured", "random"))
    for kept in (*(layer[:, 0, 0, 0] for layer in filters.values()), weights["large.weight"]):
        deviation = (0.3 * 0.7 / kept.numel()) ** 0.5
        assert float(kept.float().mean()) == pytest.approx(0.7, abs=4 * deviation + 0.01)
    assert unpruned(weights) == unpruned(mask) - round(0.3 * unpruned(mask))


# SNIP


def test_snip_removes_the_least_gradient_times_weight() -> None:
    """Against a loss written out here, differentiated with backward()."""
    network, parameters = network_and_parameters()
    images, labels = batches(1)[0]
    other, of_other = network_and_parameters()
    other.train()
    F.cross_entropy(other(images), labels).backward()
    products = {n: (p.grad * p).detach().abs() for n, p in of_other.items() if p.grad is not None}
    flat = torch.cat([product.flatten() for product in products.values()])
    expected = torch.ones(len(flat), dtype=torch.bool)
    expected[torch.argsort(flat, stable=True)[: round(0.6 * len(flat))]] = False

    pruned = pruned_mask(
        parameters,
        dense_mask(parameters),
        Prune(fraction=0.6, criterion="snip"),
        gradients=lambda: loss_gradients(network, parameters, batches(3), loss),
    )

    assert torch.equal(torch.cat([kept.flatten() for kept in pruned.values()]), expected)


def test_gradients_leave_the_network_as_it_was() -> None:
    network, parameters = network_and_parameters()
    network.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loss_gradients(network, parameters, batches(1), loss)
    assert all(torch.equal(before[n], tensor) for n, tensor in network.state_dict().items())
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_no_batches_are_refused() -> None:
    network, parameters = network_and_parameters()
    with pytest.raises(ValueError, match="no training batch"):
        loss_gradients(network, parameters, [], loss)


def test_snip_without_data_is_refused() -> None:
    _, parameters = network_and_parameters()
    with pytest.raises(
        ValueError, match=r"'snip' needs gradients.*without data: magnitude, random"
    ):
        pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.5, criterion="snip"))


@pytest.mark.parametrize("criterion", ["random", "snip"])
def test_masks_of_every_criterion_are_nested(criterion: str) -> None:
    network, parameters = network_and_parameters()
    mask = dense_mask(parameters)
    for level in (1, 2, 3):
        deeper = pruned_mask(
            parameters,
            mask,
            Prune(fraction=0.4, criterion=criterion),
            level=level,
            gradients=lambda: loss_gradients(network, parameters, batches(1), loss),
        )
        assert unpruned(deeper) == unpruned(mask) - round(0.4 * unpruned(mask))
        assert all(not (kept & ~mask[name]).any() for name, kept in deeper.items())
        mask = deeper

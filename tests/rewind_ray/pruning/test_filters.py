"""Removing whole filters, against loops over single filters in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import (
    Mask,
    dense_mask,
    empty_layers,
    prunable_parameters,
    pruned_mask,
    unpruned,
)
from rewind_ray.spec import Prune

FEW_VALUES = st.integers(-2, 2).map(float)  # many tied filters


@st.composite
def layers(draw: st.DrawFn) -> tuple[dict[str, nn.Parameter], Mask]:
    """Two or three convolutions and a dense layer; some filters gone, some weights gone."""
    shapes = draw(
        st.lists(
            st.tuples(st.integers(1, 5), st.integers(1, 3), st.just(1), st.integers(1, 2)),
            min_size=2,
            max_size=3,
        )
    )
    parameters, mask = {}, {}
    for number, shape in enumerate([*shapes, (3, 4)]):
        size = int(np.prod(shape))
        weights = draw(st.lists(FEW_VALUES, min_size=size, max_size=size))
        kept = torch.ones(shape, dtype=torch.bool)
        if len(shape) == 4:
            for position in range(shape[0]):
                kind = draw(st.sampled_from(["whole", "whole", "partly", "gone"]))
                if kind == "gone":
                    kept[position] = False
                if kind == "partly":
                    kept[position, 0, 0, 0] = False
        name = f"layer{number}.weight"
        parameters[name] = nn.Parameter(torch.tensor(weights).reshape(shape) * kept)
        mask[name] = kept
    return parameters, mask


def brute_force(
    parameters: dict[str, nn.Parameter], mask: Mask, count: int, keep_layers: bool
) -> dict[str, np.ndarray]:
    """Remove the filter of least mean |w|, one after the other, while that comes nearer."""
    kept = {name: layer.numpy().copy() for name, layer in mask.items()}
    weights = {name: abs(p.detach().numpy()) for name, p in parameters.items()}

    def importance(name: str, position: int) -> np.float32:
        """Of the weights that are left."""
        return weights[name][position][kept[name][position]].mean(dtype=np.float32)

    candidates = []
    for layer_number, name in enumerate(kept):
        if kept[name].ndim != 4:
            continue
        alive = [f for f in range(len(kept[name])) if kept[name][f].any()]
        if keep_layers and alive:
            best = max(alive, key=lambda f: (importance(name, f), -f))
            alive.remove(best)
        for position in alive:
            candidates.append((importance(name, position), layer_number, position, name))
    removed = 0
    for _, _, position, name in sorted(candidates, key=lambda c: c[:3]):
        size = int(kept[name][position].sum())
        if abs(removed + size - count) > abs(removed - count):
            break
        kept[name][position] = False
        removed += size
    return kept


@given(layers(), st.floats(0.01, 0.99), st.booleans())
def test_what_is_left_is_what_brute_force_leaves(
    drawn: tuple[dict[str, nn.Parameter], Mask], fraction: float, keep_layers: bool
) -> None:
    parameters, mask = drawn
    prune = Prune(fraction=fraction, structure="filters", keep_layers=keep_layers)
    left = unpruned(mask)
    count = round(prune.fraction * left)
    assume(count < left)
    expected = brute_force(parameters, mask, count, keep_layers)
    assume(any(kept.any() for kept in expected.values()))
    before = {name: kept.clone() for name, kept in mask.items()}

    pruned = pruned_mask(parameters, mask, prune)

    for name, kept in pruned.items():
        np.testing.assert_array_equal(kept.numpy(), expected[name], err_msg=name)
        assert torch.equal(mask[name], before[name])
        if kept.dim() == 2:
            assert torch.equal(kept, before[name])  # dense layers have no filters
        else:
            for position, filter_kept in enumerate(kept):  # whole filters only
                gone = not filter_kept.any()
                assert gone or torch.equal(filter_kept, before[name][position])
    if keep_layers:
        assert empty_layers(pruned) == empty_layers(mask)


@pytest.mark.parametrize("prunable", ["kernels", "convolutions"])
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.7])
def test_as_near_as_whole_filters_can(prunable: str, fraction: float) -> None:
    """In a network: off by at most half of the largest filter."""
    network = build_network("resnet20", 10, 3, {})
    initialise_(network, 0)
    parameters = prunable_parameters(network, prunable)
    mask = dense_mask(parameters)
    largest = max(p[0].numel() for p in parameters.values())
    pruned = pruned_mask(parameters, mask, Prune(fraction=fraction, structure="filters"))
    removed = unpruned(mask) - unpruned(pruned)
    assert abs(removed - fraction * unpruned(mask)) <= largest / 2 + 1
    again = pruned_mask(parameters, pruned, Prune(fraction=fraction, structure="filters"))
    for name, kept in again.items():
        assert not (kept & ~pruned[name]).any()


def test_filters_of_different_sizes_are_compared_by_their_mean() -> None:
    """Mikler 2022, §2.1: the mean, not the sum, so a large filter is not safe by its size."""
    parameters = {
        "large.weight": nn.Parameter(torch.full((1, 8, 3, 3), 0.1)),  # sum 7.2
        "small.weight": nn.Parameter(torch.full((8, 1, 3, 3), 0.2)),  # sum 1.8 each
    }
    pruned = pruned_mask(
        parameters, dense_mask(parameters), Prune(fraction=0.5, structure="filters")
    )
    assert not pruned["large.weight"].any()
    assert pruned["small.weight"].all()


@pytest.mark.parametrize("fraction", [0.9, 0.95])
def test_leaving_nothing_is_refused(fraction: float) -> None:
    """Whole filters overshoot: 0.9 of two filters of 10 weights is nearest to both of them."""
    parameters = {"layer.weight": nn.Parameter(torch.ones(2, 10, 1, 1))}
    with pytest.raises(ValueError, match="leaves none; prune less"):
        pruned_mask(
            parameters, dense_mask(parameters), Prune(fraction=fraction, structure="filters")
        )
    kept = pruned_mask(
        parameters,
        dense_mask(parameters),
        Prune(fraction=fraction, structure="filters", keep_layers=True),
    )
    assert unpruned(kept) == 10

"""Removing whole filters and dense inputs, against loops over single ones in numpy."""

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
    """Two or three convolutions and a dense layer; some units gone, some weights gone."""
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
        for unit in kept if len(shape) == 4 else kept.T:  # views
            kind = draw(st.sampled_from(["whole", "whole", "partly", "gone"]))
            if kind == "gone":
                unit[...] = False
            if kind == "partly":
                unit.flatten()[0] = False
        name = f"layer{number}.weight"
        parameters[name] = nn.Parameter(torch.tensor(weights).reshape(shape) * kept)
        mask[name] = kept
    return parameters, mask


def units_of(array: np.ndarray) -> list[np.ndarray]:
    """Views of a convolution's filters, or of what a dense layer (out, in) has on each input."""
    return list(array) if array.ndim == 4 else list(array.T)


def brute_force(
    parameters: dict[str, nn.Parameter], mask: Mask, count: int, keep_layers: bool
) -> dict[str, np.ndarray]:
    """Remove the unit of least mean |w|, one after the other, while that is at most ``count``."""
    kept = {name: layer.numpy().copy() for name, layer in mask.items()}
    weights = {name: abs(p.detach().numpy()) for name, p in parameters.items()}

    def mean_left(sizes: np.ndarray, left: np.ndarray) -> np.float32:
        return sizes[left].mean(dtype=np.float32)

    candidates = []
    for layer_number, name in enumerate(kept):
        units, sizes = units_of(kept[name]), units_of(weights[name])
        alive = [u for u in range(len(units)) if units[u].any()]
        if keep_layers and alive:
            best = max(alive, key=lambda u: (mean_left(sizes[u], units[u]), -u))
            alive.remove(best)
        for position in alive:
            mean = mean_left(sizes[position], units[position])
            candidates.append((mean, layer_number, position, units[position]))
    removed = 0
    for _, _, _, unit in sorted(candidates, key=lambda c: c[:3]):
        size = int(unit.sum())
        if removed + size > count:
            break
        unit[...] = False
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
        was = units_of(before[name].numpy())
        for unit, unit_before in zip(units_of(kept.numpy()), was, strict=True):  # whole ones only
            assert not unit.any() or (unit == unit_before).all()
    assert unpruned(pruned) >= left - count
    if keep_layers:
        assert empty_layers(pruned) == empty_layers(mask)


@pytest.mark.parametrize("prunable", ["kernels", "convolutions"])
@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.7])
def test_as_much_as_whole_filters_can(prunable: str, fraction: float) -> None:
    """In a network: never more than asked for, and less than a filter's size below it."""
    network = build_network("resnet20", 10, 3, {})
    initialise_(network, 0)
    parameters = prunable_parameters(network, prunable)
    mask = dense_mask(parameters)
    largest = max(p[0].numel() for p in parameters.values())
    pruned = pruned_mask(parameters, mask, Prune(fraction=fraction, structure="filters"))
    removed = unpruned(mask) - unpruned(pruned)
    assert 0 <= round(fraction * unpruned(mask)) - removed < largest
    again = pruned_mask(parameters, pruned, Prune(fraction=fraction, structure="filters"))
    for name, kept in again.items():
        assert not (kept & ~pruned[name]).any()


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.893])
def test_filters_go_as_a_percentile_of_the_weights_cuts_them(fraction: float) -> None:
    """Mikler 2022's code, in the shapes of Keras: every weight is as important as the mean of its
    filter, of the dense kernel (inputs, outputs) of its row; what lies below the percentile of all
    weights is pruned. No class loses all of its weights."""
    network = build_network("resnet20", 10, 3, {})
    initialise_(network, 3)
    parameters = prunable_parameters(network, "kernels")
    means = {}
    for name, parameter in parameters.items():
        weights = parameter.detach().abs().numpy()
        if weights.ndim == 4:
            keras = weights.transpose(2, 3, 1, 0)  # (kh, kw, in, out)
            mean = keras.reshape(-1, keras.shape[-1]).mean(axis=0)
            means[name] = np.broadcast_to(mean, keras.shape).transpose(3, 2, 0, 1)
        else:
            keras = weights.T  # (in, out)
            means[name] = np.broadcast_to(keras.mean(axis=1, keepdims=True), keras.shape).T
    flat = np.concatenate([mean.ravel() for mean in means.values()])
    threshold = np.percentile(flat, 100 * fraction)
    pruned = pruned_mask(
        parameters, dense_mask(parameters), Prune(fraction=fraction, structure="filters")
    )
    for name, kept in pruned.items():
        np.testing.assert_array_equal(kept.numpy(), means[name] >= threshold, err_msg=name)
    assert pruned["dense.weight"].any(dim=1).all()


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


@pytest.mark.parametrize("keep_layers", [False, True])
@pytest.mark.parametrize("fraction", [0.9, 0.95])
def test_what_whole_filters_can_t_reach_is_left(fraction: float, keep_layers: bool) -> None:
    """0.95 of two filters of 10 weights are 19, of which only one filter is no more."""
    parameters = {"layer.weight": nn.Parameter(torch.ones(2, 10, 1, 1))}
    prune = Prune(fraction=fraction, structure="filters", keep_layers=keep_layers)
    assert unpruned(pruned_mask(parameters, dense_mask(parameters), prune)) == 10


def test_leaving_nothing_is_refused() -> None:
    parameters = {"layer.weight": nn.Parameter(torch.ones(2, 10, 1, 1))}
    with pytest.raises(ValueError, match="leaves none; prune less"):
        pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.99, structure="filters"))

"""Removing single weights, against a brute-force sort in numpy; many values are tied."""

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
    apply_mask_,
    dense_mask,
    density,
    empty_layers,
    prunable_parameters,
    pruned_mask,
    unpruned,
)
from rewind_ray.spec import Prune

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
FEW_VALUES = st.integers(-2, 2).map(float)  # ties everywhere, zeros among them
ANY_VALUES = st.floats(-4, 4, width=32)


@st.composite
def layers(draw: st.DrawFn) -> tuple[dict[str, nn.Parameter], Mask]:
    values = draw(st.sampled_from([FEW_VALUES, ANY_VALUES]))
    parameters, mask = {}, {}
    for number in range(draw(st.integers(1, 4))):
        shape = draw(SHAPES)
        size = int(np.prod(shape))
        weights = draw(st.lists(values, min_size=size, max_size=size))
        kept = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        name = f"layer{number}.weight"
        parameters[name] = nn.Parameter(torch.tensor(weights).reshape(shape))
        mask[name] = torch.tensor(kept).reshape(shape)
    return parameters, mask


def brute_force(
    parameters: dict[str, nn.Parameter], mask: Mask, fraction: float, keep_layers: bool
) -> list[bool]:
    """Which weights are left, layer after layer: by sorting (|w|, position) one by one."""
    kept = [bool(k) for layer in mask.values() for k in layer.flatten()]
    sizes = [abs(float(w)) for name in mask for w in parameters[name].detach().flatten()]
    protected = set()
    if keep_layers:
        start = 0
        for layer in mask.values():
            places = [start + i for i, k in enumerate(layer.flatten().tolist()) if k]
            if places:
                protected.add(max(places, key=lambda place: (sizes[place], -place)))
            start += layer.numel()
    candidates = [place for place, k in enumerate(kept) if k and place not in protected]
    candidates.sort(key=lambda place: (sizes[place], place))
    for place in candidates[: round(fraction * sum(kept))]:
        kept[place] = False
    return kept


def flat(mask: Mask) -> list[bool]:
    return torch.cat([kept.flatten() for kept in mask.values()]).tolist()


def copied(mask: Mask) -> Mask:
    return {name: kept.clone() for name, kept in mask.items()}


@given(layers(), st.floats(0.01, 0.99), st.booleans())
def test_what_is_left_is_what_brute_force_leaves(
    drawn: tuple[dict[str, nn.Parameter], Mask], fraction: float, keep_layers: bool
) -> None:
    parameters, mask = drawn
    prune = Prune(fraction=fraction, keep_layers=keep_layers)
    left = unpruned(mask)
    assume(round(prune.fraction * left) < left)
    before = copied(mask)

    pruned = pruned_mask(parameters, mask, prune)

    assert flat(pruned) == brute_force(parameters, mask, prune.fraction, keep_layers)
    assert flat(mask) == flat(before)  # the parent's mask is left as it was
    assert {n: k.shape for n, k in pruned.items()} == {n: k.shape for n, k in mask.items()}


@given(layers(), st.floats(0.01, 0.99))
def test_exactly_the_rounded_share_is_removed(
    drawn: tuple[dict[str, nn.Parameter], Mask], fraction: float
) -> None:
    """Also where all weights are tied."""
    parameters, mask = drawn
    left = unpruned(mask)
    count = round(Prune(fraction=fraction).fraction * left)
    assume(count < left)
    tied = {name: nn.Parameter(torch.ones_like(p)) for name, p in parameters.items()}
    for weights in (parameters, tied):
        pruned = pruned_mask(weights, mask, Prune(fraction=fraction))
        assert unpruned(pruned) == left - count


@given(layers(), st.lists(st.floats(0.05, 0.6), min_size=1, max_size=4), st.randoms())
def test_masks_of_a_chain_are_nested(
    drawn: tuple[dict[str, nn.Parameter], Mask], fractions: list[float], random: object
) -> None:
    """Whatever the weights became meanwhile, what is pruned stays pruned."""
    parameters, mask = drawn
    generator = torch.Generator().manual_seed(random.randrange(2**31))  # type: ignore[attr-defined]
    for fraction in fractions:
        left = unpruned(mask)
        assume(round(fraction * left) < left)
        deeper = pruned_mask(parameters, mask, Prune(fraction=fraction))
        for name, kept in deeper.items():
            assert not (kept & ~mask[name]).any()
        mask = deeper
        for parameter in parameters.values():
            parameter.data = torch.randn(parameter.shape, generator=generator)


def test_layers_are_compared_with_each_other() -> None:
    """Global pruning: the layer of small weights goes first, whatever its size."""
    parameters = {
        "small.weight": nn.Parameter(torch.full((4,), 0.1)),
        "large.weight": nn.Parameter(torch.full((4,), -9.0)),
    }
    pruned = pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.5))
    assert pruned["small.weight"].tolist() == [False] * 4
    assert pruned["large.weight"].tolist() == [True] * 4
    assert empty_layers(pruned) == ["small.weight"]
    assert density(pruned) == 0.5

    kept = pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.5, keep_layers=True))
    assert kept["small.weight"].tolist() == [True, False, False, False]
    assert kept["large.weight"].tolist() == [True, False, True, True]
    assert empty_layers(kept) == []


def test_of_equal_weights_the_first_go() -> None:
    parameters = {"layer.weight": nn.Parameter(torch.tensor([1.0, -1.0, 0.5, 1.0, -1.0, 2.0]))}
    pruned = pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.5))
    assert pruned["layer.weight"].tolist() == [False, False, False, True, True, True]


@given(layers(), st.floats(0.01, 0.99))
def test_with_keep_layers_none_is_emptied(
    drawn: tuple[dict[str, nn.Parameter], Mask], fraction: float
) -> None:
    parameters, mask = drawn
    left = unpruned(mask)
    assume(round(Prune(fraction=fraction).fraction * left) < left)
    pruned = pruned_mask(parameters, mask, Prune(fraction=fraction, keep_layers=True))
    assert empty_layers(pruned) == empty_layers(mask)


@pytest.mark.parametrize("fraction", [0.5, 0.51, 0.9999])
def test_leaving_nothing_is_refused(fraction: float) -> None:
    parameters = {"layer.weight": nn.Parameter(torch.ones(1, 2))}
    mask = {"layer.weight": torch.tensor([[True, False]])}
    count = round(fraction)
    if count == 0:
        assert unpruned(pruned_mask(parameters, mask, Prune(fraction=fraction))) == 1
        return
    with pytest.raises(ValueError, match="of the 1 weights that are left leaves none; prune less"):
        pruned_mask(parameters, mask, Prune(fraction=fraction))


@pytest.mark.parametrize("prunable", ["kernels", "convolutions"])
@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9, 0.99])
def test_a_network_against_numpy(prunable: str, fraction: float) -> None:
    network = build_network("resnet8", 10, 3, {})
    initialise_(network, 0)
    parameters = prunable_parameters(network, prunable)
    weights = np.concatenate([abs(p.detach().numpy().ravel()) for p in parameters.values()])
    order = np.argsort(weights, kind="stable")
    expected = np.ones(len(weights), dtype=bool)
    expected[order[: round(fraction * len(weights))]] = False

    pruned = pruned_mask(parameters, dense_mask(parameters), Prune(fraction=fraction))

    assert flat(pruned) == expected.tolist()
    apply_mask_(parameters, pruned)
    zeros = sum(int((p == 0).sum()) for p in parameters.values())
    assert zeros == round(fraction * len(weights))

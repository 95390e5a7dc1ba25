"""The same share of every layer, of weights or of filters, and patterns of layers."""

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
    check_fits,
    dense_mask,
    empty_layers,
    prunable_parameters,
    pruned_mask,
)
from rewind_ray.spec import Prune
from rewind_ray.structures import STRUCTURES
from tests.rewind_ray.pruning import test_filters, test_unstructured


def resnet8() -> dict[str, nn.Parameter]:
    network = build_network("resnet8", 10, 3, {})
    initialise_(network, 0)
    return prunable_parameters(network, "kernels")


def least(importance: dict[int, float], count: int, keep_one: bool) -> set[int]:
    """By sorting (importance, position) one by one."""
    places = sorted(importance, key=lambda place: (importance[place], place))
    if keep_one and places:
        places.remove(max(importance, key=lambda place: (importance[place], -place)))
    return set(places[:count])


@given(test_unstructured.layers(), st.floats(0.01, 0.99), st.booleans())
def test_weights_of_each_layer_against_brute_force(
    drawn: tuple[dict[str, nn.Parameter], Mask], fraction: float, keep_layers: bool
) -> None:
    parameters, mask = drawn
    prune = Prune(fraction=fraction, scope="layer", keep_layers=keep_layers)
    expected = {}
    for name, kept in mask.items():
        flat = kept.flatten().tolist()
        weights = parameters[name].detach().abs().flatten().tolist()
        sizes = {i: weights[i] for i, k in enumerate(flat) if k}
        removed = least(sizes, round(prune.fraction * sum(flat)), keep_layers)
        expected[name] = [k and i not in removed for i, k in enumerate(flat)]
    total = sum(int(kept.sum()) for kept in mask.values())
    assume(round(prune.fraction * total) < total and any(any(k) for k in expected.values()))

    pruned = pruned_mask(parameters, mask, prune)

    assert {n: kept.flatten().tolist() for n, kept in pruned.items()} == expected
    if keep_layers:
        assert empty_layers(pruned) == empty_layers(mask)
    else:
        for name, kept in pruned.items():
            before = int(mask[name].sum())
            assert before - int(kept.sum()) == round(prune.fraction * before)


@given(test_filters.layers(), st.integers(1, 99))
def test_filters_of_each_layer_against_brute_force(
    drawn: tuple[dict[str, nn.Parameter], Mask], percent: int
) -> None:
    """Wang et al. 2023: the share rounded up, in whole numbers; one filter always stays."""
    parameters, mask = drawn
    prune = Prune(fraction=percent / 100, structure="filters", scope="layer")
    expected = {name: kept.numpy().copy() for name, kept in mask.items()}
    for name, kept in expected.items():
        if kept.ndim != 4:
            continue
        weights = abs(parameters[name].detach().numpy())
        norms = {f: float(weights[f].sum()) for f in range(len(kept)) if kept[f].any()}
        count = min(-(-percent * len(norms) // 100), len(norms) - 1)
        kept[list(least(norms, max(count, 0), keep_one=False))] = False
    total = sum(int(kept.sum()) for kept in mask.values())
    assume(round(prune.fraction * total) < total and any(k.any() for k in expected.values()))

    pruned = pruned_mask(parameters, mask, prune)

    for name, kept in pruned.items():
        np.testing.assert_array_equal(kept.numpy(), expected[name], err_msg=name)
    assert empty_layers(pruned) == empty_layers(mask)


def test_one_filter_stays_with_and_without_keep_layers() -> None:
    """So both are the same training, and have one id."""
    for named in ({"scope": "layer"}, {"layers": "stages.*"}):
        keeping = Prune(fraction=0.5, structure="filters", keep_layers=True, **named)
        assert keeping == Prune(fraction=0.5, structure="filters", **named)
    assert Prune(fraction=0.5, structure="filters", keep_layers=True).keep_layers


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("structure", ["unstructured", "filters"])
def test_only_the_layers_of_the_pattern(structure: str, scope: str) -> None:
    """Wang et al. 2023: the first convolution of every residual block, the same share of each."""
    parameters = resnet8()
    prune = Prune(fraction=0.5, structure=structure, scope=scope, layers="stages.*.conv1")
    pruned = pruned_mask(parameters, dense_mask(parameters), prune)
    matched = [name for name in pruned if name.endswith(".conv1.weight")]
    assert len(matched) == 3
    for name, kept in pruned.items():
        assert int(kept.sum()) == (kept.numel() // 2 if name in matched else kept.numel())
        if structure == "filters" and name in matched:
            filters = kept.flatten(1)
            assert torch.equal(filters.any(dim=1), filters.all(dim=1))


def test_the_scope_makes_the_difference() -> None:
    parameters = {
        "small.weight": nn.Parameter(torch.full((4,), 0.1)),
        "large.weight": nn.Parameter(torch.full((4,), -9.0)),
    }
    pruned = pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.5, scope="layer"))
    assert pruned["small.weight"].tolist() == [False, False, True, True]
    assert pruned["large.weight"].tolist() == [False, False, True, True]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_pattern_of_nothing_lists_some_layers(structure: str) -> None:
    prune = Prune(
        fraction=0.5 if STRUCTURES[structure].density is None else None,
        structure=structure,
        layers="blocks.*.conv1",
    )
    with pytest.raises(
        ValueError, match=r"layers 'blocks.\*.conv1' matches no .*for example, conv, stages.0.0"
    ):
        check_fits(prune, resnet8())


def test_dense_layers_have_no_filters() -> None:
    with pytest.raises(ValueError, match="layers 'dense' matches no convolution; there are"):
        check_fits(Prune(fraction=0.5, structure="filters", layers="dense"), resnet8())
    check_fits(Prune(fraction=0.5, layers="dense"), resnet8())


def test_leaving_nothing_is_refused() -> None:
    """Each layer rounds up: 0.6 of one weight is one, though 0.6 of all would leave some."""
    parameters = {f"{n}.weight": nn.Parameter(torch.ones(1, 1)) for n in range(4)}
    with pytest.raises(ValueError, match=r"pruning 0\.6 of the 4 weights .* leaves none"):
        pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.6, scope="layer"))

"""N:M sparsity, against loops over single groups."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import (
    Mask,
    check_fits,
    dense_mask,
    density,
    prunable_parameters,
    pruned_mask,
)
from rewind_ray.spec import Prune
from rewind_ray.structures import STRUCTURES

N_OF_M = [name for name, structure in STRUCTURES.items() if structure.group is not None]


@st.composite
def layers(draw: st.DrawFn) -> tuple[dict[str, nn.Parameter], Mask]:
    """A convolution and a dense layer of tied weights, some pruned, their inputs in eights."""
    parameters, mask = {}, {}
    for name in ("conv.weight", "dense.weight"):
        shape = [draw(st.integers(1, 2)), 8 * draw(st.integers(1, 2))]
        if name == "conv.weight":
            shape += [draw(st.integers(1, 2)), draw(st.integers(1, 3))]
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        parameters[name] = nn.Parameter(torch.randint(-2, 3, shape, generator=generator).float())
        share = draw(st.sampled_from([1.0, 0.7, 0.2]))
        mask[name] = torch.rand(shape, generator=generator) < share
    mask["dense.weight"][0, 0] = True
    return parameters, mask


@given(layers(), st.sampled_from([*N_OF_M, "1:2", "5:8", "7:8"]))
def test_groups_along_the_input_against_brute_force(
    drawn: tuple[dict[str, nn.Parameter], Mask], structure: str
) -> None:
    parameters, mask = drawn
    n, m = (int(number) for number in structure.split(":"))
    expected = {name: kept.clone() for name, kept in mask.items()}
    for name, kept in expected.items():
        weight = parameters[name].detach()
        wide = kept if kept.dim() == 4 else kept[:, :, None, None]
        values = weight if weight.dim() == 4 else weight[:, :, None, None]
        outputs, inputs, height, width = wide.shape
        for o in range(outputs):
            for y in range(height):
                for x in range(width):
                    for start in range(0, inputs, m):
                        left = [i for i in range(start, start + m) if wide[o, i, y, x]]
                        left.sort(key=lambda i: (abs(float(values[o, i, y, x])), i))
                        for i in left[: max(len(left) - n, 0)]:
                            wide[o, i, y, x] = False

    pruned = pruned_mask(parameters, mask, Prune(fraction=None, structure=structure))

    for name, kept in pruned.items():
        assert torch.equal(kept, expected[name]), name
        assert kept.is_contiguous()
        assert not (kept & ~mask[name]).any()


@pytest.mark.parametrize("structure", N_OF_M)
def test_a_network(structure: str) -> None:
    """Exactly n in every m of the matching layers; the others whole."""
    network = build_network("resnet20", 10, 3, {})
    initialise_(network, 0)
    parameters = prunable_parameters(network, "kernels")
    n, m = (int(number) for number in structure.split(":"))
    prune = Prune(fraction=None, structure=structure, layers="stages.*")
    pruned = pruned_mask(parameters, dense_mask(parameters), prune)
    for name, kept in pruned.items():
        if not name.startswith("stages."):
            assert kept.all()
            continue
        groups = kept.permute(0, 2, 3, 1).reshape(-1, m)
        assert (groups.sum(dim=1) == n).all()
        assert density({name: kept}) == n / m
    again = pruned_mask(parameters, pruned, prune)
    assert all(torch.equal(again[name], kept) for name, kept in pruned.items())


def test_of_equal_weights_the_first_go() -> None:
    parameters = {"dense.weight": nn.Parameter(torch.tensor([[1.0, -1, 1, 1, 0, 3, 2, -4]]))}
    pruned = pruned_mask(parameters, dense_mask(parameters), Prune(fraction=None, structure="2:4"))
    assert pruned["dense.weight"].int().tolist() == [[0, 0, 1, 1, 0, 1, 0, 1]]


@pytest.mark.parametrize("structure", N_OF_M)
def test_inputs_that_groups_do_not_divide_are_refused(structure: str) -> None:
    with torch.device("meta"):
        network = build_network("resnet20", 10, 3, {})
    parameters = prunable_parameters(network, "kernels")
    m = structure.split(":")[1]
    with pytest.raises(ValueError, match=f"input of conv is 3, .* by the {m} of {structure}; give"):
        check_fits(Prune(fraction=None, structure=structure), parameters)
    check_fits(Prune(fraction=None, structure=structure, layers="stages.*"), parameters)


def test_a_pruned_away_network_is_refused() -> None:
    parameters = {"dense.weight": nn.Parameter(torch.ones(1, 4))}
    mask = {"dense.weight": torch.zeros(1, 4, dtype=torch.bool)}
    with pytest.raises(ValueError, match="pruning 2:4 of the 0 weights that are left"):
        pruned_mask(parameters, mask, Prune(fraction=None, structure="2:4"))

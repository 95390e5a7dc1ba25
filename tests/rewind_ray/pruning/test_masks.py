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


# What a pattern of names reaches


class Translator(nn.Module):
    """An embedding, an LSTM, attention and a tied output layer; nothing is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 8, num_layers=2, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)
        self.norm = nn.LayerNorm((3, 8))
        self.signal = nn.Conv1d(3, 3, 1)
        self.output = nn.Linear(8, 20)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.lstm(self.embedding(tokens))
        attended, _ = self.attention(hidden, hidden, hidden)
        logits: torch.Tensor = self.output(self.signal(self.norm(attended)))
        return logits


LSTM = [f"lstm.weight_{kind}_l{layer}" for layer in (0, 1) for kind in ("ih", "hh")]


@pytest.mark.parametrize(
    ("prunable", "names"),
    [
        ("convolutions", ["signal.weight"]),
        ("kernels", ["embedding.weight", "attention.out_proj.weight", "signal.weight"]),  # tied
        ("lstm.*", LSTM),
        ("*.weight_hh_l?", LSTM[1::2]),
        ("attention.*", ["attention.in_proj_weight", "attention.out_proj.weight"]),
        (
            "*",
            [
                *("embedding.weight", *LSTM, "attention.in_proj_weight"),
                *("attention.out_proj.weight", "signal.weight"),
            ],
        ),
    ],
)
def test_rules_and_patterns_never_reach_biases_and_norms(prunable: str, names: list[str]) -> None:
    network = Translator()
    found = prunable_parameters(network, prunable)
    assert list(found) == names
    assert all(network.get_parameter(name) is parameter for name, parameter in found.items())


def test_a_pattern_that_reaches_nothing_is_refused() -> None:
    for pattern in ("encoder.*", "norm.*", "*.bias"):
        with pytest.raises(ValueError, match=r"matches no parameter.*embedding\.weight"):
            prunable_parameters(Translator(), pattern)

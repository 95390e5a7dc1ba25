"""Source of plain modules, against the networks that they were written from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.export.plain import EVALUATES, TRAINS_TOO, NotPlain, plain_source
from rewind_ray.models import build_network


class Mixed(nn.Module):
    """Parameters and buffers of its own, a layer that is called twice and one that never is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(6))
        self.register_buffer("shift", torch.rand(6))
        self.register_buffer("count", torch.tensor(3))
        self.parts = nn.ModuleList([nn.Linear(6, 6), nn.Sequential(nn.GELU(), nn.Dropout(0.5))])
        self.norm = nn.LayerNorm(6)
        self.unused = nn.Linear(2, 2, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        once = self.parts[1](self.parts[0](inputs * self.scale + self.shift))
        twice = self.parts[0](once).clamp(max=float("inf"))
        return self.norm(torch.cat([once, twice.softmax(-1)], dim=0).chunk(2)[1] / self.count)


class ByHand(nn.Module):
    """Dropout by a function, which torch.fx can't keep apart from evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.dropout(self.layer(inputs), 0.5, training=self.training)


def built(name: str, **options: Any) -> nn.Module:
    network = build_network(name, 10, 3, options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet": (lambda: built("digits_resnet"), (3, 8, 8)),
    "same padding, odd": (lambda: built("digits_resnet", same_padding=True), (3, 9, 9)),
    "zero shortcut": (lambda: built("digits_resnet", zero_shortcut=True), (3, 8, 8)),
    "wide": (lambda: built("wrn_10_1"), (3, 8, 8)),
    "vgg": (lambda: built("vgg8"), (3, 8, 8)),
    "torchvision's": (lambda: built("resnet34", same_padded_pool=True), (3, 32, 32)),
    "mixed": (Mixed, (6,)),
    "by hand": (ByHand, (6,)),
}


def compiled(source: str) -> Any:
    namespace: dict[str, Any] = {}
    exec(compile(source, "network.py", "exec"), namespace)
    return namespace["Network"]


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_it_is_the_same_network(name: str) -> None:
    torch.manual_seed(0)
    build, sizes = NETWORKS[name]
    network = build().eval()
    source = plain_source(network, (torch.zeros(1, *sizes),))
    plain = compiled(source)()
    plain.load_state_dict(network.state_dict())
    inputs = torch.randn(3, *sizes)
    assert torch.equal(plain.eval()(inputs), network(inputs))
    assert "rewind_ray" not in source
    assert (EVALUATES if name == "by hand" else TRAINS_TOO) in source


def test_it_learns_as_the_network_does() -> None:
    """BatchNorm and dropout know training: an update gives the same bits."""
    for name in ("resnet", "mixed"):
        build, sizes = NETWORKS[name]
        network = build()
        plain = compiled(plain_source(network, (torch.zeros(1, *sizes),)))()
        plain.load_state_dict(network.state_dict())
        inputs = torch.randn(8, *sizes)
        for one in (network, plain):
            torch.manual_seed(1)
            optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
            one.train()(inputs).square().sum().backward()
            optimizer.step()
        after = plain.state_dict()
        for key, tensor in network.state_dict().items():
            torch.testing.assert_close(after[key], tensor, rtol=1e-6, atol=1e-6)


class Branching(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if input.sum() > 0 else input


class Pair(nn.Linear):
    def forward(self, input: Tensor) -> Any:
        return input, super().forward(input)


def helper(values: Tensor) -> Tensor:
    return values.sin()


torch.fx.wrap("helper")


class Calling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, inputs: Tensor) -> Tensor:
        return helper(self.layer(inputs))


def sharing() -> nn.Module:
    network = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    network[1].weight = network[0].weight
    return network


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Branching(6, 6), "torch.fx can't trace it"),
        (lambda: Pair(6, 6), "its output is a tuple"),
        (Calling, "it calls helper, which isn't torch's"),
        (sharing, "share a parameter"),
        (lambda: nn.Sequential(nn.MultiheadAttention(6, 2)), "MultiheadAttention"),
        (lambda: nn.Sequential(nn.Linear(6, 6), nn.LSTM(6, 6)), "output is a tuple"),
    ],
)
def test_what_cannot_be_written_says_why(build: Callable[[], nn.Module], words: str) -> None:
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build()

        def forward(self, inputs: Tensor) -> Any:
            if "Multihead" in words:
                return self.inner[0](inputs, inputs, inputs)[0]
            return self.inner(inputs)

    with pytest.raises(NotPlain, match=words):
        plain_source(Once(), (torch.ones(1, 6),))

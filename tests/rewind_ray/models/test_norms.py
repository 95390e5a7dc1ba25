"""Blocks that start as their shortcut, sharded BatchNorm, TensorFlow's projections and pooling."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rewind_ray.models import build_network, initialise_
from rewind_ray.models.norms import BatchNorm


@pytest.mark.parametrize(
    ("name", "block", "norm"),
    [
        ("resnet8", "stages.0.0", "norm2"),
        ("resnet34", "layer1.1", "bn2"),
        ("resnet50", "layer1.1", "bn3"),
    ],
)
def test_a_block_starts_as_the_identity(name: str, block: str, norm: str) -> None:
    """ReLU(0 + x) of an x that ReLU has made; also after the weights are drawn anew."""
    network = build_network(name, 10, 3, {"zero_last_norm": True})
    initialise_(network, 0)
    channels = network.get_submodule(f"{block}.{norm}").num_features
    images = torch.rand(2, channels, 8, 8)
    assert torch.equal(network.get_submodule(block)(images), images)
    plain = build_network(name, 10, 3, {})
    initialise_(plain, 0)
    assert not torch.equal(plain.get_submodule(block)(images), images)
    zeros = [n for n, p in network.named_parameters() if n.endswith(".weight") and not p.any()]
    blocks = {"resnet8": 3, "resnet34": 16, "resnet50": 16}[name]
    assert len(zeros) == blocks
    assert all(name.endswith(f"{norm}.weight") for name in zeros)


def test_every_shard_is_normalised_by_itself() -> None:
    """Against a plain BatchNorm for each shard; the running statistics are the first shard's."""
    torch.manual_seed(0)
    sharded = BatchNorm(6, decay=0.9, epsilon=1e-3, shards=4)
    with torch.no_grad():
        sharded.weight.uniform_(0.5, 2)
        sharded.bias.normal_()
    plain = [nn.BatchNorm2d(6, eps=1e-3, momentum=0.1) for _ in range(4)]
    for norm in plain:
        norm.load_state_dict(sharded.state_dict())
    images = torch.randn(12, 6, 5, 5) * 3 + 1
    ours, theirs = images.clone().requires_grad_(), images.clone().requires_grad_()
    found = sharded(ours)
    expected = torch.cat([norm(s) for norm, s in zip(plain, theirs.split(3), strict=True)])
    torch.testing.assert_close(found, expected)
    (found * images.cos()).sum().backward()
    (expected * images.cos()).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(sharded.weight.grad, sum(norm.weight.grad for norm in plain))
    for name, buffer in sharded.named_buffers():
        torch.testing.assert_close(buffer, plain[0].get_buffer(name))
    whole = copy.deepcopy(sharded)
    whole.shards = 1
    assert torch.equal(sharded.eval()(images), whole.eval()(images))
    assert not torch.allclose(sharded.train()(images), whole.train()(images))


def test_no_shards_is_an_error() -> None:
    with pytest.raises(ValueError, match="batch_norm_shards is 0; allowed: 1 and more"):
        build_network("resnet8", 10, 3, {"batch_norm_shards": 0})


@pytest.mark.parametrize(
    ("name", "width", "count"), [("resnet8", 16, 3), ("resnet20", 16, 3), ("resnet34", 64, 4)]
)
def test_a_projection_in_the_first_block(name: str, width: int, count: int) -> None:
    plain = build_network(name, 10, 3, {})
    more = build_network(name, 10, 3, {"first_projection": True})
    added = dict(more.named_parameters()).keys() - dict(plain.named_parameters()).keys()
    sizes = sorted(more.get_parameter(parameter).numel() for parameter in added)
    assert sizes[-1] == width * width
    assert all(".0.0." in name or "layer1.0." in name for name in added)
    kernels = [n for n, m in more.named_modules() if isinstance(m, nn.Conv2d)]
    assert sum("shortcut" in n or "downsample" in n for n in kernels) == count
    assert more(torch.zeros(2, 3, 64, 64)).shape == (2, 10)


def test_resnet50_has_its_first_projection_anyway() -> None:
    with pytest.raises(ValueError, match=r"first_projection with resnet50.*leave it out"):
        build_network("resnet50", 10, 3, {"first_projection": True})


@pytest.mark.parametrize("side", [112, 32, 14])
def test_pooling_pads_at_the_bottom_and_right(side: int) -> None:
    """TensorFlow's SAME of an even side: (side / 2 - 1) * 2 + 3 - side = 1 pixel, at the end."""
    network = build_network("resnet34", 10, 3, {"same_padded_pool": True})
    images = torch.rand(2, 4, side, side)
    expected = F.max_pool2d(F.pad(images, (0, 1, 0, 1)), 3, stride=2)
    pooled = network.get_submodule("maxpool")(images)
    assert pooled.shape[-1] == side // 2
    assert torch.equal(pooled, expected)
    assert not torch.equal(build_network("resnet34", 10, 3, {}).maxpool(images), expected)

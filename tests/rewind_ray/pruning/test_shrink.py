"""The shrunk network against the masked one: same outputs, gradients and training, but smaller."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray import models
from rewind_ray.models import build_network
from rewind_ray.pruning import (
    Mask,
    apply_mask_,
    dense_mask,
    prunable_parameters,
    pruned_mask,
    shrink,
    unpruned,
)
from rewind_ray.pruning.channels import follower_mask
from rewind_ray.pruning.cut import Cut, compose, cut_from_json, cut_to_json
from rewind_ray.pruning.flops import multiply_adds, remaining_multiply_adds
from rewind_ray.pruning.shrink import cut_tensors, kept_kernels, shrink_
from rewind_ray.pruning.trace import channels_of, followers
from rewind_ray.spec import Prune
from tests.rewind_ray.examples import one_image

Shape = tuple[int, int, int]


def cut_of(network: nn.Module, mask: Mask, input_shape: Shape) -> Cut:
    """Of pruned filters and what they take with them."""
    companions = follower_mask(network, mask, followers(network, one_image(input_shape)))
    return shrink.cut_of(network, {**mask, **companions}, one_image(input_shape))


def named(name: str, in_channels: int = 3, **options: object) -> Callable[[], nn.Module]:
    return partial(build_network, name, 10, in_channels, options)


SMALL: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "digits_resnet": (named("digits_resnet", 1), (1, 8, 8)),
    "resnet8": (named("resnet8"), (3, 8, 8)),
    "resnet20": (named("resnet20"), (3, 16, 16)),
    "resnet20_with_norms": (named("resnet20", projection_batch_norm=True), (3, 8, 8)),
    "wrn_10_1": (named("wrn_10_1"), (3, 16, 16)),
}
LARGE: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "resnet56": (named("resnet56"), (3, 8, 8)),
    "resnet110": (named("resnet110"), (3, 8, 8)),
    "wrn_16_8": (named("wrn_16_8"), (3, 8, 8)),
    "vgg8": (named("vgg8"), (3, 32, 32)),
    "vgg16": (named("vgg16"), (3, 32, 32)),
    "vgg19": (named("vgg19"), (3, 32, 32)),
    "resnet34": (named("resnet34"), (3, 64, 64)),
    "resnet50": (named("resnet50"), (3, 64, 64)),
}
NETWORKS = SMALL | LARGE


def random_network(name: str) -> nn.Module:
    """In double precision: a channel that was wrongly cut can't hide in rounding."""
    torch.manual_seed(0)
    network = NETWORKS[name][0]().double()
    randomise_(network)
    return network


@torch.no_grad()
def randomise_(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # filters of all sizes in every layer
            module.weight *= torch.empty(len(module.weight), 1, 1, 1).uniform_(0.3, 1.7)
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            assert module.running_mean is not None and module.running_var is not None
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)


def apply_filter_mask_(network: nn.Module, mask: Mask, names: dict[str, list[str]]) -> None:
    """Set to zero what pruned filters take with them; names: their followers."""
    apply_mask_(dict(network.named_parameters()), follower_mask(network, mask, names))


# Patterns of pruned filters


def by_magnitude(fraction: float, network: nn.Module) -> Mask:
    parameters = prunable_parameters(network, "kernels")
    prune = Prune(fraction=fraction, structure="filters", keep_layers=False)
    return pruned_mask(parameters, dense_mask(parameters), prune)


def prune_filters(network: nn.Module, chosen: Callable[[str, int], Tensor | list[int]]) -> Mask:
    mask = dense_mask(prunable_parameters(network, "kernels"))
    for name, kept in mask.items():
        if kept.dim() == 4:
            kept[chosen(name, len(kept))] = False
    return mask


def at_random(network: nn.Module) -> Mask:
    torch.manual_seed(1)
    return prune_filters(network, lambda _, size: torch.randperm(size)[: size // 2])


def first_of_blocks(network: nn.Module) -> Mask:
    """Every third filter of every other convolution."""
    names = list(prunable_parameters(network, "convolutions"))[1::2]
    return prune_filters(
        network, lambda name, size: list(range(0, size, 3)) if name in names else []
    )


def whole_channels(network: nn.Module) -> Mask:
    """The same channels of every layer, so those of the residual streams too."""
    return prune_filters(network, lambda _, size: [*range(1, size, 4), size - 1])


def whole_layers(network: nn.Module) -> Mask:
    """Every third layer loses all its filters, the others the first."""
    names = list(prunable_parameters(network, "convolutions"))[1::3]
    return prune_filters(network, lambda name, size: list(range(size)) if name in names else [0])


PATTERNS: dict[str, Callable[[nn.Module], Mask]] = {
    "magnitude 0.3": partial(by_magnitude, 0.3),
    "magnitude 0.6": partial(by_magnitude, 0.6),
    "magnitude 0.95": partial(by_magnitude, 0.95),
    "random": at_random,
    "first of blocks": first_of_blocks,
    "whole channels": whole_channels,
    "whole layers": whole_layers,
}
FEW = ("digits_resnet", "resnet8", "wrn_10_1")
"""Networks that the default suite looks at; they have every kind of block."""
MORE = tuple(pytest.param(name, marks=pytest.mark.slow) for name in SMALL if name not in FEW)
CASES = [(name, pattern) for name in FEW for pattern in PATTERNS]
CASES += [(name, "magnitude 0.6") for name in ("resnet50", "vgg8")]
SLOW_CASES = [(name, pattern) for name in SMALL if name not in FEW for pattern in PATTERNS]
SLOW_CASES += zip(LARGE, ("magnitude 0.6", "whole channels", "random") * len(LARGE), strict=False)


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in network.state_dict().items()}


def masked_and_small(
    network: nn.Module, mask: Mask, input_shape: Shape
) -> tuple[nn.Module, nn.Module, Cut]:
    masked = copy.deepcopy(network)
    apply_mask_(prunable_parameters(masked, "kernels"), mask)
    apply_filter_mask_(masked, mask, followers(masked, one_image(input_shape)))
    cut = cut_of(masked, mask, input_shape)
    return masked, shrink_(copy.deepcopy(masked), cut), cut


def assert_same(own: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert own.keys() == expected.keys()
    for name, tensor in own.items():
        torch.testing.assert_close(
            tensor,
            expected[name],
            rtol=tolerance,
            atol=tolerance,
            msg=partial("{} {}".format, name),
        )


def sizes(network: nn.Module, input_shape: Shape) -> tuple[int, int]:
    return (
        sum(parameter.numel() for parameter in network.parameters()),
        sum(multiply_adds(network, one_image(input_shape)).values()),
    )


@pytest.mark.parametrize(
    ("name", "pattern"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_CASES)],
)
def test_the_small_network_is_the_masked_one(name: str, pattern: str) -> None:
    """Outputs in evaluation and training, gradients, statistics, and size."""
    input_shape = NETWORKS[name][1]
    network = random_network(name)
    mask = PATTERNS[pattern](network)
    masked, small, cut = masked_and_small(network, mask, input_shape)

    assert all(  # parameters, multiply-adds
        own < dense
        for own, dense in zip(sizes(small, input_shape), sizes(network, input_shape), strict=True)
    )
    assert_same(tensors_of(small), cut_tensors(tensors_of(masked), cut), 0)
    images = torch.randn(4, *input_shape, dtype=torch.float64)
    for of_both in (masked, small):
        of_both.eval()
    with torch.no_grad():
        expected = masked(images)
        torch.testing.assert_close(small(images), expected, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(network.eval()(images), expected, rtol=1e-3, atol=1e-3)
        # and at the precision that it will run in, where sums of other lengths round differently
        apart = (small.float()(images.float()) - masked.float()(images.float())).abs().max()
        assert apart <= 1e-5 * max(1, expected.abs().max())

    masked, small, cut = masked_and_small(network, mask, input_shape)
    gradients = []
    for of_both in (masked, small):
        of_both.train()
        logits = of_both(images)
        F.cross_entropy(logits, torch.arange(4)).backward()
        gradients.append({n: p.grad for n, p in of_both.named_parameters() if p.grad is not None})
        gradients[-1]["logits"] = logits.detach()
    assert_same(gradients[1], cut_tensors(gradients[0], cut), 1e-7)
    assert_same(tensors_of(small), cut_tensors(tensors_of(masked), cut), 1e-7)  # BatchNorm's


def test_no_network_of_convolutions_is_forgotten() -> None:
    def has_convolutions(name: str) -> bool:
        network = build_network(name, 10, 3, {})
        return any(isinstance(module, nn.Conv2d) for module in network.modules())

    unknown = models.NETWORKS.keys() - NETWORKS.keys()
    assert not [name for name in unknown if has_convolutions(name)]


@pytest.mark.parametrize("name", [*FEW, *MORE])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_training_does_the_same_to_both(name: str, pattern: str) -> None:
    """Weights, statistics, and velocities, with everything that SGD has."""
    input_shape = NETWORKS[name][1]
    network = random_network(name)
    mask = PATTERNS[pattern](network)
    masked, small, cut = masked_and_small(network, mask, input_shape)
    names = followers(network, one_image(input_shape))
    assert names == followers(small, one_image(input_shape))
    images = torch.randn(3, 8, *input_shape, dtype=torch.float64)
    momentum = []
    for of_both, own_mask in ((masked, mask), (small, cut_tensors(mask, cut))):
        parameters = dict(of_both.named_parameters())
        everything = {**own_mask, **follower_mask(of_both, own_mask, names)}
        optimizer = torch.optim.SGD(
            of_both.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3
        )
        for batch in images:
            optimizer.zero_grad()
            F.cross_entropy(of_both(batch), torch.arange(8)).backward()
            optimizer.step()
            apply_mask_(parameters, everything)
        momentum.append({n: optimizer.state[p]["momentum_buffer"] for n, p in parameters.items()})
        for parameter_name, kept in everything.items():
            assert not parameters[parameter_name][~kept].any()
    assert_same(tensors_of(small), cut_tensors(tensors_of(masked), cut), 1e-6)
    assert_same(momentum[1], cut_tensors(momentum[0], cut), 1e-6)


@pytest.mark.parametrize(
    "name", [*FEW, *MORE, *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet56", "vgg16"))]
)
def test_a_chain_of_cuts_is_one_cut(name: str) -> None:
    """Of nested masks; a baseline's weights can be mapped by all of it at once."""
    input_shape = NETWORKS[name][1]
    network = random_network(name)

    def some(seed: int) -> Mask:
        torch.manual_seed(seed)
        channels = {size: torch.randperm(size - 1)[: size // 4] for size in range(2, 513)}
        whole = prune_filters(network, lambda _, size: channels[size])
        single = prune_filters(network, lambda _, size: torch.randperm(size - 1)[: size // 5])
        return {n: whole[n] & single[n] for n in whole}

    once = some(0)
    twice = {n: kept & once[n] for n, kept in some(1).items()}
    first = cut_of(network, once, input_shape)
    small = shrink_(copy.deepcopy(network), first)
    second = cut_of(small, cut_tensors(twice, first), input_shape)
    assert first.kept and second.kept

    both = compose(first, second)

    assert both == cut_of(network, twice, input_shape)
    expected = cut_tensors(cut_tensors(tensors_of(network), first), second)
    assert_same(cut_tensors(tensors_of(network), both), expected, 0)
    assert_same(tensors_of(shrink_(small, second)), expected, 0)
    with pytest.raises(ValueError, match="don't follow one another"):
        compose(second, first)
    with pytest.raises(ValueError, match="the cut is of"):
        cut_tensors(tensors_of(small), first)


# A masked network counts what the small one has


def counts(network: nn.Module, mask: Mask, input_shape: Shape) -> tuple[int, int]:
    """Unpruned kernel weights, multiply-adds."""
    companions = follower_mask(network, mask, followers(network, one_image(input_shape)))
    kept = kept_kernels(network, {**mask, **companions}, one_image(input_shape))
    return unpruned(mask), remaining_multiply_adds(
        multiply_adds(network, one_image(input_shape)), kept
    )


def closing(network: nn.Module, input_shape: Shape) -> Callable[[Mask], Mask]:
    names = followers(network, one_image(input_shape))
    channels = channels_of(network, one_image(input_shape))
    return lambda mask: channels.closed(mask, lambda part: follower_mask(network, part, names))


@pytest.mark.parametrize("prunable", ["kernels", "convolutions"])
@pytest.mark.parametrize("name", [*FEW, *MORE])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_masked_network_counts_what_the_small_one_has(
    name: str, pattern: str, prunable: str
) -> None:
    input_shape = NETWORKS[name][1]
    network = random_network(name)
    mask = PATTERNS[pattern](network)
    mask = {n: mask[n] for n in prunable_parameters(network, prunable)}
    close = closing(network, input_shape)
    closed = close(mask)
    cut = cut_of(network, closed, input_shape)
    small = shrink_(copy.deepcopy(network), cut)
    small_mask = cut_tensors(closed, cut)

    assert counts(network, closed, input_shape) == counts(small, small_mask, input_shape)
    # what is left of the small network's tensors, and of its work, without our own counting
    left = sum(
        int(small_mask[n].sum()) if n in small_mask else 0
        for n, parameter in small.named_parameters()
        if parameter.dim() > 1
    )
    assert unpruned(closed) == left
    assert cut == cut_of(network, mask, input_shape)
    again = close(closed)
    assert all(torch.equal(again[n], kept) for n, kept in closed.items())
    # closing takes weights, and no part of the function
    assert all(not (kept & ~mask[n]).any() for n, kept in closed.items())
    images = torch.randn(2, *input_shape, dtype=torch.float64)
    outputs = []
    for one in (mask, closed):
        masked = copy.deepcopy(network).eval()
        apply_mask_(dict(masked.named_parameters()), one)
        apply_filter_mask_(masked, mask, followers(masked, one_image(input_shape)))
        outputs.append(masked(images))
    assert torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("name", [*FEW, *MORE])
def test_a_masked_chain_prunes_what_a_shrunk_chain_does(name: str) -> None:
    """Three steps down to a sixteenth: the same filters of the same importance, as many."""
    input_shape = NETWORKS[name][1]
    network = random_network(name)
    masked, small = network, copy.deepcopy(network)
    mask = dense_mask(prunable_parameters(network, "kernels"))
    small_mask, whole = dict(mask), None
    for fraction in (0.3, 0.5, 0.8):
        prune = Prune(fraction=fraction, structure="filters")
        before = unpruned(mask)
        mask, small_mask = (
            pruned_mask(
                prunable_parameters(one, "kernels"),
                own,
                prune,
                close=closing(one, input_shape),
            )
            for one, own in ((masked, mask), (small, small_mask))
        )
        assert unpruned(mask) == unpruned(small_mask)
        assert unpruned(mask) == pytest.approx((1 - fraction) * before, abs=0.05 * before)
        cut = cut_of(small, small_mask, input_shape)
        small = shrink_(small, cut)
        small_mask = cut_tensors(small_mask, cut)
        whole = compose(whole, cut) if whole else cut
        for n, kept in cut_tensors(mask, whole).items():
            assert torch.equal(kept, small_mask[n]), n
        assert counts(masked, mask, input_shape) == counts(small, small_mask, input_shape)


def units_of(weight: Tensor) -> Tensor:
    """Filters of a convolution, or what a dense layer (out, in) has on each input."""
    return weight if weight.dim() == 4 else weight.T


@pytest.mark.parametrize(
    "fraction", [0.02, 0.2, *(pytest.param(f, marks=pytest.mark.slow) for f in (0.5, 0.9))]
)
def test_units_go_as_long_as_they_fit_with_all_that_reads_them(fraction: float) -> None:
    """One after the other, each time counting anew; by importance, ties by position."""
    network = random_network("wrn_10_1")
    close = closing(network, (3, 16, 16))
    parameters = prunable_parameters(network, "kernels")
    mask = dense_mask(parameters)
    count = round(fraction * unpruned(mask))
    order = sorted(
        (float(weight.abs().mean()), place, number, name)
        for place, (name, parameter) in enumerate(parameters.items())
        for number, weight in enumerate(units_of(parameter.detach()))
    )
    expected = {n: kept.clone() for n, kept in mask.items()}
    for _, _, number, name in order:
        more = {n: kept.clone() for n, kept in expected.items()}
        more[name][number if more[name].dim() == 4 else (slice(None), number)] = False
        if unpruned(mask) - unpruned(close(more)) > count:
            break
        expected = more
    prune = Prune(fraction=fraction, structure="filters")
    found = pruned_mask(parameters, mask, prune, close=close)
    for n, kept in close(expected).items():
        assert torch.equal(found[n], kept), n


def test_a_filter_whose_norm_lives_on_is_not_cut() -> None:
    """It puts out the shift, which what reads it makes something of."""
    network = random_network("resnet20")
    mask = first_of_blocks(network)
    names = followers(network, one_image((3, 16, 16)))
    companions = follower_mask(network, mask, names)
    assert shrink.cut_of(network, {**mask, **companions}, one_image((3, 16, 16))).kept
    assert shrink.cut_of(network, mask, one_image((3, 16, 16))).kept == {}
    only_scales = {n: kept for n, kept in companions.items() if n.endswith("weight")}
    assert shrink.cut_of(network, {**mask, **only_scales}, one_image((3, 16, 16))).kept == {}
    closed = channels_of(network, one_image((3, 16, 16))).closed(mask, lambda _: {})
    assert unpruned(closed) == unpruned(mask)


def test_which_zero_a_lost_layer_keeps_is_one_that_is_still_there() -> None:
    """First some of a layer's filters go, then the others: the masked one must not lose more."""
    network = random_network("digits_resnet")
    name, reader = "stages.1.0.conv1.weight", "stages.1.0.conv2.weight"
    some = prune_filters(network, lambda n, _: [0, 1] if n == name else [])
    close = closing(network, (1, 8, 8))
    closed = close(some)
    closed[name] = torch.zeros_like(closed[name])
    closed = close(closed)
    left = closed[reader].flatten(2).all(dim=2)
    assert left[:, 2].all() and int(left.sum()) == len(left)


# What goes and what stays, counted by hand


def test_the_middle_of_a_block_goes() -> None:
    """A filter of conv1 takes its norm and conv2's inputs with it: in * 9 + 2 + out * 9."""
    network = random_network("digits_resnet")
    dead = [0, 2, 3]
    mask = prune_filters(network, lambda name, _: dead if "conv1" in name else [])
    small = shrink_(copy.deepcopy(network), cut_of(network, mask, (1, 8, 8)))
    widths = [(16, 16), (16, 32), (32, 64)]
    removed = len(dead) * sum(before * 9 + 2 + width * 9 for before, width in widths)
    assert sizes(small, (1, 8, 8))[0] == sizes(network, (1, 8, 8))[0] - removed
    assert small.get_submodule("stages.1.0.conv1").out_channels == 29
    assert small.get_submodule("stages.1.0.norm1").num_features == 29
    assert small.get_submodule("stages.1.0.conv2").in_channels == 29
    assert small.get_submodule("stages.1.0.conv2").out_channels == 32


@pytest.mark.parametrize("name", ["digits_resnet", "wrn_10_1"])
def test_a_channel_of_a_residual_stream_goes_when_all_its_writers_lost_it(name: str) -> None:
    network = random_network(name)
    input_shape = NETWORKS[name][1]
    writers = [n for n in prunable_parameters(network, "convolutions") if "conv1" not in n]
    last = writers[-2:]  # conv2 and the projection of the last block
    assert network.get_parameter(last[0]).shape[0] == network.get_parameter(last[1]).shape[0] == 64
    one = prune_filters(network, lambda n, _: [5, 6] if n == last[0] else [])
    assert cut_of(network, one, input_shape).kept == {}
    both = prune_filters(
        network, lambda n, _: {last[0]: [5, 6], last[1]: [4, 5]}[n] if n in last else []
    )
    cut = cut_of(network, both, input_shape)
    without_5 = (*range(5), *range(6, 64))
    assert cut.kept["dense.weight"] == (None, without_5)
    assert cut.kept[last[0]] == cut.kept[last[1]] == (without_5, None, None, None)
    assert cut.shape("dense.weight") == (10, 63)


def test_a_layer_that_lost_everything_keeps_a_zero() -> None:
    network = random_network("digits_resnet")
    name = "stages.1.0.conv1.weight"
    mask = prune_filters(network, lambda n, size: list(range(size)) if n == name else [])
    _, small, cut = masked_and_small(network, mask, (1, 8, 8))
    assert cut.kept[name] == ((0,), None, None, None)
    assert not small.get_parameter(name).any()
    assert not cut_tensors(mask, cut)[name].any()
    assert not small.get_parameter("stages.1.0.norm1.bias").any()
    assert small.get_submodule("stages.1.0.conv2").in_channels == 1


def test_what_follows_what() -> None:
    def found(name: str) -> dict[str, list[str]]:
        return followers(NETWORKS[name][0](), one_image(NETWORKS[name][1]))

    resnet = found("resnet20")
    assert resnet["conv.weight"] == ["norm"]
    assert resnet["stages.1.0.conv1.weight"] == ["stages.1.0.norm1"]
    assert resnet["stages.1.0.conv2.weight"] == ["stages.1.0.norm2"]
    assert resnet["stages.1.0.shortcut.0.weight"] == []
    assert found("resnet20_with_norms")["stages.1.0.shortcut.0.weight"] == ["stages.1.0.shortcut.1"]
    wide = found("wrn_16_8")
    assert wide["stages.0.0.conv1.weight"] == ["stages.0.0.norm2"]
    assert wide["stages.2.1.conv2.weight"] == ["norm"]  # after the sum with both of:
    assert wide["stages.2.0.projection.weight"] == ["stages.2.1.norm1", "norm"]
    assert wide["stages.2.0.conv2.weight"] == ["stages.2.1.norm1", "norm"]
    assert found("vgg16")["features.0.weight"] == ["features.1"]
    imagenet = found("resnet34")
    assert imagenet["conv1.weight"] == ["bn1"]
    assert imagenet["layer2.0.downsample.0.weight"] == ["layer2.0.downsample.1"]


def test_a_norm_after_a_sum_loses_what_all_that_is_summed_lost() -> None:
    network = random_network("wrn_10_1")
    mask = prune_filters(
        network,
        lambda n, _: {"stages.2.0.conv2.weight": [1, 2], "stages.2.0.projection.weight": [2]}.get(
            n, []
        ),
    )
    before = network.get_parameter("norm.bias").detach().clone()
    apply_filter_mask_(network, mask, followers(network, one_image((3, 8, 8))))
    after = network.get_parameter("norm.bias")
    assert after[2] == 0
    assert after[1] == before[1] != 0
    del mask["stages.2.0.conv2.weight"]  # not prunable
    assert "norm.bias" not in follower_mask(network, mask, followers(network, one_image((3, 8, 8))))
    assert cut_of(network, mask, (3, 8, 8)).kept == {}


# Networks of one's own


class Own(nn.Module):
    """A convolution, something, and a convolution that reads it."""

    def __init__(self, between: Callable[[Tensor], Tensor], outputs: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.between = between
        self.second = nn.Conv2d(outputs, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.between(self.norm(self.first(x))))
        return out


def check_own(network: nn.Module) -> Cut:
    network = network.double()
    randomise_(network)
    mask = prune_filters(network, lambda name, _: [1, 4] if name == "first.weight" else [])
    masked, small, cut = masked_and_small(network, mask, (8, 4, 4))
    images = torch.randn(4, 8, 4, 4, dtype=torch.float64)
    for of_both in (masked.eval(), small.eval()):
        of_both(images)
    torch.testing.assert_close(small(images), masked(images), rtol=1e-9, atol=1e-9)
    return cut


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu() + 1


@pytest.mark.parametrize(
    "between",
    [nn.ReLU(), nn.GELU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Dropout(0.5), nn.Identity()],
    ids=lambda module: type(module).__name__,
)
def test_operations_that_keep_zeros_are_passed(between: nn.Module) -> None:
    cut = check_own(Own(between))
    assert cut.shape("second.weight") == (4, 6, 3, 3)
    assert cut.shape("first.bias") == (6,)


@pytest.mark.parametrize(
    "between",
    [
        nn.Sigmoid(),
        Gate(),
        nn.GroupNorm(4, 8),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.BatchNorm2d(8, affine=False),
        nn.Softmax(dim=1),
        nn.ChannelShuffle(2),
        nn.ConvTranspose2d(8, 8, 3),
    ],
    ids=lambda module: str(module).split("(")[0],
)
def test_what_isnt_known_to_keep_zeros_stays_whole(between: nn.Module) -> None:
    assert check_own(Own(between)).kept == {}


def test_flattened_channels_are_followed_into_a_dense_layer() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(8, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.dense = nn.Linear(8 * 4 * 4, 5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.dense(self.norm(self.first(x)).relu().flatten(1))
            return out

    assert check_own(Flat()).shape("dense.weight") == (5, 6 * 4 * 4)


def test_a_sum_with_the_input_or_a_concatenation_stays_whole() -> None:
    class Summed(Own):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.second(self.norm(self.first(x)).relu() + x)
            return out

    class Concatenated(Own):
        def forward(self, x: Tensor) -> Tensor:
            out = self.norm(self.first(x)).relu()
            return torch.as_tensor(self.second(torch.cat([out, out], 1)))

    assert check_own(Summed(nn.Identity())).kept == {}
    assert check_own(Concatenated(nn.Identity(), outputs=16)).kept == {}


def test_the_mean_over_channels_stays_whole() -> None:
    class Averaged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(8, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.dense = nn.Linear(4, 5)  # reads the rows

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.dense(self.norm(self.first(x)).relu().mean(dim=-3).mean(dim=2))
            return out

    assert check_own(Averaged()).kept == {}


# A cut as data


def test_a_cut_survives_json() -> None:
    network = random_network("wrn_10_1")
    cut = cut_of(network, at_random(network), (3, 8, 8))
    assert cut.kept
    assert cut_from_json(cut_to_json(cut)) == cut
    nothing = Cut(sizes={}, kept={})
    assert cut_from_json(cut_to_json(nothing)) == nothing


@pytest.mark.parametrize("text", ["", "3", "[1]", '{"a": 1}', '{"a": [[4], ["b"]]}'])
def test_what_is_no_cut_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="this is no cut"):
        cut_from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [[4], [[0, 4]]]}',
        '{"a": [[4], [[-1, 2]]]}',
        '{"a": [[4], [[2, 1]]]}',
        '{"a": [[4], [[1, 1]]]}',
        '{"a": [[4], [[]]]}',
    ],
)
def test_positions_that_cant_be_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"positions must rise from 0 to 3, and one must stay"):
        cut_from_json(text)


def test_a_cut_of_other_tensors_is_refused() -> None:
    network, other = random_network("digits_resnet"), random_network("wrn_10_1")
    cut = cut_of(other, at_random(other), (3, 8, 8))
    with pytest.raises(ValueError, match="not of this network"):
        shrink_(network, cut)
    with pytest.raises(ValueError, match="but 1 dimensions"):
        Cut(sizes={"a": (1, 2)}, kept={"a": (None,)})
    with pytest.raises(ValueError, match="must name the same tensors"):
        Cut(sizes={"a": (1, 2)}, kept={})


def test_the_network_is_only_looked_at() -> None:
    network = random_network("resnet20").train()
    before = {name: tensor.clone() for name, tensor in tensors_of(network).items()}
    followers(network, one_image((3, 8, 8)))
    with torch.no_grad():
        cut_of(network, at_random(network), (3, 8, 8))
    assert network.training
    assert_same(tensors_of(network), before, 0)


def test_layout_and_frozen_parameters_stay_as_they_are() -> None:
    network = random_network("resnet20").to(memory_format=torch.channels_last)
    network.get_parameter("dense.weight").requires_grad_(False)
    small = shrink_(network, cut_of(network, whole_channels(network), (3, 8, 8)))
    weight = small.get_parameter("stages.0.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert weight.requires_grad
    assert not small.get_parameter("dense.weight").requires_grad


def test_dense_and_unmasked_layers_lose_nothing() -> None:
    network = random_network("resnet20")
    assert cut_of(network, {}, (3, 8, 8)).kept == {}
    mask = dense_mask(prunable_parameters(network, "kernels"))
    assert cut_of(network, mask, (3, 8, 8)).kept == {}
    mask["stages.0.0.conv1.weight"][:, 3] = False  # no filter is gone
    mask["stages.0.0.conv1.weight"][2, 0] = False
    assert cut_of(network, mask, (3, 8, 8)).kept == {}


def test_padding_with_zeros_cuts_no_fewer_channels() -> None:
    """Keras' padding of a strided convolution is of height and width, and keeps zeros zero."""
    cuts = []
    for same_padding in (False, True):
        network = build_network("resnet8", 10, 3, {"same_padding": same_padding})
        mask = dense_mask(prunable_parameters(network, "kernels"))
        for name, kept in mask.items():
            if name.startswith("stages.1.") and kept.dim() == 4 and "conv1" not in name:
                kept[:4] = False  # of the whole residual stream, which the next stage reads
        names = followers(network, one_image((3, 16, 16)))
        cut = cut_of(network, {**mask, **follower_mask(network, mask, names)}, (3, 16, 16))
        cuts.append(cut.kept)
    assert cuts[0] == cuts[1] and cuts[0]

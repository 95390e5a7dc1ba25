"""The papers' parameter counts, and initial weights against the distribution they come from."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torchvision
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from rewind_ray.models import NETWORKS, build_network, check_network, initialise_
from rewind_ray.models.wide_resnet import wide_resnet
from rewind_ray.network_options import OPTIONS, WIDE_RESNET
from rewind_ray.pruning import prunable_parameters
from rewind_ray.pruning.flops import multiply_adds
from tests.rewind_ray.examples import one_image


def built(name: str, seed: int | None = None, **options: object) -> nn.Module:
    """For 32x32 RGB images in 10 classes, as CIFAR-10 has them."""
    network = build_network(name, 10, 3, options)
    if seed is not None:
        initialise_(network, seed)
    return network


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


# Architecture


@pytest.mark.parametrize(
    ("name", "trainable", "kernels"),
    [
        ("resnet20", 272_282, 270_896),  # Mikler 2022, Table 1
        ("resnet56", 855_578, 851_504),
        ("resnet110", 1_730_522, 1_722_416),
        ("wrn_16_8", 10_961_370, 10_954_160),  # Table 2
    ],
)
def test_parameter_counts_are_the_published(name: str, trainable: int, kernels: int) -> None:
    with torch.device("meta"):
        network = built(name)
    assert sum(p.numel() for p in network.parameters()) == trainable
    found = prunable_parameters(network, "kernels")
    assert sum(p.numel() for p in found.values()) == kernels


@pytest.mark.parametrize(
    ("name", "classes", "side", "trainable", "millions"),
    [
        # Li et al. 2017, table 1: 1.5e7 parameters, 3.13e8 multiply-adds. The count by hand:
        # 14,710,464 in convolutions, 2 * 4,224 in BatchNorm, 5,130 in the dense layer.
        ("vgg16", 10, 32, 14_724_042, 313),
        ("vgg19", 10, 32, 20_035_018, 398),
        ("resnet34", 1000, 224, 21_797_672, 3664),  # Renda 2020: 21.8M; Wang 2023: 3.66G
        ("resnet50", 1000, 224, 25_557_032, 4089),  # Renda 2020: 25.5M
    ],
)
def test_large_networks_have_the_published_sizes(
    name: str, classes: int, side: int, trainable: int, millions: int
) -> None:
    with torch.device("meta"):
        network = build_network(name, classes, 3, {})
    assert sum(p.numel() for p in network.parameters()) == trainable
    assert round(sum(multiply_adds(network, one_image((3, side, side))).values()) / 1e6) == millions


def test_imagenet_resnets_are_torchvisions() -> None:
    theirs = torchvision.models.resnet34(num_classes=10)
    ours = built("resnet34", seed=0)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))
    changed = built("resnet50", batch_norm_decay=0.75, batch_norm_epsilon=0.25)
    norms = [module for module in changed.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.25, 0.25)}


@pytest.mark.parametrize("side", [32, 28, 17, 7])
def test_same_padding_is_keras(side: int) -> None:
    """Stride 2: an even side is padded by (0, 1), an odd one by (1, 1)."""
    network = built("resnet8", seed=0, same_padding=True)
    plain = built("resnet8")
    plain.load_state_dict(network.state_dict())
    convolution = network.get_submodule("stages.1.0.conv1")
    before = 0 if side % 2 == 0 else 1
    images = torch.randn(2, 16, side, side)
    padded = F.pad(images, (before, 1, before, 1))
    expected = F.conv2d(padded, network.get_parameter("stages.1.0.conv1.weight"), stride=2)
    assert expected.shape[-1] == -(-side // 2)
    torch.testing.assert_close(convolution(images), expected)
    whole = torch.randn(2, 3, side, side)
    assert network(whole).shape == (2, 10)
    assert not torch.equal(network(whole), plain(whole)) or side in (17, 7)
    assert multiply_adds(network, one_image((3, 32, 32))) == multiply_adds(
        plain, one_image((3, 32, 32))
    )


@pytest.mark.parametrize(
    ("name", "trainable"), [("resnet20", 272_474), ("resnet56", 855_770), ("resnet110", 1_730_714)]
)
def test_with_batch_norm_on_the_projections(name: str, trainable: int) -> None:
    """2 * (32 + 64) more; these are the counts usually given for these networks."""
    with torch.device("meta"):
        network = built(name, projection_batch_norm=True)
    assert sum(p.numel() for p in network.parameters()) == trainable


@pytest.mark.parametrize(
    ("name", "depth"), [("resnet20", 20), ("resnet56", 56), ("resnet110", 110)]
)
def test_a_resnets_name_counts_its_layers(name: str, depth: int) -> None:
    """Kernels on the longest path: all but the 1x1 projections (He et al. 2016, §4.2)."""
    with torch.device("meta"):
        network = built(name)
    shapes = [tuple(p.shape) for p in prunable_parameters(network, "kernels").values()]
    assert sum(shape[2:] != (1, 1) for shape in shapes) == depth
    assert sum(shape[2:] == (1, 1) for shape in shapes) == 2


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("resnet20", (3, 32, 32), 10),
        ("resnet20", (3, 32, 32), 100),
        ("digits_resnet", (1, 8, 8), 10),
        ("wrn_10_1", (1, 28, 28), 10),
        ("wrn_10_1", (3, 17, 17), 7),
        ("vgg16", (1, 8, 8), 10),
        ("resnet34", (1, 40, 40), 3),
    ],
)
def test_images_become_one_logit_a_class(
    name: str, shape: tuple[int, int, int], classes: int
) -> None:
    network = build_network(name, classes, shape[0], {})
    initialise_(network, 0)
    assert network.eval()(torch.randn(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize(
    ("name", "sides"), [("resnet20", {32: 7, 16: 7, 8: 7}), ("wrn_16_8", {32: 6, 16: 5, 8: 5})]
)
def test_the_image_is_halved_between_the_stages(name: str, sides: dict[int, int]) -> None:
    """sides: side in pixels -> convolutions, projections included, with an output of that size."""
    found: dict[int, int] = {}
    with torch.device("meta"):
        network = built(name)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(
                    lambda _module, _inputs, out: found.update(
                        {out.shape[-1]: found.get(out.shape[-1], 0) + 1}
                    )
                )
        network(torch.empty(1, 3, 32, 32))
    assert found == sides


@pytest.mark.parametrize(
    ("name", "momentum", "eps"),
    [
        ("resnet20", 0.003, 1e-5),  # Mikler 2022, §4.1: decay 0.997
        ("resnet56", 0.003, 1e-5),
        ("resnet110", 0.003, 1e-5),
        ("wrn_16_8", 0.1, 1e-3),
        ("digits_resnet", 0.1, 1e-5),  # ours: short trainings
    ],
)
def test_batch_norm_forgets_as_published(name: str, momentum: float, eps: float) -> None:
    with torch.device("meta"):
        network = built(name)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.momentum == pytest.approx(momentum, rel=1e-9)
        assert norm.eps == eps


def test_options_reach_the_network() -> None:
    norm = built("resnet8", batch_norm_decay=0.75, batch_norm_epsilon=0.25).norm
    assert isinstance(norm, nn.BatchNorm2d)
    assert (norm.momentum, norm.eps) == (0.25, 0.25)
    # running mean after one batch: 0.75 * 0 + 0.25 * mean
    norm(torch.full((2, 16, 3, 3), 8.0))
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [2.0] * 16


def norm(weights: dict[str, Tensor], name: str, x: Tensor, eps: float) -> Tensor:
    """BatchNorm by the statistics of the batch, over everything but the channels."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
    normed = (x - mean) / (variance + eps).sqrt()
    return normed * scale[:, None, None] + shift[:, None, None]


def convolve(weights: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = weights[f"{name}.weight"]
    return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)


def resnet_by_hand(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """He et al. 2016, figure 2 and §4.2, one block a stage: ReLU after the sum."""
    x = norm(w, "norm", convolve(w, "conv", x), 1e-5).relu()
    for stage in range(3):
        block, stride = f"stages.{stage}.0", 2 if stage else 1
        out = norm(w, f"{block}.norm1", convolve(w, f"{block}.conv1", x, stride), 1e-5).relu()
        out = norm(w, f"{block}.norm2", convolve(w, f"{block}.conv2", out), 1e-5)
        if stage:
            x = convolve(w, f"{block}.shortcut.0", x, stride)
        x = (out + x).relu()
    return x.mean(dim=(2, 3)) @ w["dense.weight"].T + w["dense.bias"]


def wide_resnet_by_hand(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Zagoruyko & Komodakis 2016, one block a stage: BatchNorm and ReLU come first, and where
    the shape changes, the projection starts from what they made."""
    x = convolve(w, "conv", x)
    for stage in range(3):
        block, stride = f"stages.{stage}.0", 2 if stage else 1
        activated = norm(w, f"{block}.norm1", x, 1e-3).relu()
        out = convolve(w, f"{block}.conv1", activated, stride)
        out = convolve(w, f"{block}.conv2", norm(w, f"{block}.norm2", out, 1e-3).relu())
        if stage:
            x = convolve(w, f"{block}.projection", activated, stride)
        x = out + x
    x = norm(w, "norm", x, 1e-3).relu()
    return x.mean(dim=(2, 3)) @ w["dense.weight"].T + w["dense.bias"]


@pytest.mark.parametrize(
    ("name", "by_hand"), [("resnet8", resnet_by_hand), ("wrn_10_1", wide_resnet_by_hand)]
)
def test_the_network_computes_what_the_paper_draws(
    name: str, by_hand: Callable[[dict[str, Tensor], Tensor], Tensor]
) -> None:
    network = built(name, seed=0).train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 1:  # biases, scales and shifts that would be noticed
                parameter.add_(torch.randn(parameter.shape, generator=generator) / 4)
    images = torch.randn(8, 3, 16, 16, generator=generator)
    expected = by_hand(dict(network.named_parameters()), images)
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


# Initial weights


@pytest.mark.parametrize("name", ["resnet20", "wrn_10_1"])
def test_kernels_are_he_uniform(name: str) -> None:
    """Uniform in ±sqrt(6 / fan_in), so of variance 2 / fan_in; against SciPy's distribution."""
    network = built(name, seed=0)
    for kernel in prunable_parameters(network, "kernels").values():
        weights = kernel.detach().double().flatten().numpy()
        fan_in = math.prod(kernel.shape[1:])
        bound = math.sqrt(6 / fan_in)
        assert abs(weights).max() <= bound
        uniform = stats.uniform(-bound, 2 * bound)
        assert stats.kstest(weights, uniform.cdf).pvalue > 1e-3
        if len(weights) > 2000:
            assert weights.var() == pytest.approx(2 / fan_in, rel=0.06)
            assert abs(weights).max() > 0.99 * bound


@pytest.mark.parametrize("name", ["resnet8", "wrn_10_1", "vgg16", "resnet34"])
def test_all_else_starts_as_the_identity(name: str) -> None:
    network = built(name, seed=0)
    kernels = prunable_parameters(network, "kernels")
    for parameter_name, parameter in network.named_parameters():
        if parameter_name not in kernels:
            is_scale = parameter_name.endswith(".weight")
            assert (parameter == (1 if is_scale else 0)).all(), parameter_name


@pytest.mark.parametrize("name", ["resnet8", "wrn_10_1"])
def test_initial_weights_are_a_function_of_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    first = state(built(name, seed=5))
    torch.manual_seed(2)
    used = built(name, seed=6)
    assert not same(state(used), first)
    used.train()(torch.randn(4, 3, 8, 8)).sum().backward()  # fills BatchNorm's statistics
    with torch.no_grad():
        for parameter in used.parameters():
            parameter.add_(1)
    initialise_(used, 5)
    assert same(state(used), first)


def test_initialising_leaves_the_global_generator_alone() -> None:
    network = built("resnet8")
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    initialise_(network, 0)
    assert torch.equal(torch.rand(5), expected)


def test_every_kernel_is_drawn_afresh() -> None:
    """No two kernels of a shape are the same draw."""
    kernels = list(prunable_parameters(built("resnet20", seed=0), "kernels").values())
    for i, one in enumerate(kernels):
        for other in kernels[:i]:
            assert one.shape != other.shape or not torch.equal(one, other)


# Refusals


def test_unknown_networks_list_the_known() -> None:
    with pytest.raises(
        ValueError, match=r"unknown network 'resnet19'; known: .*resnet20"
    ) as caught:
        built("resnet19")
    for name in NETWORKS:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("network", "option"),
    [("wrn_16_8", "dropout"), ("resnet20", "colour"), ("vgg19", "depth"), ("resnet50", "depth")],
)
def test_unknown_options_list_the_known(network: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"{network} has no option '{option}'") as caught:
        check_network(network, {option: 3})
    for known in OPTIONS[network]:
        assert known in str(caught.value)


def test_known_options_are_taken() -> None:
    check_network("resnet20", {"projection_batch_norm": True, "same_padding": True})


@pytest.mark.parametrize("option", ["num_classes", "in_channels", "blocks_a_stage"])
def test_what_the_name_or_the_data_decides_is_no_option(option: str) -> None:
    with pytest.raises(ValueError, match=f"no option '{option}'"):
        check_network("resnet20", {option: 1})


@pytest.mark.parametrize("depth", [4, 9, 11, 17])
def test_a_wide_resnets_depth_is_6n_plus_4(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth is {depth}; a wide ResNet has 10, 16, 22"):
        wide_resnet(depth, 1, 10, 3, **WIDE_RESNET)


def test_a_shortcut_without_weights() -> None:
    """He et al. 2016's option A: every second pixel; channels of zeros around, as many before as
    after. 0.85 M parameters of ResNet-56 (Wang et al. 2023, Table 6)."""
    network = built("resnet56", zero_shortcut=True)
    assert sum(p.numel() for p in network.parameters()) == 855_578 - 16 * 32 - 32 * 64
    shortcut = network.get_submodule("stages.1.0.shortcut")
    image = torch.randn(2, 16, 9, 6)
    found = shortcut(image)
    assert found.shape == (2, 32, 5, 3)
    for channel in range(32):
        expected = image[:, channel - 8, ::2, ::2] if 8 <= channel < 24 else torch.zeros(2, 5, 3)
        assert torch.equal(found[:, channel], expected)
    assert len(network.get_submodule("stages.1.1.shortcut")) == 0
    for name in ("first_projection", "projection_batch_norm"):
        with pytest.raises(ValueError, match=f"zero_shortcut has no projections; leave .*{name}"):
            built("resnet56", zero_shortcut=True, **{name: True})

"""The papers' numbers, and weight decay against the gradient of the papers' loss term."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from rewind_ray.models import NETWORKS, build_network, initialise_
from rewind_ray.protocols import (
    PROTOCOLS,
    digits,
    mikler_resnet,
    mikler_wrn,
    protocol_named,
    renda_cifar,
    renda_imagenet,
    wang_imagenet100,
)
from rewind_ray.schedule import Schedule, learning_rate
from rewind_ray.spec import Protocol
from rewind_ray.training.optimizers import make_optimizer


def test_mikler_resnet() -> None:
    protocol = mikler_resnet()
    assert protocol.epochs * (protocol.steps_per_epoch or 0) == 72_000  # Mikler 2022, Table 4
    assert protocol.network == "resnet20"
    assert protocol.dataset == "cifar10"
    assert protocol.batch_size == 128
    assert protocol.optimizer_settings == {"momentum": 0.9, "nesterov": True}
    assert (protocol.augmentation, protocol.prunable) == ("reflect4_flip", "kernels")
    assert (protocol.schedule.lr, protocol.schedule.factor) == (0.1, 0.1)
    assert protocol.validation == "none"


def test_mikler_wrn() -> None:
    protocol = mikler_wrn()
    assert protocol.epochs * (protocol.steps_per_epoch or 0) == 80_000  # Mikler 2022, Table 4
    assert protocol.network == "wrn_16_8"
    assert protocol.batch_size == 128
    assert protocol.optimizer_settings == {"momentum": 0.9, "nesterov": True}
    assert (protocol.augmentation, protocol.prunable) == ("reflect4_flip", "kernels")
    assert (protocol.schedule.lr, protocol.schedule.factor) == (0.1, 0.2)


def test_renda_cifar() -> None:
    """Renda et al. 2020, Table 1 and §2.5; their code: 71,108 updates (gpu-src/README.md)."""
    protocol = renda_cifar()
    assert (protocol.epochs, protocol.steps_per_epoch) == (182, 391)
    assert pytest.approx(71_108, rel=1e-3) == 182 * 391
    assert protocol.schedule.drops == (91, 136)
    assert protocol.batch_size == 128
    assert protocol.optimizer_settings == {"momentum": 0.9, "nesterov": False}
    assert (protocol.augmentation, protocol.prunable) == ("zero4_flip", "kernels")
    assert (protocol.validation, protocol.validation_fraction) == ("test", 0.2)


def test_renda_imagenet() -> None:
    """Renda et al. 2020, Table 1 and §2.5."""
    protocol = renda_imagenet()
    assert (protocol.network, protocol.dataset) == ("resnet50", "imagenet")
    assert (protocol.epochs, protocol.steps_per_epoch) == (90, 1251)
    assert 90 * 1251 == 112_590  # configs/default.yaml
    assert protocol.batch_size == 1024
    assert protocol.optimizer_settings == {"momentum": 0.9, "nesterov": True}
    assert (protocol.augmentation, protocol.image_size) == ("imagenet_tf", 224)
    assert (protocol.validation, protocol.validation_fraction) == ("test", 0.2)
    assert (protocol.prunable, protocol.label_smoothing) == ("kernels", 0)
    rates = {0: 0, 1: 0.08, 2.5: 0.2, 5: 0.4, 29.9: 0.4, 30: 0.04, 60: 0.004, 80: 0.0004}
    for epoch, rate in rates.items():
        found = learning_rate(round(epoch * 1250), protocol.schedule, 1250, protocol.epochs)
        assert found == pytest.approx(rate, rel=1e-9)


def test_wang_imagenet100() -> None:
    """Wang et al. 2023, slides, Table 4."""
    protocol = wang_imagenet100()
    assert (protocol.network, protocol.dataset) == ("resnet34", "imagenet100")
    assert (protocol.epochs, protocol.validation) == (120, "none")
    assert (protocol.schedule.lr, protocol.schedule.factor) == (0.1, 0.1)
    assert protocol.schedule.drops == (30, 60, 90, 105)


def test_digits_have_the_shape_of_renda_s_schedule() -> None:
    ours, published = digits(), renda_cifar()
    for drop, theirs in zip(ours.schedule.drops, published.schedule.drops, strict=True):
        assert drop / ours.epochs == pytest.approx(theirs / published.epochs, abs=0.005)


@pytest.mark.parametrize(
    ("protocol", "coefficient"),
    [
        (mikler_resnet(), 1e-4),  # Keras: l2(1e-4), a loss of 1e-4 * sum(w^2)
        (mikler_wrn(), 2e-4),
        (renda_cifar(), 2e-4 / 2),  # TensorFlow: 2e-4 * l2_loss(w), half the sum of squares
        (renda_imagenet(), 1e-4 / 2),
    ],
)
def test_weight_decay_is_the_gradient_of_the_papers_loss(
    protocol: Protocol, coefficient: float
) -> None:
    weight = torch.randn(50, requires_grad=True)
    (coefficient * weight.square().sum()).backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, protocol.weight_decay * weight.detach())


@pytest.mark.parametrize("dataset", ["cifar100", "fashion_mnist", "folder:photos", "imagenet"])
def test_passes_of_renda_run_into_each_other_where_their_length_is_known(dataset: str) -> None:
    known = {"cifar100": 391, "imagenet": 10_009}  # 50,000 / 128 and 1,281,167 / 128
    assert renda_cifar("resnet20", dataset).steps_per_epoch == known.get(dataset)
    for part in ({"train_examples": 1000}, {"validation": "train"}):
        assert renda_cifar("resnet20", dataset, **part).steps_per_epoch is None
    assert renda_cifar("resnet20", dataset, steps_per_epoch=7).steps_per_epoch == 7


def test_renda_s_networks_are_given_options_that_they_have() -> None:
    for make in (renda_cifar, renda_imagenet):
        for name in NETWORKS:
            with torch.device("meta"):
                build_network(name, 10, 3, dict(make(name).network_options))


def test_what_decays() -> None:
    """One update with a gradient of 0, momentum 0 and rate 0.5: w' = w (1 - 0.5 * 0.1)."""
    for decayed, left_out in {
        "all": set(),
        "not_batch_norm": {"norm"},
        "kernels": {"norm", "dense.bias"},
    }.items():
        schedule = Schedule(lr=0.5)
        changes = {"optimizer_options": {"momentum": 0.0}, "weight_decay": 0.1}
        protocol = digits(schedule=schedule, decayed=decayed, **changes)
        network = build_network("digits_resnet", 10, 1, {"projection_batch_norm": True})
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(2.0)
                parameter.grad = torch.zeros_like(parameter)
        optimizer = make_optimizer(network, protocol)
        optimizer.step()
        for name, parameter in network.named_parameters():
            shortcut_norm = name.startswith("stages") and ".shortcut.1." in name
            spared = any(part in name for part in left_out) or (left_out and shortcut_norm)
            expected = 2.0 if spared else 1.9
            torch.testing.assert_close(parameter, torch.full_like(parameter, expected), msg=name)


def test_the_optimiser_decays_every_parameter_as_the_loss_term_would() -> None:
    """Ten updates of an outside loss with the protocol's decay = ten with the term in the loss."""
    protocol = mikler_resnet("resnet8")
    targets = torch.Generator().manual_seed(0)
    networks = [build_network("resnet8", 10, 3, {}) for _ in range(2)]
    for network in networks:
        initialise_(network, 0)
    decaying = make_optimizer(networks[0], protocol)
    plain = torch.optim.SGD(networks[1].parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(10):
        pull = [torch.randn(p.shape, generator=targets) for p in networks[0].parameters()]
        for network, optimizer in zip(networks, (decaying, plain), strict=True):
            optimizer.zero_grad()
            parameters = list(network.parameters())
            loss = sum(((p - q) ** 2).mean() for p, q in zip(parameters, pull, strict=True))
            if optimizer is plain:
                loss = loss + 1e-4 * sum(p.square().sum() for p in parameters)
            loss.backward()
            optimizer.step()
    for decayed, penalised in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(decayed, penalised, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_changes_replace_a_protocols_settings(name: str) -> None:
    make: Callable[..., Protocol] = protocol_named(name)
    if name == "plain":  # ours, for an own network and own data
        make = partial(make, "resnet8", "digits")
    changed = make(batch_size=17, precision="bf16")
    assert (changed.batch_size, changed.precision) == (17, "bf16")
    assert changed.schedule == make().schedule


def test_unknown_protocols_list_the_known() -> None:
    known = "known: mikler_resnet, .*, renda_imagenet, wang_imagenet100, wang_cifar, digits"
    with pytest.raises(ValueError, match=f"unknown protocol 'liu'; {known}"):
        protocol_named("liu")

"""Targets other than a compression ratio: planned from shapes, and measured on what was trained."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from sklearn.datasets import load_digits
from torch import Tensor

import rewind_ray
from rewind_ray.errors import UserError
from rewind_ray.spec import Protocol
from rewind_ray.targets import (
    BYTES,
    MILLISECONDS,
    Cuts,
    Plan,
    Target,
    chosen_target,
    latency_of,
    planned,
    quantity,
    size_text,
    step_of,
    steps_to,
    tensor_bytes,
)
from rewind_ray.tasks import planned_task
from tests.rewind_ray.own.user_code import cnn, perceptron, wine
from tests.rewind_ray.tiny_stages import tiny

FILTERS = step_of("filters", "magnitude", "global")


@cache
def digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """64 images to train on and 50 to test on."""
    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images).float().view(-1, 1, 8, 8) / 16
    classes = torch.tensor(labels)
    return (inputs[:64], classes[:64]), (inputs[64:114], classes[64:114])


def wide(num_classes: int, in_channels: int) -> torch.nn.Module:
    return cnn(num_classes, in_channels, width=32)


def protocol() -> Protocol:
    return tiny(network="resnet8", dataset="digits")


@pytest.mark.parametrize(
    ("text", "value"),
    [("500kB", 500_000), ("1.5 MB", 1_500_000), ("2GB", 2 * 10**9), ("800 B", 800)],
)
def test_bytes_have_a_unit(text: str, value: float) -> None:
    assert quantity(text, BYTES, "--target-size") == value
    assert quantity(size_text(value), BYTES, "") == value


@pytest.mark.parametrize("text", ["500", "500KB", "0kB", "-1kB", "1e3kB", "kB", "2ms", "inf kB"])
def test_other_bytes_are_refused_by_name(text: str) -> None:
    with pytest.raises(UserError, match=r"--target-size is .*B or kB or MB or GB, such as 500kB"):
        quantity(text, BYTES, "--target-size")


def test_times_are_milliseconds() -> None:
    assert quantity("2.5ms", MILLISECONDS, "") == 2.5
    with pytest.raises(UserError, match=r"--target-latency is '2s'.*such as 2ms"):
        quantity("2s", MILLISECONDS, "--target-latency")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((10.0, "500kB", None, "filters"), "target_compression and target_size are given"),
        ((None, "500kB", None, "unstructured"), "target_size with structure unstructured"),
        ((None, None, "2ms", "unstructured"), "give structure filters, which are cut out"),
        ((None, None, None, "2:4"), "structure is 2:4, which says itself how much"),
        ((1.0, None, None, "filters"), "target_compression is 1; allowed: above 1"),
    ],
)
def test_targets_that_can_not_be(given: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        chosen_target(*given, str)


def test_no_target_is_ten_times() -> None:
    target = chosen_target(None, None, None, "unstructured", str)
    assert (target.limit, target.text(), target.reached(9.9)) == (10, "10×", False)


@pytest.mark.parametrize("density", [0.9, 0.8, 0.5, 0.1, 0.8**7])
def test_steps_end_at_the_density_and_are_as_few_as_can_be(density: float) -> None:
    plan = steps_to(density, FILTERS)
    fraction = plan.step.fraction
    assert fraction is not None and fraction <= 0.2 + 1e-9
    assert (1 - fraction) ** plan.steps == pytest.approx(density)
    assert 0.8 ** (plan.steps - 1) > density - 1e-9


# Plans


def cuts(protocol: Protocol) -> tuple[Cuts, torch.nn.Module, Tensor]:
    task = planned_task(protocol, None)
    network = task.network(0).eval()
    return Cuts(task, network, FILTERS), network, task.example()[0]


def density_of(plan: Plan) -> float:
    assert plan.step.fraction is not None
    return (1 - plan.step.fraction) ** plan.steps


@pytest.mark.parametrize("share", [0.6, 0.2])
def test_a_size_is_planned_by_the_shapes_of_an_untrained_copy(share: float) -> None:
    copies, network, example = cuts(protocol())
    dense = tensor_bytes(network, example)
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    assert dense <= len(save(tensors)) <= dense + 20_000  # names and shapes
    target = Target(kind="size", limit=share * dense)
    plan = planned(target, FILTERS, protocol(), 0, "--target-size")
    small = copies.at(density_of(plan))
    assert tensor_bytes(small, example) <= target.limit
    assert tensor_bytes(copies.at(density_of(plan) * 1.2), example) > 0.95 * target.limit
    assert small(example).shape == network(example).shape
    assert plan.most > plan.steps


def test_one_filter_of_every_layer_is_the_least() -> None:
    copies, _, example = cuts(protocol())
    least = copies.at(1 / copies.weights)
    kernels = [m.weight.shape[0] for m in least.modules() if isinstance(m, torch.nn.Conv2d)]
    assert kernels and min(kernels) == 1
    with pytest.raises(UserError, match=rf"still has {size_text(tensor_bytes(least, example))} of"):
        planned(Target(kind="size", limit=100.0), FILTERS, protocol(), 0, "--target-size")
    with pytest.raises(UserError, match=r"--target-size is 1 GB, and the dense network has .*kB"):
        planned(Target(kind="size", limit=1e9), FILTERS, protocol(), 0, "--target-size")


def test_a_smaller_network_is_faster() -> None:
    network, cpu = cnn(10, 1, width=256).eval(), torch.device("cpu")
    example = torch.zeros(1, 1, 32, 32)
    dense, small = (latency_of(n, example, cpu) for n in (network, cnn(10, 1, width=2).eval()))
    assert 0 < small < dense / 2  # 16,000 times fewer multiply-adds
    assert all(p.device == cpu and p.is_contiguous() for p in network.parameters())


def test_criteria_that_need_batches_are_planned_without() -> None:
    taylor = step_of("filters", "taylor", "global")
    target = Target(kind="size", limit=0.5 * tensor_bytes(*cuts(protocol())[1:]))
    plan = planned(target, taylor, protocol(), 0, "--target-size")
    assert plan.step.criterion == "taylor"


# What is reached


SETTINGS: dict[str, Any] = {"structure": "filters", "epochs": 1, "batch_size": 32, "quiet": True}


def test_a_file_as_small_as_asked(tmp_path: Path) -> None:
    small = rewind_ray.prune(
        wide,
        *digits(),
        target_size="25kB",
        format="safetensors",
        storage=str(tmp_path / "storage"),
        **SETTINGS,
    )
    assert small.reached and small.stage.level >= 2
    small.export(str(tmp_path / "small.safetensors"))
    size = (tmp_path / "small.safetensors").stat().st_size
    assert size == small.value == small.summary()["file_bytes"] and size <= 25_000
    before = rewind_ray.api.Best(
        storage=small.storage, stage=small.stage.parent, row=small.row, drop=0.0
    )
    assert before.file_bytes("safetensors") > 25_000  # the step before was not enough


@pytest.mark.slow
def test_a_forward_pass_as_fast_as_asked(tmp_path: Path) -> None:
    """Once in five tries: the machine may change its speed between two measurements."""
    network, cpu = cnn(10, 1, width=128).eval(), torch.device("cpu")
    for attempt in range(5):
        wanted = round(latency_of(network, digits()[0][0][:1], cpu) / 1.5, 4)
        try:
            small = rewind_ray.prune(
                network,
                *digits(),
                target_latency=f"{wanted:.4f}ms",
                latency_device="cpu",
                storage=str(tmp_path / str(attempt)),
                **SETTINGS,
            )
        except UserError as error:
            assert "; ask for" in str(error), error
            continue
        assert small.summary()["params_exported"] < small.summary()["params_total"]
        assert small.reached == (small.summary()["latency_ms"] <= wanted)
        if small.reached:
            return
    pytest.fail("never as fast as asked")


def test_how_far_it_got_is_kept(tmp_path: Path) -> None:
    """Every step costs more accuracy than none; the first is within all, the rest isn't tried."""
    with pytest.raises(UserError, match=r"the first step, .*max_accuracy_drop -1"):
        rewind_ray.prune(
            wide,
            *digits(),
            target_size="25kB",
            max_accuracy_drop=-1.0,
            storage=str(tmp_path),
            **SETTINGS,
        )


def test_filters_of_a_network_without_convolutions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'filters' prunes convolutions, .*has none.*hidden"):
        rewind_ray.prune(
            perceptron, *wine().values(), target_size="1kB", storage=str(tmp_path), **SETTINGS
        )

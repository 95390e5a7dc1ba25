"""Times of networks whose forward pass takes a known time, and the order they are taken in."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict

import pytest
import torch
from torch import Tensor, nn

from rewind_ray.export.latency import compare, forward_times, random_images
from rewind_ray.models import build_network, initialise_

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)


class Sleeper(nn.Module):
    """Takes a known time, and notes when it is called."""

    calls: list[tuple[str, int]] = []  # noqa: RUF012 - of all copies

    def __init__(self, name: str, milliseconds: float) -> None:
        super().__init__()
        self.name, self.seconds = name, milliseconds / 1000

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        Sleeper.calls.append((self.name, len(images)))
        time.sleep(self.seconds)
        return images


@pytest.fixture(autouse=True)
def no_calls() -> None:
    Sleeper.calls.clear()


def test_times_are_milliseconds_a_forward_pass() -> None:
    networks = {"slow": Sleeper("slow", 8).eval(), "fast": Sleeper("fast", 2).eval()}
    times = forward_times(networks, random_images(3, SHAPE, CPU), forwards=2, rounds=5)
    assert [len(times[name]) for name in networks] == [5, 5]
    assert all(one >= 8 for one in times["slow"]) and min(times["slow"]) < 16
    assert all(one >= 2 for one in times["fast"]) and min(times["fast"]) < 8


def test_networks_take_turns_and_the_first_round_does_not_count() -> None:
    networks = {"a": Sleeper("a", 0).eval(), "b": Sleeper("b", 0).eval()}
    forward_times(networks, random_images(3, SHAPE, CPU), forwards=2, rounds=3)
    order = "".join(name for name, _ in Sleeper.calls)
    assert order == "aabb" + "aabb" + "bbaa" + "aabb"
    assert {size for _, size in Sleeper.calls} == {3}


def test_a_comparison_is_of_the_exported_to_the_dense_network() -> None:
    found = compare(
        Sleeper("dense", 4), Sleeper("exported", 1), SHAPE, CPU, rounds=5, round_seconds=0.02
    )
    assert [one.batch_size for one in found] == [1, 128]
    for one in found:
        assert one.dense_ms >= 4 and one.exported_ms >= 1
        assert 0.2 < one.ratio < 0.9  # 1/4, and what a busy machine adds
        assert one.lowest_ratio <= one.ratio <= one.highest_ratio
        assert one.rounds == 5
        assert 1 <= one.forwards <= 5  # as many as fit into 0.02 s of the slower
        sizes = [name for name, size in Sleeper.calls if size == one.batch_size]
        assert sizes.count("dense") == sizes.count("exported") >= 6 * one.forwards


def test_a_slow_network_has_one_forward_pass_a_round() -> None:
    slow = Sleeper("slow", 30)
    (found,) = compare(slow, slow, SHAPE, CPU, (2,), rounds=2, round_seconds=0.01)
    assert found.forwards == 1


def test_the_networks_stay_as_they_are() -> None:
    network = build_network("digits_resnet", 10, 1, {})
    initialise_(network, 0)
    network.train()
    before = copy.deepcopy(network.state_dict())
    (found,) = compare(network, network, SHAPE, CPU, (2,), rounds=2, round_seconds=0.001)
    assert all(value > 0 for value in asdict(found).values())
    assert network.training
    after = network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(t.stride() == after[n].stride() for n, t in before.items())

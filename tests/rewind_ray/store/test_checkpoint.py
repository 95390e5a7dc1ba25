"""Rewind points as bytes: nothing is lost, damage is refused, and nothing in them is executed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from rewind_ray.models import build_network, initialise_
from rewind_ray.pruning import Mask, dense_mask, prunable_parameters, pruned_mask
from rewind_ray.spec import Prune
from rewind_ray.store.checkpoint import (
    RewindPoint,
    capture,
    from_bytes,
    load_network_,
    load_optimizer_,
    pack_bits,
    to_bytes,
    unpack_bits,
)
from rewind_ray.tasks.image import classification_loss
from rewind_ray.training.epoch import train_epoch


def new_network(name: str = "digits_resnet", seed: int = 0) -> nn.Module:
    network = build_network(name, 10, 1, {})
    initialise_(network, seed)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def new_optimizer(network: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def half_mask(network: nn.Module) -> Mask:
    parameters = prunable_parameters(network, "kernels")
    return pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.5))


def train_(network: nn.Module, optimizer: torch.optim.SGD, mask: Mask, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    batches = [
        (
            torch.randn(16, 1, 8, 8, generator=generator),
            torch.randint(10, (16,), generator=generator),
        )
        for _ in range(3)
    ]
    parameters = prunable_parameters(network, "kernels")
    train_epoch(
        network,
        optimizer,
        batches,
        classification_loss,
        lambda _: 0.05,
        parameters,
        mask,
        "fp32",
    )


@pytest.fixture
def trained() -> tuple[nn.Module, torch.optim.SGD, Mask]:
    torch.set_num_threads(1)
    network = new_network()
    optimizer = new_optimizer(network)
    mask = half_mask(network)
    train_(network, optimizer, mask)
    return network, optimizer, mask


Trained = tuple[nn.Module, torch.optim.SGD, Mask]


def assert_same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """The same bits, types and names."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


def assert_same(one: RewindPoint, other: RewindPoint) -> None:
    for part in ("weights", "buffers", "optimizer", "mask"):
        assert_same_tensors(getattr(one, part), getattr(other, part))


# Round trips


def test_a_point_is_the_state_to_the_bit(trained: Trained) -> None:
    network, optimizer, mask = trained
    point = from_bytes(to_bytes(capture(network, optimizer, mask)))
    assert_same_tensors(point.weights, dict(network.named_parameters()))
    assert_same_tensors(point.buffers, dict(network.named_buffers()))
    assert_same_tensors(point.mask, mask)
    velocities = {
        f"momentum_buffer/{name}": optimizer.state[parameter]["momentum_buffer"]
        for name, parameter in network.named_parameters()
    }
    assert_same_tensors(point.optimizer, velocities)
    assert any((v != 0).any() for v in velocities.values())


def test_a_captured_state_is_a_copy(trained: Trained) -> None:
    network, optimizer, mask = trained
    point = capture(network, optimizer, mask)
    before = to_bytes(point)
    train_(network, optimizer, mask, seed=1)
    for kept in mask.values():
        kept.fill_(True)
    assert to_bytes(point) == before


def test_training_goes_on_from_a_point_to_the_same_bits(trained: Trained) -> None:
    network, optimizer, mask = trained
    data = to_bytes(capture(network, optimizer, mask))
    train_(network, optimizer, mask, seed=1)

    other = new_network(seed=5)
    other_optimizer = new_optimizer(other)
    point = from_bytes(data)
    load_network_(other, point)
    load_optimizer_(other, other_optimizer, point.optimizer)
    train_(other, other_optimizer, point.mask, seed=1)

    assert_same(capture(other, other_optimizer, point.mask), capture(network, optimizer, mask))


def test_before_the_first_update_there_is_no_momentum() -> None:
    network = new_network()
    point = from_bytes(to_bytes(capture(network, new_optimizer(network), {})))
    assert point.optimizer == {}
    assert point.mask == {}
    assert len(point.weights) == len(list(network.parameters()))


def test_loading_no_momentum_forgets_the_old(trained: Trained) -> None:
    network, optimizer, mask = trained
    load_optimizer_(network, optimizer, {})
    assert capture(network, optimizer, mask).optimizer == {}
    # and then the first update is one without momentum
    fresh = new_network()
    load_network_(fresh, capture(network, optimizer, mask))
    fresh_optimizer = new_optimizer(fresh)
    train_(network, optimizer, mask, seed=2)
    train_(fresh, fresh_optimizer, mask, seed=2)
    assert_same(capture(fresh, fresh_optimizer, mask), capture(network, optimizer, mask))


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_masks_are_packed_and_unpacked(bits: list[bool]) -> None:
    mask = torch.tensor(bits)
    packed = pack_bits(mask)
    assert packed.dtype == torch.uint8
    assert len(packed) == (len(bits) + 7) // 8
    number = sum(1 << position for position, bit in enumerate(bits) if bit)
    assert int.from_bytes(bytes(packed.tolist()), "little") == number
    assert unpack_bits(packed, mask.shape).tolist() == bits


@pytest.mark.parametrize("size", range(1, 41))
def test_masks_of_every_size_survive_a_point(size: int) -> None:
    kept = torch.rand(size, generator=torch.Generator().manual_seed(size)) < 0.5
    point = RewindPoint(
        weights={"w": torch.zeros(size)}, buffers={}, optimizer={}, mask={"w": kept}
    )
    assert torch.equal(from_bytes(to_bytes(point)).mask["w"], kept)


def test_masks_of_any_shape_survive_a_point() -> None:
    kept = torch.rand(5, 3, 3, 3) < 0.5
    kept = kept.to(memory_format=torch.channels_last)
    point = RewindPoint(
        weights={"w": torch.zeros(5, 3, 3, 3)}, buffers={}, optimizer={}, mask={"w": kept}
    )
    assert torch.equal(from_bytes(to_bytes(point)).mask["w"], kept)


def test_a_mask_takes_a_bit_a_weight() -> None:
    network = new_network("resnet20")
    optimizer = new_optimizer(network)
    mask = half_mask(network)
    without, with_mask = (len(to_bytes(capture(network, optimizer, m))) for m in ({}, mask))
    prunable = sum(kept.numel() for kept in mask.values())
    assert prunable == 270_608  # of one input channel
    names = 22 * 120  # bytes of the header
    assert prunable / 8 <= with_mask - without <= prunable / 8 + names


# Refusals


def altered(point: RewindPoint, part: str, name: str, tensor: Tensor | None) -> RewindPoint:
    parts = {p: dict(getattr(point, p)) for p in ("weights", "buffers", "optimizer", "mask")}
    if tensor is None:
        del parts[part][name]
    else:
        parts[part][name] = tensor
    return RewindPoint(**parts)


@pytest.mark.parametrize(
    ("part", "name"), [("weights", "dense.weight"), ("buffers", "norm.running_mean")]
)
def test_what_does_not_fit_is_refused_and_nothing_is_loaded(
    trained: Trained, part: str, name: str
) -> None:
    network, optimizer, mask = trained
    point = capture(network, optimizer, mask)
    wrong_shape = altered(point, part, name, torch.zeros(7, 7))
    missing = altered(point, part, name, None)
    too_many = altered(point, part, "more.weight", torch.zeros(3))
    for wrong, message in (
        (wrong_shape, rf"the {part} don't fit the network: {name} has shape \(7, 7\), .* wants"),
        (missing, f"{name} has shape None"),
        (too_many, r"more.weight has shape \(3,\), the network wants None"),
    ):
        other = new_network(seed=3)
        before = capture(other, new_optimizer(other), {})
        with pytest.raises(ValueError, match=message):
            load_network_(other, wrong)
        assert_same(capture(other, new_optimizer(other), {}), before)


def test_momentum_that_does_not_fit_is_refused_before_anything_is_loaded(trained: Trained) -> None:
    point = capture(*trained)
    wrong = altered(point, "optimizer", "momentum_buffer/dense.weight", torch.zeros(7, 7))
    other = new_network(seed=3)
    before = capture(other, new_optimizer(other), {})
    with pytest.raises(
        ValueError, match=r"optimizer's momentum_buffer don't fit the network: dense\.weight"
    ):
        load_network_(other, wrong)
    assert_same(capture(other, new_optimizer(other), {}), before)
    with pytest.raises(
        ValueError, match=r"optimizer's momentum_buffer don't fit the network: dense\.weight"
    ):
        load_optimizer_(other, new_optimizer(other), wrong.optimizer)


def test_a_point_of_another_network_is_refused(trained: Trained) -> None:
    point = capture(*trained)
    with pytest.raises(ValueError, match="the weights don't fit the network"):
        load_network_(build_network("resnet20", 10, 1, {}), point)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weights/w": torch.zeros(9), "mask/w": torch.zeros(1, dtype=torch.uint8)}, "a mask of"),
        ({"weights/w": torch.zeros(9), "mask/w": torch.zeros(2)}, "a mask of torch.float32"),
        ({"weights/w": torch.zeros(9), "mask/v": torch.zeros(2)}, "a mask for 'v', which has no"),
        ({"w": torch.zeros(9)}, "this is no rewind point: unknown tensor 'w'"),
        ({"gradients/w": torch.zeros(9)}, "this is no rewind point: unknown tensor"),
    ],
)
def test_other_tensors_are_refused(tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_bytes(save(tensors))


SMALL = to_bytes(
    RewindPoint(
        weights={"w": torch.arange(20.0)},
        buffers={"n": torch.tensor(3)},
        optimizer={"exp_avg/w": torch.ones(20), "step/w": torch.tensor(7.0)},
        mask={"w": torch.arange(20) % 3 == 0},
    )
)
HEADER = 8 + int.from_bytes(SMALL[:8], "little")


@given(st.integers(0, len(SMALL) - 1))
def test_a_point_cut_short_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="this is no rewind point"):
        from_bytes(SMALL[:length])


@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda tail: SMALL + tail))
def test_other_bytes_are_refused(data: bytes) -> None:
    if data == SMALL:
        return
    with pytest.raises(ValueError, match="this is no rewind point"):
        from_bytes(data)


@given(st.integers(0, HEADER - 1), st.integers(1, 255))
def test_a_changed_header_is_refused_or_harmless(position: int, change: int) -> None:
    """Never another exception than ValueError. Changed numbers are the ledger's checksum's."""
    data = bytearray(SMALL)
    data[position] ^= change
    try:
        point = from_bytes(bytes(data))
    except ValueError:
        return
    tensors = [t for part in (point.weights, point.buffers, point.optimizer) for t in part.values()]
    assert sum(t.numel() * t.element_size() for t in tensors) <= len(SMALL) - HEADER


class Payload:
    """What a pickle can do to its reader."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_nothing_in_a_point_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    malicious = pickle.dumps(Payload(marker))
    torch.save({"weights": Payload(marker)}, tmp_path / "malicious.pt")
    for data in (malicious, (tmp_path / "malicious.pt").read_bytes()):
        with pytest.raises(ValueError, match="this is no rewind point"):
            from_bytes(data)
    assert not marker.exists()
    pickle.loads(malicious)
    assert marker.exists()  # the payload is a live one

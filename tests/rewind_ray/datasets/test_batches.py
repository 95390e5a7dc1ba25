"""Batches, against plans followed image by image in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from rewind_ray.datasets import ImageData, batches
from rewind_ray.datasets.batches import (
    EpochPlan,
    epoch_batches,
    evaluation_batches,
    pass_order,
    plan_epoch,
)
from rewind_ray.datasets.image_set import mean_and_std, prepare, steps_per_epoch
from rewind_ray.datasets.packing import SHIFTS, unpack, views
from rewind_ray.protocols import digits

MakeData = Callable[..., ImageData]


@given(
    seed=st.integers(0, 2**63),
    first=st.integers(0, 1000),
    num_train=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    steps=st.integers(1, 20),
)
def test_every_image_occurs_once_a_pass_across_the_borders_of_epochs(
    seed: int, first: int, num_train: int, batch_size: int, steps: int
) -> None:
    """Epochs of updates laid end to end are passes laid end to end, wherever one looks in."""
    length = steps * batch_size
    epochs = 2 * num_train // length + 3  # some whole passes
    order = []
    for epoch in range(first, first + epochs):
        plan = plan_epoch(seed, epoch, num_train, batch_size, steps, 9, whole_pass=False)
        assert len(plan.order) == len(plan.choices) == length
        assert plan.choices.min() >= 0
        assert plan.choices.max() < 9
        order += plan.order.tolist()
    begun = -first * length % num_train  # places until the next pass begins
    for start in range(begun, len(order) - num_train + 1, num_train):
        assert sorted(order[start : start + num_train]) == list(range(num_train))
    for part in (order[:begun], order[begun + (len(order) - begun) // num_train * num_train :]):
        assert len(set(part)) == len(part)


@given(
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 1000),
    num_train=st.integers(1, 60),
    batch_size=st.integers(1, 20),
)
def test_an_epoch_that_is_a_pass_leaves_out_the_incomplete_last_batch(
    seed: int, epoch: int, num_train: int, batch_size: int
) -> None:
    steps = num_train // batch_size
    assume(steps)
    plan = plan_epoch(seed, epoch, num_train, batch_size, steps, 9, whole_pass=True)
    order = plan.order.tolist()
    assert len(order) == len(set(order)) == steps * batch_size
    assert set(order) <= set(range(num_train))


def test_another_batch_is_left_out_of_every_pass() -> None:
    plans = [plan_epoch(0, epoch, 50, 12, 4, 9, whole_pass=True) for epoch in range(3)]
    missing = [tuple(set(range(50)) - set(plan.order.tolist())) for plan in plans]
    assert [len(places) for places in missing] == [2, 2, 2]
    assert len(set(missing)) == 3


def test_a_late_epoch_costs_what_an_early_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The passes that an epoch touches are drawn, and no others."""
    drawn: list[int] = []

    def watching(seed: int, number: int, num_train: int) -> Any:
        drawn.append(number)
        return pass_order(seed, number, num_train)

    monkeypatch.setattr(batches, "pass_order", watching)
    for epoch in (0, 1, 10**6, 10**9):
        drawn.clear()
        plan_epoch(0, epoch, 1000, 100, 25, 9, whole_pass=False)  # two and a half passes
        assert drawn == list(range(epoch * 5 // 2, -(-(epoch + 1) * 5 // 2)))


def test_a_plan_is_a_function_of_seed_and_epoch_alone() -> None:
    for whole_pass in (True, False):

        def planned(seed: int, epoch: int, whole_pass: bool = whole_pass) -> EpochPlan:
            return plan_epoch(seed, epoch, 1000, 100, 10, 162, whole_pass=whole_pass)

        torch.manual_seed(1)
        np.random.seed(1)
        plan = planned(3, 7)
        torch.manual_seed(2)
        np.random.seed(2)
        again = planned(3, 7)
        assert torch.equal(plan.order, again.order)
        assert torch.equal(plan.choices, again.choices)
        for other in (planned(3, 8), planned(4, 7)):
            assert not torch.equal(plan.order, other.order)
            assert not torch.equal(plan.choices, other.choices)


def test_plans_never_change() -> None:
    """Golden: a resumed run must go on with the batches it would have had."""
    plan = plan_epoch(0, 0, 10, 5, 2, 9, whole_pass=True)
    assert plan.order.tolist() == [4, 0, 7, 3, 8, 2, 1, 9, 5, 6]
    assert plan.choices.tolist() == [7, 0, 7, 1, 2, 1, 8, 8, 6, 6]
    plan = plan_epoch(0, 1, 10, 5, 3, 9, whole_pass=False)
    assert plan.order.tolist() == [5, 7, 9, 0, 8, 9, 0, 8, 7, 6, 1, 3, 4, 5, 2]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("augmentation", SHIFTS)
def test_batches_are_the_planned_views_standardised(
    make_data: MakeData, augmentation: str, channels: int
) -> None:
    data = make_data(50, 20, (8, 8, channels))
    protocol = digits(augmentation=augmentation, batch_size=16, steps_per_epoch=5)
    image_set = prepare(protocol, data, "cpu")
    raw = data.train_images.numpy()
    mean, std = raw.mean((0, 1, 2)), raw.std((0, 1, 2))
    with_black = np.concatenate([raw.reshape(50, 64, channels), np.zeros((50, 1, channels))], 1)
    rows = views(augmentation, 8, 8).numpy()
    plan = plan_epoch(5, 3, 50, 16, 5, len(rows), whole_pass=False)

    shown_batches = list(epoch_batches(image_set, seed=5, epoch=3))

    assert len(shown_batches) == 5
    images = torch.cat([images for images, _ in shown_batches]).numpy()
    shown = np.stack(
        [
            with_black[number, rows[view]].reshape(8, 8, channels)
            for number, view in zip(plan.order.tolist(), plan.choices.tolist(), strict=True)
        ]
    )
    np.testing.assert_allclose(images, ((shown - mean) / std).transpose(0, 3, 1, 2), atol=1e-5)
    labels = torch.cat([labels for _, labels in shown_batches])
    assert torch.equal(labels, data.train_labels[plan.order])
    for batch, _ in shown_batches:
        assert batch.shape == (16, channels, 8, 8)
        assert batch.dtype == torch.float32
        assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_by_itself_as_tensorflow_does(make_data: MakeData, channels: int) -> None:
    """tf.image.per_image_standardization, in numpy: black padding counts too."""
    data = make_data(30, 20, (8, 8, channels))
    data.train_images[3] = 77  # of one colour, until it is shifted
    data.test_images[:] = 77
    changes = {"augmentation": "zero4_flip", "batch_size": 10}
    by_set = prepare(digits(**changes), data, "cpu")
    by_image = prepare(digits(**changes, standardisation="image"), data, "cpu")
    for (ours, labels), (other, same_labels) in zip(
        epoch_batches(by_image, 1, 2), epoch_batches(by_set, 1, 2), strict=True
    ):
        assert torch.equal(labels, same_labels)
        shown = other.permute(0, 2, 3, 1).double() / by_set.inv_std + by_set.mean
        for image, found in zip(shown.round().numpy(), ours, strict=True):
            adjusted = max(image.std(), 1 / np.sqrt(image.size))
            expected = ((image - image.mean()) / adjusted).transpose(2, 0, 1)
            np.testing.assert_allclose(found, expected, atol=1e-4)
        assert ours.is_contiguous(memory_format=torch.channels_last)
    for images, _ in evaluation_batches(by_image, "test"):
        assert (images == 0).all()


def test_padding_is_black_before_standardising(make_data: MakeData) -> None:
    data = make_data(20, 20, (8, 8, 3))
    image_set = prepare(digits(augmentation="zero1", batch_size=20), data, "cpu")
    top_left = 0  # the first view: padded above and to the left
    plan = plan_epoch(0, 0, 20, 20, 1, 9, whole_pass=True)
    images, _ = next(epoch_batches(image_set, seed=0, epoch=0))
    corners = images[plan.choices == top_left][:, :, 0, 0]
    assert len(corners) > 0
    black = -image_set.mean * image_set.inv_std
    torch.testing.assert_close(corners, black.expand_as(corners))


def test_evaluation_shows_every_image_once_in_order(make_data: MakeData) -> None:
    data = make_data(30, 25, (8, 8, 3))
    protocol = digits(validation="none", validation_fraction=0.0, batch_size=10)
    image_set = prepare(protocol, data, "cpu")
    found = list(evaluation_batches(image_set, "test", batch_size=10))
    assert [len(labels) for _, labels in found] == [10, 10, 5]
    assert torch.equal(torch.cat([labels for _, labels in found]), data.test_labels)
    mean, std = mean_and_std(data.train_images)
    expected = ((data.test_images.float() - mean) / std).permute(0, 3, 1, 2)
    images = torch.cat([images for images, _ in found])
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)
    assert found[0][0].is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="no part 'val' in this data; it has: train, test"):
        next(evaluation_batches(image_set, "val"))


def test_constants_are_of_the_images_that_train(make_data: MakeData) -> None:
    data = make_data(200, 20, (8, 8, 3))
    protocol = digits(validation="train", validation_fraction=0.25, train_examples=100)
    image_set = prepare(protocol, data, "cpu")
    assert image_set.val is not None
    assert (len(image_set.train), len(image_set.val)) == (75, 25)
    used = unpack(image_set.train.pixels[:, :-1], 8, 8, 3).numpy()
    np.testing.assert_allclose(image_set.mean, used.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(image_set.inv_std, 1 / used.std((0, 1, 2)), rtol=1e-6)


def test_a_channel_that_never_varies_becomes_zero() -> None:
    mean, std = mean_and_std(torch.full((4, 2, 2, 1), 7, dtype=torch.uint8))
    assert (mean.item(), std.item()) == (7, 1)


def test_steps_are_a_full_pass_or_the_protocols() -> None:
    assert steps_per_epoch(digits(batch_size=64), 1347) == 21
    assert steps_per_epoch(digits(batch_size=64, steps_per_epoch=2000), 1347) == 2000
    with pytest.raises(ValueError, match="batch_size 128 is more than the 100 training images"):
        steps_per_epoch(digits(batch_size=128), 100)


def test_refuses_a_folder_whose_content_changed(make_data: MakeData) -> None:
    protocol = digits(dataset="folder:animals", data_digest="0123456789abcdef")
    with pytest.raises(ValueError, match="the folder was changed"):
        prepare(protocol, make_data(100, 20, (8, 8, 3)), "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_gpu_yields_the_same_batches(make_data: MakeData, channels: int) -> None:
    data = make_data(50, 20, (8, 8, channels))
    protocol = digits(augmentation="zero4_flip", batch_size=16)
    on_cpu, on_gpu = prepare(protocol, data, "cpu"), prepare(protocol, data, "cuda")
    for here, there in zip(epoch_batches(on_cpu, 1, 2), epoch_batches(on_gpu, 1, 2), strict=True):
        torch.testing.assert_close(there[0].cpu(), here[0])
        assert torch.equal(there[1].cpu(), here[1])

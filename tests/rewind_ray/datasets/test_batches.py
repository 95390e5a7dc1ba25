"""Batches, against plans followed image by image in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewind_ray.datasets import ImageData
from rewind_ray.datasets.batches import epoch_batches, evaluation_batches, plan_epoch
from rewind_ray.datasets.image_set import mean_and_std, prepare, steps_per_epoch
from rewind_ray.datasets.packing import SHIFTS, unpack, views
from rewind_ray.protocols import digits

MakeData = Callable[..., ImageData]


@given(
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 1000),
    num_train=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    steps=st.integers(1, 20),
)
def test_every_image_occurs_once_a_pass(
    seed: int, epoch: int, num_train: int, batch_size: int, steps: int
) -> None:
    plan = plan_epoch(seed, epoch, num_train, batch_size, steps, 9)
    order = plan.order.tolist()
    assert len(order) == len(plan.choices) == steps * batch_size
    assert plan.choices.min() >= 0
    assert plan.choices.max() < 9
    for start in range(0, len(order), num_train):
        one_pass = order[start : start + num_train]
        assert len(set(one_pass)) == len(one_pass)
        assert set(one_pass) <= set(range(num_train))


def test_a_plan_is_a_function_of_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    plan = plan_epoch(3, 7, 1000, 100, 10, 162)
    torch.manual_seed(2)
    np.random.seed(2)
    again = plan_epoch(3, 7, 1000, 100, 10, 162)
    assert torch.equal(plan.order, again.order)
    assert torch.equal(plan.choices, again.choices)
    for other in (plan_epoch(3, 8, 1000, 100, 10, 162), plan_epoch(4, 7, 1000, 100, 10, 162)):
        assert not torch.equal(plan.order, other.order)
        assert not torch.equal(plan.choices, other.choices)


def test_plans_never_change() -> None:
    """Golden: a resumed run must go on with the batches it would have had."""
    plan = plan_epoch(0, 0, 10, 5, 2, 9)
    assert plan.order.tolist() == [3, 4, 8, 5, 2, 6, 9, 1, 0, 7]
    assert plan.choices.tolist() == [6, 6, 1, 3, 7, 2, 3, 3, 4, 8]


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
    plan = plan_epoch(5, 3, 50, 16, 5, len(rows))

    batches = list(epoch_batches(image_set, seed=5, epoch=3))

    assert len(batches) == 5
    images = torch.cat([images for images, _ in batches]).numpy()
    shown = np.stack(
        [
            with_black[number, rows[view]].reshape(8, 8, channels)
            for number, view in zip(plan.order.tolist(), plan.choices.tolist(), strict=True)
        ]
    )
    np.testing.assert_allclose(images, ((shown - mean) / std).transpose(0, 3, 1, 2), atol=1e-5)
    labels = torch.cat([labels for _, labels in batches])
    assert torch.equal(labels, data.train_labels[plan.order])
    for batch, _ in batches:
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
    plan = plan_epoch(0, 0, 20, 20, 1, 9)
    images, _ = next(epoch_batches(image_set, seed=0, epoch=0))
    corners = images[plan.choices == top_left][:, :, 0, 0]
    assert len(corners) > 0
    black = -image_set.mean * image_set.inv_std
    torch.testing.assert_close(corners, black.expand_as(corners))


def test_evaluation_shows_every_image_once_in_order(make_data: MakeData) -> None:
    data = make_data(30, 25, (8, 8, 3))
    protocol = digits(validation="none", validation_fraction=0.0, batch_size=10)
    image_set = prepare(protocol, data, "cpu")
    batches = list(evaluation_batches(image_set, "test", batch_size=10))
    assert [len(labels) for _, labels in batches] == [10, 10, 5]
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.test_labels)
    mean, std = mean_and_std(data.train_images)
    expected = ((data.test_images.float() - mean) / std).permute(0, 3, 1, 2)
    images = torch.cat([images for images, _ in batches])
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)
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

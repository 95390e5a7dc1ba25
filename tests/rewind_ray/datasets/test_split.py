"""Laws of the fixed choices: exact counts, disjoint, covering, nested, never changing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_ray.datasets.split import split_indices, subset_indices, validation_split
from rewind_ray.protocols import digits, renda_cifar


@given(n=st.integers(1, 2000), fraction=st.floats(0, 0.999))
def test_validation_split_is_exact_disjoint_and_covering(n: int, fraction: float) -> None:
    val, rest = validation_split(n, fraction)
    assert len(val) == round(fraction * n)
    assert sorted([*val.tolist(), *rest.tolist()]) == list(range(n))


@given(n=st.integers(1, 2000), data=st.data())
def test_a_smaller_subset_is_part_of_a_larger_one(n: int, data: st.DataObject) -> None:
    large = data.draw(st.integers(0, n))
    small = data.draw(st.integers(0, large))
    chosen = subset_indices(n, large, "train").tolist()
    assert len(set(chosen)) == large
    assert all(0 <= position < n for position in chosen)
    assert set(subset_indices(n, small, "train").tolist()) <= set(chosen)


def test_the_choices_never_change() -> None:
    """Golden: stored results belong to these choices."""
    assert subset_indices(100, 5, "train").tolist() == [4, 26, 61, 73, 76]
    assert subset_indices(100, 5, "test").tolist() == [23, 38, 52, 63, 76]
    assert validation_split(100, 0.05)[0].tolist() == [0, 7, 39, 47, 54]


def test_renda_validates_on_a_fifth_of_the_test_set() -> None:
    split = split_indices(renda_cifar(), 50_000, 10_000)
    assert split.val is not None
    assert [len(part) for part in split[:2]] == [50_000, 8_000]
    assert len(split.val) == 2_000
    assert not set(split.val.tolist()) & set(split.test.tolist())


def test_validation_comes_out_of_the_subset() -> None:
    protocol = digits(validation="train", train_examples=200, test_examples=50)
    split = split_indices(protocol, 1347, 450)
    assert split.val is not None
    assert (len(split.train), len(split.val), len(split.test)) == (160, 40, 50)
    together = sorted([*split.train.tolist(), *split.val.tolist()])
    assert together == subset_indices(1347, 200, "train").tolist()
    assert split.test.tolist() == subset_indices(450, 50, "test").tolist()


def test_without_validation_there_is_none() -> None:
    protocol = digits(validation="none", validation_fraction=0.0)
    split = split_indices(protocol, 10, 4)
    assert split.val is None
    assert split.train.tolist() == list(range(10))
    assert split.test.tolist() == list(range(4))


def test_refuses_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="train_examples is 2,000, but there are 1,347 train"):
        split_indices(digits(train_examples=2000), 1347, 450)
    with pytest.raises(ValueError, match="leaves 0 for validation and 2 for the test set"):
        split_indices(digits(test_examples=2), 1347, 450)
    with pytest.raises(ValueError, match="5 images are asked for, but there are 4"):
        subset_indices(4, 5, "train")

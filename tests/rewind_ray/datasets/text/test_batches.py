from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rewind_ray.datasets.text.batches import (
    IGNORED,
    PairBatch,
    Plan,
    epoch_batches,
    pass_batches,
    sentences_of,
)
from rewind_ray.datasets.text.subwords import END, START

SIZE = 8


def plan(number: int = 100, **changes: object) -> Plan:
    """Sentence i begins with token 10 + i; their lengths are 1 to 20."""
    random = np.random.RandomState(0)
    lengths = random.randint(1, 21, (2, number))
    source, target = (
        sentences_of([[10 + i, *random.randint(3, 9, n - 1)] for i, n in enumerate(of_side)])
        for of_side in lengths
    )
    made = Plan(source=source, target=target, batch_size=SIZE, bucket_width=5, steps_per_epoch=None)
    return replace(made, **changes)


def pairs(batch: PairBatch) -> list[int]:
    """Which ones they are."""
    return (batch.source[:, 0] - 10).tolist()


def equal(one: PairBatch, other: PairBatch) -> bool:
    names = ("source", "lengths", "before", "after", "noise")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_every_pair_is_in_a_pass_at_most_once_and_few_are_left_out() -> None:
    for seed, epoch in ((0, 0), (0, 1), (5, 0)):
        seen = [pair for batch in epoch_batches(plan(), seed, epoch) for pair in pairs(batch)]
        assert len(seen) == len(set(seen)) == 96
    left_out = {
        pair
        for epoch in range(30)
        for pair in set(range(100))
        - {p for batch in epoch_batches(plan(), 0, epoch) for p in pairs(batch)}
    }
    assert len(left_out) > 50  # not always the longest


def test_a_pure_function_of_seed_and_epoch() -> None:
    first = list(epoch_batches(plan(), 3, 2))
    assert all(map(equal, first, epoch_batches(plan(), 3, 2)))
    for other in ((3, 1), (4, 2)):
        assert not any(map(equal, first, epoch_batches(plan(), *other)))


def test_parts_of_passes_follow_each_other_without_a_break() -> None:
    """12 batches a pass; epochs of 5: the third one goes from pass 0 into pass 1."""
    passes = [batch for epoch in range(2) for batch in epoch_batches(plan(), 1, epoch)]
    parts = plan(steps_per_epoch=5)
    in_parts = [batch for epoch in range(4) for batch in epoch_batches(parts, 1, epoch)]
    assert len(passes) == 24 and len(in_parts) == 20
    assert all(map(equal, passes, in_parts))


def test_sentences_of_a_batch_have_like_lengths() -> None:
    made = plan(2000)
    longer = np.maximum(made.source.lengths, made.target.lengths + 1)
    rows = pass_batches(made, 0, 0)
    buckets = longer[rows] // 5
    mixed = (buckets != buckets[:, :1]).any(axis=1)
    assert mixed.sum() <= 4  # borders between 5 buckets
    assert sorted(buckets[:, 0]) != list(buckets[:, 0])  # and not in order of length
    wide = plan(2000, bucket_width=100)
    assert np.ptp(longer[pass_batches(wide, 0, 0)], axis=1).mean() > 7
    assert np.ptp(longer[rows], axis=1).mean() < 5


def test_places_of_a_batch() -> None:
    source, target = sentences_of([[5, 6, 7], [8]]), sentences_of([[3], [4, 5]])
    made = Plan(source=source, target=target, batch_size=2, bucket_width=9, steps_per_epoch=None)
    (batch,) = epoch_batches(made, 0, 0)
    first = batch.lengths.tolist().index(3)
    second = 1 - first
    assert batch.source[first].tolist() == [5, 6, 7]
    assert batch.source[second].tolist() == [8, END, END]
    assert batch.before[first].tolist() == [START, 3, END]
    assert batch.after[first].tolist() == [3, END, IGNORED]
    assert batch.before[second].tolist() == [START, 4, 5]
    assert batch.after[second].tolist() == [4, 5, END]
    assert (batch.num_tokens, len(batch)) == (5, 2)
    alone = batch.part(slice(first, first + 1))
    assert (alone.source.tolist(), alone.after.tolist()) == ([[5, 6, 7]], [[3, END]])
    assert alone.noise.tolist() == batch.noise[first : first + 1].tolist()


def test_keys_for_dropout_differ_by_update_and_sentence() -> None:
    keys = torch.cat([b.noise for epoch in range(3) for b in epoch_batches(plan(), 0, epoch)])
    assert len(keys.unique()) == len(keys)


def test_some_of_the_sentences() -> None:
    sentences = sentences_of([[5, 6, 7], [], [8, 9], [3]])
    some = sentences.only(np.array([False, True, True, True]))
    assert some.tokens.tolist() == [8, 9, 3]
    assert some.lengths.tolist() == [0, 2, 1]
    assert sentences.padded(np.array([3, 0]), -1).tolist() == [[3, -1, -1], [5, 6, 7]]


@pytest.mark.parametrize("number", [7, 8, 15])
def test_small_sets(number: int) -> None:
    assert len(list(epoch_batches(plan(number), 0, 0))) == number // SIZE

from __future__ import annotations

import numpy as np
import pytest
import torch

from rewind_ray.models.seeded_dropout import dropped, scrambled_, stays, wrapped

GOLDEN = 0x9E3779B9


def scrambled(x: np.ndarray) -> np.ndarray:
    """lowbias32, in numpy's unsigned arithmetic."""
    x = x.astype(np.uint32)
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def test_the_hash_is_the_published_one() -> None:
    words = np.random.RandomState(0).randint(0, 2**32, 10_000, dtype=np.uint64).astype(np.uint32)
    found = scrambled_(torch.from_numpy(words.view(np.int32).copy()))
    assert np.array_equal(found.numpy().view(np.uint32), scrambled(words))


def test_what_stays_follows_from_key_place_step_and_column() -> None:
    keys = np.array([3, 2**32 - 5, 77], dtype=np.uint32)
    site, steps, width, share = 4, 5, 6, 0.3
    rows = scrambled(
        scrambled(keys + np.uint32(site * GOLDEN % 2**32))[:, None]
        + np.arange(steps, dtype=np.uint32) * np.uint32(GOLDEN)
    )
    columns = scrambled(np.arange(width, dtype=np.uint32) * np.uint32(GOLDEN))
    draws = scrambled(rows[:, :, None] + columns)
    # signed: the lowest numbers are those from 2^31 up
    expected = (draws + np.uint32(2**31)) >= round(share * 2**32)
    found = stays(torch.from_numpy(keys.view(np.int32).copy()), site, steps, width, share)
    assert np.array_equal(found.numpy(), expected)


def test_it_drops_its_share_independently() -> None:
    keys = torch.arange(64, dtype=torch.int32)
    stay = stays(keys, 0, 20, 100, 0.2).double()
    deviation = (0.2 * 0.8 / stay.numel()) ** 0.5
    assert abs(float(stay.mean()) - 0.8) < 5 * deviation
    centred = ((stay - 0.8) / 0.4).reshape(64, -1)
    between = centred @ centred.T / centred.shape[1]  # correlations of sentences
    off = between[~torch.eye(64, dtype=torch.bool)]
    assert abs(float(off.std()) * centred.shape[1] ** 0.5 - 1) < 0.1  # as of independent draws
    other = (stays(keys, 1, 20, 100, 0.2).double().reshape(64, -1) - 0.8) / 0.4
    assert abs(float((other * centred).mean())) < 5 / centred.numel() ** 0.5


def test_size_of_batch_and_padding_change_nothing() -> None:
    keys = torch.tensor([5, -9, 123456], dtype=torch.int32)
    whole = stays(keys, 2, 7, 8, 0.5)
    assert torch.equal(stays(keys[1:], 2, 4, 6, 0.5), whole[1:, :4, :6])


def test_the_mean_is_kept_and_no_key_means_no_dropout() -> None:
    values = torch.ones(30, 30, 30)
    out = dropped(values, torch.arange(30, dtype=torch.int32), 0, 0.2)
    assert set(out.unique().tolist()) == {0.0, 1.25}
    assert float(out.mean()) == pytest.approx(1, abs=0.02)
    assert dropped(values, None, 0, 0.2) is values


def test_wrapped_is_two_complement() -> None:
    assert [wrapped(x) for x in (0, 2**31, 2**32 + 1, GOLDEN)] == [0, -(2**31), 1, GOLDEN - 2**32]

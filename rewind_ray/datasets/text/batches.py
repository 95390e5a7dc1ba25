"""Batches of an epoch, as a pure function of (data, seed, epoch): sentences of like length.

To rewind to epoch k is to call with k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewind_ray.datasets.draws import pass_order, random_state
from rewind_ray.datasets.text.subwords import END, START

IGNORED = -100
"""Target after the end of a sentence: ``cross_entropy`` leaves it out."""
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sentences:
    """Tokens of many sentences, one after the other."""

    tokens: NDArray[np.int32]
    ends: Integers
    """(number of sentences,): where each ends in ``tokens``."""

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> Integers:
        return np.diff(self.ends, prepend=0)

    def only(self, chosen: NDArray[np.bool_]) -> Sentences:
        """Those where ``chosen``, (number of sentences,), is true."""
        lengths = self.lengths
        tokens = self.tokens[np.repeat(chosen, lengths)]
        return Sentences(tokens, np.cumsum(lengths[chosen]))

    def padded(self, rows: Integers, padding: int, ends_with: tuple[int, ...] = ()) -> Integers:
        """These sentences, (len(rows), longest), each with ``ends_with`` and padding behind."""
        lengths = self.lengths_of(rows)
        width = int(lengths.max()) + len(ends_with)
        table = np.full((len(rows), width), padding, dtype=np.int64)
        places = np.arange(width)
        inside = places < lengths[:, None]
        starts = self.ends[rows] - lengths
        table[inside] = self.tokens[(starts[:, None] + places)[inside]]
        for offset, token in enumerate(ends_with):
            table[np.arange(len(rows)), lengths + offset] = token
        return table

    def lengths_of(self, rows: Integers) -> Integers:
        return self.ends[rows] - np.where(rows > 0, self.ends[rows - 1], 0)


def sentences_of(lists: list[list[int]]) -> Sentences:
    lengths = np.array([len(tokens) for tokens in lists], dtype=np.int64)
    flat = np.fromiter((t for tokens in lists for t in tokens), dtype=np.int32, count=lengths.sum())
    return Sentences(flat, np.cumsum(lengths))


@dataclass(frozen=True, kw_only=True, slots=True)
class PairBatch:
    """Sentences and their translations."""

    source: Tensor
    """(N, S) int64, END behind the sentences."""
    lengths: Tensor
    """(N,) int64, of the source, on the CPU."""
    before: Tensor
    """(N, T) int64: START and the translation, END behind it: what the decoder reads."""
    after: Tensor
    """(N, T) int64: the translation and END, IGNORED behind it: what it should say."""
    noise: Tensor
    """(N,) int32: a random key of each sentence, for dropout."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """Of the translations, their ends among them."""
        return int((self.after != IGNORED).sum())

    def part(self, rows: slice) -> PairBatch:
        """Some of its sentences, padded no more than they need."""
        lengths, after = self.lengths[rows], self.after[rows]
        width = int((after != IGNORED).sum(dim=1).max())
        return PairBatch(
            source=self.source[rows, : int(lengths.max())],
            lengths=lengths,
            before=self.before[rows, :width],
            after=after[:, :width],
            noise=self.noise[rows],
        )

    def to(self, device: torch.device) -> PairBatch:
        moved = {name: getattr(self, name).to(device) for name in ("source", "before", "after")}
        return PairBatch(lengths=self.lengths, noise=self.noise.to(device), **moved)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How an epoch's batches are made of pairs."""

    source: Sentences
    target: Sentences
    batch_size: int
    bucket_width: int
    """Subwords: pairs go together where the longer of both has a like length."""
    steps_per_epoch: int | None
    """None: a pass is an epoch."""

    @property
    def batches_a_pass(self) -> int:
        return len(self.source) // self.batch_size

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.steps_per_epoch or self.batches_a_pass


def pass_batches(plan: Plan, seed: int, number: int) -> Integers:
    """(batches a pass, batch_size): positions of pairs, each in one batch of the pass at most.

    Shuffled, sorted by bucket, cut into batches, and these shuffled. Fewer than ``batch_size``
    pairs are left out, others in every pass. At the borders of buckets a batch has some of both.
    """
    order = pass_order(seed, number, len(plan.source))
    order = order[: plan.batches_a_pass * plan.batch_size]
    longer = np.maximum(plan.source.lengths[order], plan.target.lengths[order] + 1)  # with END
    order = order[np.argsort(longer // plan.bucket_width, kind="stable")]
    shuffled = random_state(f"batches of pass {number} of seed {seed}").permutation(
        plan.batches_a_pass
    )
    return order.reshape(-1, plan.batch_size)[shuffled]


def epoch_batches(plan: Plan, seed: int, epoch: int) -> Iterator[PairBatch]:
    """The training batches of one epoch; passes follow each other without a break."""
    number, chosen = -1, np.empty((0, plan.batch_size), dtype=np.int64)
    for update in range(epoch * plan.steps, (epoch + 1) * plan.steps):
        needed, position = divmod(update, plan.batches_a_pass)
        if needed != number:
            number, chosen = needed, pass_batches(plan, seed, needed)
        noise = random_state(f"noise of update {update} of seed {seed}")
        yield pair_batch(plan, chosen[position], noise)


def pair_batch(plan: Plan, rows: Integers, noise: np.random.RandomState) -> PairBatch:
    source = plan.source.padded(rows, END)
    keys = noise.randint(-(2**31), 2**31, size=len(rows), dtype=np.int64).astype(np.int32)
    before = np.concatenate([np.full((len(rows), 1), START), plan.target.padded(rows, END)], axis=1)
    return PairBatch(
        source=torch.from_numpy(source),
        lengths=torch.from_numpy(plan.source.lengths_of(rows)),
        before=torch.from_numpy(before),
        after=torch.from_numpy(plan.target.padded(rows, IGNORED, (END,))),
        noise=torch.from_numpy(keys),
    )

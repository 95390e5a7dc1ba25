"""Translations of the highest score, many sentences at once."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from rewind_ray.models.gnmt import DecoderState, Memory

PENALTY_CONSTANT = 5
"""Wu et al. 2016, eq. 14."""


class Translator(Protocol):
    """What a network needs for it; see ``Gnmt``."""

    def encode(self, source: Tensor, lengths: Tensor | None) -> tuple[Memory, DecoderState]: ...

    def decode(
        self, tokens: Tensor, memory: Memory, state: DecoderState
    ) -> tuple[Tensor, DecoderState, Tensor]: ...


def beam_search(
    network: Translator,
    source: Tensor,
    lengths: Tensor,
    *,
    start: int,
    end: int,
    longest: int,
    width: int,
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
) -> list[list[int]]:
    """The best translation found of each sentence, without start and end.

    source: (N, S) int64, padded behind; lengths: (N,) int64, on the CPU. Of every sentence the
    ``width`` beginnings of the highest log-probability are continued, until all of them have ended
    or have ``longest`` tokens. The best of these is the one of the highest ``score``. With width 1
    it is greedy: the likeliest token follows.

    That is the search of Renda et al. 2020's code (``gnmt/model/nmt/beam_search_decoder.py``):
    translations that have ended stay among the ``width``, and the score orders them at the end.
    """
    memory, state = network.encode(source, lengths)
    number, device = len(source), source.device
    of_sentence = torch.arange(number, device=device)[:, None]
    spread = of_sentence.expand(number, width).flatten()
    memory, state = memory.at(spread), state.at(spread)
    tokens = torch.full((number * width, 1), start, device=device)
    said = torch.empty(number * width, 0, dtype=torch.long, device=device)
    total = torch.full((number, width), -math.inf, device=device)
    total[:, 0] = 0.0  # at the start all are the same, and only one counts
    ended = torch.zeros(number, width, dtype=torch.bool, device=device)
    steps = torch.zeros(number, width, dtype=torch.long, device=device)
    covered = torch.zeros(memory.padding.shape, device=device)
    for _ in range(longest):
        logits, state, weights = network.decode(tokens, memory, state)
        step = logits[:, 0].float().log_softmax(dim=-1).view(number, width, -1)
        vocabulary = step.shape[-1]
        step = step.masked_fill(ended[:, :, None], -math.inf)
        step[:, :, end] = torch.where(ended, 0.0, step[:, :, end])  # what has ended, stays so
        covered += weights[:, 0] * ~ended.flatten()[:, None]
        total, chosen = (total[:, :, None] + step).flatten(1).topk(width, dim=1)
        parent = torch.div(chosen, vocabulary, rounding_mode="floor")
        rows = (of_sentence * width + parent).flatten()
        tokens = (chosen % vocabulary).view(-1, 1)
        said = torch.cat([said[rows], tokens], dim=1)
        state, covered = state.at(rows), covered[rows]
        before, steps = ended.gather(1, parent), steps.gather(1, parent)
        steps += ~before
        ended = before | (tokens.view(number, width) == end)
        if bool(ended.all()):
            break
    scores = score(total, steps, covered.view(number, width, -1), length_penalty, coverage_penalty)
    best = said.view(number, width, -1)[of_sentence[:, 0], scores.argmax(dim=1)]
    return [until(sentence, end) for sentence in best.tolist()]


def score(
    total: Tensor, steps: Tensor, covered: Tensor, length_penalty: float, coverage_penalty: float
) -> Tensor:
    """log P / lp + cp, Wu et al. 2016, eq. 14.

    total: log-probabilities; steps: tokens, the end among them; covered: (..., S), what attention
    has given each place of the source in all, 0 of padding. lp = ((5 + steps) / 6)^length_penalty,
    cp = coverage_penalty * sum of log(min(covered, 1)).
    """
    by_length = ((PENALTY_CONSTANT + steps) / (PENALTY_CONSTANT + 1)) ** length_penalty
    seen = torch.where(covered == 0, 1.0, covered.clamp(max=1.0))
    return total / by_length + coverage_penalty * seen.log().sum(dim=-1)


def until(sentence: list[int], end: int) -> list[int]:
    """What stands before the end; all of it, where there is none."""
    return sentence[: sentence.index(end)] if end in sentence else sentence

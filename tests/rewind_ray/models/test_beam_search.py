"""Against all short translations, scored one by one."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from rewind_ray.models.beam_search import beam_search
from rewind_ray.models.gnmt import Gnmt, initialise_gnmt_

VOCABULARY, START, END, LONGEST = 5, 1, 2, 4
ALL = [
    (*beginning, END)
    for length in range(LONGEST)
    for beginning in itertools.product([t for t in range(VOCABULARY) if t != END], repeat=length)
] + list(itertools.product([t for t in range(VOCABULARY) if t != END], repeat=LONGEST))
SOURCE = torch.tensor([[3, 4, 0, 3], [4, 4, 2, 2], [0, 2, 2, 2]])
LENGTHS = torch.tensor([4, 2, 1])


def network(seed: int, **options: bool) -> Gnmt:
    made = Gnmt(
        vocabulary=VOCABULARY,
        layers=2,
        units=6,
        dropout=0.2,
        shared_embedding=True,
        **{"input_feeding": True, "pass_state": True, **options},
    )
    initialise_gnmt_(made, seed, "uniform")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0, 1.2, generator=generator))
    return made.eval()


@torch.no_grad()
def scored(
    made: Gnmt, row: int, translation: tuple[int, ...], length: float, coverage: float
) -> float:
    """log P / ((5 + n) / 6)^length + coverage * sum of log(min(attention in all, 1))."""
    source = SOURCE[row : row + 1, : LENGTHS[row]]
    memory, state = made.encode(source)
    logits, _, weights = made.decode(torch.tensor([[START, *translation[:-1]]]), memory, state)
    shares = logits[0].log_softmax(dim=-1)
    total = sum(float(shares[step, token]) for step, token in enumerate(translation))
    seen = weights[0].sum(dim=0).clamp(max=1)
    return total / ((5 + len(translation)) / 6) ** length + coverage * float(seen.log().sum())


def found(made: Gnmt, width: int, length: float, coverage: float, **options: Tensor) -> list:
    given = {"source": SOURCE, "lengths": LENGTHS, **options}
    with torch.no_grad():
        return beam_search(
            made,
            start=START,
            end=END,
            longest=LONGEST,
            width=width,
            length_penalty=length,
            coverage_penalty=coverage,
            **given,
        )


@pytest.mark.parametrize(("length", "coverage"), [(0.0, 0.0), (0.6, 0.1), (1.5, 0.5)])
def test_a_beam_that_holds_everything_finds_the_best_of_all(length: float, coverage: float) -> None:
    best_differ = set()
    for seed in range(6):
        made = network(seed)
        translations = found(made, len(ALL), length, coverage)
        for row, translation in enumerate(translations):
            scores = {t: scored(made, row, t, length, coverage) for t in ALL}
            best = max(scores, key=scores.__getitem__)
            ended = (*translation, END) if len(translation) < LONGEST else tuple(translation)
            assert scores[ended] == pytest.approx(scores[best], abs=1e-5)
            assert ended == best
            best_differ.add(best)
    assert len(best_differ) > 3


def test_penalties_change_what_is_best() -> None:
    made = [network(seed) for seed in range(8)]
    plain = [found(each, 30, 0.0, 0.0) for each in made]
    assert plain != [found(each, 30, 2.0, 0.0) for each in made]
    assert plain != [found(each, 30, 0.0, 3.0) for each in made]


@torch.no_grad()
def greedy(made: Gnmt, row: int) -> list[int]:
    memory, state = made.encode(SOURCE[row : row + 1, : LENGTHS[row]])
    tokens: list[int] = []
    while len(tokens) < LONGEST:
        said = torch.tensor([[START, *tokens]])
        logits, _, _ = made.decode(said, memory, state)
        token = int(logits[0, -1].argmax())
        if token == END:
            break
        tokens.append(token)
    return tokens


def test_width_1_takes_the_likeliest_token() -> None:
    for seed in range(6):
        made = network(seed)
        translations = found(made, 1, 0.6, 0.1)
        assert translations == [greedy(made, row) for row in range(3)]


def test_wider_beams_find_no_less_likely_ones_on_the_whole() -> None:
    def total(width: int) -> float:
        sum_ = 0.0
        for seed in range(10):
            made = network(seed)
            for row, translation in enumerate(found(made, width, 0.0, 0.0)):
                ended = (*translation, END) if len(translation) < LONGEST else tuple(translation)
                sum_ += scored(made, row, ended, 0.0, 0.0)
        return sum_

    totals = [total(width) for width in (1, 2, 4, 16)]
    assert totals == sorted(totals) and totals[0] < totals[-1] < 0
    assert not math.isnan(totals[0])


@pytest.mark.parametrize("width", [1, 3])
def test_sentences_by_themselves_are_translated_as_in_a_batch(width: int) -> None:
    made = network(5, pass_state=False, input_feeding=False)
    alone = [
        found(
            made,
            width,
            0.6,
            0.1,
            source=SOURCE[row : row + 1, : LENGTHS[row]],
            lengths=LENGTHS[row : row + 1],
        )[0]
        for row in range(3)
    ]
    assert found(made, width, 0.6, 0.1) == alone

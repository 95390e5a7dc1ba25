"""Against all short translations, scored one by one."""

from __future__ import annotations

import itertools

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
def scores(made: Gnmt, row: int, length: float, coverage: float) -> dict[tuple[int, ...], float]:
    """Of all: log P / ((5 + n) / 6)^length + coverage * sum of log(min(attention in all, 1))."""
    source = SOURCE[row : row + 1, : LENGTHS[row]]
    found = {}
    for number in range(1, LONGEST + 1):
        translations = [t for t in ALL if len(t) == number]
        copies = torch.zeros(len(translations), dtype=torch.long)
        memory, state = (encoded.at(copies) for encoded in made.encode(source))
        said = torch.tensor(translations)
        before = torch.cat([torch.full_like(said[:, :1], START), said[:, :-1]], dim=1)
        logits, _, weights = made.decode(before, memory, state)
        shares = logits.log_softmax(dim=-1).gather(2, said[:, :, None]).squeeze(2).sum(dim=1)
        seen = weights.sum(dim=1).clamp(max=1).log().sum(dim=1)
        of_these = shares / ((5 + number) / 6) ** length + coverage * seen
        found |= dict(zip(translations, of_these.tolist(), strict=True))
    return found


def ended(translation: list[int]) -> tuple[int, ...]:
    return (*translation, END) if len(translation) < LONGEST else tuple(translation)


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
            of_all = scores(made, row, length, coverage)
            best = max(of_all, key=of_all.__getitem__)
            assert ended(translation) == best
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
                sum_ += scores(made, row, 0.0, 0.0)[ended(translation)]
        return sum_

    totals = [total(width) for width in (1, 2, 4, 16)]
    assert totals == sorted(totals) and totals[0] < totals[-1] < 0


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

"""Subwords of both languages together: byte pair encoding, learnt by SentencePiece.

Sennrich et al. 2016; Kudo & Richardson 2018. Learning is deterministic: one thread, all sentences.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from typing import Any

import sentencepiece

from rewind_ray.errors import DataError, UserError

COVERAGE = 0.9999
"""Share of the text's characters that have tokens; rare letters of other scripts have none."""
UNKNOWN, START, END = 0, 1, 2
"""Tokens without text of their own, as SentencePiece numbers them, and as the vocabulary files of
Renda et al. 2020 begin."""


class Subwords:
    """A vocabulary."""

    def __init__(self, model: bytes) -> None:
        """model: what ``learnt`` gave. Raises DataError for other bytes."""
        try:
            self.processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise DataError(f"this is no vocabulary of SentencePiece: {error}") from error
        self.model = model

    def __len__(self) -> int:
        return int(self.processor.get_piece_size())

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.model).hexdigest()[:16]

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Tokens of each, without START and END."""
        encoded: list[list[int]] = self.processor.encode(list(sentences))
        return encoded

    def decode(self, sentences: Sequence[Sequence[int]]) -> list[str]:
        """Text of each; START and END have none."""
        decoded: list[str] = self.processor.decode([list(tokens) for tokens in sentences])
        return decoded


def learnt(sentences: Iterable[str], size: int) -> Subwords:
    """A vocabulary of ``size`` tokens. Raises UserError where the text doesn't give as many."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=size,
            model_type="bpe",
            character_coverage=COVERAGE,
            unk_id=UNKNOWN,
            bos_id=START,
            eos_id=END,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(
            f"no vocabulary of {size} subwords can be learnt from this text: {error}; take another "
            "number for the task option 'subwords'"
        ) from error
    return Subwords(model.getvalue())

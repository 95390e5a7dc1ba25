"""BLEU (Papineni et al. 2002) by sacreBLEU (Post 2018), of translations as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics.bleu import BLEU

TOKENIZERS = ("13a", "intl", "char", "none")


def bleu(
    translations: Sequence[str], references: Sequence[str], lowercase: bool, tokenizer: str
) -> tuple[float, str]:
    """The corpus' BLEU in [0, 1], and sacreBLEU's signature, which says how it was counted.

    tokenizer: one of TOKENIZERS.
    """
    metric: Any = BLEU(lowercase=lowercase, tokenize=tokenizer)
    score: float = metric.corpus_score(list(translations), [list(references)]).score
    return min(1.0, score / 100), str(metric.get_signature())

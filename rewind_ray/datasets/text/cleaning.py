"""Which pairs of sentences are left out of training, and why."""

from __future__ import annotations

MOST_WORDS = 80
MOST_UNEQUAL = 9
"""Words of one language for each of the other's. Both numbers: ``gnmt/wmt16_en_de.sh`` of Renda et
al. 2020, which calls Moses' ``clean-corpus-n.perl ... 1 80``, whose ratio is 9."""

REASONS = {
    "empty": "a sentence is empty",
    "long": f"a sentence has more than {MOST_WORDS} words",
    "unequal": f"one sentence has more than {MOST_UNEQUAL} times as many words as the other",
    "many subwords": "a sentence has more subwords than the task option 'longest' allows",
}


def reason_to_leave_out(source: str, target: str) -> str | None:
    """Key of REASONS, of a pair whose subwords aren't known yet; None: it stays.

    Words are what spaces separate; the published code counted Moses' tokens.
    """
    fewer, more = sorted((len(source.split()), len(target.split())))
    if fewer == 0:
        return "empty"
    if more > MOST_WORDS:
        return "long"
    return "unequal" if more > MOST_UNEQUAL * fewer else None

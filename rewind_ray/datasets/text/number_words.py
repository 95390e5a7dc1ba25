"""Numbers below a million in English and German words: a translation that needs no files."""

from __future__ import annotations

import numpy as np

LIMIT = 1_000_000
PARTS = {"train": 3000, "val": 200, "test": 200}
SEED = 20_200_306  # of the choice of numbers, the same for all

_ENGLISH = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_GERMAN = (
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn "
    "sechzehn siebzehn achtzehn neunzehn"
)
_ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_GERMAN_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"
ENGLISH, GERMAN = _ENGLISH.split(), _GERMAN.split()
ENGLISH_TENS, GERMAN_TENS = _ENGLISH_TENS.split(), _GERMAN_TENS.split()


def number_pairs() -> dict[str, tuple[list[str], list[str]]]:
    """Part -> English and German sentences; no number is in two parts."""
    drawn = np.random.RandomState(SEED).permutation(LIMIT)
    pairs, first = {}, 0
    for part, count in PARTS.items():
        numbers = [int(number) for number in drawn[first : first + count]]
        pairs[part] = ([english(n) for n in numbers], [german(n) for n in numbers])
        first += count
    return pairs


def english(number: int) -> str:
    """``three hundred and four thousand and twenty-one`` is 304021."""
    thousands, rest = divmod(number, 1000)
    if thousands == 0:
        return english_below_1000(rest)
    words = f"{english_below_1000(thousands)} thousand"
    if rest == 0:
        return words
    return f"{words} {'and ' if rest < 100 else ''}{english_below_1000(rest)}"


def english_below_1000(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    if hundreds:
        words = f"{ENGLISH[hundreds]} hundred"
        return words if rest == 0 else f"{words} and {english_below_1000(rest)}"
    if number < len(ENGLISH):
        return ENGLISH[number]
    tens, ones = divmod(number, 10)
    return ENGLISH_TENS[tens - 2] + (f"-{ENGLISH[ones]}" if ones else "")


def german(number: int) -> str:
    """``dreihundertviertausendeinundzwanzig`` is 304021."""
    thousands, rest = divmod(number, 1000)
    words = f"{german_below_1000(thousands)}tausend" if thousands else ""
    if rest or not thousands:
        words += german_below_1000(rest)
    return f"{words}s" if number % 100 == 1 else words  # eins, hunderteins, but eintausend


def german_below_1000(number: int) -> str:
    """As a part of a word: ``ein``, not ``eins``."""
    hundreds, rest = divmod(number, 100)
    if hundreds:
        return f"{GERMAN[hundreds]}hundert" + (german_below_1000(rest) if rest else "")
    if number < len(GERMAN):
        return GERMAN[number]
    tens, ones = divmod(number, 10)
    return (f"{GERMAN[ones]}und" if ones else "") + GERMAN_TENS[tens - 2]

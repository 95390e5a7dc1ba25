from __future__ import annotations

import re

import pytest

from rewind_ray.datasets.text.number_words import (
    ENGLISH,
    ENGLISH_TENS,
    GERMAN,
    GERMAN_TENS,
    LIMIT,
    english,
    german,
)


@pytest.mark.parametrize(
    ("number", "in_english", "in_german"),
    [
        (0, "zero", "null"),
        (1, "one", "eins"),
        (21, "twenty-one", "einundzwanzig"),
        (101, "one hundred and one", "einhunderteins"),
        (1_000, "one thousand", "eintausend"),
        (21_016, "twenty-one thousand and sixteen", "einundzwanzigtausendsechzehn"),
        (
            777_377,
            "seven hundred and seventy-seven thousand three hundred and seventy-seven",
            "siebenhundertsiebenundsiebzigtausenddreihundertsiebenundsiebzig",
        ),
    ],
)
def test_numbers_as_people_say_them(number: int, in_english: str, in_german: str) -> None:
    assert (english(number), german(number)) == (in_english, in_german)


def value_of_english(words: str) -> int:
    """Read word by word: hundred multiplies, thousand multiplies all before it."""
    thousands = below = 0
    for word in re.findall(r"[a-z]+", words):
        if word == "hundred":
            below *= 100
        elif word == "thousand":
            thousands, below = below, 0
        elif word in ENGLISH_TENS:
            below += 10 * (ENGLISH_TENS.index(word) + 2)
        elif word != "and":
            below += ENGLISH.index(word)
    return 1000 * thousands + below


def value_of_german(word: str) -> int:
    """Read from its parts, the longest names first."""
    before, found, rest = word.partition("tausend")
    if found:
        return 1000 * value_of_german(before) + (value_of_german(rest) if rest else 0)
    before, found, rest = word.partition("hundert")
    if found:
        return 100 * value_of_german(before) + (value_of_german(rest) if rest else 0)
    if word in GERMAN:
        return GERMAN.index(word)
    if word == "eins":
        return 1
    ones, _, tens = word.rpartition("und") if word not in GERMAN_TENS else ("", "", word)
    return 10 * (GERMAN_TENS.index(tens) + 2) + (GERMAN.index(ones) if ones else 0)


def test_words_can_be_read_back() -> None:
    for number in [*range(1200), *range(1200, LIMIT, 9_973)]:
        assert value_of_english(english(number)) == number
        assert value_of_german(german(number)) == number

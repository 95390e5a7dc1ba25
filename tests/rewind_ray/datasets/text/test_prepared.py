from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rewind_ray.datasets.text import prepared
from rewind_ray.datasets.text.cleaning import reason_to_leave_out
from rewind_ray.datasets.text.number_words import number_pairs
from rewind_ray.datasets.text.prepared import Recipe, prepare, what_was_left_out
from rewind_ray.datasets.text.subwords import END, Subwords, learnt
from tests.rewind_ray.datasets.text.test_corpora import write

SIZE = 80
RECIPE = Recipe(source_language="en", target_language="de", subwords=SIZE, longest=30)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "text"
    made.mkdir()
    for part, (source, target) in number_pairs().items():
        count = 300 if part == "train" else 20
        write(made, part, list(zip(source, target, strict=True))[:count])
    return made


def append(folder: Path, part: str, source: str, target: str) -> None:
    for language, sentence in (("en", source), ("de", target)):
        with (folder / f"{part}.{language}").open("a") as file:
            file.write(f"{sentence}\n")


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("a b", "c", None),
        ("", "c", "empty"),
        ("a", " \t", "empty"),
        ("a " * 80, "b " * 80, None),
        ("a " * 81, "b " * 80, "long"),
        ("a " * 9, "b", None),
        ("a", "b " * 10, "unequal"),
    ],
)
def test_cleaning_is_moses(source: str, target: str, reason: str | None) -> None:
    """clean-corpus-n.perl 1 80: 1 to 80 words, at most 9 times as many as the other's."""
    assert reason_to_leave_out(source, target) == reason


def test_text_comes_back_from_its_tokens(folder: Path) -> None:
    data = prepare("folder:text", str(folder), RECIPE)
    for side, language in ((data.source, "en"), (data.target, "de")):
        for part in ("train", "val", "test"):
            text = (folder / f"{part}.{language}").read_text().splitlines()
            rows = np.arange(len(side[part]))
            table = side[part].padded(rows, -1).tolist()
            tokens = [[token for token in line if token >= 0] for line in table]
            assert data.vocabulary.decode(tokens) == text
    assert data.references["test"] == tuple((folder / "test.de").read_text().splitlines())
    assert len(data.vocabulary) == SIZE


def test_the_vocabulary_is_learnt_alike_and_from_training_text_alone(folder: Path) -> None:
    first = prepare("folder:text", str(folder), RECIPE)
    append(folder, "test", "xylophones", "Xylophone")
    second = prepare("folder:text", str(folder), RECIPE)
    assert first.vocabulary.model == second.vocabulary.model
    assert first.digest != second.digest
    for _ in range(100):
        append(folder, "train", "ninety-nine times ninety-nine", "neunundneunzigmal")
    assert prepare("folder:text", str(folder), RECIPE).vocabulary.digest != first.vocabulary.digest


def test_it_is_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare("folder:text", str(folder), RECIPE)
    monkeypatch.setattr(prepared, "made", None)
    again = prepare("folder:text", str(folder), RECIPE)
    assert again.digest == first.digest
    assert np.array_equal(again.source["train"].tokens, first.source["train"].tokens)


@pytest.mark.parametrize("name", ["tokens.safetensors", "vocabulary.model", "about.json"])
def test_a_damaged_cache_is_made_anew(folder: Path, cache: Path, name: str) -> None:
    first = prepare("folder:text", str(folder), RECIPE)
    (path,) = cache.rglob(name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert prepare("folder:text", str(folder), RECIPE).digest == first.digest
    assert path.read_bytes() != bytes(content)


def test_what_is_left_out_is_counted_by_line(folder: Path) -> None:
    append(folder, "train", "", "nichts")
    append(folder, "train", "one " * 90, "eins " * 90)
    append(folder, "train", "one " * 25, "eins " * 25)
    append(folder, "train", "one", "eins " * 10)
    append(folder, "train", "two", "zwei")
    append(folder, "train", "three", "  ")
    data = prepare("folder:text", str(folder), RECIPE)
    assert {reason: lines.tolist() for reason, lines in data.left_out.items()} == {
        "empty": [301, 306],
        "long": [302],
        "many subwords": [303],
        "unequal": [304],
    }
    assert len(data.source["train"]) == len(data.target["train"]) == 301
    report = "\n".join(what_was_left_out(data))
    assert "2 pairs" in report and "301, 306" in report


def test_nothing_is_left_out_of_a_test(folder: Path) -> None:
    append(folder, "test", "twenty", "")
    with pytest.raises(ValueError, match=r"test .*line 21"):
        prepare("folder:text", str(folder), RECIPE)


def test_too_little_text_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="5000"):
        learnt(["one", "two"], 5000)
    short = Recipe(source_language="en", target_language="de", subwords=SIZE, longest=1)
    with pytest.raises(ValueError, match="longest"):
        prepare("folder:text", str(folder), short)
    with pytest.raises(ValueError, match="SentencePiece"):
        Subwords(b"\x00no model")


def test_marks_have_no_text(folder: Path) -> None:
    vocabulary = prepare("folder:text", str(folder), RECIPE).vocabulary
    (tokens,) = vocabulary.encode(["seventy-two"])
    assert END not in tokens
    assert vocabulary.decode([[1, *tokens, END]]) == ["seventy-two"]

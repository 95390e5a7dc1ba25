from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from rewind_ray.datasets.text import corpora
from rewind_ray.datasets.text.corpora import CORPORA, ParallelText, check_corpus, read_corpus

EN_DE = ("en", "de")


def write(folder: Path, part: str, pairs: list[tuple[str, str]], packed: bool = False) -> None:
    for side, language in enumerate(EN_DE):
        text = "".join(f"{pair[side]}\n" for pair in pairs).encode()
        if packed:
            with gzip.open(folder / f"{part}.{language}.gz", "wb") as file:
                file.write(text)
        else:
            (folder / f"{part}.{language}").write_bytes(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "train", [("a dog", "ein Hund"), ("a cat", "eine Katze")])
    write(tmp_path, "val", [("two", "zwei")], packed=True)
    write(tmp_path, "test", [("three", "drei")])
    return tmp_path


def read(folder: Path, languages: tuple[str, str] = EN_DE) -> ParallelText:
    return read_corpus("folder:mine", str(folder), languages)


def test_a_folder_of_ones_own_in_either_direction(folder: Path) -> None:
    text = read(folder)
    assert text.source == {"train": ["a dog", "a cat"], "val": ["two"], "test": ["three"]}
    assert text.target["train"] == ["ein Hund", "eine Katze"]
    turned = read(folder, ("de", "en"))
    assert (turned.source, turned.target) == (text.target, text.source)
    assert turned.digest != text.digest


def test_a_folder_need_not_validate(folder: Path) -> None:
    for path in folder.glob("val.*"):
        path.unlink()
    assert set(read(folder).source) == {"train", "test"}


def test_the_digest_is_of_every_sentence(folder: Path) -> None:
    digest = read(folder).digest
    assert read(folder).digest == digest
    write(folder, "test", [("three", "dreie")])
    assert read(folder).digest != digest


def test_unequal_numbers_of_lines_are_named(folder: Path) -> None:
    (folder / "train.de").write_text("ein Hund\n")
    with pytest.raises(ValueError, match=r"train\.en has 2 lines and .*train\.de 1"):
        read(folder)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "test.de").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.de"):
        read(folder)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(folder / "nowhere")
    with pytest.raises(ValueError, match="--data"):
        read_corpus("multi30k", None, EN_DE)
    with pytest.raises(ValueError, match=r"wmt16.*europarl"):
        read_corpus("wmt16_en_de", None, EN_DE)
    with pytest.raises(ValueError, match=r"cifar10.*multi30k"):
        check_corpus("cifar10")


def test_a_named_data_set_must_be_complete(folder: Path) -> None:
    with pytest.raises(ValueError, match="29,000"):
        read_corpus("multi30k", str(folder), EN_DE)


def sgml(sentences: list[str]) -> str:
    return "".join(f'<seg id="{n}">{s}</seg>\n' for n, s in enumerate(sentences, 1))


def test_wmt16s_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the task's archives hold them, three corpora one after the other; only shorter here."""
    monkeypatch.setitem(CORPORA["wmt16_en_de"].num_pairs, "val", 2)
    monkeypatch.setitem(CORPORA["wmt16_en_de"].num_pairs, "test", 1)
    (tmp_path / "training").mkdir()
    for number, stem in enumerate(("europarl-v7", "commoncrawl", "news-commentary-v11")):
        for language in EN_DE:
            path = tmp_path / "training" / f"{stem}.de-en.{language}"
            path.write_text(f"{language} {number}\n")
    (tmp_path / "dev").mkdir()
    for name, sentences in {
        "newstest2014-deen-ref.en": ["one", "two"],
        "newstest2014-deen-src.de": ["eins", "zwei"],
        "newstest2015-ende-src.en": ["three"],
        "newstest2015-ende-ref.de": ["drei"],
    }.items():
        (tmp_path / "dev" / f"{name}.sgm").write_text(sgml(sentences))
    text = read_corpus("wmt16_en_de", str(tmp_path), EN_DE)
    assert text.source["train"] == ["en 0", "en 1", "en 2"]
    assert text.target["train"] == ["de 0", "de 1", "de 2"]
    assert (text.source["val"], text.target["val"]) == (["one", "two"], ["eins", "zwei"])
    assert (text.source["test"], text.target["test"]) == (["three"], ["drei"])


def test_numbers_in_words_are_there_without_files() -> None:
    text = read_corpus("number_words", None, EN_DE)
    assert {part: len(lines) for part, lines in text.source.items()} == CORPORA[
        "number_words"
    ].num_pairs
    everything = [line for lines in text.source.values() for line in lines]
    assert len(set(everything)) == len(everything)
    with pytest.raises(ValueError, match="fr"):
        read_corpus("number_words", None, ("en", "fr"))


def test_downloads_are_what_the_files_are_looked_for_in() -> None:
    assert all(url.endswith(".tgz") for url in CORPORA["wmt16_en_de"].urls)
    assert corpora.PARTS == ("train", "val", "test")

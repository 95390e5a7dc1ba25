"""What parallel data sets there are, and where their sentences stand.

multi30k       train, val, test_2016_flickr or test: .en and .de, plain or gzipped
wmt16_en_de    the task's own files, packed or unpacked: Europarl v7, Common Crawl, News
               Commentary v11 train, newstest2014 validates, newstest2015 tests
number_words   built in
folder:PATH    train, val, test with any two languages' endings
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rewind_ray.datasets.catalog import FOLDER_PREFIX
from rewind_ray.datasets.text.files import find_text, lines_of
from rewind_ray.datasets.text.number_words import number_pairs
from rewind_ray.errors import DataError, MissingFile, UserError

PARTS = ("train", "val", "test")
Names = tuple[str, ...]
"""Of a file, any of which it may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A named data set, English to German."""

    files: dict[str, tuple[tuple[Names, Names], ...]]
    """Part -> files of source and target, which follow on each other."""
    num_pairs: dict[str, int]
    """Part -> pairs of sentences; without "train" where that is not checked."""
    num_train: int
    """Pairs that train, about: what is left of them after cleaning."""
    urls: tuple[str, ...] = ()
    """Archives with all of the files."""


def pairs_of(*stems: str) -> tuple[tuple[Names, Names], ...]:
    """One pair of files, of any of these names."""
    return ((tuple(f"{stem}.en" for stem in stems), tuple(f"{stem}.de" for stem in stems)),)


def newstest(year: int) -> tuple[tuple[Names, Names], ...]:
    """Since 2014 the same sentences are those of both directions, whichever was translated."""
    kinds = (f"newstest{year}-ende", f"newstest{year}-deen")
    english, german = (
        (f"newstest{year}.{end}", *(f"{k}-{s}.{end}.sgm" for k in kinds for s in ("src", "ref")))
        for end in ("en", "de")
    )
    return ((english, german),)


CORPORA: dict[str, Corpus] = {
    "multi30k": Corpus(
        files={
            "train": pairs_of("train"),
            "val": pairs_of("val"),
            "test": pairs_of("test_2016_flickr", "test"),
        },
        num_pairs={"train": 29_000, "val": 1_014, "test": 1_000},
        num_train=29_000,
    ),
    "wmt16_en_de": Corpus(
        files={
            "train": (
                *pairs_of("europarl-v7.de-en"),
                *pairs_of("commoncrawl.de-en"),
                *pairs_of("news-commentary-v11.de-en"),
            ),
            "val": newstest(2014),
            "test": newstest(2015),
        },
        num_pairs={"val": 3_003, "test": 2_169},
        num_train=3_534_981,  # gnmt/model/nmt/nmt.py: num_examples_per_epoch
        urls=(  # gnmt/wmt16_en_de.sh
            "http://www.statmt.org/europarl/v7/de-en.tgz",
            "http://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz",
            "http://data.statmt.org/wmt16/translation-task/training-parallel-nc-v11.tgz",
            "http://data.statmt.org/wmt16/translation-task/dev.tgz",
        ),
    ),
    "number_words": Corpus(
        files={},
        num_pairs={part: len(pairs[0]) for part, pairs in number_pairs().items()},
        num_train=3_000,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelText:
    """Sentences and their translations, line by line."""

    source: dict[str, list[str]]
    """Part -> sentences. A folder may lack "val"."""
    target: dict[str, list[str]]

    @property
    def digest(self) -> str:
        """Of all sentences."""
        digest = hashlib.sha256()
        for part in self.source:
            for sentences in (self.source[part], self.target[part]):
                digest.update(f"{part} {len(sentences)}\n".encode())
                digest.update("\n".join(sentences).encode())
        return digest.hexdigest()[:16]


def check_corpus(dataset: str) -> None:
    """Raises UserError, listing what is known, for an unknown name."""
    if dataset not in CORPORA and not dataset.startswith(FOLDER_PREFIX):
        raise UserError(
            f"unknown dataset {dataset!r}; known: {', '.join(CORPORA)}, or folder:PATH with "
            "train, val and test of both languages, such as train.en and train.de"
        )


def read_corpus(dataset: str, data: str | None, languages: tuple[str, str]) -> ParallelText:
    """The data set's sentences. data: folder of its files. languages: endings of source and target.

    Raises MissingFile, or DataError for files that aren't UTF-8 or haven't as many lines as they
    should: where, and what is wrong.
    """
    check_corpus(dataset)
    if dataset == "number_words":
        pairs = number_pairs()
        english_german = {
            part: dict(zip(("en", "de"), p, strict=True)) for part, p in pairs.items()
        }
        source, target = (
            {part: texts[_known(name)] for part, texts in english_german.items()}
            for name in languages
        )
        return ParallelText(source=source, target=target)
    if data is None:
        raise UserError(
            f"{dataset} is read from files of yours; say where they are: --data DIR"
            + _how_to_get(dataset)
        )
    folder = Path(data).expanduser().absolute()
    if (folder / dataset).is_dir():  # of several data sets
        folder = folder / dataset
    if not folder.is_dir():
        raise MissingFile(f"{folder} is no folder; --data is that of {dataset}'s files")
    if dataset not in CORPORA:
        return _read_folder(folder, languages)
    source, target = {}, {}
    for part, files in CORPORA[dataset].files.items():
        texts = [_read_pair(folder, names, dataset) for names in files]
        sides = {"en": [line for english, _ in texts for line in english]}
        sides["de"] = [line for _, german in texts for line in german]
        source[part], target[part] = (sides[_known(name)] for name in languages)
        _check_number(dataset, part, len(source[part]))
    return ParallelText(source=source, target=target)


def _known(language: str) -> str:
    if language not in ("en", "de"):
        raise UserError(f"language {language!r} of a named data set; allowed: en, de")
    return language


def _read_folder(folder: Path, languages: tuple[str, str]) -> ParallelText:
    source, target = {}, {}
    for part in PARTS:
        names = tuple((f"{part}.{language}",) for language in languages)
        if part == "val" and not any(find_text(folder, name) for name in names):
            continue
        source[part], target[part] = _read_pair(folder, (names[0], names[1]), str(folder))
    return ParallelText(source=source, target=target)


def _read_pair(
    folder: Path, names: tuple[Names, Names], dataset: str
) -> tuple[list[str], list[str]]:
    found = [find_text(folder, side) for side in names]
    for side, file in zip(names, found, strict=True):
        if file is None:
            raise MissingFile(
                f"{folder} has no {' or '.join(side)}, plain or gzipped"
                + (", in it or in a .tgz" if dataset in CORPORA else "")
                + _how_to_get(dataset)
            )
    files = [file for file in found if file is not None]
    one, other = (lines_of(file) for file in files)
    if len(one) != len(other):
        raise DataError(
            f"{files[0]} has {len(one):,} lines and {files[1]} {len(other):,}; every line of one "
            "is the translation of the same line of the other: look for the first that isn't"
        )
    return one, other


def _check_number(dataset: str, part: str, number: int) -> None:
    expected = CORPORA[dataset].num_pairs.get(part, number)
    if number != expected:
        raise DataError(
            f"{part} of {dataset} has {number:,} pairs of sentences here, and should have "
            f"{expected:,}; complete it, or call it folder:PATH"
        )


def _how_to_get(dataset: str) -> str:
    urls = CORPORA[dataset].urls if dataset in CORPORA else ()
    return f"; they are in {', '.join(urls)}" if urls else ""

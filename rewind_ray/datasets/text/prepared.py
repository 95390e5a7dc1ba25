"""A data set as tokens: read, cleaned, split into subwords, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import sentencepiece
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from rewind_ray.datasets.cache import cache_folder, locked, replacing
from rewind_ray.datasets.text.batches import Sentences, sentences_of
from rewind_ray.datasets.text.cleaning import REASONS, reason_to_leave_out
from rewind_ray.datasets.text.corpora import ParallelText, read_corpus
from rewind_ray.datasets.text.subwords import Subwords, learnt
from rewind_ray.errors import DataError, UserError
from rewind_ray.store.strict_json import seal, unseal

VERSION = 1
"""Of what is done here and in ``cleaning``; part of the cache's key."""
LINES_SHOWN = 5
AT_ONCE = 100_000
"""Sentences."""
TOKENS, VOCABULARY, ABOUT = "tokens.safetensors", "vocabulary.model", "about.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What tokens a text becomes."""

    source_language: str
    """Ending of its files' names."""
    target_language: str
    subwords: int
    """Size of the vocabulary, both languages together."""
    longest: int
    """Subwords of a sentence; longer ones aren't trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslationData:
    source: dict[str, Sentences]
    """Part -> sentences; those of "train" without what was left out."""
    target: dict[str, Sentences]
    references: dict[str, tuple[str, ...]]
    """"val" and "test" -> translations as they stand in the files."""
    vocabulary: Subwords
    left_out: dict[str, NDArray[np.int32]]
    """Key of REASONS -> lines of training pairs, from 1; a part's files follow on each other."""
    text_digest: str
    """Of all sentences in the files."""
    digest: str
    """Of all of this: text, vocabulary, and what was left out."""


def prepare(dataset: str, data: str | None, recipe: Recipe) -> TranslationData:
    """From the cache, or made and kept there. Arguments and errors as of ``read_corpus``.

    Raises DataError, too, where a sentence of "val" or "test" is empty, and UserError where nothing
    is left to train on.
    """
    text = read_corpus(dataset, data, (recipe.source_language, recipe.target_language))
    check_evaluated(dataset, text)
    settings = {
        "text": text.digest,
        "version": VERSION,
        "sentencepiece": sentencepiece.__version__,
        **asdict(recipe),
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder("text") / f"{dataset.replace(':', '-')}-{key}"
    with locked(folder):
        if found := load(folder, text):
            return found
        save(folder, *made(text, recipe), settings)
        found = load(folder, text)
    assert found is not None
    return found


def made(text: ParallelText, recipe: Recipe) -> tuple[dict[str, NDArray[np.generic]], Subwords]:
    """Tensors, as they are kept, and the vocabulary."""
    reasons = list(map(reason_to_leave_out, text.source["train"], text.target["train"]))
    lines = np.array([line for line, reason in enumerate(reasons) if not reason], dtype=np.int32)

    def both() -> Iterator[str]:
        for line in lines:
            yield text.source["train"][line]
            yield text.target["train"][line]

    vocabulary = learnt(both(), recipe.subwords)
    tensors: dict[str, NDArray[np.generic]] = {}
    train = [
        encoded(vocabulary, [side["train"][line] for line in lines])
        for side in (text.source, text.target)
    ]
    shorter, longer = np.sort([sentences.lengths for sentences in train], axis=0)
    short = (shorter > 0) & (longer <= recipe.longest)
    if not short.any():
        raise UserError(
            f"no pair of sentences is left to train on, of {len(reasons):,}: see the task option "
            f"'longest', which is {recipe.longest}"
        )
    for side, sentences, of_train in zip(
        ("source", "target"), (text.source, text.target), train, strict=True
    ):
        kept = {part: encoded(vocabulary, sentences[part]) for part in sentences.keys() - {"train"}}
        for part, tokens in (kept | {"train": of_train.only(short)}).items():
            tensors[f"{side}/{part}/tokens"] = tokens.tokens
            tensors[f"{side}/{part}/ends"] = tokens.ends
    for reason in REASONS:
        found = [line + 1 for line, its_reason in enumerate(reasons) if its_reason == reason]
        tensors[f"left_out/{reason}"] = np.array(found, dtype=np.int32)
    tensors["left_out/many subwords"] = lines[~short] + 1
    return tensors, vocabulary


def encoded(vocabulary: Subwords, sentences: list[str]) -> Sentences:
    """Some at a time: millions of lists of tokens would take gigabytes."""
    some = [
        sentences_of(vocabulary.encode(sentences[first : first + AT_ONCE]))
        for first in range(0, len(sentences), AT_ONCE)
    ]
    ends = np.cumsum(np.concatenate([np.zeros(0, np.int64), *(each.lengths for each in some)]))
    return Sentences(np.concatenate([np.zeros(0, np.int32), *(each.tokens for each in some)]), ends)


def save(
    folder: Path,
    tensors: dict[str, NDArray[np.generic]],
    vocabulary: Subwords,
    settings: dict[str, object],
) -> None:
    """``about.json`` last: without it there is nothing."""
    with replacing(folder / TOKENS) as path:
        save_file(tensors, path)
    with replacing(folder / VOCABULARY) as path:
        path.write_bytes(vocabulary.model)
    digests = {name: file_digest(folder / name) for name in (TOKENS, VOCABULARY)}
    with replacing(folder / ABOUT) as path:
        path.write_bytes(seal({"made_from": settings, "sha256": digests}))


def load(folder: Path, text: ParallelText) -> TranslationData | None:
    """None where it isn't there, or isn't whole."""
    try:
        digests = unseal((folder / ABOUT).read_bytes())["sha256"]
        if {name: file_digest(folder / name) for name in digests} != digests:
            return None
        tensors = load_file(folder / TOKENS)
        vocabulary = Subwords((folder / VOCABULARY).read_bytes())
    except (FileNotFoundError, KeyError, TypeError, ValueError, SafetensorError):
        return None
    source, target = (
        {
            part: Sentences(tensors[f"{side}/{part}/tokens"], tensors[f"{side}/{part}/ends"])
            for part in text.source
        }
        for side in ("source", "target")
    )
    return TranslationData(
        source=source,
        target=target,
        references={p: tuple(lines) for p, lines in text.target.items() if p != "train"},
        vocabulary=vocabulary,
        text_digest=text.digest,
        left_out={reason: tensors[f"left_out/{reason}"] for reason in REASONS},
        digest=hashlib.sha256("".join([text.digest, *digests.values()]).encode()).hexdigest()[:16],
    )


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_evaluated(dataset: str, text: ParallelText) -> None:
    """None of these can be left out: scores are of whole sets."""
    for part in text.source.keys() - {"train"}:
        if not text.source[part]:
            raise DataError(f"{part} of {dataset} has no sentences")
        for line, pair in enumerate(zip(text.source[part], text.target[part], strict=True), 1):
            if not all(sentence.strip() for sentence in pair):
                raise DataError(
                    f"{part} of {dataset}, line {line}: a sentence is empty; remove the line from "
                    "both files"
                )


def what_was_left_out(data: TranslationData) -> list[str]:
    """A line for every reason that there was, with the first of the lines."""
    found = []
    for reason, lines in data.left_out.items():
        if len(lines):
            first = ", ".join(f"{line}" for line in lines[:LINES_SHOWN])
            more = ", ..." if len(lines) > LINES_SHOWN else ""
            found.append(f"{len(lines):,} pairs: {REASONS[reason]} (lines {first}{more})")
    return found

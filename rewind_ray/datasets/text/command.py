"""Prepares parallel text before any training, and says what it found.

Stages and sweeps do the same when they first need the text; the result is kept in the cache.

Examples:
  rewind-ray prepare-text multi30k --data /data/multi30k --subwords 6000
  rewind-ray prepare-text wmt16_en_de --data /data/wmt16 --download
  rewind-ray prepare-text folder:/data/letters --source fr --target en
"""

from __future__ import annotations

import shutil
import sys
import urllib.request
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

from rewind_ray.command_line import exit_code, run_cli
from rewind_ray.datasets.cache import replacing
from rewind_ray.datasets.catalog import FOLDER_PREFIX
from rewind_ray.datasets.text.corpora import CORPORA, check_corpus
from rewind_ray.datasets.text.prepared import Recipe, prepare, what_was_left_out
from rewind_ray.errors import UserError
from rewind_ray.task_options import TRANSLATION

PATIENCE_SECONDS = 60
"""Without a byte, before a download is given up."""


def text_command(
    dataset: Annotated[
        Positional[str], arg(metavar="DATASET", help="multi30k, wmt16_en_de or folder:PATH.")
    ],
    *,
    data: Annotated[
        str | None, arg(metavar="DIR", help="Folder of its files; not of folder:PATH.")
    ] = None,
    source: Annotated[str, arg(help="Language, as the files' names end.")] = "en",
    target: Annotated[str, arg(help="Language that is translated into.")] = "de",
    subwords: Annotated[int, arg(metavar="N", help="Size of the vocabulary.")] = int(
        TRANSLATION["subwords"]
    ),
    longest: Annotated[
        int, arg(metavar="N", help="Subwords of a sentence; longer ones are left out.")
    ] = int(TRANSLATION["longest"]),
    download: Annotated[bool, arg(help="Fetch what is missing of the archives into DIR.")] = False,
) -> None:
    check_corpus(dataset)
    if dataset.startswith(FOLDER_PREFIX):
        data = dataset.removeprefix(FOLDER_PREFIX)
        dataset = FOLDER_PREFIX + Path(data).name
    if download:
        fetch(dataset, data)
    recipe = Recipe(
        source_language=source, target_language=target, subwords=subwords, longest=longest
    )
    found = prepare(dataset, data, recipe)
    for part, sentences in sorted(found.source.items()):
        tokens = [side[part].lengths.mean() for side in (found.source, found.target)]
        mean = " and ".join(f"{length:.1f}" for length in tokens)
        print(f"{part:5} {len(sentences):9,} pairs, of {mean} subwords on average")
    for line in what_was_left_out(found):
        print(f"left out of train: {line}")
    print(f"vocabulary of {len(found.vocabulary):,} subwords; digest {found.digest}")


def fetch(dataset: str, data: str | None) -> None:
    """The archives that aren't in the folder yet; each whole or not at all."""
    urls = CORPORA[dataset].urls if dataset in CORPORA else ()
    if not urls:
        raise UserError(f"--download of {dataset}, which can't be fetched; put its files into DIR")
    if data is None:
        raise UserError("--download without --data; say which folder it goes to")
    for url in urls:
        target = Path(data) / url.rpartition("/")[2]
        if target.exists():
            continue
        print(f"fetching {url}", file=sys.stderr)
        with (
            replacing(target) as path,
            urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer,
            path.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)


def main(arguments: Sequence[str]) -> int:
    """Its exit code."""
    return exit_code(
        lambda: run_cli(
            partial(tyro.cli, text_command),
            "rewind-ray prepare-text",
            __doc__,
            arguments or ["--help"],
        )
    )

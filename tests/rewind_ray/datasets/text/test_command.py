from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rewind_ray.datasets.text.command import main
from rewind_ray.datasets.text.corpora import CORPORA
from tests.rewind_ray.datasets.text.test_corpora import write
from tests.rewind_ray.datasets.text.test_files import archive

SENTENCES = [(f"count to {number}", f"zähle bis {number}") for number in range(40)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "counting"
    folder.mkdir()
    write(folder, "train", [*SENTENCES, ("", "leer")])
    write(folder, "test", SENTENCES[:3])
    assert main([f"folder:{folder}", "--subwords", "50"]) == 0
    printed = capsys.readouterr().out
    assert "train        40 pairs" in printed and "test          3 pairs" in printed
    assert "1 pairs: a sentence is empty (lines 41)" in printed
    assert "vocabulary of 50 subwords" in printed
    assert main([f"folder:{folder}", "--subwords", "50", "--target", "fr"]) == 2
    assert "train.fr" in capsys.readouterr().err


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address that a server gives its files under."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_archives_are_fetched_once(
    served: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """WMT16's, shorter, from a server here; training text from one archive, tests from another."""
    folder, address = served
    stems = ("europarl-v7", "commoncrawl", "news-commentary-v11")
    texts = {
        f"training/{stem}.de-en.{language}": "".join(f"{pair[side]}\n" for pair in SENTENCES)
        for stem in stems
        for side, language in enumerate(("en", "de"))
    }
    archive(folder / "train.tgz", {name: text.encode() for name, text in texts.items()})
    sgml = {
        f"dev/newstest{year}-{kind}.sgm": f'<seg id="1">{kind} {year}</seg>\n'.encode()
        for year in (2014, 2015)
        for kind in ("deen-ref.en", "deen-src.de")
    }
    archive(folder / "dev.tgz", sgml)
    corpus = CORPORA["wmt16_en_de"]
    urls = tuple(f"{address}/{name}.tgz" for name in ("train", "dev"))
    shorter = type(corpus)(
        files=corpus.files, num_pairs={"val": 1, "test": 1}, num_train=120, urls=urls
    )
    monkeypatch.setitem(CORPORA, "wmt16_en_de", shorter)
    target = tmp_path / "wmt16"
    command = ["wmt16_en_de", "--data", str(target), "--subwords", "50", "--download"]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "train       120 pairs" in printed.out and printed.err.count("fetching") == 2
    assert main(command) == 0
    assert "fetching" not in capsys.readouterr().err

    (target / "dev.tgz").unlink()
    (folder / "dev.tgz").unlink()
    assert main(command) == 1  # reported: there is no such file
    assert not list(target.glob("*.tmp")) and not (target / "dev.tgz").exists()


def test_what_cannot_be_fetched_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["multi30k", "--data", "/nowhere", "--download"]) == 2
    assert "multi30k" in capsys.readouterr().err
    assert main(["wmt16_en_de", "--download"]) == 2
    assert "--data" in capsys.readouterr().err

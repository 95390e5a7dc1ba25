"""Against sacreBLEU's own command line, on the same files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rewind_ray.tasks.bleu import TOKENIZERS, bleu

REFERENCES = [
    "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    "Ein kleines Mädchen klettert in ein Spielhaus aus Holz.",
    "Der Hund (ein brauner) läuft 3,5 km; danach schläft er.",
]
TRANSLATIONS = [
    "zwei junge Männer sind draußen in der Nähe vieler Büsche .",
    "Ein kleines Mädchen klettert in ein Haus aus Holz.",
    "Der Hund (braun) läuft 3,5 km; dann schläft er",
]


def of_command(folder: Path, *options: str) -> dict[str, object]:
    for name, lines in (("references", REFERENCES), ("translations", TRANSLATIONS)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    command = [sys.executable, "-m", "sacrebleu", "references", "-i", "translations", "-w", "6"]
    done = subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, check=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("lowercase", "tokenizer"), [(False, "13a"), (True, "intl")])
def test_it_is_the_command_lines(tmp_path: Path, lowercase: bool, tokenizer: str) -> None:
    found, signature = bleu(TRANSLATIONS, REFERENCES, lowercase, tokenizer)
    expected = of_command(tmp_path, "--tokenize", tokenizer, *(["-lc"] if lowercase else []))
    assert 100 * found == pytest.approx(float(str(expected["score"])), abs=1e-4)
    assert signature == expected["signature"]
    assert 0.2 < found < 0.8


def test_tokenizers_and_case_make_a_difference() -> None:
    found = {
        bleu(TRANSLATIONS, REFERENCES, lowercase, tokenizer)[0]
        for tokenizer in TOKENIZERS
        for lowercase in (False, True)
    }
    assert len(found) == 6  # by 13a and intl the same here


def test_the_same_text_is_1_and_none_is_0() -> None:
    assert bleu(REFERENCES, REFERENCES, False, "13a")[0] == 1
    assert bleu([""] * 3, REFERENCES, False, "13a")[0] == 0

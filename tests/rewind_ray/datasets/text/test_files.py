from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from rewind_ray.datasets.text.files import find_text, lines_of

SGML = """<srcset setid="newstest2014" srclang="any">
<doc sysid="ref" docid="1"><p>
<seg id="1">Gutach: Increased safety &amp; light</seg>
<seg id="2">They are
 two lines in the file.</seg>
</p></doc></srcset>
"""


def lines(folder: Path, *names: str) -> list[str]:
    found = find_text(folder, names)
    assert found is not None
    return lines_of(found)


def archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))


def test_plain_packed_and_archived_files_have_the_same_lines(tmp_path: Path) -> None:
    text = "Zwölf Boxkämpfer\njagen Viktor\n"
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.de").write_text(text)
    with gzip.open(tmp_path / "b.de.gz", "wb") as packed:
        packed.write(text.encode())
    archive(tmp_path / "all.tgz", {"training/c.de": text.encode(), "training/c.en": b"x\n"})
    for name in ("a.de", "b.de", "c.de"):
        assert lines(tmp_path, name) == ["Zwölf Boxkämpfer", "jagen Viktor"]
    assert find_text(tmp_path, ("d.de",)) is None
    assert lines(tmp_path, "d.de", "c.en") == ["x"]


def test_segments_of_sgml_are_lines(tmp_path: Path) -> None:
    (tmp_path / "t.sgm").write_text(SGML)
    assert lines(tmp_path, "t.sgm") == [
        "Gutach: Increased safety & light",
        "They are two lines in the file.",
    ]


def test_segments_without_an_end_take_no_time(tmp_path: Path) -> None:
    """Minutes, if each looked for its own end."""
    (tmp_path / "t.sgm").write_text("<SEG id=1>a</seg> <seg>" * 200_000 + "<seg>b" * 200_000)
    assert lines(tmp_path, "t.sgm") == ["a", *["<SEG id=1>a"] * 199_999]


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    """U+2028, U+0085 and form feeds are within sentences of Common Crawl."""
    content = "\ufeffone\u2028still one\r\ntwo\x0c\x85\n\nfour, without an end"
    (tmp_path / "t.en").write_bytes(content.encode())
    found = lines(tmp_path, "t.en")
    assert found == ["one\u2028still one", "two\x0c\x85", "", "four, without an end"]


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.de").write_bytes(b"gut\nsch\xf6n\n")
    with pytest.raises(ValueError, match=r"t\.de, line 2: byte 0xf6"):
        lines(tmp_path, "t.de")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "t.de.gz", "wb") as packed:
        packed.write(b"x\n" * 10_000)
    whole = (tmp_path / "t.de.gz").read_bytes()
    for content in (whole[: len(whole) // 2], b"no gzip"):
        (tmp_path / "t.de.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"t\.de\.gz"):
            lines(tmp_path, "t.de")

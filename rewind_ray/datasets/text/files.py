"""Lines of text files: plain, gzipped, in a tar archive, or segments of SGML."""

from __future__ import annotations

import gzip
import html
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from rewind_ray.errors import DataError

ARCHIVES = ("*.tgz", "*.tar.gz")
SEGMENT, SEGMENT_END = (re.compile(tag, re.IGNORECASE) for tag in (r"<seg\b[^>]*>", "</seg>"))


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFile:
    path: Path
    """Of the file, or of the archive that it is in."""
    member: str = ""
    """Its name within the archive; empty for a file by itself."""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def read(self) -> bytes:
        """Unpacked. Raises DataError where it is no archive."""
        try:
            if self.member:
                with tarfile.open(self.path) as archive:
                    content = archive.extractfile(self.member)
                    assert content is not None  # as find_text saw it
                    return content.read()
            if self.path.suffix == ".gz":
                with gzip.open(self.path) as packed:
                    return packed.read()
        except (tarfile.TarError, gzip.BadGzipFile, EOFError) as error:
            raise DataError(f"{self} can't be unpacked: {error}; fetch it again") from error
        return self.path.read_bytes()


def find_text(folder: Path, names: tuple[str, ...]) -> TextFile | None:
    """The first of these names that is in the folder or below it: as a file, gzipped, or as a
    member of an archive that lies in the folder itself."""
    for name in names:
        for wanted in (name, f"{name}.gz"):
            found = [path for path in sorted(folder.rglob(Path(wanted).name)) if path.is_file()]
            if found:
                return TextFile(path=found[0])
    for path in sorted(path for pattern in ARCHIVES for path in folder.glob(pattern)):
        with tarfile.open(path) as archive:
            members = [member.name for member in archive if member.isfile()]
        for name in names:
            for member in members:
                if Path(member).name == Path(name).name:
                    return TextFile(path=path, member=member)
    return None


def lines_of(file: TextFile) -> list[str]:
    """Its lines, without their ends; of SGML its segments, one a line.

    Only a line feed ends a line, whatever else Unicode calls one: the two languages' lines belong
    together by their number. Raises DataError, naming the line, for what isn't UTF-8.
    """
    content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{file}, line {line}: byte {content[error.start]:#04x} is not UTF-8; convert it, for "
            "example with iconv -f latin1 -t utf-8"
        ) from error
    if Path(file.member or file.path).name.removesuffix(".gz").endswith(".sgm"):
        parts = [SEGMENT.split(part, maxsplit=1) for part in SEGMENT_END.split(text)[:-1]]
        return [" ".join(html.unescape(part[1]).split()) for part in parts if len(part) == 2]
    lines = text.split("\n")
    if lines[-1] == "":  # what follows the last line feed
        lines.pop()
    return [line.removesuffix("\r") for line in lines]

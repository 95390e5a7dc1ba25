"""``python -m analysis.draw.papers FOLDER``: every figure from its paper's results, for docs/."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from analysis.draw.papers import FIGURES, make
from analysis.draw.papers.content import PaperChart, write_content

DPI = 130
COLOURS = 256
"""Of a palette, which halves the files."""


def main(folder: Path) -> None:
    for name in FIGURES:
        content = make(name, None)
        if isinstance(content, PaperChart):
            path = folder / f"{name}.png"
            write_content(content, str(path), DPI)
            with Image.open(path, formats=("PNG",)) as image:
                small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(path, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m analysis.draw.papers FOLDER")
    main(Path(sys.argv[1]))

"""``rewind-ray analysis figure``"""

from __future__ import annotations

import logging
from typing import Annotated, Literal

from pyarrow import fs
from tyro.conf import Positional, arg

from analysis.draw.papers import FIGURES, figure_named, make
from analysis.draw.papers.content import FORMATS, as_text, write_content
from analysis.draw.papers.scenes import Source
from analysis.table.rows import read_rows, suffix_of
from rewind_ray.errors import UserError
from rewind_ray.store.files import kind_of
from rewind_ray.store.opening import open_storage

log = logging.getLogger(__name__)

PUBLISHED = "published"

Name = Annotated[
    Positional[str], arg(metavar="NAME", help="As renda2020.fig3 or wang2023.table4; see --list.")
]
RowsOrPublished = Annotated[
    Positional[str],
    arg(
        metavar="ROWS",
        help=f"A .csv, a .parquet, a storage root, or the word {PUBLISHED}: the paper's own "
        "results.",
    ),
]
Overlay = Annotated[
    Literal["published"] | None,
    arg(
        metavar=PUBLISHED,
        help="Lay the published results over one's own.",
        help_behavior_hint="(optional)",
    ),
]
FigureOut = Annotated[
    str | None,
    arg(
        metavar="FILE",
        help=f"What is drawn as {', '.join(FORMATS)}.",
        help_behavior_hint="(optional; else text)",
    ),
]
List = Annotated[bool, arg(help="Only list the figures, a line each.")]


def figure_command(
    name: Name = "",
    source: RowsOrPublished = PUBLISHED,
    *,
    overlay: Overlay = None,
    out: FigureOut = None,
    list: List = False,
) -> None:
    """A figure or table of a paper, from any rows.

    From one's own rows, from the paper's published ones, or from both: own ones are then solid,
    published ones paler, dashed and hollow. A panel is drawn for whatever the rows have of the
    paper's networks; if that is nothing, for other networks that were pruned the same way. What is
    missing is said. Below stands how fair the comparison is. A .csv holds the numbers drawn; in a
    .pdf, figures with many panels have several pages.

    Examples:
      rewind-ray analysis figure renda2020.fig3 published --out fig3.pdf
      rewind-ray analysis figure renda2020.fig2 results --overlay published --out fig2.svg
      rewind-ray analysis figure wang2023.table4 rows.parquet
      rewind-ray analysis figure --list
    """
    if list:
        width = max(map(len, FIGURES))
        print("\n".join(f"{known:{width}}  {FIGURES[known].says}" for known in FIGURES), flush=True)
        return
    figure_named(name)
    if out:
        suffix_of(out, FORMATS)
    if source == PUBLISHED and overlay:
        raise UserError("--overlay published lies over rows of one's own; give these as ROWS")
    own = None if source == PUBLISHED else own_source(source)
    content = make(name, own, overlay=overlay is not None)
    if content.missing:
        log.warning("%s shows, and these rows don't have: %s", name, "; ".join(content.missing))
    if out:
        write_content(content, out)
    else:
        print(as_text(content), flush=True)


def own_source(source: str) -> Source:
    rows = read_rows(source)
    filesystem, path = open_storage(source)
    folder = kind_of(filesystem, path) == fs.FileType.Directory
    return Source(rows=rows, storage=source if folder else "")

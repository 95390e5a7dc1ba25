"""Every figure and table of the papers, from own rows, from published ones, or from both.

renda2020, mikler2022, wang2023    which figures there are, and how each is made
scenes                             a source's points, and which of them a panel shows
content                            a chart or a table as data; as text, csv and picture
tables, notes                      what tables and captions have in common
registry                           a figure's name and maker
"""

from __future__ import annotations

from functools import cache

from analysis.draw.papers import mikler2022, renda2020, wang2023
from analysis.draw.papers.content import Content
from analysis.draw.papers.registry import PaperFigure
from analysis.draw.papers.scenes import Source
from analysis.reference import published
from rewind_ray.errors import UserError

FIGURES: dict[str, PaperFigure] = {
    **renda2020.FIGURES,
    **mikler2022.FIGURES,
    **wang2023.FIGURES,
}

PAPERS = {
    "renda2020": renda2020.PAPER,
    "mikler2022": mikler2022.PAPER,
    "wang2023": wang2023.PAPER,
}


def figure_named(name: str) -> PaperFigure:
    """Raises UserError, listing the known ones, for an unknown name."""
    if name not in FIGURES:
        raise UserError(f"unknown figure {name!r}; known: {', '.join(FIGURES)}")
    return FIGURES[name]


@cache
def published_source(paper: str) -> Source:
    return Source(rows=published(paper), paper=PAPERS[paper])


def make(name: str, own: Source | None, *, overlay: bool = False) -> Content:
    """own: None for published results alone. overlay: draw these beside own ones."""
    figure = figure_named(name)
    theirs = published_source(name.partition(".")[0])
    if own is None:
        return figure.make(theirs, None)
    return figure.make(own, theirs if overlay else None)

"""What the report says, section by section, as data; how it looks is said elsewhere.

To add a section: write a function of ``Material`` that gives a ``Section``, or None where there is
nothing to say, and put it into SECTIONS at its place.
"""

from __future__ import annotations

from collections.abc import Callable

from analysis.questions.search_cost import sharing_of
from analysis.report.blocks import Block, Chart, Section, Words
from analysis.report.judgements import claims, comparison, fair
from analysis.report.material import Material
from analysis.report.progress import progress
from analysis.report.reproduction import reproduction
from analysis.report.summary import seeds_of, summary
from analysis.report.words import named, several
from analysis.table.points import how_chosen as how_times_were_chosen
from analysis.table.spreads import marks_text


def sections_of(material: Material) -> list[Section]:
    found = (section(material) for section in SECTIONS)
    return [section for section in found if section is not None]


def title_of(material: Material) -> str:
    pruned = material.rows[material.rows["level"] > 0]
    rows = material.rows if pruned.empty else pruned
    networks = named(rows["network"], "networks")
    return f"Pruning and retraining {networks} on {named(rows['dataset'], 'data sets')}"


def subtitle_of(material: Material) -> str:
    rows = material.rows
    finished = rows["finished_at"].dropna().astype("str")
    parts = [
        f"{several(material.points['line'].nunique(), 'way')} of retraining",
        seeds_of(material.points),
        several(int((rows["level"] > 0).sum()), "pruned network"),
        *([f"last result {finished.max()[:10]}"] if len(finished) else []),
    ]
    return " · ".join(part for part in parts if part)


def frontier(material: Material) -> Section | None:
    if material.points.empty:
        return None
    chosen = how_times_were_chosen(material.points[material.points["chosen"].astype(bool)])
    text = (
        "Lines join the points that no other of their method beats in both directions, by test "
        f"accuracy; hollow marks are beaten. {chosen} {marks_text(material.points, 'bars')} The "
        "dashed line is the dense network. Point at a mark, or reach it with Tab and the arrow "
        "keys, to see the stages behind it; click to keep it."
    ).replace("  ", " ")
    blocks = (Words(text=text), Chart(kind="frontier"))
    return Section(id="frontier", title="Accuracy, size and speed", blocks=blocks)


def search_cost(material: Material) -> Section | None:
    if material.points.empty:
        return None
    text = (
        "What an accuracy cost to find: all retraining of the chain that leads to it, the dense "
        "network's training left out. Each chart is of one compression. Lines join all retraining "
        "times that were tried, not only good ones; among many the best one is partly luck."
    )
    blocks: list[Block] = [Words(text=text), Chart(kind="cost")]
    sharing = sharing_of(material.rows)
    if sharing:
        saved = (
            f"Sharing stages saved a factor of {sharing.factor:.2f}: {sharing.epochs_trained:,} "
            f"epochs were trained; one by one, these results need {sharing.epochs_alone:,}."
        )
        blocks.append(Words(text=saved, kind="note"))
    return Section(id="search-cost", title="Search cost", blocks=tuple(blocks))


def curves(material: Material) -> Section | None:
    title = "Learning curves"
    if not material.stored:
        text = (
            "A table of rows holds no learning curves: make the report from the storage root that "
            "the rows come from."
        )
        return Section(id="curves", title=title, blocks=(Words(text=text, kind="note"),))
    if material.curves is None or material.curves.empty:
        none = Words(text="There are no learning curves of these rows yet.", kind="note")
        return Section(id="curves", title=title, blocks=(none,))
    text = (
        "Chains from their dense network through every pruning step; epochs count from the end "
        "of dense training. Medians over seeds, one retraining time a method: the chosen one."
    )
    blocks: list[Block] = [Words(text=text), Chart(kind="curves")]
    shown = material.curves["chain"].nunique()
    if shown < material.chains:
        left_out = (
            f"This page holds the curves of {shown:,} of {material.chains:,} chains: of each "
            "network the lowest and the highest compression and some between, seed after seed."
        )
        blocks.append(Words(text=left_out, kind="note"))
    return Section(id="curves", title=title, blocks=tuple(blocks))


def points(material: Material) -> Section | None:
    if material.points.empty:
        return None
    text = (
        "A point takes together the results that differ in nothing but the seed. "
        f"{marks_text(material.points, 'ends')} Accuracies are in "
        "percent, the change is against the same seeds' dense networks, retraining and search cost "
        "are in epochs."
    )
    return Section(id="points", title="All points", blocks=(Words(text=text), Chart(kind="table")))


SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    summary,
    progress,
    frontier,
    search_cost,
    comparison,
    claims,
    fair,
    curves,
    points,
    reproduction,
)

"""The report as one page of HTML that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from html import escape
from importlib import resources
from string import Template
from typing import Any

from analysis.report.blocks import Block, CellText, Chart, Code, Facts, Section, Table, Words

SCRIPTS = (
    "elements.js",
    "chart.js",
    "data.js",
    "filters.js",
    "charts.js",
    "curves.js",
    "tip.js",
    "table.js",
    "page.js",
)
"""Parts of one module, in the order in which they need each other."""


def page(
    *, title: str, subtitle: str, source: str, sections: list[Section], data: dict[str, Any]
) -> str:
    """Scripts run, and styles apply, only if they are the page's own: their digest is in its
    policy. Names that come from data stay text, whatever they are."""
    css = _file("page.css")
    js = "\n".join(map(_file, SCRIPTS))
    return Template(_file("page.html")).substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        source=escape(source),
        links="\n".join(
            f'<li><a href="#{each.id}">{escape(each.title)}</a></li>' for each in sections
        ),
        sections="\n".join(map(section_html, sections)),
        css=css,
        css_hash=_digest(css),
        js=js,
        js_hash=_digest(js),
        data=script_json(data),
    )


def script_json(data: dict[str, Any]) -> str:
    """JSON that can't end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def section_html(section: Section) -> str:
    heading = f'<h2 id="{section.id}-heading">{escape(section.title)}</h2>'
    blocks = "\n".join(block_html(block) for block in section.blocks)
    return (
        f'<section id="{section.id}" aria-labelledby="{section.id}-heading">\n'
        f"{heading}\n{blocks}\n</section>"
    )


def block_html(block: Block) -> str:
    return BLOCKS[type(block)](block)


def _words(words: Words) -> str:
    kind = f' class="{words.kind}"' if words.kind else ""
    return f"<p{kind}>{escape(words.text)}</p>"


def _facts(facts: Facts) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in facts.texts)
    return f'<ul class="facts">{items}</ul>'


def _code(code: Code) -> str:
    return f"<pre><code>{escape(code.text)}</code></pre>"


def _table(table: Table) -> str:
    classes = [' class="number"' if name in table.numeric else "" for name in table.columns]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for name, kind in zip(table.columns, classes, strict=True)
    )
    lines = "\n".join(_line(line, table.columns, classes) for line in table.lines)
    caption = escape(table.caption)
    kind = ' class="cards"' if any(isinstance(cell, tuple) for cell in table.lines[0]) else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table{kind}>\n'
        f"<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{lines}\n</tbody>\n</table></div>"
    )


def _line(line: tuple[CellText, ...], columns: tuple[str, ...], classes: list[str]) -> str:
    first, *others = line
    if not others and len(columns) > 1:
        return f'<tr><th scope="rowgroup" colspan="{len(columns)}">{_cell(first)}</th></tr>'
    cells = [f'<th scope="row">{_cell(first)}</th>']
    cells += [
        f'<td{kind} data-label="{escape(name)}">{_cell(cell)}</td>'
        for cell, name, kind in zip(others, columns[1:], classes[1:], strict=True)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(cell: CellText) -> str:
    if isinstance(cell, str):
        return escape(cell)
    main, detail = cell
    return f"<b>{escape(main)}</b><small>{escape(detail)}</small>"


def _chart(chart: Chart) -> str:
    return f'<div data-chart="{chart.kind}"></div>'


BLOCKS: dict[type, Callable[[Any], str]] = {
    Words: _words,
    Facts: _facts,
    Code: _code,
    Table: _table,
    Chart: _chart,
}


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"

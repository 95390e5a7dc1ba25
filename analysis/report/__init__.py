"""The report: one page with what a sweep found, in words, tables and charts."""

from __future__ import annotations

from analysis.report.material import Material, gather
from analysis.report.payload import payload_of
from analysis.report.render import page
from analysis.report.sections import sections_of, subtitle_of, title_of

__all__ = ["gather", "report_html"]


def report_html(material: Material) -> str:
    return page(
        title=title_of(material),
        subtitle=subtitle_of(material),
        source=material.source,
        sections=sections_of(material),
        data=payload_of(material),
    )

"""The report: one page that tells what a sweep found, and shows it."""

from __future__ import annotations

from analysis.report.content import sections_of, subtitle_of, title_of
from analysis.report.material import Material, gather
from analysis.report.payload import payload_of
from analysis.report.render import page

__all__ = ["gather", "report_html"]


def report_html(material: Material) -> str:
    return page(
        title=title_of(material),
        subtitle=subtitle_of(material),
        source=material.source,
        sections=sections_of(material),
        data=payload_of(material),
    )

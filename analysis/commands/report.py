"""``rewind-ray analysis report``"""

from __future__ import annotations

import logging
from typing import Annotated

from tyro.conf import arg

from analysis.commands.options import Rows
from analysis.report import gather, report_html
from analysis.table.rows import suffix_of, write_file

log = logging.getLogger(__name__)

Page = Annotated[str, arg(metavar="FILE", help="Where the page goes: an .html.")]


def report_command(source: Rows, *, out: Page) -> None:
    """One page with everything that the rows show.

    One self-contained .html, to open in any browser, mail or print: a summary in words, frontiers,
    search cost, learning curves, a table of all points, and how to make it all again. Learning
    curves and the progress of sweeps need a storage root; a sweep may still be running.

    Examples:
      rewind-ray analysis report results --out report.html
      rewind-ray analysis report rows.parquet --out report.html
    """
    suffix_of(out, [".html"])
    page = report_html(gather(source)).encode()
    write_file(out, page)
    log.info("wrote %s, %.1f MB", out, len(page) / 1e6)

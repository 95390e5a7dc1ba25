"""``rewind-ray analysis reference``"""

from __future__ import annotations

import logging
from typing import Annotated

from tyro.conf import Positional, arg

from analysis.commands.options import TableFile
from analysis.reference import PUBLISHED, published
from analysis.table.rows import TABLES, suffix_of, write_rows

log = logging.getLogger(__name__)

Paper = Annotated[Positional[str], arg(metavar="PAPER", help=f"One of {', '.join(PUBLISHED)}.")]


def reference_command(paper: Paper, *, out: TableFile) -> None:
    """The published results of a paper as rows.

    All other commands work on them as on one's own. The column "source" names the table or figure
    of each row.

    Examples:
      rewind-ray analysis reference renda2020 --out renda2020.parquet
      rewind-ray analysis reference mikler2022 --out mikler2022.csv
    """
    suffix_of(out, TABLES)
    rows = published(paper)
    write_rows(rows, out)
    log.info("wrote %d rows to %s", len(rows), out)

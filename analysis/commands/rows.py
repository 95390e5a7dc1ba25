"""``rewind-ray analysis rows``"""

from __future__ import annotations

import logging

from analysis.commands.options import Storage, Sweep, TableFile
from analysis.table.rows import TABLES, read_rows, suffix_of, write_rows

log = logging.getLogger(__name__)


def rows_command(*, storage: Storage, sweep: Sweep = None, out: TableFile) -> None:
    """Gather the rows of a storage root in one table.

    Examples:
      rewind-ray analysis rows --storage results --out rows.csv
      rewind-ray analysis rows --storage s3://bucket/folder --sweep quickstart --out rows.parquet
    """
    suffix_of(out, TABLES)
    rows = read_rows(storage, sweep)
    write_rows(rows, out)
    log.info("wrote %d rows to %s", len(rows), out)

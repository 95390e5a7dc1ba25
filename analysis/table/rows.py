"""Rows in from a csv, a parquet or a storage root, and out again."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from numpy.typing import NDArray
from pyarrow import compute as pc
from pyarrow import csv as pa_csv
from pyarrow import fs

from analysis.table.columns import DETAILS, BadRows, as_rows
from analysis.table.details import details_of, keep_what_differs
from analysis.table.groups import first_lines, group_numbers, is_in
from rewind_ray.errors import MissingFile, UserError
from rewind_ray.result import COLUMNS, ResultRow, row_to_dict
from rewind_ray.store.files import kind_of, read_bytes, write_atomically
from rewind_ray.store.ledger import DamagedRecord, Ledger
from rewind_ray.store.opening import open_storage
from rewind_ray.store.side_by_side import side_by_side
from rewind_ray.text import printable

log = logging.getLogger(__name__)

KEY = ["stage_id", "train_epochs"]


def read_rows(source: str, sweep: str | None = None) -> pd.DataFrame:
    """The rows of a .csv, a .parquet or a storage root, checked; of one ``sweep`` only, if named.

    Raises MissingFile if nothing is there, UserError for a wrong name, and BadRows where
    the content can't be used.
    """
    filesystem, path = open_storage(source)
    kind = kind_of(filesystem, path)
    if kind == fs.FileType.NotFound:
        raise MissingFile(f"{source} isn't there; give a .csv, a .parquet or a storage root")
    if kind == fs.FileType.Directory:
        table = _from_ledger(Ledger(source), sweep)
    elif sweep is not None:
        raise UserError(f"{source} is a file; a sweep is picked out of a storage root")
    elif path.endswith(".csv"):
        table = _from_csv(read_bytes(filesystem, path), source)
    elif path.endswith(".parquet"):
        table = _from_parquet(read_bytes(filesystem, path), source)
    else:
        raise UserError(f"{source} isn't a .csv, a .parquet or a storage root")
    if table.empty and set(COLUMNS) <= set(table.columns):
        raise BadRows(f"{source} holds no rows")
    return keep_what_differs(drop_repeated(_shown(as_rows(table, source)), source))


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Its text made printable: what a file says is later written to terminals."""
    changed = {}
    for name in table.columns[table.dtypes == "str"]:
        plain = pc.ascii_is_printable(pyarrow.array(table[name]))
        texts = table.loc[~np.asarray(plain.fill_null(True), dtype=bool), name].unique()
        escaped = {text: printable(text) for text in texts if printable(text) != text}
        if escaped:
            changed[name] = table[name].replace(escaped)
    return table.assign(**changed) if changed else table


def write_rows(rows: pd.DataFrame, out: str) -> None:
    """To a .csv or a .parquet, whole or not at all. Of DETAILS those that say something."""
    said = rows[list(DETAILS)].notna() & ~rows[list(DETAILS)].isin([""])
    kept = [name for name in DETAILS if said[name].any()]
    write_file(out, table_as_bytes(rows[[*COLUMNS, *kept]], suffix_of(out, TABLES)))


# out

TABLES = (".csv", ".parquet")
PICTURES = (".png", ".svg", ".pdf")


def suffix_of(out: str, allowed: Iterable[str]) -> str:
    """Raises UserError, listing them, if ``out`` ends in none of the ``allowed``."""
    for suffix in allowed:
        if out.endswith(suffix):
            return suffix
    raise UserError(f"{out} has no known ending; allowed: {', '.join(allowed)}")


def table_as_bytes(table: pd.DataFrame, suffix: str) -> bytes:
    if suffix == ".csv":
        return str(table.to_csv(index=False)).encode()
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def write_file(out: str, data: bytes) -> None:
    filesystem, path = open_storage(out)
    write_atomically(filesystem, path, data)


# in


def _from_csv(data: bytes, source: str) -> pd.DataFrame:
    """All cells as text, empty ones missing: a stage id of digits alone is no number."""
    if not data.strip():
        raise BadRows(f"{source} is empty")
    header = data.splitlines()[0].decode(errors="replace")
    names = next(iter(csv.reader([header])))
    as_text = pa_csv.ConvertOptions(
        column_types=dict.fromkeys(names, pyarrow.string()),
        strings_can_be_null=True,
        null_values=["", "nan", "NaN"],
    )
    try:
        table = pa_csv.read_csv(io.BytesIO(data), convert_options=as_text)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise BadRows(f"can't read {source} as csv: {error}; was the file cut short?") from error
    if not data.endswith(b"\n"):
        log.warning("%s doesn't end with a line break; its last row may be cut short", source)
    return table.to_pandas(types_mapper={pyarrow.string(): pd.StringDtype(na_value=np.nan)}.get)


def _from_parquet(data: bytes, source: str) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(data), to_pandas_kwargs={"split_blocks": True})
    except (pyarrow.ArrowException, OSError) as error:
        raise BadRows(
            f"can't read {source} as parquet: {error}; was the file cut short?"
        ) from error


def _from_ledger(ledger: Ledger, sweep: str | None) -> pd.DataFrame:
    wanted = None if sweep is None else _rows_of_sweep(ledger, sweep)
    listed = ledger.listed(None if wanted is None else {key[0] for key in wanted})
    there = [
        (stage_id, length)
        for stage_id in listed.stage_ids()
        for length in listed.row_epochs(stage_id)
        if wanted is None or (stage_id, length) in wanted
    ]
    read = side_by_side(lambda key: _read_row(ledger, *key), there)
    rows = [row for row in read if row is not None]
    known = list(dict.fromkeys(row.stage_id for row in rows))
    found_details = side_by_side(lambda stage_id: _read_details(ledger, stage_id), known)
    details = dict(zip(known, found_details, strict=True))
    if wanted is not None:
        missing = len(wanted) - len(rows)
        log.info("sweep %s: %d of its %d rows are there", sweep, len(rows), len(wanted))
        if missing:
            log.warning("sweep %s: %d of its rows are still missing", sweep, missing)
    if not rows:
        of_sweep = f" of sweep {sweep}" if sweep else ""
        raise BadRows(f"{ledger.uri} holds no rows{of_sweep} yet")
    return pd.DataFrame([row_to_dict(row) | details[row.stage_id] for row in rows], dtype=object)


def _rows_of_sweep(ledger: Ledger, sweep: str) -> set[tuple[str, int]]:
    """The keys of the rows that the sweep asked for."""
    try:
        asked = ledger.sweep_rows(sweep)
    except DamagedRecord as error:
        raise BadRows(str(error)) from error
    return {(stage_id, length) for stage_id, lengths in asked.items() for length in lengths}


def _read_row(ledger: Ledger, stage_id: str, train_epochs: int) -> ResultRow | None:
    """None, with a warning, for a row that can't be read: one bad file doesn't cost a sweep."""
    try:
        return ledger.read_row(stage_id, train_epochs)
    except (ValueError, FileNotFoundError) as error:
        log.warning("skipped a row: %s", error)
        return None


def _read_details(ledger: Ledger, stage_id: str) -> dict[str, Any]:
    """Nothing where there is no description of the stage, or, with a warning, a bad one."""
    try:
        return details_of(ledger.read_spec(stage_id))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        log.warning("%s; its protocol is unknown", error)
        return {}


# what several rows say together


def drop_repeated(rows: pd.DataFrame, origin: str = "the table") -> pd.DataFrame:
    """Each (stage_id, train_epochs) once. Raises BadRows where two rows of one key disagree."""
    if rows["stage_id"].is_unique:
        return rows
    key = group_numbers(rows, KEY)
    if len(first_lines(key)) == len(key):
        return rows
    repeated = key.duplicated(keep=False)
    distinct = rows[~repeated | ~rows.duplicated()].reset_index(drop=True)
    if len(distinct) < len(rows):
        log.warning("%s: dropped %d repeated rows", origin, len(rows) - len(distinct))
    disagreeing = distinct[distinct.duplicated(KEY, keep=False)]
    if not disagreeing.empty:
        stage_id, train_epochs = disagreeing[KEY].iloc[0]
        same_key = distinct[(distinct[KEY] == [stage_id, train_epochs]).all(axis="columns")]
        differing = [name for name in COLUMNS if same_key[name].nunique(dropna=False) > 1]
        raise BadRows(
            f"{origin} holds different rows of stage {stage_id} at {train_epochs} epochs; "
            f"they differ in {', '.join(differing)}: keep one of them"
        )
    return distinct


ITERATIVE = "iterative"
"""The ``schedule_kind`` of chains of several steps."""


def with_shared_first_levels(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows``, and an "iterative" copy of each first step that a second step goes on from."""
    copied = shared_first_levels(rows)
    if not len(copied):
        return rows
    copies = rows.iloc[copied].assign(schedule_kind=ITERATIVE)
    return pd.concat([rows, copies], ignore_index=True)


def shared_first_levels(rows: pd.DataFrame) -> NDArray[np.int64]:
    """The positions of the first steps of iterative chains that count as "one-shot".

    A first step is one stage for both kinds of schedule, and its row says "one-shot". The parent's
    length follows from the search cost: the child's, less the child's own epochs.
    """
    second = rows[["parent_id", "search_cost_epochs", "train_epochs"]][rows["level"] == 2]
    first = np.flatnonzero(rows["level"] == 1)
    first = first[is_in(rows["stage_id"].take(first), second["parent_id"])]
    ids, is_iterative = rows["stage_id"].take(first), rows["schedule_kind"].take(first) == ITERATIVE
    first = first[~is_in(ids, ids[is_iterative])]
    if not len(first):
        return first
    continued = pd.MultiIndex.from_arrays(
        [second["parent_id"], second["search_cost_epochs"] - second["train_epochs"]]
    )
    keys = pd.MultiIndex.from_frame(rows[["stage_id", "search_cost_epochs"]].take(first))
    return np.asarray(first[keys.isin(continued)])

"""The facts as the papers published them, and what rows made of them have in common."""

from __future__ import annotations

import hashlib
import io
from importlib.resources import files

import pandas as pd

from analysis.table.columns import DETAILS, as_rows
from analysis.table.details import variants
from rewind_ray.result import COLUMNS

ID_DIGITS = 16
PUBLISHED_DIGITS = 6


def facts(name: str) -> pd.DataFrame:
    """A table of this package, as published. Columns and units: docs/reference.md."""
    data = io.BytesIO((files(__package__) / name).read_bytes())
    if name.endswith(".parquet"):
        return pd.read_parquet(data)
    return pd.read_csv(data, keep_default_na=False, na_values=[""])


def fractions(percent: pd.Series) -> pd.Series:
    """Published percents have three decimals at most."""
    return (percent / 100).round(PUBLISHED_DIGITS)


def path(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """For each line the texts of these columns, each after a slash; of what is missing nothing."""
    texts = pd.Series("", table.index)
    for name in columns:
        texts = texts + "/" + table[name].astype("str").fillna("")
    return texts


def stage_ids(keys: pd.Series) -> pd.Series:
    """16 hex digits of each key, as ids of one's own stages have."""
    digests = {key: hashlib.sha256(key.encode()).hexdigest()[:ID_DIGITS] for key in keys.unique()}
    return keys.map(digests)


def complete(table: pd.DataFrame, origin: str) -> pd.DataFrame:
    """Checked rows; the columns that ``table`` lacks are empty."""
    rows = as_rows(table.reindex(columns=[*COLUMNS, *DETAILS]), origin)
    return rows.assign(variant=variants(rows))

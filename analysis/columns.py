"""The columns of a table of rows: their meanings, their types, what they may hold."""

from __future__ import annotations

import ast
import inspect
import logging
from dataclasses import fields
from itertools import pairwise
from typing import Any

import pandas as pd

from rewind_ray import result
from rewind_ray.result import COLUMNS, STATUSES, ResultRow

log = logging.getLogger(__name__)


class BadRows(ValueError):
    """The table or storage is there, but what it holds can't be used."""


NEVER_EMPTY = (
    "stage_id",
    "baseline_id",
    "network",
    "dataset",
    "seed",
    "level",
    "method",
    "density",
    "compression_ratio",
    "train_epochs",
    "status",
)
"""All else may be unknown, as in published tables."""


def meanings() -> dict[str, str]:
    """Column -> what it says; read from the docstrings under the fields of ``ResultRow``."""
    module = ast.parse(inspect.getsource(result))
    (row,) = (
        node
        for node in module.body
        if isinstance(node, ast.ClassDef) and node.name == ResultRow.__name__
    )
    found = {}
    for field, text in pairwise(row.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return {name: found.get(name, "").rstrip(".") for name in COLUMNS}


KINDS = {item.name: str(item.type).removesuffix(" | None") for item in fields(ResultRow)}
"""Column -> str, int or float."""


def as_rows(table: pd.DataFrame, origin: str) -> pd.DataFrame:
    """The columns of a row, in order and typed. Raises BadRows, naming ``origin`` and the cell."""
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        meaning = meanings()
        named = "; ".join(f"{name} ({meaning[name]})" for name in missing)
        raise BadRows(f"{origin} lacks {len(missing)} of the {len(COLUMNS)} columns: {named}")
    if table.columns.duplicated().any():
        raise BadRows(f"{origin} has a column twice: {_listed(table, table.columns.duplicated())}")
    if len(table.columns) > len(COLUMNS):
        unknown = ~table.columns.isin(COLUMNS)
        log.info("%s: left out the columns %s", origin, _listed(table, unknown))
    try:
        rows = pd.DataFrame({name: _typed(table[name]) for name in COLUMNS})
        _check_values(rows)
    except ValueError as error:
        raise BadRows(f"{origin}: {error}") from error
    return rows


def _listed(table: pd.DataFrame, which: Any) -> str:
    return ", ".join(map(str, table.columns[which]))


def _typed(values: pd.Series) -> pd.Series:
    name = str(values.name)
    empty = values.isna()
    if name in NEVER_EMPTY and empty.any():
        raise ValueError(f"row {_position(empty)} has no {name} ({meanings()[name]})")
    if KINDS[name] == "str":
        return values.astype("str")
    convert, allowed, dtype = (
        (_whole_number, "whole numbers", "int64" if name in NEVER_EMPTY else "Int64")
        if KINDS[name] == "int"
        else (float, "numbers", "float64")
    )
    numbers = []
    for position, (value, is_empty) in enumerate(zip(values, empty, strict=True), start=1):
        try:
            numbers.append(None if is_empty else convert(value))
        except (TypeError, ValueError):
            raise ValueError(
                f"{name} of row {position} is {value!r}; it holds {allowed} ({meanings()[name]})"
            ) from None
    return pd.Series(numbers, index=values.index, name=name, dtype=dtype)


def _whole_number(value: Any) -> int:
    """3, "3" or "3.0", which tables with gaps make of it."""
    try:
        return int(str(value))
    except ValueError:
        number = float(value)
        if not number.is_integer():
            raise
        return int(number)


def _check_values(rows: pd.DataFrame) -> None:
    for name in (name for name in COLUMNS if name.endswith("_accuracy")):
        wrong = ~rows[name].isna() & ~rows[name].between(0, 1)
        if wrong.any():
            value = rows.loc[wrong, name].iloc[0]
            percent = "; that looks like percent: divide by 100" if 1 < value <= 100 else ""
            raise ValueError(
                f"{name} of row {_position(wrong)} is {value:g}; "
                f"accuracies are fractions in [0, 1]{percent}"
            )
    wrong = ~((rows["density"] > 0) & (rows["density"] <= 1))
    if wrong.any():
        value = rows.loc[wrong, "density"].iloc[0]
        raise ValueError(f"density of row {_position(wrong)} is {value:g}; it lies in (0, 1]")
    wrong = ~rows["status"].isin(STATUSES)
    if wrong.any():
        value = rows.loc[wrong, "status"].iloc[0]
        raise ValueError(
            f"status of row {_position(wrong)} is {value!r}; known: {', '.join(STATUSES)}"
        )


def _position(wrong: pd.Series) -> int:
    """Of the first True, counted from 1."""
    return int(wrong.to_numpy().argmax()) + 1

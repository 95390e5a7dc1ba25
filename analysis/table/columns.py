"""The columns of a table of rows: their meanings, their types, what they may hold."""

from __future__ import annotations

import ast
import inspect
import logging
from dataclasses import fields
from itertools import pairwise
from typing import Any

import pandas as pd

from analysis.table.checks import LARGEST_WHOLE, check_rows
from rewind_ray import result
from rewind_ray.errors import DataError
from rewind_ray.result import COLUMNS, KNOB_MEANINGS, ResultRow

log = logging.getLogger(__name__)


class BadRows(DataError):
    """The table or storage is there, but what it holds can't be used."""


NEVER_EMPTY = (
    "stage_id",
    "baseline_id",
    "network",
    "dataset",
    "metric",
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
    """Column -> what it says; read from the docstrings under the fields of ``ResultRow``, and of a
    knob from its declaration."""
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
    return {name: (found | KNOB_MEANINGS).get(name, "").rstrip(".") for name in COLUMNS}


DETAILS = {
    "protocol": "how the dense network was trained, where rows of several protocols are together",
    "pruned_at": "epoch of the dense training at which was pruned first; empty at its end",
    "pruned_over_speedup": "whether that is still to be divided by the speedup, as some published "
    "settings are",
    "earlier_steps": "digest of the steps before this one, where they were made in another way",
    "published_setting": "what a paper calls the pruning and retraining of a published row",
    "source": "paper and place that published the number; empty for rows of one's own",
    "trials": "number of trials that a row sums up; empty: unknown in a published row (with a "
    "source), a single one in a row of one's own",
    "test_accuracy_low": "lower end of the published interval of test_accuracy",
    "test_accuracy_high": "its upper end",
    "test_accuracy_std": "published standard deviation of test_accuracy over the trials",
}
"""Columns that a table may have after those of ``ResultRow``; empty where a table lacks them."""

TELL_APART = ["protocol", "published_setting"]
"""Those of them that are an empty text, not a missing one, where they have nothing to tell."""

_OF_ROW = {item.name: str(item.type).removesuffix(" | None") for item in fields(ResultRow)}
KINDS = {name: _OF_ROW[name] for name in COLUMNS} | {
    "protocol": "str",
    "pruned_at": "float",
    "pruned_over_speedup": "bool",
    "earlier_steps": "str",
    "published_setting": "str",
    "source": "str",
    "trials": "int",
    "test_accuracy_low": "float",
    "test_accuracy_high": "float",
    "test_accuracy_std": "float",
}
"""Column -> str, int, float or bool."""


NAMED = 3
"""Missing columns that an error names."""


def as_rows(table: pd.DataFrame, origin: str) -> pd.DataFrame:
    """The columns of a row and DETAILS, in order and typed, and ``variant``, empty as yet: see
    ``details.keep_what_differs``.

    Raises BadRows, naming ``origin`` and the cell.
    """
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        meaning = meanings()
        named = "; ".join(f"{name} ({meaning[name]})" for name in missing[:NAMED])
        more = f"; and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise BadRows(
            f"{origin} lacks {len(missing)} of the {len(COLUMNS)} columns of a table of rows, as "
            f"rewind-ray analysis rows writes it: {named}{more}"
        )
    if table.columns.duplicated().any():
        raise BadRows(f"{origin} has a column twice: {_listed(table, table.columns.duplicated())}")
    unknown = ~table.columns.isin(list(KINDS))
    if unknown.any():
        log.info("%s: left out the columns %s", origin, _listed(table, unknown))
    try:
        rows = pd.DataFrame({name: _typed(table, name) for name in KINDS}, copy=False)
        rows[TELL_APART] = rows[TELL_APART].fillna("")
        check_rows(rows)
        rows["variant"] = pd.Series("", rows.index, dtype="str")
    except ValueError as error:
        raise BadRows(f"{origin}: {error}") from error
    return rows


def _listed(table: pd.DataFrame, which: Any) -> str:
    return ", ".join(map(str, table.columns[which]))


def _typed(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in table.columns:
        return pd.Series(None, index=table.index, name=name, dtype=_dtype(name))
    values = table[name]
    empty = values.isna()
    if name in NEVER_EMPTY and empty.any():
        raise ValueError(f"row {_position(empty)} has no {name} ({meanings()[name]})")
    if empty.all():
        return pd.Series(None, index=table.index, name=name, dtype=_dtype(name))
    if KINDS[name] == "str":
        return values.astype("str")
    if KINDS[name] == "bool":
        numbers = values.astype("str").str.lower().map(TRUTHS)
    else:
        numbers = pd.to_numeric(values, errors="coerce")
    wrong = numbers.isna() & ~empty
    if KINDS[name] == "int":
        whole = numbers.astype("float64")
        wrong |= whole.notna() & ((whole != whole.round()) | (whole.abs() >= LARGEST_WHOLE))
    if wrong.any():
        value = values[wrong].iloc[0]
        meaning = (meanings() | DETAILS)[name]
        raise ValueError(
            f"{name} of row {_position(wrong)} is {value!r}; it holds {ALLOWED[KINDS[name]]} "
            f"({meaning})"
        )
    return numbers.astype(_dtype(name))


ALLOWED = {"int": "whole numbers", "float": "numbers", "bool": "True or False"}
TRUTHS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
"""Text of a cell -> what it says."""


def _dtype(name: str) -> str:
    if KINDS[name] == "str":
        return "str"
    if KINDS[name] == "float":
        return "float64"
    if KINDS[name] == "bool":
        return "boolean"
    return "int64" if name in NEVER_EMPTY else "Int64"


def _position(wrong: pd.Series) -> int:
    """Of the first True, counted from 1."""
    return int(wrong.to_numpy().argmax()) + 1

"""Lines that belong together: numbers of groups, what is computed within them, where ids occur."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute as pc
from numpy.typing import NDArray

LARGEST_NUMBER = 2**62


# Numbers


def coded(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """``frame`` with these columns of text as sorted categories: each text is looked at once, and
    then lines are picked, numbered and sorted by small integers."""
    return frame.assign(**{name: _categories(frame[name]) for name in names})


def _categories(texts: pd.Series) -> pd.Series:
    only = _only_text(texts)
    if len(only):
        codes, values = -texts.isna().to_numpy().astype(np.int8), pd.array(only, dtype="str")
    else:
        codes, values = pd.factorize(texts, sort=True)
    return pd.Series(pd.Categorical.from_codes(codes, values, validate=False), texts.index)


def _only_text(texts: pd.Series) -> pyarrow.Array:
    """The single text that all lines have, or all but missing ones; empty where there are more.
    Faster than to number them, which hashes every one."""
    array = _array(texts)
    some = array.slice(0, FEW).unique().drop_null()
    return some if len(some) == 1 and pc.all(pc.equal(array, some[0])).as_py() else some[:0]


FEW = 1000
"""Texts looked at first, whether all are the same."""


def as_texts(categories: pd.Series) -> pd.Series:
    """The opposite of ``coded``, of one column."""
    codes = categories.cat.codes.to_numpy()
    texts = categories.cat.categories.array.take(codes, allow_fill=True)
    return pd.Series(texts, categories.index, dtype="str")


def group_numbers(frame: pd.DataFrame, by: list[str]) -> pd.Series:
    """For each line the number of its group, from 0 up in the order of their first lines; what is
    missing is a value like others."""
    return refined(
        pd.Series(np.zeros(len(frame), dtype=np.int64), frame.index), *(frame[name] for name in by)
    )


def refined(numbers: pd.Series, *columns: pd.Series) -> pd.Series:
    """The same of groups that are ``numbers``' and agree in all columns too.

    Faster than grouping by many columns of text: each becomes one digit of a single number.
    """
    if not columns:
        return numbers
    return pd.Series(pd.factorize(_joint(numbers, columns))[0], index=numbers.index)


def any_repeated(numbers: pd.Series, *columns: pd.Series) -> bool:
    """Whether two lines of one group agree in all columns."""
    joint = _joint(numbers, columns)
    if len(joint) and joint.max() < FEW_A_LINE * len(joint):
        return bool((np.bincount(joint) > 1).any())
    ordered = np.sort(joint)
    return bool((ordered[1:] == ordered[:-1]).any())


FEW_A_LINE = 8
"""Numbers a line, up to which counting all of them is faster than sorting the lines."""


def _joint(numbers: pd.Series, columns: tuple[pd.Series, ...]) -> NDArray[np.int64]:
    """One integer a line: equal where the numbers and all columns are."""
    joint = numbers.to_numpy(dtype=np.int64, copy=True)
    size = int(joint.max()) + 1 if len(joint) else 1
    for column in columns:
        digits, base = _digits(column)
        if base < 2:
            continue
        if size * base > LARGEST_NUMBER:
            joint, found = pd.factorize(joint)
            size = len(found)
        joint *= base
        joint += digits
        size *= base
    return np.asarray(joint)


def _digits(column: pd.Series) -> tuple[NDArray[np.integer], int]:
    """Of each line a number below the base; the same for the same value, a missing one too."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy()
        missing = int((codes < 0).any())
        return (codes + 1 if missing else codes), len(column.cat.categories) + missing
    empty = column.isna().to_numpy()
    if empty.all():
        return np.zeros(len(column), dtype=np.int64), 1
    if column.dtype == "str" and len(_only_text(column)):
        return empty.astype(np.int64), 1 + int(empty.any())
    codes, values = pd.factorize(column, use_na_sentinel=False)
    return codes, len(values)


# Lines of groups


def first_lines(numbers: pd.Series) -> NDArray[np.int64]:
    """The position of each group's first line. numbers: of ``group_numbers``."""
    highest = np.maximum.accumulate(numbers.to_numpy())
    return np.flatnonzero(np.diff(highest, prepend=-1))


def first_lines_with(there: NDArray[np.bool_], numbers: pd.Series) -> NDArray[np.int64]:
    """The same, of the lines that are ``there``; of all where none of a group is."""
    firsts = first_lines(numbers)
    if not there.all():
        last_to_first = np.flatnonzero(there)[::-1]
        firsts[numbers.to_numpy()[last_to_first]] = last_to_first
    return firsts


def with_several(numbers: pd.Series, column: pd.Series) -> pd.Series:
    """Of which lines the group has several values of the column. numbers: of ``group_numbers``."""
    each = numbers.iloc[first_lines(refined(numbers, column))]
    several = np.bincount(each.to_numpy()) > 1
    return pd.Series(several[numbers.to_numpy()], numbers.index)


def in_order(numbers: pd.Series) -> NDArray[np.int64]:
    """The positions of the lines, group by group, and within a group as they come.

    As a stable argsort; faster, because the position is sorted along as the lower bits.
    """
    groups = numbers.to_numpy(dtype=np.int64)
    if (groups[1:] >= groups[:-1]).all():
        return np.arange(len(groups))
    bits = len(groups).bit_length()
    keys = np.sort((groups << bits) | np.arange(len(groups)))
    return keys & ((1 << bits) - 1)


# Values of groups


def grouped(
    values: pd.Series | pd.DataFrame, numbers: pd.Series
) -> pd.api.typing.SeriesGroupBy | pd.api.typing.DataFrameGroupBy:
    """``values.groupby(numbers)``, without numbering once more. numbers: of ``group_numbers``."""
    count = int(numbers.max()) + 1 if len(numbers) else 0
    keys = pd.Categorical.from_codes(numbers.to_numpy(), pd.RangeIndex(count), validate=False)
    return values.groupby(keys, observed=False)


def medians(values: pd.DataFrame, numbers: pd.Series) -> pd.DataFrame:
    """(n, k) -> (groups, k), in order of the numbers; what is missing is passed over.

    numbers: of ``group_numbers``. As pandas' own, but sorts the groups of one size together.
    """
    order = in_order(numbers)
    sizes = np.bincount(numbers.to_numpy())
    starts = np.cumsum(sizes) - sizes
    alike = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    lines = [order[starts[chosen, None] + np.arange(sizes[chosen[0]])] for chosen in alike]
    found = {}
    for name in values:
        column = values[name].to_numpy(dtype=np.float64, na_value=np.nan)
        found[name] = np.full(len(sizes), np.nan)
        if np.isnan(column).all():
            continue
        for chosen, places in zip(alike, lines, strict=True):
            found[name][chosen] = _medians(column[places])
    return pd.DataFrame(found)


def _medians(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m, n) -> (m,); NaN are passed over. Sorts ``rows`` in place."""
    rows.sort(axis=1)  # NaN last
    size = rows.shape[1]
    if not np.isnan(rows[:, -1]).any():
        low, high = rows[:, (size - 1) // 2], rows[:, size // 2]
        return np.asarray(low if size % 2 else (low + high) / 2)
    there = size - np.isnan(rows).sum(axis=1)
    line = np.arange(len(rows))
    low = rows[line, np.maximum(there - 1, 0) // 2]
    high = rows[line, np.minimum(there // 2, size - 1)]
    return np.asarray(np.where(there % 2 == 1, low, (low + high) / 2))


# Ids


def is_in(ids: pd.Series, known: pd.Series) -> NDArray[np.bool_]:
    """Which of these texts are among the ``known``; a missing one isn't. ``Series.isin`` makes a
    Python object of every known one."""
    return np.asarray(pc.is_in(_array(ids), value_set=_array(known.dropna())), dtype=bool)


def places_in(ids: pd.Series, known: pd.Series) -> NDArray[np.int64]:
    """The position of each text among the ``known``, its first; -1 where it isn't, or is missing.

    known: nothing missing.
    """
    codes, _ = pd.factorize(pd.concat([known, ids], ignore_index=True))
    firsts = first_lines(pd.Series(codes[: len(known)]))
    number = codes[len(known) :]
    return np.append(firsts, -1)[np.where(number < len(firsts), number, -1)]  # missing: -1 already


def _array(texts: pd.Series) -> pyarrow.Array | pyarrow.ChunkedArray:
    return pyarrow.array(texts, type=pyarrow.large_string(), from_pandas=True)

"""Lines that belong together: numbers of groups, medians within them, where ids occur."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.compute as pc
from numpy.typing import NDArray

LARGEST_NUMBER = 2**62


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
    digits = numbers.to_numpy()
    size = int(digits.max()) + 1 if len(digits) else 1
    for column in columns:
        if column.isna().all():
            continue
        codes, values = pd.factorize(column, use_na_sentinel=False)
        if size * len(values) > LARGEST_NUMBER:
            digits, found = pd.factorize(digits)
            size = len(found)
        digits = digits * len(values) + codes
        size *= len(values)
    return pd.Series(pd.factorize(digits)[0], index=numbers.index)


def first_lines(numbers: pd.Series) -> NDArray[np.int64]:
    """The position of each group's first line. numbers: of ``group_numbers``."""
    highest = np.maximum.accumulate(numbers.to_numpy())
    return np.flatnonzero(np.diff(highest, prepend=-1))


def with_several(numbers: pd.Series, column: pd.Series) -> pd.Series:
    """Of which lines the group has several values of the column. numbers: of ``group_numbers``."""
    each = numbers.iloc[first_lines(refined(numbers, column))]
    return numbers.isin(each[each.duplicated()])


def medians(values: pd.DataFrame, numbers: pd.Series) -> pd.DataFrame:
    """(n, k) -> (groups, k), in order of the numbers; what is missing is passed over.

    numbers: of ``group_numbers``. As pandas' own, but sorts the groups of one size together.
    """
    groups = numbers.to_numpy()
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    found = {name: np.empty(len(sizes)) for name in values}
    for size in np.unique(sizes):
        chosen = np.flatnonzero(sizes == size)
        lines = order[starts[chosen, None] + np.arange(size)]
        for name in values:
            found[name][chosen] = _medians(values[name].to_numpy(dtype=np.float64)[lines])
    return pd.DataFrame(found)


def _medians(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m, n) -> (m,); NaN are passed over."""
    ordered = np.sort(rows, axis=1)  # NaN last
    there = rows.shape[1] - np.isnan(ordered).sum(axis=1)
    line = np.arange(len(rows))
    low = ordered[line, np.maximum(there - 1, 0) // 2]
    high = ordered[line, np.minimum(there // 2, rows.shape[1] - 1)]
    return np.asarray(np.where(there % 2 == 1, low, (low + high) / 2))


def is_in(ids: pd.Series, known: pd.Series) -> NDArray[np.bool_]:
    """Which of these texts are among the ``known``; a missing one isn't. ``Series.isin`` makes a
    Python object of every known one."""
    return np.asarray(pc.is_in(_array(ids), value_set=_array(known.dropna())), dtype=bool)


def places_in(ids: pd.Series, known: pd.Series) -> NDArray[np.int64]:
    """The position of each text among the ``known``, its first; -1 where it isn't, or is missing.

    known: nothing missing.
    """
    codes, distinct = pd.factorize(known)
    place = pc.index_in(_array(ids), value_set=_array(pd.Series(distinct)), skip_nulls=True)
    of_distinct = np.asarray(place.fill_null(-1), dtype=np.int64)
    firsts = np.append(first_lines(pd.Series(codes)), -1)
    return firsts[of_distinct]


def _array(texts: pd.Series) -> pyarrow.Array | pyarrow.ChunkedArray:
    return pyarrow.array(texts, type=pyarrow.large_string(), from_pandas=True)

"""Groups as numbers, medians within them, where ids occur: against pandas and Python's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.table import groups
from analysis.table.groups import (
    any_repeated,
    as_texts,
    coded,
    first_lines,
    first_lines_with,
    group_numbers,
    grouped,
    in_order,
    is_in,
    medians,
    places_in,
    refined,
)
from analysis.table.points import SAME_DENSITY, same_level


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    texts = pd.Series(["a", "b", None, "c"], dtype="str")
    return pd.DataFrame(
        {
            "text": texts.take(rng.integers(0, 4, 500)).to_numpy(),
            "whole": pd.array(rng.integers(0, 3, 500), dtype="Int64"),
            "number": np.where(rng.random(500) < 0.2, np.nan, rng.integers(0, 3, 500) / 3),
            "nothing": np.nan,
            "value": np.where(rng.random(500) < 0.3, np.nan, rng.normal(size=500)),
        },
        index=rng.permutation(500),
    )


KEYS = [["text"], ["number", "text"], ["text", "whole", "nothing", "number"], []]


@pytest.mark.parametrize("by", KEYS[:-1])
@pytest.mark.parametrize("largest", [groups.LARGEST_NUMBER, 20])
def test_groups_are_pandas_own(
    frame: pd.DataFrame, by: list[str], largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "LARGEST_NUMBER", largest)
    theirs = frame.groupby(by, dropna=False, sort=False)
    found = group_numbers(frame, by)
    assert list(found) == list(theirs.ngroup())
    assert list(found.index) == list(frame.index)
    assert list(first_lines(found)) == list(np.flatnonzero(theirs.cumcount() == 0))
    halves = group_numbers(frame, by[:1])
    assert list(refined(halves, *(frame[name] for name in by[1:]))) == list(found)


def test_no_columns_are_one_group(frame: pd.DataFrame) -> None:
    assert set(group_numbers(frame, [])) == {0}
    assert len(group_numbers(frame.head(0), ["text"])) == 0


@pytest.mark.parametrize("by", KEYS)
def test_medians_are_pandas_own(frame: pd.DataFrame, by: list[str]) -> None:
    """Bit for bit, of groups of any size, and of such without a value."""
    frame.loc[frame["text"] == "c", "value"] = np.nan
    numbers = group_numbers(frame, by)
    theirs = frame.groupby(numbers)[["value", "number"]].median()
    ours = medians(frame[["value", "number"]], numbers)
    assert np.array_equal(ours.to_numpy(), theirs.to_numpy(), equal_nan=True)


@pytest.mark.parametrize("by", KEYS)
def test_values_of_groups_are_pandas_own(frame: pd.DataFrame, by: list[str]) -> None:
    numbers = group_numbers(frame, by)
    theirs, ours = (how(frame["value"], numbers) for how in (pd.Series.groupby, grouped))
    for name in ("min", "mean", "std", "sum"):
        assert np.array_equal(getattr(ours, name)(), getattr(theirs, name)(), equal_nan=True)
    assert ours.transform("max").equals(theirs.transform("max"))
    assert list(in_order(numbers)) == list(np.argsort(numbers, kind="stable"))
    there = frame["value"].notna().to_numpy()
    firsts = frame["value"].iloc[first_lines_with(there, numbers)]
    assert np.array_equal(firsts, theirs.first(), equal_nan=True)
    assert any_repeated(numbers, frame["value"])
    assert not any_repeated(numbers, pd.Series(range(len(frame)), frame.index))


@pytest.mark.parametrize(
    "texts", [["b", "a", "b"], ["b", None, "a"], ["a", "a"], ["a", None, "a"], [None], []]
)
def test_texts_as_categories(texts: list[str | None]) -> None:
    """Also after the first few texts, which are all the same."""
    for column in (texts, ["a"] * groups.FEW + texts, [None] * groups.FEW + texts):
        frame = pd.DataFrame({"text": pd.Series(column, dtype="str"), "number": 1})
        as_categories = coded(frame, ["text"])
        assert as_texts(as_categories["text"]).equals(frame["text"])
        assert list(as_categories["text"].cat.categories) == sorted({*column} - {None})
        assert group_numbers(as_categories, ["text"]).equals(group_numbers(frame, ["text"]))


def test_ids_are_found_where_they_are_first() -> None:
    known = pd.Series(["b", "a", "b", "c", "a"], dtype="str")
    ids = pd.Series(["a", None, "d", "b", "c", "a"], index=range(3, 9), dtype="str")
    assert list(places_in(ids, known)) == [1, -1, -1, 0, 3, 1]
    assert list(is_in(ids, known)) == [True, False, False, True, True, True]
    assert not is_in(ids, known.head(0)).any()
    assert list(places_in(ids, known.head(0))) == [-1] * 6


def test_a_level_reaches_from_its_lowest_density() -> None:
    """Against a walk along them; many lie so close that a level could creep."""
    rng = np.random.default_rng(0)
    densities, of = rng.integers(4000, 4040, 400) / 8000, rng.integers(0, 5, 400)
    found = same_level(densities, of)
    numbers, level = {}, -1
    for group in range(5):
        lowest = -np.inf
        for density in sorted(set(densities[of == group])):
            if lowest < 0 or density >= lowest * (1 + SAME_DENSITY):
                level, lowest = level + 1, density
            numbers[group, density] = level
    assert list(found) == [numbers[key] for key in zip(of, densities, strict=True)]
    assert len(set(found)) > 10


def test_the_smallest_number_there_is_is_a_level_by_itself() -> None:
    """A hundred-thousandth more than it is, rounded, itself."""
    assert list(same_level(np.array([5e-324, 5e-324, 1.0]), np.array([0, 1, 1]))) == [0, 1, 2]

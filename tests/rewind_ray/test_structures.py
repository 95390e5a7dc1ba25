"""The table of structures, N:M as a family, and that nobody else asks for them by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewind_ray
from rewind_ray.pruning import CRITERIA
from rewind_ray.pruning.units import UNITS
from rewind_ray.spec import SCOPES, Prune
from rewind_ray.structures import (
    DEFAULT_STRUCTURE,
    GROUP_LIMIT,
    STRUCTURES,
    is_structure,
    structure_named,
    structures_help,
    with_option,
)

PROJECT = Path(rewind_ray.__file__).parent.parent
TABLE = "rewind_ray/structures.py"


@pytest.mark.parametrize("name", [*STRUCTURES, "3:8"])
def test_entries_and_functions_belong_together(name: str) -> None:
    structure = structure_named(name)
    assert structure.name == name
    assert UNITS[structure.unit].remove.keys() == set(structure.scopes)
    assert set(structure.scopes) <= SCOPES.keys()
    assert DEFAULT_STRUCTURE in STRUCTURES
    assert name == "3:8" or name in structures_help()


@given(st.integers(0, 40), st.integers(0, 40))
def test_any_n_of_m_is_a_structure(n: int, m: int) -> None:
    name = f"{n}:{m}"
    assert is_structure(name) == (0 < n < m <= GROUP_LIMIT)
    if is_structure(name):
        assert structure_named(name).density == n / m
        assert Prune(fraction=None, structure=name).scope == "layer"


@pytest.mark.parametrize(
    "name", ["", ":", "4", "4:2", "2:2", "02:4", "2:04", "2:4 ", "٢:4", "2:4:8", "1:33", 24]
)
def test_what_is_no_structure_is_refused(name: str) -> None:
    assert not is_structure(name)
    if isinstance(name, str):
        with pytest.raises(ValueError, match=r"unknown structure .*filters, 2:4, .*0 < N < M"):
            Prune(fraction=None, structure=name)


def test_options_name_the_structures_that_have_them() -> None:
    assert with_option("shrink") == ["filters"]
    for name in ("rates", "shrink", "filters_only"):
        with pytest.raises(ValueError, match=f"{name} with structure '1:2'; allowed: .*'filters'"):
            Prune(
                fraction=None, structure="1:2", **{name: "resnet56-A" if name == "rates" else True}
            )


# Nothing outside the table asks for a structure by its name


def by_name(source: str) -> Iterator[str]:
    """Comparisons with a structure's name, tables by names, and parsing of names."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Compare() | ast.MatchValue():
                texts = constants(node)
                if texts & STRUCTURES.keys() or (":" in texts and "structure" in ast.unparse(node)):
                    yield ast.unparse(node)
            case ast.Dict(keys=keys):
                if any(key is not None and constants(key) & STRUCTURES.keys() for key in keys):
                    yield ast.unparse(node)[:100]
            case ast.Call(func=ast.Attribute(value=of), args=args):
                if "structure" in ast.unparse(of) and any(constants(a) == {":"} for a in args):
                    yield ast.unparse(node)


def constants(node: ast.AST) -> set[str]:
    values = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
    return {value for value in values if isinstance(value, str)}


def found_in(folder: str) -> dict[str, list[str]]:
    """Of each file that asks, the places."""
    files = sorted((PROJECT / folder).rglob("*.py"))
    asking = {str(path.relative_to(PROJECT)): list(by_name(path.read_text())) for path in files}
    return {path: places for path, places in asking.items() if places and path != TABLE}


@pytest.mark.parametrize("folder", ["rewind_ray", "sweeps", "trainables"])
def test_nobody_asks_for_a_structure_by_name(folder: str) -> None:
    assert found_in(folder) == {}


def test_the_analysis_parses_no_structure() -> None:
    """It may select a paper's rows by name."""
    places = [place for of_file in found_in("analysis").values() for place in of_file]
    assert [place for place in places if "':'" in place] == []
    assert places  # it does select


@pytest.mark.parametrize(
    "source",
    [
        'close = closing(run) if prune.structure == "filters" else unchanged',
        'if "filters" not in structures: pass',
        'if ":" in self.structure: pass',
        'kept, group = step.prune.structure.split(":")',
        'kept, _, group = structure.partition(":")',
        'OF_EACH = {"unstructured": a, "filters": b}',
        'while kind in ("filters", "2:4") and structure: pass',
        'match structure:\n    case "filters": pass',
    ],
)
def test_asking_is_noticed(source: str) -> None:
    assert list(by_name(source))


@pytest.mark.parametrize(
    "source",
    [
        'prune = Prune(fraction=0.2, structure="filters")',  # a recipe names what it prunes
        'module, function = network.split(":")',
        'if ":" in network: pass',
    ],
)
def test_naming_is_not_asking(source: str) -> None:
    assert list(by_name(source)) == []


def test_every_criterion_has_a_unit_to_score() -> None:
    assert {criterion.units for criterion in CRITERIA.values()} == {"any", "single", "whole"}


# The page


def test_the_page_lists_them_all() -> None:
    page = (PROJECT / "docs" / "pruning.md").read_text()
    for name, structure in STRUCTURES.items():
        assert f"| `{name}` | {structure.says} |" in page
    assert f"M ≤ {GROUP_LIMIT}" in page
    for name, one in CRITERIA.items():
        says = one.says.replace("|", r"\|")
        looks_at = ", ".join(one.needs) or "weights"
        scopes = ", ".join(one.scopes)
        line = f"| `{name}` | {says} | {one.units} | {scopes} | {looks_at} | {one.source} |"
        assert line in page, line
    listed = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert listed - {"--structure", "--criterion"} == {*STRUCTURES, *CRITERIA}

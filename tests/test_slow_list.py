"""``slow.txt`` lists tests that exist, each once, in order."""

from __future__ import annotations

import ast
from functools import cache

from tests.conftest import ROOT, SLOW, slow_functions


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text()) if (ROOT / path).exists() else ast.parse("")
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_listed_test_exists() -> None:
    listed = [entry.partition("::") for entry in slow_functions()]
    assert [name for path, _, name in listed if name not in functions_of(path)] == []


def test_each_is_listed_once_and_in_order() -> None:
    lines = [line for line in SLOW.read_text().splitlines() if not line.startswith("#")]
    assert len(slow_functions()) == len(lines)
    assert lines == sorted(lines)

"""``slow.txt`` lists tests that exist, each once, in order."""

from __future__ import annotations

import ast

from tests.conftest import ROOT, SLOW, slow_functions


def test_every_listed_test_exists() -> None:
    missing = []
    for listed in slow_functions():
        path, _, name = listed.partition("::")
        tree = ast.parse((ROOT / path).read_text()) if (ROOT / path).exists() else ast.parse("")
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        if name not in names:
            missing.append(listed)
    assert not missing


def test_each_is_listed_once_and_in_order() -> None:
    lines = [line for line in SLOW.read_text().splitlines() if not line.startswith("#")]
    assert len(slow_functions()) == len(lines)
    assert lines == sorted(lines)

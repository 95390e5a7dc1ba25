"""The walks of ``docs/walks.md``: their files and names exist, and no file is visited twice."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "walks.md").read_text()
WALKS = {
    section.partition("\n")[0]: [
        re.findall(r"`([^`]+)`", line) for line in section.splitlines() if line.startswith("| `")
    ]
    for section in PAGE.split("\n## ")[1:]
}


def names_in(path: str) -> set[str]:
    """Functions, classes, methods and constants of a file; methods as ``Class.method``."""
    names: set[str] = set()
    for node in ast.parse((ROOT / path).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_there_are_five() -> None:
    assert len(WALKS) == 5 and all(len(steps) >= 5 for steps in WALKS.values())


@pytest.mark.parametrize("walk", WALKS)
def test_no_file_is_visited_twice(walk: str) -> None:
    files = [step[0] for step in WALKS[walk]]
    assert len(set(files)) == len(files)


@pytest.mark.parametrize("walk", WALKS)
def test_files_and_names_exist(walk: str) -> None:
    """Of a rewind point both names of a line, the writer's and the reader's."""
    for path, name, *others in WALKS[walk]:
        wanted = {name, *others} if walk == "A rewind point" else {name}
        assert wanted <= names_in(path), path


def test_files_named_in_the_text_exist() -> None:
    for path in re.findall(r"`((?:rewind_ray|sweeps|analysis|trainables)/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).exists(), path

"""One module knows where files lie: it says so consistently, and no other builds a path."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rewind_ray
from rewind_ray.store import layout
from rewind_ray.store.files import File
from rewind_ray.store.layout import Layout

PROJECT = Path(rewind_ray.__file__).parent.parent
PRODUCT = [
    path
    for folder in ("rewind_ray", "sweeps", "trainables", "analysis")
    for path in sorted((PROJECT / folder).rglob("*.py"))
]
FOLDERS = "stages|epochs|rows|sweeps|studies|tensorboard|tune|drivers|figures"
IN_A_PATH = re.compile(
    rf"(^|/)({FOLDERS})/|/({FOLDERS})$"
    r"|(^|/)(spec|lease|partial)\.(json|safetensors)|\{:04d\}\.(json|safetensors)"
)
ELSEWHERE = {
    "rewind_ray/datasets/cache.py",
    "rewind_ray/export/command.py",  # names of files in the working directory
}


def texts(tree: ast.AST) -> Iterator[str]:
    """String literals, the constant parts of f-strings too; docstrings and other bare strings,
    which explain, left out."""
    explaining = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in explaining:
            yield node.value


def paths_built_in(source: str) -> list[str]:
    """Literals that look like paths under a storage root, and uses of a root to build one."""
    tree = ast.parse(source)
    found = [text for text in texts(tree) if IN_A_PATH.search(text)]
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [ast.unparse(part) for part in node.values]
            found += [
                ast.unparse(node)
                for part, after in itertools.pairwise(parts)
                if ".root}" in part and after.strip("'\"").startswith("/")
            ]
    return found


def test_product_files_are_found() -> None:
    assert len(PRODUCT) > 100


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_other_module_builds_a_path_under_the_root(path: Path) -> None:
    name = path.relative_to(PROJECT).as_posix()
    if name == "rewind_ray/store/layout.py" or name in ELSEWHERE:
        return
    assert paths_built_in(path.read_text()) == []


def impatient_requests(source: str) -> list[str]:
    """Calls of a file system's methods that no ``patiently`` makes again."""
    methods = r"\bfilesystem\.(get_file_info|open_\w+|delete_\w+|create_dir|move|copy_file)\("
    return re.findall(methods, source)


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_request_is_patient(path: Path) -> None:
    if path.parent.name != "store":
        assert impatient_requests(path.read_text()) == []


def test_an_impatient_request_is_noticed() -> None:
    assert impatient_requests("ledger.filesystem.delete_file(path)")


@pytest.mark.parametrize(
    "code",
    [
        'f"{ledger.root}/anything"',
        'f"{root}/stages/{stage_id}"',
        'path = "studies/x.journal"',
        'Path(root) / "tune/x"',
        'f"{folder}/spec.json"',
    ],
)
def test_paths_built_elsewhere_are_noticed(code: str) -> None:
    assert paths_built_in(code)


ROOT = Layout("/there")
STAGE = "0123456789abcdef"


@given(epoch=st.integers(0, 10**9 - 1))
def test_what_a_file_is_follows_from_the_path_it_was_given(epoch: int) -> None:
    written = {
        ROOT.spec(STAGE): ("spec", STAGE, 0),
        ROOT.data(STAGE): ("data", STAGE, 0),
        ROOT.lease(STAGE): ("lease", STAGE, 0),
        ROOT.tensors(STAGE, epoch): ("tensors", STAGE, epoch),
        ROOT.metrics(STAGE, epoch): ("metrics", STAGE, epoch),
        ROOT.row(STAGE, epoch): ("row", STAGE, epoch),
        ROOT.sweep("quick start"): ("sweep", "quick start", 0),
        ROOT.log("quick start"): ("log", "quick start", 0),
        ROOT.driver("0" * 16): ("driver", "0" * 16, 0),
        f"{ROOT.tune('s')}/x/y": ("tune", "s", 0),
        f"{ROOT.tensorboard('s')}/chain/events": ("tensorboard", "s", 0),
        f"{ROOT.figures}/s.png": ("figures", "", 0),
    }
    for path, expected in written.items():
        entry = layout.entry(File(ROOT.shown(path), 1, 0.0))
        assert (entry.kind, entry.owner, entry.epoch) == expected
        assert ROOT.under(entry.file) == path
        assert entry.stage_id == (STAGE if "/stages/" in path else "")


@pytest.mark.parametrize("stage_id", ["", "..", "../x", STAGE.upper(), STAGE + "0", "g" * 16])
def test_what_is_no_stage_has_no_path(stage_id: str) -> None:
    for path in (ROOT.stage, ROOT.spec, ROOT.data, ROOT.lease, ROOT.epochs, ROOT.partial_facts):
        with pytest.raises(ValueError):
            path(stage_id)


@given(epochs=st.sets(st.integers(0, 99_999)), rows=st.sets(st.integers(0, 99_999)))
def test_listed_files_are_the_points_and_rows(epochs: set[int], rows: set[int]) -> None:
    paths = [ROOT.row(STAGE, row) for row in rows]
    for epoch in epochs:
        paths.append(ROOT.metrics(STAGE, epoch))
        if epoch % 2:
            paths.append(ROOT.tensors(STAGE, epoch))
    below = [path.removeprefix(f"{ROOT.stages}/") for path in paths]
    points, found = layout.points_and_rows([STAGE, "f" * 16], below)
    assert points == {STAGE: sorted(e for e in epochs if e % 2), "f" * 16: []}
    assert found == {STAGE: sorted(rows), "f" * 16: []}

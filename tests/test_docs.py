"""The documentation: its links, its commands and its code, and the site that is made of it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rewind_ray.store.ledger import Ledger
from sweeps.commands import COMMANDS as AROUND
from sweeps.entry import COMMANDS, main
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^( *)```([\w{}-]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
RECIPES = set(COMMANDS) - {*AROUND, "analysis", "export", "prepare-text", "completion", "service"}

ELSEWHERE = {
    r"s3://|gs://|ray://|--address auto": "needs a cloud or a cluster; tests/cluster, tests/faults",
    r"--watch": "never ends",
    r"docs/found/rows\.csv": "tests/test_found.py",
    r"\.\.\.|\[--|FOLDER|--data DIR|/data/multi30k|/data/wmt16": "has placeholders",
    r"--init|checkpoints": "needs a trained network; tests/rewind_ray/own",
    r"/data/cifar10": "needs CIFAR-10",
    r"analysis figure renda2020": "needs rows of the figure; tests/analysis/draw",
    r"export (345e|f81a|STAGE)": "needs the page's stages; tests/rewind_ray/export",
    r"calibrate|smoke$": "takes minutes; tests/sweeps/commands/test_calibrate.py, make smoke",
}
"""Commands that aren't run here -> why, and what runs them."""

PYTHON_ELSEWHERE = {
    "docs/extending.md": "tests/rewind_ray/test_extending.py, tests/test_one_file.py and others",
    "docs/export.md": "tests/rewind_ray/export",
    "docs/translation.md": "tests/rewind_ray/export/test_export_translation.py",
}


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        for indent, language, text in BLOCK.findall(page.read_text()):
            lines = (line.removeprefix(indent) for line in text.splitlines())
            found.append(Block(str(page.relative_to(ROOT)), language, "\n".join(lines)))
    return found


def commands() -> dict[str, str]:
    """Every line that starts ``rewind-ray``, continued lines joined -> the page it is on."""
    found: dict[str, str] = {}
    for block in blocks():
        text = block.text.replace("\\\n", " ")
        for line in text.splitlines() if not block.language else ():
            if line.startswith("rewind-ray "):
                found.setdefault(shlex.join(shlex.split(line, comments=True)), block.page)
    return found


def elsewhere(command: str) -> str | None:
    return next((why for pattern, why in ELSEWHERE.items() if re.search(pattern, command)), None)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_in_the_menu() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    trees = re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)
    listed = {line for tree in trees for line in tree.splitlines() if line and line[0] != ":"}
    pages = {str(p.relative_to(ROOT / "docs").with_suffix("")) for p in PAGES[1:]} - {"index"}
    assert listed == pages


def test_every_block_is_of_a_kind_that_a_test_looks_at() -> None:
    kinds = {block.language for block in blocks()}
    assert kinds <= {"", "python", "text", "toml", "{toctree}", "{eval-rst}"}
    for block in blocks():
        if block.language == "toml":
            tomllib.loads(block.text)
        if block.language == "python":
            compile(block.text, block.page, "exec", dont_inherit=True) if "    holding" not in (
                block.text
            ) else None


def test_every_command_of_the_documentation_exists() -> None:
    assert len(commands()) > 60
    for command in commands():
        name = command.split()[1]
        assert name in COMMANDS or name.startswith("-") or name == "COMMAND", command


def test_sweeps_are_named_as_their_storage_has_them() -> None:
    """The sweep of ``iterative-wrn`` is ``iterative_wrn``."""
    for command in commands():
        for name in re.findall(r"--sweep (\S+)", command):
            assert name not in RECIPES or "-" not in name, command


def test_reasons_for_leaving_commands_out_are_needed() -> None:
    for pattern in ELSEWHERE:
        assert any(re.search(pattern, command) for command in commands()), pattern


# running them


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def workplace(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """A folder as the pages describe it: own code, images, and a storage with a sweep."""
    folder = tmp_path_factory.mktemp("work")
    own = [block.text for block in blocks() if block.page == "docs/own.md"]
    (folder / "my_models.py").write_text(
        next(text for text in own if "def classifier" in text)
        + "\n\nfrom torchvision.models import resnet18\n\n\n"
        "def resnet():\n    return resnet18(num_classes=2)\n"
    )
    (folder / "my_data.py").write_text(next(text for text in own if "def load" in text))
    for number in range(200):
        name = f"{('cat', 'dog')[number % 2]}/{number}.png"
        picture(folder / "photos" / name, number)
        picture(folder / "flowers" / "train" / name, number)
        picture(folder / "flowers" / "test" / name, number)
    shutil.copytree(undisturbed[0], folder / "results")
    ledger = Ledger(str(folder / "results"))
    record = ledger.read_sweep("quickstart-smoke")
    for name in ("quickstart", "search"):
        ledger.write_sweep(name, record | {"sweep": name})
    before, path = Path.cwd(), list(sys.path)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    yield folder
    os.chdir(before)
    sys.path[:] = path


@pytest.mark.slow
def test_commands_run(
    workplace: Path, subtests: pytest.Subtests, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that train as dry runs: the whole way to the graph and its cost."""
    for command, page in commands().items():
        if elsewhere(command):
            continue
        words = shlex.split(command.partition(" '>' ")[0].replace("/data/flowers", "flowers"))[1:]
        help_only = "--help" in words
        if words[0] in RECIPES and not help_only and "--dry-run" not in words:
            words.append("--dry-run")
        with subtests.test(command=command, page=page):
            try:
                code = main(words)
            except SystemExit as exited:
                code = int(exited.code or 0)
            shown = capsys.readouterr()
            assert code == 0, shown.err + shown.out


@pytest.mark.slow
def test_python_runs(workplace: Path, subtests: pytest.Subtests) -> None:
    """Each page's blocks, one after the other in one program."""
    pages = {block.page for block in blocks() if block.language == "python"}
    assert PYTHON_ELSEWHERE.keys() <= pages
    for page in sorted(pages - PYTHON_ELSEWHERE.keys()):
        code = "\n".join(b.text for b in blocks() if (b.page, b.language) == (page, "python"))
        with subtests.test(page=page):
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=workplace,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    if find_spec("sphinx") is None:
        pytest.skip("NOT TESTED: Sphinx is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for page in PAGES[1:]:
        title = page.read_text().partition("\n")[0].removeprefix("# ")
        built = tmp_path / page.relative_to(ROOT / "docs").with_suffix(".html")
        (heading,) = re.findall(r"<h1>(.*?)<a ", built.read_text())
        assert re.sub(r"\W", "", re.sub(r"<[^>]*>|&\w+;", "", heading)) == re.sub(r"\W", "", title)
    api = (tmp_path / "api.html").read_text()
    assert "max_accuracy_drop" in api and "rewind_ray.Retrain" in api
    fetched = re.findall(r'(?:src|<link[^>]*href)="(https?://[^"]*)', api)
    assert fetched == []  # readable without a network


# the wheel


@pytest.mark.slow
def test_a_wheel_installs_and_runs_elsewhere(tmp_path: Path) -> None:
    """In an environment and folder of its own; the dependencies are those of this one."""
    source = tmp_path / "source"
    packed = ("rewind_ray", "trainables", "sweeps", "analysis", "pyproject.toml", "README.md")
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *packed, "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, tracked):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)

    def run(*command: str | Path) -> str:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    wheels, venv = tmp_path / "wheels", tmp_path / "venv"
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, source)
    run(sys.executable, "-m", "venv", venv)
    packages = next(venv.glob("lib/python*/site-packages"))
    here = [place for place in sys.path if place.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(here))
    (wheel,) = wheels.glob("rewind_ray-*.whl")
    run(venv / "bin/pip", "install", "-q", "--no-deps", "--ignore-installed", wheel)
    shutil.rmtree(source)
    command = venv / "bin/rewind-ray"
    where = run(venv / "bin/python", "-c", "import rewind_ray; print(rewind_ray.__file__)")
    assert where.startswith(str(packages))
    assert run(command, "--version").split() == ["rewind-ray", wheel.name.split("-")[1]]
    assert "quickstart" in run(command, "--help")
    assert "78" in run(command, "quickstart", "--dry-run", "--storage", tmp_path / "results")
    run(command, "analysis", "reference", "mikler2022", "--out", tmp_path / "rows.csv")
    run(command, "analysis", "report", tmp_path / "rows.csv", "--out", tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 100_000

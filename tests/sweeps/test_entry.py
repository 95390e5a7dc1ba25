"""``rewind-ray``: what it lists, how fast it knows, beside files of the same names, in shells."""

from __future__ import annotations

import ast
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps import entry
from sweeps.commands import COMMANDS as AROUND
from sweeps.completion import SHELLS
from sweeps.completion import main as completion
from sweeps.entry import COMMANDS, main, overview
from tests.sweeps.running import ROOT

START = "import sys; from sweeps.entry import main; code = main(sys.argv[1:]); "


def python(code: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """As the installed command does it: without the working directory on the path."""
    program = f"import sys; sys.path[0] = {str(ROOT)!r}\n{code}"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def modules_with_main() -> set[str]:
    """Of ``sweeps``, those that one can type."""
    found = set()
    for path in (ROOT / "sweeps").glob("*.py"):
        names = {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}
        if "main" in names:
            found.add(path.stem.replace("_", "-"))
    return found - {"--main--", "entry", "node"}  # a node is what cluster files start


def test_every_command_is_there() -> None:
    assert modules_with_main() | set(AROUND) <= set(COMMANDS)


def test_the_overview_fits_into_80_columns_and_lists_all() -> None:
    lines = overview().splitlines()
    assert max(map(len, lines)) < 80
    listed = {line.split()[0] for line in lines if line.startswith("  ")}
    assert set(COMMANDS) <= listed


def test_help_and_version_import_nothing_heavy() -> None:
    heavy = ("torch", "ray", "pandas", "numpy", "tyro", "rich")
    code = f"{START} assert code == 0; print([m for m in {heavy} if m in sys.modules])"
    for flag in ("--help", "--version"):
        assert python(code, flag).stdout.splitlines()[-1] == "[]"


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert main(["--version"]) == 0
    assert f'version = "{capsys.readouterr().out.split()[1]}"' in project


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compar"]) == 2
    assert "compare" in capsys.readouterr().err


def test_python_m_sweeps_is_the_same(tmp_path: Path) -> None:
    def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
        return python("import runpy; runpy.run_module('sweeps', run_name='__main__')", *arguments)

    assert typed("--help").stdout.splitlines() == overview().splitlines()
    wrong = typed("quickstrat")
    assert wrong.returncode == 2 and "do you mean quickstart?" in wrong.stderr
    dry = typed("quickstart", "--dry-run", "--storage", str(tmp_path / "results"))
    assert dry.returncode == 0 and "quickstart" in dry.stdout


def test_underscores_are_hyphens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []
    probe = entry.Command(says="", run=lambda name, typed: seen.append((name, list(typed))) or 0)
    monkeypatch.setitem(COMMANDS, "iterative-wrn", probe)
    assert main(["iterative_wrn", "--dry-run"]) == 0
    assert seen == [("iterative-wrn", ["--dry-run"])]


def test_files_of_our_names_in_the_working_directory_do_no_harm(tmp_path: Path) -> None:
    for name in ("sweeps", "analysis", "trainables", "rewind_ray"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('mine')")
    done = python(f"{START} sys.exit(code)", "completion", "csh", cwd=tmp_path)
    assert done.returncode == 2 and "'csh'" in done.stderr and "mine" not in done.stderr


def test_python_m_says_what_hides_a_package(tmp_path: Path) -> None:
    (tmp_path / "analysis.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.compare", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert str(tmp_path / "analysis.py") in done.stderr.splitlines()[-1]


# completion

WORDS = {
    "": ["compare", "completion", "--help"],
    "compare": ["--seeds", "--storage"],
    "analysis": ["pareto", "--help"],
    "analysis pareto": ["--json"],
}


def completed_by_bash(line: str) -> list[str]:
    script = f"""{SHELLS["bash"](WORDS)}
COMP_WORDS=({line}); [[ "{line}" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _rewind_ray; printf '%s\\n' "${{COMPREPLY[@]}}" """
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rewind-ray comp", ["compare", "completion"]),
        ("rewind-ray compare --s", ["--seeds", "--storage"]),
        ("rewind-ray analysis pareto --", ["--json"]),
    ],
)
def test_bash_completes(line: str, expected: list[str]) -> None:
    assert completed_by_bash(line) == expected


def test_fish_completes() -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("NOT TESTED: fish is not installed")
    script = f"{SHELLS['fish'](WORDS)}\ncomplete -C 'rewind-ray compare --s'"
    found = subprocess.run([fish, "-c", script], capture_output=True, text=True, check=True).stdout
    assert {line.split("\t")[0] for line in found.splitlines()} == {"--seeds", "--storage"}


def test_zsh_takes_the_script() -> None:
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("NOT TESTED: zsh is not installed")
    script = f"autoload -U compinit; compinit -D\n{SHELLS['zsh'](WORDS)}\nprint $_comps[rewind-ray]"
    done = subprocess.run([zsh, "-fc", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["_rewind_ray"] and not done.stderr


def test_an_unknown_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert completion(["csh"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_knows_the_options_of_every_command() -> None:
    done = python(f"{START} sys.exit(code)", "completion", "bash")
    assert done.returncode == 0, done.stderr
    cases = dict(
        line.strip().removesuffix('" ;;').split(') words="')
        for line in done.stdout.splitlines()
        if ') words="' in line
    )
    assert {"--densities", "--tracker", "--notify"} <= set(cases['"compare"'].split())
    assert {"--watch", "--json"} <= set(cases['"status"'].split())
    assert "--margin" in cases['"analysis claims"'].split()
    assert all(words.split() for words in cases.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "completion"])
def test_every_help_has_examples_and_fits_into_80_columns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exited:
        sys.exit(main([name, "--help"]))
    shown = capsys.readouterr().out
    assert not exited.value.code and "Examples:" in shown
    assert f"rewind-ray {name}" in shown
    lines = [line for line in shown.splitlines() if not line.startswith("usage:")]
    assert [line for line in lines if len(line) > 80] == []


def test_a_copied_file_of_a_recipe_runs_as_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``ray submit cluster.yaml sweeps/quickstart.py`` runs it on the head."""
    script = shutil.copy(ROOT / "sweeps/quickstart.py", tmp_path / "quickstart.py")
    typed = ["--dry-run", "--smoke", "--storage", str(tmp_path / "storage")]
    monkeypatch.setattr(sys, "argv", [str(script), *typed])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert "quickstart-smoke" in capsys.readouterr().out

"""Exit codes of every command: 2 for wrong input, 1 for failures, a traceback for our defects."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.__main__ import main as analysis
from analysis.commands import COMMANDS
from rewind_ray import command_line
from rewind_ray.command_line import DONE, FAILED, INTERRUPTED, WRONG_USAGE, exit_code
from rewind_ray.errors import DataError, MissingFile, UserError
from rewind_ray.export.command import main as export
from rewind_ray.store.ledger import DamagedRecord
from rewind_ray.store.strict_json import DamagedJson
from sweeps.__main__ import main as sweeps
from sweeps.run.launch import command

RECIPES = (
    *("quickstart", "iterative_wrn", "mikler2022", "renda2020", "wang2023", "algorithm1", "prune"),
    *("compare", "search", "between_rewindings"),
)


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("--seeds is 0"), WRONG_USAGE),
        (MissingFile("no folder"), WRONG_USAGE),
        (DataError("a damaged row"), FAILED),
        (DamagedJson("a damaged json"), FAILED),
        (DamagedRecord("a damaged record"), FAILED),
        (OSError("the disk is full"), FAILED),
        (FileNotFoundError("it was deleted meanwhile"), FAILED),
        (ConnectionError("no cluster"), FAILED),
    ],
)
def test_reported_errors(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(error)) == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_results_are_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: None) == DONE
    assert exit_code(lambda: 7) == 7
    assert exit_code(raising(KeyboardInterrupt()), "come back") == INTERRUPTED
    assert capsys.readouterr().err == "come back\n"


@pytest.mark.parametrize("error", [ValueError("x"), TypeError("x"), AssertionError("x")])
def test_defects_are_not_caught(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        exit_code(raising(error))
    assert caught.value is error


def test_invisible_characters_of_a_message_are_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exit_code(raising(UserError("a folder \x1b[2J")))
    assert "\x1b" not in capsys.readouterr().err


def code_of(main: Callable[[], int | None]) -> int:
    """Of a command that returns it, or exits with it."""
    try:
        return main() or 0
    except SystemExit as exited:
        return int(exited.code or 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_rows_that_do_not_exist_are_wrong_usage_of_every_analysis(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path / ("x.html" if name == "report" else "x.csv")))
    arguments = {
        "rows": ("--storage", str(tmp_path / "nothing"), *out),
        "reference": ("zhou2019", *out),
        "figure": ("renda2020.fig3", str(tmp_path / "nothing")),
        "report": (str(tmp_path / "nothing"), *out),
    }.get(name, (str(tmp_path / "nothing"),))
    assert code_of(lambda: analysis([name, *arguments])) == WRONG_USAGE
    assert "Traceback" not in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_bad_storage_is_wrong_usage_of_every_sweep(
    recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {
        "mikler2022": ("fig1",),
        "renda2020": ("fig1", "--networks", "resnet56"),
        "wang2023": ("table4",),
        "search": ("--validation", "0.2"),
        "between_rewindings": ("--validation", "0.2"),
    }
    typed = [*more.get(recipe, ()), "--storage", "ftp://host/x"]
    monkeypatch.setattr(sys, "argv", [recipe, *typed])
    module = importlib.import_module(f"sweeps.{recipe}")
    assert code_of(lambda: command(module.main)) == WRONG_USAGE
    shown = capsys.readouterr().err
    assert "ftp://host/x" in shown and "Traceback" not in shown


@pytest.mark.parametrize(
    "typed",
    [
        ("storage", "status", "ftp://host/x"),
        ("storage", "gc", "ftp://host/x"),
        ("storage", "verify", "ftp://host/x"),
        ("doctor", "--storage", "ftp://host/x", "--sweep", "mine"),
        ("calibrate", "--network", "resnet21"),
    ],
)
def test_wrong_usage_of_the_other_commands(
    typed: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(lambda: sweeps(typed)) == WRONG_USAGE
    shown = capsys.readouterr().err
    assert typed[2] in shown and "Traceback" not in shown


def test_wrong_usage_of_the_export(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(lambda: export(("4f0c", "--storage", "ftp://host/x"))) == WRONG_USAGE
    shown = capsys.readouterr().err
    assert "ftp://host/x" in shown and "Traceback" not in shown


@pytest.mark.parametrize(
    ("broken", "start"),
    [
        ("sweeps.quickstart:run_recipe", "sweeps.run.launch:command(broken.main)"),
        ("analysis.commands.pareto:read_rows", "analysis.__main__:main(['pareto', 'rows.csv'])"),
        ("rewind_ray.export.command:find_stage", "rewind_ray.export.command:main(['4f0c'])"),
        ("sweeps.commands.storage:existing", "sweeps.__main__:main(['storage', 'gc', 'x'])"),
    ],
)
def test_an_internal_value_error_shows_its_traceback(broken: str, start: str) -> None:
    """A function of the command is replaced by one with a defect."""
    module, function = broken.split(":")
    entry, call = start.split(":", 1)
    script = (
        f"import sys, {module} as broken, {entry} as entry\n"
        "def defect(*arguments, **more): raise ValueError('math domain error')\n"
        f"broken.{function} = defect\n"
        f"sys.exit(entry.{call})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.rstrip().endswith("ValueError: math domain error")


def test_long_lines_of_a_help_are_broken_so_that_they_can_be_typed() -> None:
    command = "  rewind-ray prune --network my_models:resnet --init trained.pt --split 0.2 \\"
    folded = command_line._folded(command, 40).split("\n")
    assert all(len(line) <= 40 and line.endswith(" \\") for line in folded)
    assert " ".join(line.strip(" \\") for line in folded) == command.strip(" \\")
    listed = "  fig6    weight rewinding for the longest t up to 90%, the others for all"
    assert command_line._folded(listed, 40).split("\n") == [
        "  fig6    weight rewinding for the",
        "          longest t up to 90%, the",
        "          others for all",
    ]

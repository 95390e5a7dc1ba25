"""``rewind-ray analysis`` as a user meets it: output, errors, exit codes."""

import inspect
import json
import subprocess
import sys
from dataclasses import dataclass

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.commands import COMMANDS
from analysis.table.rows import write_rows
from rewind_ray.command_line import DONE, command_named
from rewind_ray.store.ledger import Ledger


@pytest.fixture
def source(tmp_path, grid, make_table):
    path = str(tmp_path / "rows.csv")
    write_rows(make_table(grid), path)
    return path


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys):
    def run_main(*arguments):
        capsys.readouterr()
        try:
            exit_code = main(arguments)
        except SystemExit as stop:  # --help and typing errors
            exit_code = stop.code
        captured = capsys.readouterr()
        return Result(exit_code=exit_code, stdout=captured.out, stderr=captured.err)

    return run_main


def strict_json(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def assert_error(result, exit_code, *parts):
    assert result.exit_code == exit_code, result
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


# importing


def test_analysis_needs_neither_torch_nor_ray():
    code = (
        "import sys, analysis.__main__, analysis.draw.figures\n"
        "print(sorted({'torch', 'ray'} & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# rows


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_gathers_a_storage_root(run, tmp_path, grid, suffix):
    ledger = Ledger(str(tmp_path / "storage"))
    for row in grid:
        ledger.write_row(row)
    out = tmp_path / "new folder" / f"rows{suffix}"
    assert run("rows", "--storage", ledger.uri, "--out", str(out)).exit_code == 0
    written = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert len(written) == len(grid)


def test_rows_of_an_unknown_sweep(run, tmp_path, grid):
    ledger = Ledger(str(tmp_path))
    ledger.write_row(grid[0])
    ledger.write_sweep("quick", {"stages": {}})
    out = str(tmp_path / "rows.csv")
    result = run("rows", "--storage", ledger.uri, "--sweep", "slow", "--out", out)
    assert_error(result, 2, "'slow'", "quick")


# pareto


def test_pareto_shows_percent_and_times(run, source):
    result = run("pareto", source)
    assert result.exit_code == 0
    assert "resnet20 · cifar10 · unstructured · one-shot: dense 92.10 (92.00-92.20, n=3)" in (
        result.stdout
    )
    (line,) = [
        line
        for line in result.stdout.splitlines()
        if line.startswith("finetune") and "10.0×" in line
    ]
    # 0.86 + 0.08 * 0.1 + 20 / 4000 + seed / 500, seeds 0..2; dense 0.921
    assert line.split() == ["finetune", "20", "10.0×", "87.50", "87.30-87.70", "-4.60", "3"]


@pytest.mark.parametrize("by", ["method", "prune_fraction", "density"])
@pytest.mark.parametrize("x", ["compression_ratio", "search_cost_flops"])
def test_tables_fit_into_120_columns(run, source, by, x):
    result = run("pareto", source, "--by", by, "--x", x)
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_pareto_json_is_all_there_is_on_stdout(run, source):
    result = run("pareto", source, "--json")
    content = strict_json(result.stdout)
    assert set(content) == {
        *("by", "x", "objectives", "baselines", "frontier", "dominated", "hypervolume")
    }
    assert len(content["frontier"]) + len(content["dominated"]) == 2 * 3 + 3
    assert {point["method"] for point in content["frontier"]} == {"finetune", "weight_rewind"}


def test_json_stays_pure_when_values_are_missing_and_notes_are_due(tmp_path, make_row, make_table):
    path = str(tmp_path / "rows.parquet")
    rows = [make_row(stage_id=f"s{epochs}", retrain_epochs=epochs) for epochs in (10, 20)]
    write_rows(make_table(rows), path)
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "pareto", path, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert strict_json(done.stdout)["frontier"][0]["val_accuracy"] is None
    assert "chosen by test accuracy" in done.stderr


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".csv"])
@pytest.mark.parametrize("command", ["pareto", "search-cost"])
def test_out_is_written_besides(run, tmp_path, source, command, suffix):
    out = tmp_path / f"out{suffix}"
    result = run(command, source, "--json", "--out", str(out))
    assert result.exit_code == 0
    strict_json(result.stdout)
    assert out.stat().st_size > 1000


def test_pareto_csv_holds_every_point(run, tmp_path, source):
    out = tmp_path / "points.csv"
    run("pareto", source, "--out", str(out))
    points = pd.read_csv(out)
    assert len(points) == 2 * 3 + 3
    assert points["nondominated"].dtype == bool


# search-cost


def test_search_cost_tells_what_sharing_saved(run, source):
    # 3 seeds: dense 40; finetune 3 densities to 20; weight_rewind 3 densities of 10 and of 20;
    # 2 further levels of 20. Alone: every row with its baseline and chain.
    trained = 3 * (40 + 3 * 20 + 3 * (10 + 20) + 2 * 20)
    alone = 3 * (40 + 2 * 3 * (50 + 60) + (40 + 40) + (40 + 60))
    result = run("search-cost", source, "--json")
    assert strict_json(result.stdout)["sharing"] == {
        "epochs_trained": trained,
        "epochs_alone": alone,
        "factor": alone / trained,
    }
    assert f"{trained} epochs trained" in run("search-cost", source).stdout


def test_unknown_sharing_is_null(run, tmp_path, make_row, make_table):
    path = str(tmp_path / "rows.csv")
    write_rows(make_table([make_row()]), path)
    assert strict_json(run("search-cost", path, "--json").stdout)["sharing"] is None
    assert run("search-cost", path).exit_code == 0


# wrong usage


@pytest.mark.parametrize("command", ["pareto", "search-cost"])
def test_a_missing_file_is_wrong_usage(run, command, tmp_path):
    assert_error(run(command, str(tmp_path / "none.csv")), 2, "none.csv isn't there")


def test_unknown_columns_list_the_known(run, source):
    assert_error(run("pareto", source, "--by", "mehtod"), 2, "--by 'mehtod'", "method")
    assert_error(run("pareto", source, "--x", "size"), 2, "--x 'size'", "compression_ratio")


def test_an_unknown_output_format_is_refused_before_any_work(run, tmp_path):
    missing = str(tmp_path / "none.csv")
    assert_error(run("pareto", missing, "--out", "f.bmp"), 2, "f.bmp", ".svg")
    assert_error(run("search-cost", missing, "--out", "f.bmp"), 2, "f.bmp", ".svg")
    assert_error(run("rows", "--storage", missing, "--out", "f.xlsx"), 2, "f.xlsx", ".parquet")


def test_bad_content_is_a_failure(run, source):
    table = pd.read_csv(source, dtype=str)
    table.loc[0, "test_accuracy"] = "91.73"
    table.to_csv(source, index=False)
    assert_error(run("pareto", source), 1, "91.73", "divide by 100")


def test_an_unwritable_place_is_a_failure(run, source, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("pareto", source, "--out", str(tmp_path / "file" / "figure.png"))
    assert_error(result, 1, "file")


@pytest.mark.parametrize("arguments", [["pareto"], ["pareto", "a.csv", "--nope"], ["nope"]])
def test_typing_errors_are_wrong_usage(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "rewind-ray analysis" in result.stderr


# help


@pytest.mark.parametrize("command", ["rows", "pareto", "search-cost"])
def test_help_shows_examples(run, command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"usage: rewind-ray analysis {command} ")
    assert f"\nExamples:\n  rewind-ray analysis {command} " in result.stdout
    assert result.stdout.count(f"\n  rewind-ray analysis {command} ") >= 2


def test_without_arguments_every_command_is_listed_with_an_example(run):
    result = run()
    assert result.exit_code == 0
    for name, command in COMMANDS.items():
        assert f"rewind-ray analysis {command.example}\n" in result.stdout
        help_text = inspect.getdoc(command_named("analysis", name))
        assert help_text.partition("\n")[0] == command.says
        assert f"  rewind-ray analysis {command.example}" in help_text.splitlines()


def test_help_lists_the_commands_in_a_line_each(run):
    result = run("--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("usage: rewind-ray analysis ")
    listed = [part.split()[0] for part in result.stdout.split("•")[1:]]
    assert listed == list(COMMANDS)
    assert "\nExamples:\n  rewind-ray analysis " in result.stdout


def test_options_come_before_or_after_the_rows(run, source):
    before = run("pareto", "--json", "--by", "density", source)
    after = run("pareto", source, "--by", "density", "--json")
    assert before.exit_code == 0
    assert strict_json(before.stdout)["by"] == "density"
    assert before.stdout == after.stdout


def test_differences_are_given_in_points_or_as_fractions(grid, make_table, tmp_path, capsys):
    source = str(tmp_path / "rows.parquet")
    write_rows(make_table(grid), source)
    for option, command in (("--worth", "compare"), ("--max-drops", "headline")):
        printed = []
        for given in ("0.3pt", "0.003"):
            assert main([command, source, option, given]) == DONE
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1]
        assert main([command, source, option, "100pt"]) != DONE
        assert option in capsys.readouterr().err
    assert main(["headline", source, "--max-drops", "0", "0.5pt"]) == DONE

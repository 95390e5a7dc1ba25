"""The study's page: every output on it is what its command prints of the rows beside it."""

from __future__ import annotations

import re
import shlex
from itertools import product

import pandas as pd
import pytest
from scipy import stats

from sweeps.compare import Training, chosen_protocol
from sweeps.entry import main
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "found.md"
ROWS = ROOT / "docs" / "found" / "rows.csv"
SHOWN = re.compile(r"^```\n(rewind-ray analysis [^\n]*)\n```\n+```text\n(.*?)^```", re.M | re.S)
"""A command, and in the block after it the lines of its output that the page shows."""


def shown() -> list[tuple[str, list[str]]]:
    return [(command, text.splitlines()) for command, text in SHOWN.findall(PAGE.read_text())]


def test_the_page_shows_outputs() -> None:
    assert len(shown()) >= 3


@pytest.mark.parametrize(("command", "lines"), shown(), ids=[command for command, _ in shown()])
def test_outputs_are_those_of_the_rows(
    command: str,
    lines: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(shlex.split(command)[1:]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    for line in lines:
        assert line in printed or line == "…", line


def test_the_rows_are_those_of_the_command_on_the_page() -> None:
    rows = pd.read_csv(ROWS)
    assert not rows.isna()["test_accuracy"].any()
    settings = ["method", "schedule_kind", "compression_ratio"]
    assert (rows.fillna({"schedule_kind": "dense"}).groupby(settings).seed.nunique() == 5).all()
    (command,) = re.findall(r"rewind-ray compare [^`]*--name found[^`]*", PAGE.read_text())
    words = shlex.split(command.replace("\\\n", " "))
    at = words.index("--methods") + 1
    assert {*words[at : at + rows.method.nunique() - 1], "dense"} == set(rows.method)


def test_the_training_is_that_of_the_command_on_the_page() -> None:
    """Which rows don't hold; it is the protocol's, whatever the data."""
    protocol, _ = chosen_protocol(Training(network="resnet8", dataset="digits", epochs=8), None)
    schedule = protocol.schedule
    assert (schedule.drops, schedule.factor, protocol.precision) == ((4, 6), 0.1, "fp32")
    updates = 20_000 // protocol.batch_size
    page = PAGE.read_text()
    assert f"8 epochs of {updates} updates, {protocol.batch_size} images each" in page
    assert f"SGD, rate {schedule.lr:g}, a tenth of it after 4 and after 6" in page
    assert f"LLR starts at the same\n  {schedule.lr:g}," in page


def test_the_control_is_what_its_rows_say() -> None:
    """Differences of seeds that share a dense network, and Student's interval of their mean."""
    pruned, control = pd.read_csv(ROWS), pd.read_csv(ROWS.with_name("unpruned.csv"))
    accuracy = ["seed", "test_accuracy"]
    dense = pruned.loc[pruned.level == 0, accuracy]
    assert set(control.loc[control.level == 0, "stage_id"]) == set(
        pruned.loc[pruned.level == 0, "stage_id"]
    )
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\| .*\| [12], to ", line)]
    methods = ["finetune", "weight_rewind", "lr_rewind", "llr"]
    for line, (method, level) in zip(lines, product(methods, (1, 2)), strict=True):
        to = float(re.findall(r"to ([\d.]+)×", line)[0])
        same = (pruned.method == method) & (pruned.compression_ratio / to).between(0.99, 1.01)
        trained = control.loc[(control.method == method) & (control.level == level), accuracy]
        cells = [interval(trained, dense), interval(pruned.loc[same, accuracy], trained)]
        assert [cell.replace("*", "").strip() for cell in line.split("|")[3:5]] == cells


def interval(a: pd.DataFrame, b: pd.DataFrame) -> str:
    both = a.merge(b, on="seed", validate="one_to_one")
    assert len(both) == 5
    differences = 100 * (both.test_accuracy_x - both.test_accuracy_y)
    low, high = stats.t.interval(0.95, 4, differences.mean(), stats.sem(differences))
    return f"{differences.mean():+.2f} ({low:+.2f} to {high:+.2f})"

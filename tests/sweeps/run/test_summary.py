"""The table and the commands at a sweep's end."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.table.points import PANEL
from rewind_ray.protocols import plain
from rewind_ray.spec import Prune, Retrain, Stage, dense_stage, retrain_stage
from sweeps.run.summary import next_question, panel_table

ONE = dict.fromkeys(PANEL, "one-shot") | {"metric": "accuracy"}


def point(method: str, ratio: float, epochs: int, accuracy: float) -> dict[str, object]:
    spread = {f"test_accuracy{end}": accuracy for end in ("", "_min", "_max")}
    named = {"method": method, "variant": "", "compression_ratio": ratio, "retrain_epochs": epochs}
    return ONE | named | spread | {"prune_fraction": 0.2, "n_seeds": 1, "n_diverged": 0}


def stages_on(dataset: str) -> list[Stage]:
    """A dense network, and it pruned and retrained in two ways."""
    dense = dense_stage(plain("resnet20", dataset, epochs=4), 0)
    ways = [Retrain(method=name, epochs=2) for name in ("finetune", "lr_rewind")]
    return [dense, *(retrain_stage(dense, Prune(fraction=0.8), way) for way in ways)]


def table_of(points: list[dict[str, object]]) -> list[list[str]]:
    """Rows of cells, each an accuracy's first number."""
    dense = pd.DataFrame([point("dense", 1.0, 0, 0.9)])
    table = panel_table(tuple(ONE[name] for name in PANEL), pd.DataFrame(points), dense)
    columns = [[str(text).split(" (")[0] for text in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def test_each_retraining_time_has_a_row() -> None:
    points = [
        *(point("finetune", 5.0, t, t / 100) for t in (1, 2, 3)),
        *(point("lr_rewind", 5.0, t, t / 10) for t in (2, 3)),
        point("finetune", 10.0, 3, 0.5),
    ]
    assert table_of(points) == [
        ["5.00×", "1", "1.00", ""],
        ["", "2", "2.00", "20.00"],
        ["", "3", "3.00", "30.00"],
        ["10.00×", "3", "50.00", ""],
    ]


def test_with_many_methods_too() -> None:
    methods = ("finetune", "weight_rewind", "lr_rewind", "reinit", "slr")
    points = [point(name, 5.0, 2, 0.2) for name in methods] + [point("finetune", 5.0, 1, 0.1)]
    rows = table_of(points)
    assert rows[:2] == [["finetune", "1", "10.00"], ["", "2", "20.00"]] and len(rows) == 6


def test_one_retraining_time_a_method_needs_no_column() -> None:
    points = [point("finetune", 5.0, 2, 0.2), point("lr_rewind", 5.0, 3, 0.3)]
    assert table_of(points) == [["5.00×", "20.00", "30.00"]]


@pytest.mark.parametrize(
    ("sweep", "dataset", "command"),
    [
        ("renda2020-fig3-smoke", "digits", "analysis figure renda2020.fig3 results"),
        ("compare", "folder:flowers", "analysis compare results"),
        ("compare", "my_data:load", "analysis compare results"),
        ("compare", "cifar10", "compare --dataset folder:"),
    ],
)
def test_the_next_question_is_the_sweeps_own(sweep: str, dataset: str, command: str) -> None:
    assert command in next_question(sweep, "results", stages_on(dataset))

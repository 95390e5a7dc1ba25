"""Search costs, and the sharing factor counted by hand."""

import pytest

from analysis.commands.search_cost import search_cost_command
from analysis.questions.search_cost import search_costs, sharing_of
from analysis.reference import published
from analysis.report.material import material_of
from analysis.report.sections import search_cost
from analysis.table.rows import write_rows


def test_every_retraining_time_is_listed_cheapest_first(grid, make_table):
    points = search_costs(make_table(grid))
    one = points[(points["method"] == "finetune") & (points["density"] == 0.1)]
    assert list(one["search_cost_epochs"]) == [10, 20]
    assert list(one["search_cost_flops"]) == [3 * 10 * 1e5, 3 * 20 * 1e5]


def test_the_sharing_factor_of_a_small_sweep(make_row, make_table):
    rows = make_table(
        [
            make_row(method="dense"),  # 40 epochs
            make_row(stage_id="a", retrain_epochs=10),
            make_row(stage_id="a", retrain_epochs=30),  # the same trajectory, 20 epochs more
            make_row(stage_id="b", parent_id="a", level=2, retrain_epochs=10),
        ]
    )
    sharing = sharing_of(rows)
    assert sharing.epochs_trained == 40 + 30 + 10
    assert sharing.epochs_alone == 40 + (40 + 10) + (40 + 30) + (40 + 20)
    assert sharing.factor == 220 / 80


def test_a_baseline_of_two_lengths_counts_with_its_shortest(make_row, make_table):
    rows = make_table(
        [
            make_row(method="dense", train_epochs=40),
            make_row(method="dense", train_epochs=60),
            make_row(retrain_epochs=10),
        ]
    )
    sharing = sharing_of(rows)
    assert (sharing.epochs_trained, sharing.epochs_alone) == (70, 40 + 60 + 50)


def test_without_the_ancestors_the_factor_is_unknown(make_row, make_table, caplog):
    assert sharing_of(make_table([make_row()])) is None
    assert "1 stages that these rows go on from" in caplog.text


def test_without_the_costs_the_factor_is_unknown(make_row, make_table):
    rows = make_table([make_row(method="dense"), make_row()])
    rows.loc[1, "search_cost_epochs"] = None
    assert sharing_of(rows) is None


@pytest.mark.parametrize("trials", [[1, 1, 3], [1, 1, None]])
def test_rows_that_sum_up_trials_have_no_sharing_factor(trials, make_row, make_table):
    rows = make_table(
        [make_row(method="dense"), make_row(density=0.5), make_row(stage_id="x", density=0.2)]
    )
    rows = rows.assign(source="a paper", trials=1)
    assert sharing_of(rows) is not None
    assert sharing_of(rows.assign(trials=trials)) is None


@pytest.mark.parametrize("paper", ["mikler2022", "wang2023"])
def test_neither_command_nor_report_names_a_factor_of_published_sums(paper, tmp_path, capsys):
    rows = published(paper)
    write_rows(rows, str(tmp_path / "rows.parquet"))
    search_cost_command(str(tmp_path / "rows.parquet"))
    assert "sharing saved" not in capsys.readouterr().out
    section = search_cost(material_of(rows, "rows.csv"))
    assert not any("saved" in getattr(block, "text", "") for block in section.blocks)

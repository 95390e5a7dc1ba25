"""Search costs, and the sharing factor counted by hand."""

from analysis.questions.search_cost import search_costs, sharing_of


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

"""Reading and checking rows: what goes in comes out, and each bad table says what is wrong."""

import logging

import numpy as np
import pandas as pd
import pytest

from analysis.table.columns import DETAILS, BadRows, meanings
from analysis.table.details import keep_what_differs
from analysis.table.rows import read_rows, with_shared_first_levels, write_rows
from rewind_ray.result import COLUMNS
from rewind_ray.store.ledger import Ledger
from tests.analysis.conftest import stored_id


@pytest.fixture
def storage(tmp_path, grid):
    """A storage root that holds the rows of ``grid``."""
    ledger = Ledger(str(tmp_path / "storage"))
    for row in grid:
        ledger.write_row(row)
    return ledger


@pytest.fixture
def csv(tmp_path, grid, make_table):
    path = tmp_path / "rows.csv"
    write_rows(make_table(grid), str(path))
    return path


def assert_same_rows(one, other):
    order = ["stage_id", "train_epochs"]
    one, other = (table.sort_values(order, ignore_index=True) for table in (one, other))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def edited(csv, column, value, row=0):
    """The csv with one cell changed; the text as it is elsewhere."""
    table = pd.read_csv(csv, dtype=str, keep_default_na=False)
    table.loc[row, column] = value
    table.to_csv(csv, index=False)
    return str(csv)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_survives_a_round_trip_to_the_last_bit(tmp_path, grid, make_table, suffix):
    rows = make_table(grid)
    rows["val_accuracy"] = np.random.default_rng(0).random(len(rows))  # all 53 bits in use
    pruned = rows["level"] > 0
    rows["retrain_drops"] = rows["retrain_drops"].mask(pruned, "30 60.5")
    rows["prune_shrink"] = rows["prune_shrink"].mask(pruned & (rows["seed"] == 1), True)
    path = str(tmp_path / f"rows{suffix}")
    write_rows(rows, path)
    assert_same_rows(read_rows(path), keep_what_differs(rows))


def test_types_are_those_of_the_row(csv):
    rows = read_rows(str(csv))
    assert list(rows.columns) == [*COLUMNS, *DETAILS, "variant"]
    assert rows["seed"].dtype == "int64"
    assert rows["rewind_epoch"].dtype == "Int64" and rows["rewind_epoch"].isna().any()
    assert rows["val_accuracy"].dtype == "float64"
    assert rows["parent_id"].dtype == "str" and rows["parent_id"].isna().sum() == 3


def test_stage_ids_stay_text(tmp_path, make_row, make_table):
    ids = ["0123456789012345", "12345678901234e5", "0000000000000000"]
    path = str(tmp_path / "rows.csv")
    write_rows(make_table(make_row(stage_id=name) for name in ids), path)
    assert list(read_rows(path)["stage_id"]) == ids


def test_a_storage_root_is_read_as_it_was_written(storage, grid, make_table):
    assert_same_rows(read_rows(storage.uri), make_table(grid))
    assert_same_rows(read_rows(f"file://{storage.uri}"), make_table(grid))


def test_every_column_has_a_meaning():
    assert [name for name, meaning in meanings().items() if not meaning] == []
    assert meanings()["compression_ratio"] == "1 / density"


# sweeps


def test_a_sweep_is_the_rows_it_asked_for(storage, caplog):
    one, other, not_yet = map(stored_id, ("finetune-0.5-0", "finetune-0.1-0", "not yet"))
    stages = {one: [10], other: [10, 20, 30], not_yet: [5]}
    storage.write_sweep("quick", {"sweep": "quick", "command": [], "stages": stages})
    with caplog.at_level(logging.INFO):
        rows = read_rows(storage.uri, sweep="quick")
    keys = set(zip(rows["stage_id"], rows["train_epochs"], strict=True))
    assert keys == {(one, 10), (other, 10), (other, 20)}
    assert "3 of its 5 rows are there" in caplog.text
    assert "2 of its rows are still missing" in caplog.text


def test_an_unknown_sweep_lists_the_known(storage):
    storage.write_sweep("quick", {"stages": {}})
    with pytest.raises(ValueError, match=r"no sweep 'slow'.*there: quick"):
        read_rows(storage.uri, sweep="slow")


def test_a_sweep_without_rows_says_so(storage):
    storage.write_sweep("quick", {"stages": {stored_id("not yet"): [5]}})
    with pytest.raises(BadRows, match="no rows of sweep quick yet"):
        read_rows(storage.uri, sweep="quick")


@pytest.mark.parametrize("record", [{}, {"stages": ["a"]}, {"stages": {"a": None}}])
def test_a_damaged_sweep_file_is_named(storage, record):
    storage.write_sweep("quick", record)
    with pytest.raises(BadRows, match=r"sweeps/quick\.json"):
        read_rows(storage.uri, sweep="quick")


def test_a_sweep_is_not_picked_out_of_a_file(csv):
    with pytest.raises(ValueError, match="storage root"):
        read_rows(str(csv), sweep="quick")


# bad storage


@pytest.mark.parametrize("content", [b"", b'{"stage_id": "x"', b"[]", b"\xff\xfe", b'{"seed": 1}'])
def test_one_corrupt_row_costs_only_itself(storage, grid, caplog, content):
    bad = f"stages/{stored_id('finetune-0.1-0')}/rows/0010.json"
    with open(f"{storage.root}/{bad}", "wb") as file:
        file.write(content)
    assert len(read_rows(storage.uri)) == len(grid) - 1
    assert bad in caplog.text


def test_a_row_in_another_stages_folder_is_skipped(storage, grid, make_row, caplog):
    path, other = (
        f"{storage.root}/stages/{stored_id(name)}/rows/0010.json"
        for name in ("finetune-0.1-0", "finetune-0.1-1")
    )
    with open(path, "wb") as file, open(other, "rb") as source:
        file.write(source.read())
    assert len(read_rows(storage.uri)) == len(grid) - 1
    assert f"holds stage '{stored_id('finetune-0.1-1')}'" in caplog.text


def test_stray_files_cost_no_row(storage, grid):
    stage = f"stages/{stored_id('finetune-0.1-0')}"
    for name in ("stages/.DS_Store", f"{stage}/rows/copy of 0010.json", f"{stage}/rows/10.json"):
        with open(f"{storage.root}/{name}", "w") as file:
            file.write("x")
    assert len(read_rows(storage.uri)) == len(grid)


def test_a_storage_root_without_rows(tmp_path):
    with pytest.raises(BadRows, match="holds no rows"):
        read_rows(str(tmp_path))


# bad files


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="isn't there"):
        read_rows(str(tmp_path / "none.csv"))


def test_another_kind_of_file(tmp_path):
    (tmp_path / "rows.txt").write_text("x")
    with pytest.raises(ValueError, match=r"\.csv, a \.parquet or a storage root"):
        read_rows(str(tmp_path / "rows.txt"))


def test_another_suffix_to_write(tmp_path, grid, make_table):
    with pytest.raises(ValueError, match=r"\.csv, \.parquet"):
        write_rows(make_table(grid), str(tmp_path / "rows.xlsx"))


def test_missing_columns_are_named_with_their_meaning(csv):
    table = pd.read_csv(csv).drop(columns=["density", "rewind_epoch"])
    table.to_csv(csv, index=False)
    with pytest.raises(BadRows, match=r"lacks 2 .*density \(Unpruned / prunable.*k = T - t"):
        read_rows(str(csv))


def test_unknown_columns_are_left_out(csv, caplog):
    pd.read_csv(csv, dtype=str).assign(note="mine").to_csv(csv, index=False)
    with caplog.at_level(logging.INFO):
        assert list(read_rows(str(csv)).columns) == [*COLUMNS, *DETAILS, "variant"]
    assert "note" in caplog.text


def test_a_column_twice(csv):
    header, *lines = csv.read_text().splitlines()
    csv.write_text("\n".join([f"{header},seed", *(f"{line},0" for line in lines)]) + "\n")
    with pytest.raises(BadRows, match="column twice: seed"):
        read_rows(str(csv))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("test_accuracy", "91.73", r"row 1 .*test_accuracy is 91\.73.*divide by 100"),
        ("val_accuracy", "-0.1", r"row 1 .*val_accuracy is -0\.1"),
        ("baseline_test_accuracy", "inf", r"row 1 .*baseline_test_accuracy is inf"),
        ("test_accuracy", "good", "test_accuracy of row 1 is 'good'; it holds numbers"),
        ("seed", "1.5", "seed of row 1 is '1.5'; it holds whole numbers"),
        ("seed", "", "row 1 has no seed"),
        ("method", "", "row 1 has no method"),
        ("density", "0", r"row 1 .*density is 0"),
        ("density", "nan", "row 1 has no density"),
        ("status", "fine", r"row 1 .*status is 'fine'; known: done, diverged, collapsed"),
    ],
)
def test_a_bad_value_is_shown_with_its_row(csv, column, value, message):
    with pytest.raises(BadRows, match=message):
        read_rows(edited(csv, column, value))


def test_whole_numbers_may_be_written_as_floats(csv):
    assert read_rows(edited(csv, "rewind_epoch", "30.0"))["rewind_epoch"].iloc[0] == 30


def test_identical_rows_count_once(csv, grid, caplog):
    header, *lines = csv.read_text().splitlines(keepends=True)
    csv.write_text("".join([header, *lines, *lines[:2]]))
    assert len(read_rows(str(csv))) == len(grid)
    assert "dropped 2 repeated rows" in caplog.text


def test_rows_of_one_key_that_differ_are_refused(csv):
    header, *lines = csv.read_text().splitlines(keepends=True)
    csv.write_text("".join([header, *lines, lines[1].replace("fp32", "bf16")]))
    with pytest.raises(BadRows, match=r"different rows of stage .* they differ in precision:"):
        read_rows(str(csv))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_cut_short(tmp_path, grid, make_table, suffix, share):
    path = tmp_path / f"rows{suffix}"
    write_rows(make_table(grid), str(path))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BadRows, match=r"cut short|empty"):
        read_rows(str(path))


def test_a_csv_cut_within_its_last_cell_is_told(csv, caplog):
    csv.write_bytes(csv.read_bytes()[:-4])
    read_rows(str(csv))
    assert "may be cut short" in caplog.text


@pytest.mark.parametrize("data", [b"\xff\xfe\x00\x01", b'stage_id,seed\n"a'])
def test_no_csv_at_all(csv, data):
    csv.write_bytes(data)
    with pytest.raises(BadRows, match="can't read"):
        read_rows(str(csv))


def test_no_rows_in_a_table(csv):
    csv.write_text(csv.read_text().splitlines()[0] + "\n")
    with pytest.raises(BadRows, match="holds no rows"):
        read_rows(str(csv))


# first levels


def test_a_first_step_that_goes_on_belongs_to_both_kinds(grid, make_table):
    rows = make_table(grid)
    both = with_shared_first_levels(rows)
    copies = both[(both["level"] == 1) & (both["schedule_kind"] == "iterative")]
    expected = {stored_id(f"weight_rewind-0.5-{seed}-20") for seed in range(3)}
    assert set(copies["stage_id"]) == expected
    assert len(copies) == 3
    assert_same_rows(both[~both.index.isin(copies.index)], rows)


def test_of_one_trajectory_only_the_length_that_was_pruned_is_shared(make_row, make_table):
    first = [make_row(stage_id="a", retrain_epochs=epochs) for epochs in (10, 20, 30)]
    second = make_row(stage_id="b", parent_id="a", level=2, density=0.05, retrain_epochs=20)
    both = with_shared_first_levels(make_table([*first, second]))
    copies = both[(both["level"] == 1) & (both["schedule_kind"] == "iterative")]
    assert list(copies["train_epochs"]) == [20]


def test_sharing_first_levels_twice_changes_nothing(grid, make_table):
    once = with_shared_first_levels(make_table(grid))
    pd.testing.assert_frame_equal(with_shared_first_levels(once), once)


def test_text_of_a_table_reaches_no_terminal(csv):
    found = read_rows(edited(csv, "device", "\x1b[2Jdigits"))
    assert found["device"].iloc[0] == r"\x1b[2Jdigits"
    with pytest.raises(BadRows) as raised:
        read_rows(edited(csv, "dataset", "\x1b[2Jdigits"))
    assert "\x1b" not in str(raised.value)

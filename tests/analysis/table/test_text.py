import json

import numpy as np
import pandas as pd
import pytest

from analysis.table.text import count, json_text, percent, times


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1, "1.00×"),
        (9.3132, "9.31×"),
        (9.999, "10.0×"),
        (10, "10.0×"),
        (99.96, "100×"),
        (128, "128×"),
        (1234, "1230×"),
    ],
)
def test_ratios_have_three_digits(ratio, text):
    assert times(ratio) == text


def test_numbers_as_papers_write_them():
    assert percent(0.9639) == "96.39"
    assert percent(float("nan")) == ""
    assert [count(182.0), count(40.5), count(4.08e7)] == ["182", "40.5", "4.08e+07"]


def test_json_has_null_for_whatever_is_missing():
    values = [np.nan, pd.NA, None, np.inf, np.float64(0.5), np.int64(3), np.bool_(True), "dense"]
    expected = [None, None, None, None, 0.5, 3, True, "dense"]
    assert json.loads(json_text({"values": values})) == {"values": expected}

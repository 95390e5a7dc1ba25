from __future__ import annotations

import pytest

from sweeps.options import Options, gpu_share


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("1", 1.0),
        ("1/2", 0.5),
        ("0.5", 0.5),
        ("1/3", 1 / 3),
        ("0.33333", 1 / 3),
        ("0.125", 0.125),
        ("1/16", 0.0625),
        ("0", 0.0),
        ("auto", None),
    ],
)
def test_shares_of_a_gpu(text, share):
    assert gpu_share(text) == share


@pytest.mark.parametrize("text", ["2", "2/3", "0.7", "-1/2", "half", "1/0", "", "0.0001", "nan"])
def test_other_shares_are_refused_with_the_allowed_ones(text):
    with pytest.raises(ValueError, match=r"gpus-per-trial.*allowed.*1/n"):
        gpu_share(text)
    with pytest.raises(ValueError, match="gpus-per-trial"):
        Options(gpus_per_trial=text)


@pytest.mark.parametrize("name", ["seeds", "max_concurrent", "cpus_per_trial"])
def test_counts_start_at_one(name):
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is 0"):
        Options(**{name: 0})

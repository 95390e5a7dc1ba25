from __future__ import annotations

import pytest

from rewind_ray.errors import UserError
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


@pytest.mark.parametrize("cpus", [0, -1, float("inf"), float("nan")])
def test_impossible_numbers_of_cores_are_refused(cpus):
    with pytest.raises(ValueError, match=r"--cpus-per-trial is .*; allowed: numbers above 0"):
        Options(cpus_per_trial=cpus)


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1, 1), (1.5, 1), (2.0, 2)])
def test_threads_are_whole_cores(cpus, threads):
    assert Options(cpus_per_trial=cpus).threads == threads


@pytest.mark.parametrize("name", ["seeds", "max_concurrent"])
def test_counts_start_at_one(name):
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is 0"):
        Options(**{name: 0})


@pytest.mark.parametrize("address", ["ray://head:10001", "ray://10.0.0.1"])
def test_a_ray_client_is_refused_with_what_to_use(address):
    """Tune would run in an actor, and the driver see nothing of it."""
    with pytest.raises(UserError, match=f"{address}.*--address auto.*ray job submit"):
        Options(address=address)


@pytest.mark.parametrize("data", ["s3://bucket/cifar", "gs://bucket", "https://x.org/a.zip"])
def test_data_in_a_bucket_does_not_become_a_folder_of_that_name(data):
    with pytest.raises(UserError, match=f"--data is '{data}'"):
        Options(data=data)


@pytest.mark.parametrize("name", ["max_hours", "max_cost"])
@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_limits_are_above_nothing(name, limit):
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} is .*numbers above 0"):
        Options(**{name: limit, "address": "auto"})


def test_a_local_sweep_has_no_cost():
    with pytest.raises(UserError, match="--max-cost is 5"):
        Options(max_cost=5)

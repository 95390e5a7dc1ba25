"""Calibration: real processes that really train, for a moment."""

import json

import pytest
import ray

from rewind_ray.errors import UserError
from rewind_ray.measuring.packing import Measured, Trial, best_of, side_by_side
from rewind_ray.measuring.throughput import Workload
from sweeps.commands import calibrate as calibrate_module
from sweeps.commands.calibrate import advice, calibrate_command, cpus_of_a_share
from sweeps.run.capacity import trials_on


def measured(at_once, speed, failure=""):
    return Measured(
        at_once=at_once,
        threads=1,
        cores=4,
        updates_per_second=speed,
        updates_per_second_each=speed / at_once,
        peak_gib=1.0,
        failure=failure,
    )


def test_the_best_is_the_most_work_in_all():
    options = [measured(1, 10.0), measured(2, 15.0), measured(4, 14.0), measured(8, 0.0, "memory")]
    best = best_of(options)
    assert best.at_once == 2
    assert "--gpus-per-trial 1/2 --cpus-per-trial 1 " in advice(best, "cuda")
    assert "--cpus-per-trial 1 --max-concurrent 2" in advice(best, "cpu")
    assert best_of([measured(1, 0.0, "memory")]) is None
    assert best_of([measured(1, 6.2), measured(2, 7.14), measured(8, 7.19)]).at_once == 2  # noise


@pytest.mark.parametrize(("cores", "at_once"), [(4, 8), (4, 1), (3, 7), (64, 4), (2, 16)])
def test_the_cpus_advised_leave_room_for_all_shares_of_the_gpu(cores, at_once):
    """By Ray's resources: eight eighths of a GPU on four CPUs need half a CPU each."""
    machine = {"CPU": cores, "GPU": 1}
    cpus = cpus_of_a_share(cores, at_once)
    assert trials_on(machine, cpus, 1 / at_once) == at_once
    assert trials_on(machine, 1, 1 / at_once) < at_once or cpus == 1


@pytest.mark.slow
def test_two_trials_train_at_once():
    trial = Trial(
        load=Workload(network="resnet8", image_size=32),
        device="cpu",
        at_once=2,
        threads=1,
        seconds=0.5,
    )
    found = side_by_side(trial)
    assert not found.failure
    assert found.updates_per_second > found.updates_per_second_each > 0
    assert found.peak_gib > 0.05


@pytest.mark.slow
def test_a_trial_that_breaks_breaks_the_measurement_not_the_command(capsys):
    """A batch of images this large doesn't fit anywhere: a real allocation fails."""
    trial = Trial(
        load=Workload(network="resnet8", image_size=10**6),
        device="cpu",
        at_once=2,
        threads=1,
        seconds=0.5,
    )
    found = side_by_side(trial)
    assert found.failure and found.updates_per_second == 0


@pytest.mark.slow
def test_json_is_all_that_is_printed(capsys):
    arguments = {"network": "resnet8", "at_once": (1,), "seconds": 0.2, "device": "cpu"}
    arguments |= {"image_size": 16, "batch_size": 64}
    assert calibrate_command(**arguments, json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["load"]["image_size"] == 16
    assert printed["load"]["batch_size"] == 64
    assert printed["best"]["at_once"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "resnet21"}, "resnet20"),
        ({"at_once": (0,)}, "at-once is 0"),
        ({"at_once": (1, 10**8)}, "at-once is 1 100000000; allowed: whole numbers from 1 to 256"),
        ({"seconds": 0.0}, "seconds is 0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"batch_size": 0}, "batch-size is 0"),
        ({"image_size": -1}, "image-size -1"),
    ],
)
def test_wrong_usage(arguments, message):
    with pytest.raises(UserError, match=message):
        calibrate_command(**arguments)


@pytest.mark.slow
def test_a_cluster_without_a_gpu_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(calibrate_module, "PLACE_SECONDS", 6.0)
    ray.init(num_cpus=1, include_dashboard=False)
    try:
        with pytest.raises(UserError, match=r"whole GPU free for 0.1 minutes; end what runs there"):
            calibrate_module.calibrate_on("auto", ("cuda",))
        with pytest.raises(TypeError):  # it was placed; these aren't settings
            calibrate_module.calibrate_on("auto", ("cpu",))
    finally:
        ray.shutdown()

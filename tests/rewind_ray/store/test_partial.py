"""Stopped in the middle of an epoch, and gone on with to the same bits."""

import pytest

from rewind_ray.protocols import digits
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.partial import progress_of
from rewind_ray.training.epoch import BrokenOff
from rewind_ray.training.run import Job, Runtime
from rewind_ray.training.stage import run_epoch, run_stage, start_stage

UPDATES = 5  # an epoch


def job(shrink=False):
    protocol = digits(
        epochs=3,
        schedule=Schedule(lr=0.1, drops=(2,)),
        train_examples=32 * UPDATES,
        test_examples=50,
        batch_size=32,
    )
    structure = "filters" if shrink else "unstructured"
    prune = Prune(fraction=0.4, structure=structure, shrink=shrink, keep_layers=True)
    stage = retrain_stage(dense_stage(protocol, 0), prune, Retrain(method="lr_rewind", epochs=3))
    return Job(stage=stage, row_epochs=(3,))


def prepare(storage, of):
    parent = of.stage.parent
    run_stage(Job(stage=parent, row_epochs=(3,), rewind_epochs=(3,)), Runtime(storage=storage))


def facts(storage, of):
    ledger = Ledger(storage)
    metrics = [ledger.read_metrics(of.stage.stage_id, epoch) for epoch in range(4)]
    timed = ("train_seconds", "examples_per_second")
    return [{k: v for k, v in one.items() if k not in timed} for one in metrics]


def break_off(storage, of, after):
    """Train, and stop before the update ``after`` (from 0) of the whole stage."""
    run = start_stage(of, Runtime(storage=storage))
    asked = iter(range(after + 1))
    run.stop = lambda: next(asked) == after
    with pytest.raises(BrokenOff) as broken:
        while not run.finished:
            run_epoch(run)
    return broken.value.progress


@pytest.mark.parametrize("shrink", [False, True])
@pytest.mark.parametrize("after", [0, 3, 7, 14])
def test_the_rest_of_a_broken_epoch_ends_in_the_same_bits(tmp_path, after, shrink):
    whole, broken = str(tmp_path / "whole"), str(tmp_path / "broken")
    of = job(shrink)
    for storage in (whole, broken):
        prepare(storage, of)
    run_stage(of, Runtime(storage=whole))
    progress = break_off(broken, of, after)
    assert progress.updates == after % UPDATES
    trained = []
    run = start_stage(of, Runtime(storage=broken))
    run.stop = lambda: bool(trained.append(1))
    while not run.finished:
        run_epoch(run)
    assert len(trained) == 3 * UPDATES - after  # nothing is trained twice
    assert facts(broken, of) == facts(whole, of)
    assert not list((tmp_path / "broken").rglob("partial.*"))


@pytest.mark.parametrize("name", ["partial.json", "partial.safetensors"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\x00" * 1000])
def test_a_damaged_one_costs_its_updates_only(tmp_path, name, damage):
    whole, broken = str(tmp_path / "whole"), str(tmp_path / "broken")
    of = job()
    for storage in (whole, broken):
        prepare(storage, of)
    run_stage(of, Runtime(storage=whole))
    break_off(broken, of, 7)
    (tmp_path / "broken" / "stages" / of.stage.stage_id / name).write_bytes(damage)
    run_stage(of, Runtime(storage=broken))
    assert facts(broken, of) == facts(whole, of)


def test_breaking_off_twice_in_an_epoch(tmp_path):
    whole, broken = str(tmp_path / "whole"), str(tmp_path / "broken")
    of = job()
    for storage in (whole, broken):
        prepare(storage, of)
    run_stage(of, Runtime(storage=whole))
    assert break_off(broken, of, 1).updates == 1
    assert break_off(broken, of, 2).updates == 3
    run_stage(of, Runtime(storage=broken))
    assert facts(broken, of) == facts(whole, of)


def test_a_machine_lost_without_notice_costs_what_was_trained_since_the_last_save(tmp_path):
    """Saved at each update from the second of an epoch on, as if it took ten minutes."""
    whole, lost = str(tmp_path / "whole"), str(tmp_path / "lost")
    of = job()
    for storage in (whole, lost):
        prepare(storage, of)
    run_stage(of, Runtime(storage=whole))
    run = start_stage(of, Runtime(storage=lost))
    run.save_seconds = 0
    asked = iter(range(10))

    def gone():
        if next(asked) == UPDATES + 3:
            raise ConnectionError("the machine is gone")
        return False

    run.stop = gone
    with pytest.raises(ConnectionError):
        while not run.finished:
            run_epoch(run)
    ledger = Ledger(lost)
    assert progress_of(ledger, of.stage.stage_id) == (1, 2)
    trained = []
    run = start_stage(of, Runtime(storage=lost))
    run.stop = lambda: bool(trained.append(1))
    while not run.finished:
        run_epoch(run)
    assert len(trained) == 3 * UPDATES - (UPDATES + 2)
    assert facts(lost, of) == facts(whole, of)
    assert progress_of(ledger, of.stage.stage_id) == (3, 0)
    assert not list((tmp_path / "lost").rglob("partial.*"))

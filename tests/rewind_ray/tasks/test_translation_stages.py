"""Translation through the same stages as images: trained, pruned, rewound, resumed, in rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.table.rows import read_rows
from rewind_ray.errors import DataError
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Stage, dense_stage, stage_from_dict, stage_to_dict
from rewind_ray.training.epoch import BrokenOff
from rewind_ray.training.stage import run_epoch, start_stage
from tests.rewind_ray.datasets.text.test_corpora import write
from tests.rewind_ray.tasks.words import task, words
from tests.rewind_ray.tiny_stages import Lab, child

NewLab = Callable[[str], Lab]
EARLY = 2
T = 4


def stages() -> list[Stage]:
    dense = dense_stage(words(), seed=0)
    rewound = child(dense, "weight_rewind", T - EARLY, restore_momentum=True)
    again = child(rewound, "weight_rewind", T - EARLY, restore_momentum=True)
    others = [child(dense, method, 1) for method in ("lr_rewind", "finetune")]
    return [dense, rewound, again, *others]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("words"))
    for stage in stages():
        lab.run(stage, rewinds=(EARLY,) if stage.level == 0 else (0,))
    return lab


def test_rows_hold_bleu(trained: Lab) -> None:
    rows = [trained.row(stage) for stage in stages()]
    assert {(row.task, row.metric) for row in rows} == {("translation", "bleu")}
    assert {(row.network, row.dataset) for row in rows} == {("gnmt_tiny", "number_words")}
    assert [row.density for row in rows] == pytest.approx([1, 0.5, 0.25, 0.5, 0.5], abs=1e-4)
    assert all(0 <= row.test_accuracy <= 1 and row.val_accuracy is not None for row in rows)
    assert all(row.pruned_accuracy is not None for row in rows[1:])
    assert all(row.optimizer == "adam" for row in rows)
    network = task().network(0)
    assert rows[0].params_total == sum(p.numel() for p in network.parameters())
    assert rows[1].flops_remaining < 0.8 * rows[0].flops_dense
    table = read_rows(str(trained.storage))
    assert set(table["metric"]) == {"bleu"} and len(table) == len(rows)


def test_epochs_say_how_bleu_was_counted(trained: Lab) -> None:
    for epoch in range(T + 1):
        metrics = trained.metrics(stages()[0], epoch)
        assert metrics["metric_details"] == task().metric_details
        assert metrics["prepared_digest"] == task().prepared_digest
    losses = [trained.metrics(stages()[0], epoch)["train_loss"] for epoch in range(1, T + 1)]
    assert losses[-1] < 0.9 * losses[0]


def test_pruned_weights_stay_zero_under_adam(trained: Lab) -> None:
    dense, rewound, again = stages()[:3]
    early = trained.point(dense, EARLY)
    for stage in (rewound, again):
        start, end = trained.point(stage, 0), trained.point(stage)
        assert set(start.mask) == set(task().prunable(task().network(0)))
        for name, kept in start.mask.items():
            assert (start.weights[name] == early.weights[name] * kept).all()
            assert not end.weights[name][~kept].any()
            assert "bias" not in name and "scale" not in name
        moments = f"exp_avg/{name}"
        assert (start.optimizer[moments] == early.optimizer[moments]).all()


def test_it_resumes_to_the_same_bits(trained: Lab, new_lab: NewLab) -> None:
    """Stopped in the middle of every epoch, and at every rewind point; with dropout."""
    lab = new_lab("stopped")
    for stage in stages()[:2]:
        job = lab.job(stage, rewinds=(EARLY,) if stage.level == 0 else (0,))
        for _ in range(stage.train_epochs):
            run = start_stage(job, lab.runtime())
            asked = iter([False, False, True])
            run.stop = lambda asked=asked: next(asked)  # type: ignore[misc]
            with pytest.raises(BrokenOff):
                run_epoch(run)
            run_epoch(start_stage(job, lab.runtime()))
        assert lab.bytes(stage) == trained.bytes(stage)


def test_its_description_comes_back() -> None:
    for stage in stages():
        assert stage_from_dict(stage_to_dict(stage)).stage_id == stage.stage_id


def test_the_vocabulary_of_another_run_is_refused(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same protocol, the files' text exchanged in between."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folders = [tmp_path / name / "text" for name in ("first", "second")]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for part, count in (("train", 40), ("val", 2), ("test", 2)):
            pairs = [(f"say number {number * i}", f"sag {i} Zahlen") for i in range(count)]
            write(folder, part, pairs)
    protocol = words(
        dataset="folder:text",
        train_examples=None,
        epochs=1,
        schedule=Schedule(lr=0.01),
        task_options={"subwords": 40},
    )
    dense = dense_stage(protocol, seed=0)
    pruned = child(dense, "lr_rewind", 1)
    lab.run(dense, data=str(folders[0]))
    with pytest.raises(DataError, match=dense.stage_id):
        lab.run(pruned, data=str(folders[1]))
    lab.run(pruned, data=str(folders[0]))

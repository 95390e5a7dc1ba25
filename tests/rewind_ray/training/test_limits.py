"""Seconds spent waiting for batches, and the line that says what limits a training."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rewind_ray.spec import dense_stage
from rewind_ray.tasks.image import ImageClassification
from rewind_ray.training import limits
from rewind_ray.training.epoch import Awaited
from rewind_ray.training.limits import limit_of
from tests.rewind_ray.tiny_stages import Lab, tiny


def test_waiting_is_what_the_batches_take_not_what_is_done_with_them() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.05)
            yield number

    awaited = Awaited(slow())
    begun = time.perf_counter()
    found = []
    for number in awaited:
        time.sleep(0.2)
        found.append(number)
    assert found == [0, 1, 2]
    assert 0.15 <= awaited.seconds <= time.perf_counter() - begun - 0.6


def test_the_line_names_what_limits() -> None:
    reading, line = limit_of(30.0, 100.0)
    assert reading and "30%" in line and "--cpus-per-trial" in line
    reading, line = limit_of(2.0, 100.0)
    assert not reading and "2%" in line


@pytest.mark.parametrize("streamed", [True, False])
def test_a_stage_says_it_once(
    lab: Lab, streamed: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of three epochs after the first; of data in memory, whose epochs are a table, never."""
    monkeypatch.setattr(limits, "SECONDS", 0.0)
    if streamed:
        no_table: Any = lambda *_: None  # noqa: E731
        monkeypatch.setattr(ImageClassification, "epoch_table", no_table)
    with caplog.at_level(logging.INFO, logger="rewind_ray"):
        lab.run(dense_stage(tiny(), 0), rows=(3,))
    assert sum("limits the training" in line for line in caplog.messages) == int(streamed)

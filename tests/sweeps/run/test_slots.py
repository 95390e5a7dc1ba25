"""What a trial's error says of its machine's memory; test_sharing.py has Ray's own killing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from sweeps.run.slots import Slots


@pytest.mark.parametrize("low", [True, False])
def test_a_long_text_is_searched_at_once(tmp_path: Path, low: bool) -> None:
    """An exception may hold a batch; half an hour, if each character began a search of its own."""
    words = "Task was killed due to the node running low on memory.\n" if low else ""
    file = tmp_path / "error.txt"
    file.write_text("ValueError: bad batch: " + "1.0, " * 200_000 + f"\n{words}the end\n")
    said: list[tuple[str, str]] = []
    slots = Slots(lambda trial, why: said.append((trial, why)))
    slots.on_trial_error(None, SimpleNamespace(trial_id="one", error_file=str(file)))
    assert said == [("one", words.strip())] * low

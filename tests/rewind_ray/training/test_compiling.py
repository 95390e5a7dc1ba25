"""Compiled stages: chosen by length, other bits, and the same ones again."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rewind_ray.datasets.cache import cache_folder
from rewind_ray.spec import dense_stage
from rewind_ray.tasks import load_task
from rewind_ray.training.compiling import GAIN, digest_of, is_worth_it, measured, sample_of
from rewind_ray.training.stage import run_epoch, start_stage
from tests.rewind_ray.tiny_stages import Lab, child, tiny

NewLab = Callable[[str], Lab]
CPU = torch.device("cpu")


def test_the_ratio_is_the_median_of_turns() -> None:
    times = iter([9.0, 3.0, 4.0] * 10)
    assert measured(lambda: 4.0, lambda: next(times)) == 4.0 / 4.0


def test_what_can_t_be_compiled_is_never_faster(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> float:
        raise RuntimeError("no C++ compiler\nand much more")

    assert measured(lambda: 1.0, fails) == math.inf
    assert caplog.messages == ["not compiled: no C++ compiler"]


def test_networks_threads_and_precision_are_measured_by_themselves() -> None:
    def digest(threads: int = 1, **changes: Any) -> str:
        torch.set_num_threads(threads)
        task = load_task(tiny(**changes), None, CPU)
        return digest_of(task, *sample_of(task))

    same, *others = (
        digest(),
        digest(precision="bf16"),
        digest(batch_size=7),
        digest(network="resnet20"),
        digest(threads=2),
    )
    assert digest() == same
    assert len({same, *others}) == 5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_a_long_stage_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one; which way is faster depends on the processor."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    torch.set_num_threads(1)
    task = load_task(tiny(network="resnet8"), None, CPU)
    before = torch.get_rng_state()
    found = is_worth_it(task, 10**9)
    assert torch.equal(torch.get_rng_state(), before)
    (path,) = cache_folder("compiling").glob("*.json")
    ratio = json.loads(path.read_text())["ratio"]
    assert 0.1 < ratio < 10
    assert found == (ratio <= GAIN)
    for kept in (0.5, 1.5):
        path.write_text(json.dumps({"ratio": kept}))
        assert is_worth_it(task, 10**9) == (kept <= GAIN)
    path.write_text("damaged")
    is_worth_it(task, 10**9)
    assert json.loads(path.read_text())["ratio"] > 0.1


def test_a_short_stage_is_left_alone(lab: Lab) -> None:
    stage = dense_stage(tiny(), 0)
    run = start_stage(lab.job(stage), lab.runtime(compile="auto"))
    assert run.compiled is False
    assert lab.metrics(stage, 0)["compiled"] is False


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_a_compiled_stage_goes_on_compiled_to_the_same_bits(lab: Lab, new_lab: NewLab) -> None:
    """Begun with --compile on and gone on with without, and the other way round."""
    torch.set_num_threads(1)
    stage = child(dense_stage(tiny(network="resnet8"), 0), "lr_rewind", 3)
    bits = {}
    for begun, later in (("on", "on"), ("on", "off"), ("off", "off"), ("off", "on")):
        here = new_lab(f"{begun} {later}")
        here.run(stage.baseline)
        run = start_stage(here.job(stage), here.runtime(compile=begun))
        run_epoch(run)
        here.run(stage, compile=later)
        assert [here.metrics(stage, epoch)["compiled"] for epoch in range(4)] == 4 * [begun == "on"]
        bits[begun, later] = here.bytes(stage)
    assert bits["on", "on"] == bits["on", "off"]
    assert bits["off", "off"] == bits["off", "on"]
    assert bits["on", "on"] != bits["off", "off"]
    compiled, plain = (new_lab(f"{name} {name}").point(stage).weights for name in ("on", "off"))
    for name, weights in compiled.items():
        torch.testing.assert_close(weights, plain[name], rtol=0.02, atol=0.01)

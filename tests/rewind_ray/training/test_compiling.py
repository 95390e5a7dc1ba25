"""Compiled stages: chosen by length, other bits, and the same ones again."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch

from rewind_ray.spec import dense_stage
from rewind_ray.training.compiling import COMPILES, LONG, is_worth_it
from rewind_ray.training.stage import run_epoch, start_stage
from tests.rewind_ray.tiny_stages import Lab, child, tiny

NewLab = Callable[[str], Lab]


def test_long_stages_are_worth_it() -> None:
    found = {setting: [is_worth_it(setting, n) for n in (1, LONG)] for setting in COMPILES}
    assert found == {"off": [False, False], "auto": [False, True], "on": [True, True]}


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

"""What a precision switches on in PyTorch, and that it is put back."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from rewind_ray.spec import PRECISIONS, dense_stage
from rewind_ray.training import arithmetic as module
from rewind_ray.training.arithmetic import CUBLAS_WORKSPACE, arithmetic, check_precision
from rewind_ray.training.stage import run_epoch, start_stage
from tests.rewind_ray.tiny_stages import Lab, child, tiny

CPU = torch.device("cpu")


def state() -> dict[str, Any]:
    """Read by PyTorch's own names, not by the list that is tested."""
    return {
        "convolutions": torch.backends.cudnn.conv.fp32_precision,
        "products": torch.backends.cuda.matmul.fp32_precision,
        "cpu": (
            torch.backends.mkldnn.conv.fp32_precision,
            torch.backends.mkldnn.matmul.fp32_precision,
        ),
        "bf16": torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fp32_is_fp32_and_deterministic(precision: str) -> None:
    """PyTorch's own default is TF32 in convolutions."""
    before = state()
    with arithmetic(precision, CPU):
        assert state() == {
            "convolutions": "ieee",
            "products": "ieee",
            "cpu": ("ieee", "ieee"),
            "bf16": False,
            "deterministic": True,
            "warns": False,
            "cudnn": (True, False),
        }
    assert state() == before


def test_tf32_is_tf32_in_convolutions_and_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "check_precision", lambda *_: None)
    with arithmetic("tf32", CPU):
        assert (state()["convolutions"], state()["products"]) == ("tf32", "tf32")


def test_the_settings_are_put_back_whatever_they_were() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.benchmark = True
    before = state()
    try:
        with pytest.raises(KeyError), arithmetic("fp32", CPU):
            with arithmetic("bf16", CPU):
                pass
            assert state()["deterministic"] and not state()["warns"]
            raise KeyError
        assert state() == before
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.conv.fp32_precision = "tf32"
        torch.backends.cudnn.benchmark = False


def test_an_operation_without_a_deterministic_algorithm_is_refused() -> None:
    places = torch.tensor([0, 0])
    torch.zeros(4).put_(places, torch.ones(2))
    with arithmetic("fp32", CPU), pytest.raises(RuntimeError, match="deterministic"):
        torch.zeros(4).put_(places, torch.ones(2))


def test_tf32_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision in ("fp32", "bf16"):
        check_precision(precision, CPU)
    with pytest.raises(ValueError, match="precision tf32 on cpu"):
        check_precision("tf32", CPU)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla V100")
    for capability, fine in (((7, 0), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        if fine:
            check_precision("tf32", torch.device("cuda"))
        else:
            with pytest.raises(ValueError, match="V100"):
                check_precision("tf32", torch.device("cuda"))


def test_a_stage_is_trained_and_evaluated_in_its_arithmetic(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All forward passes: of training, evaluation, and the statistics after pruning."""
    seen: list[tuple[bool, Any]] = []
    real = F.conv2d

    def watching(*given: Any, **more: Any) -> Any:
        if not given[0].is_meta:  # there only shapes are computed
            seen.append((torch.is_grad_enabled(), state()))
        return real(*given, **more)

    monkeypatch.setattr(F, "conv2d", watching)
    before = state()
    stage = child(dense_stage(tiny(), 0), "lr_rewind", 1, criterion="snip")
    lab.run(stage.baseline)
    run = start_stage(lab.job(stage), lab.runtime())
    assert state() == before
    run_epoch(run)
    assert state() == before
    assert {training for training, _ in seen} == {True, False}
    assert all(found["deterministic"] and found["convolutions"] == "ieee" for _, found in seen)


def test_a_tf32_stage_says_at_its_start_that_this_is_no_place_for_it(lab: Lab) -> None:
    stages = {dense_stage(tiny(precision=precision), 0).stage_id for precision in PRECISIONS}
    assert len(stages) == len(PRECISIONS) == 3
    with pytest.raises(ValueError, match="tf32"):
        lab.run(dense_stage(tiny(precision="tf32"), 0))
    assert lab.ledger.row_epochs(dense_stage(tiny(precision="tf32"), 0).stage_id) == []


def test_a_cpu_needs_nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    with arithmetic("fp32", CPU):
        assert CUBLAS_WORKSPACE not in os.environ
    with arithmetic("fp32", torch.device("cuda")):
        assert os.environ[CUBLAS_WORKSPACE] == ":4096:8"
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":16:8")
    with arithmetic("fp32", torch.device("cuda")):
        assert os.environ[CUBLAS_WORKSPACE] == ":16:8"


# On a GPU


def error(precision: str, product: bool) -> float:
    """Largest relative error of a convolution or product against double precision on the CPU."""
    torch.manual_seed(0)
    if product:
        one, other = torch.randn(512, 512), torch.randn(512, 512)
        exact = one.double() @ other.double()
        with arithmetic(precision, torch.device("cuda")):
            found = (one.cuda() @ other.cuda()).cpu().double()
    else:
        one, other = torch.randn(8, 64, 16, 16), torch.randn(64, 64, 3, 3)
        exact = F.conv2d(one.double(), other.double(), padding=1)
        with arithmetic(precision, torch.device("cuda")):
            found = F.conv2d(one.cuda(), other.cuda(), padding=1).cpu().double()
    return float((found - exact).abs().max() / exact.abs().max())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("product", [True, False])
def test_on_a_gpu_the_errors_are_those_of_the_precision(product: bool) -> None:
    """24 bits against TF32's 11 (Hopper: 2e-7 to 2e-6 against about 3e-4)."""
    assert error("fp32", product) < 1e-5
    if torch.cuda.get_device_capability() >= (8, 0):
        assert 5e-5 < error("tf32", product) < 5e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("network", ["digits_resnet", "wrn_10_1", "resnet34"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stage_on_a_gpu_is_the_same_twice(
    lab: Lab, tmp_path: Any, network: str, precision: str
) -> None:
    """Networks with every kind of pooling there is; no operation of theirs is refused."""
    protocol = tiny(network=network, precision=precision)
    stage = child(dense_stage(protocol, 0), "lr_rewind", 2, structure="filters")
    other = Lab(tmp_path / "other")
    for one in (lab, other):
        one.run_chain(stage, device="cuda")
    assert lab.bytes(stage) == other.bytes(stage)

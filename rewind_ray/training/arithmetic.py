"""The arithmetic that a precision's name promises, and algorithms that give the same bits again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from rewind_ray.errors import UserError

TF32_SINCE = (8, 0)
"""Compute capability of the first GPUs that have TF32 (Ampere)."""
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""What cuBLAS reads when a process first uses it. Without one of two values its results may differ
from run to run; see ``torch.use_deterministic_algorithms``."""


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """PyTorch's settings for networks of this precision, put back afterwards.

    fp32 and bf16: what is computed in fp32 is computed in fp32, though PyTorch's default for
    convolutions on a GPU is TF32; sums of bf16 products are in fp32. tf32: convolutions and
    products of matrices round their inputs to TF32. Always: deterministic algorithms; an operation
    that has none raises RuntimeError.

    Raises UserError for tf32 on a device that has none.
    """
    check_precision(precision, device)
    if device.type == "cuda":
        os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
    settings = _settings("tf32" if precision == "tf32" else "ieee")
    before = [getattr(where, name) for where, name, _ in settings]
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        for where, name, value in settings:
            setattr(where, name, value)
        torch.use_deterministic_algorithms(True)
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        for (where, name, _), value in zip(settings, before, strict=True):
            setattr(where, name, value)


def check_precision(precision: str, device: torch.device) -> None:
    """Raises UserError where the device would compute another precision under this name."""
    if precision != "tf32":
        return
    way_out = "choose fp32 or bf16, or a GPU from NVIDIA's Ampere on"
    if device.type != "cuda":
        raise UserError(f"precision tf32 on {device.type}, which has no TF32; {way_out}")
    capability = torch.cuda.get_device_capability(device)
    if capability < TF32_SINCE:
        name = torch.cuda.get_device_name(device)
        raise UserError(f"precision tf32 on {name}, which has no TF32; {way_out}")


def _settings(fp32_precision: str) -> list[tuple[Any, str, Any]]:
    """Where, name and value of each."""
    backends: Any = torch.backends
    return [
        (backends.cuda.matmul, "fp32_precision", fp32_precision),
        (backends.cudnn.conv, "fp32_precision", fp32_precision),
        (backends.cudnn.rnn, "fp32_precision", fp32_precision),
        (backends.mkldnn.matmul, "fp32_precision", "ieee"),
        (backends.mkldnn.conv, "fp32_precision", "ieee"),
        (backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
        (backends.cudnn, "deterministic", True),
        (backends.cudnn, "benchmark", False),
        # every element of our tensors is written before it is read, so filling them is only slow
        (torch.utils.deterministic, "fill_uninitialized_memory", False),
    ]

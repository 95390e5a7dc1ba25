"""What counts as out of memory, and the room that processes on one GPU leave each other."""

from __future__ import annotations

import pytest
import torch

from rewind_ray.training.memory import CONTEXT, is_out_of_memory, share_of_memory

LARGE = 1 << 50


def test_a_real_allocation_that_fails_on_a_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(LARGE, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
            ),
            True,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (
            RuntimeError("GET was unable to find an engine to execute this computation"),
            True,
        ),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False),
        (ValueError("batch_size 128 is more than the 64 training images"), False),
    ],
)
def test_what_libraries_say(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize("number", [1, 2, 8, 16, 100])
def test_all_shares_and_contexts_fit(number: int) -> None:
    total = 80 * 2**30
    share = share_of_memory(1 / number, total)
    assert 0 < share < 1 / number
    if number <= 50:
        assert number * (share * total + CONTEXT) <= total * (1 + 1e-12)

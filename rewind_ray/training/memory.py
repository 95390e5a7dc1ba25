"""A device's memory, and the many ways in which libraries say that there is no more of it."""

from __future__ import annotations

import torch

CONTEXT = 2**29
"""Bytes that a process takes of a GPU beside its tensors: CUDA's context, kernels, libraries. A few
hundred MB, more on larger GPUs; PyTorch's limit of a process's memory doesn't count them."""
TEXTS = (
    "can't allocate memory",  # PyTorch's allocator for CPUs
    "std::bad_alloc",  # other allocations of PyTorch's
    "out of memory",  # CUDA's runtime, where not PyTorch asked for it
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN, whose scratch memory is its own
    "Unable to find a valid cuDNN algorithm",  # that fits into what is left
    "unable to find an engine to execute this computation",  # likewise, of cuDNN's newer interface
)
"""In an exception's message."""


def is_out_of_memory(error: BaseException) -> bool:
    """By the exception's type, or by what it says: libraries allocate past PyTorch."""
    by_type = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return by_type or any(text in str(error) for text in TEXTS)


def share_of_memory(share: float, total: int | None = None) -> float:
    """Fraction of a GPU's memory for the tensors of a process that has this share of the GPU, so
    that all of them have room for their contexts too.

    total: bytes of the GPU; by default of the current one.
    """
    if total is None:
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return max(share / 2, share - CONTEXT / total)

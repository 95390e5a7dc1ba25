"""How the C library's allocator treats the large blocks that training asks for again and again.

PyTorch takes a CPU's memory from it. By default glibc returns blocks of megabytes to the system as
soon as they are free, and the next update waits for the kernel to map and clear the same pages
again. Other C libraries, and a preloaded allocator, are left as they are.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of mallopt(3), glibc's malloc.h."""
MIB = 2**20
KEPT = {
    M_MMAP_THRESHOLD: 1024 * MIB,
    M_TRIM_THRESHOLD: 1024 * MIB,
    M_TOP_PAD: 64 * MIB,
}
"""Blocks up to the first come from the heap, whose top is returned to the system when more than the
second of it is free, and which grows by the third beyond what is asked for. In bytes."""
LARGEST_OF_OLD = 32 * MIB
"""The largest M_MMAP_THRESHOLD that every glibc takes."""
OWN_SETTINGS = (
    *("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES"),
    "LD_PRELOAD",
)
"""Variables by which a user has chosen otherwise."""


@cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed blocks for the next; whether that could be set.

    It changes no number. A process holds at most what it held at its peak, as before, but
    no longer returns most of it between two updates.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in OWN_SETTINGS):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    if not mallopt(M_MMAP_THRESHOLD, KEPT[M_MMAP_THRESHOLD]):
        mallopt(M_MMAP_THRESHOLD, LARGEST_OF_OLD)
    return all(mallopt(name, KEPT[name]) for name in (M_TRIM_THRESHOLD, M_TOP_PAD))

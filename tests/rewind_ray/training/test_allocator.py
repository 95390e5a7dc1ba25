"""Memory that a process keeps from one update to the next, and numbers that it doesn't change."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from rewind_ray.training.allocator import OWN_SETTINGS

GLIBC = platform.libc_ver()[0] == "glibc"
BLOCKS = """
import ctypes, resource, sys
from rewind_ray.training import allocator

kept = sys.argv[1] == "kept" and allocator.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def use(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)

faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use(48 << 20)
before = faults()
for _ in range(20):
    use(48 << 20)
print(kept, faults() - before)
"""
STAGE = """
import sys
from rewind_ray.training import allocator, stage
from rewind_ray.spec import dense_stage
from tests.rewind_ray.tiny_stages import Lab, tiny
from pathlib import Path

if sys.argv[1] == "returned":
    stage.keep_freed_memory = lambda: False
lab, dense = Lab(Path(sys.argv[2])), dense_stage(tiny(), 0)
lab.run(dense)
sys.stdout.buffer.write(lab.bytes(dense))
"""


def output_of(program: str, *arguments: str) -> bytes:
    plain = {name: text for name, text in os.environ.items() if name not in OWN_SETTINGS}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=plain, check=True, stdout=subprocess.PIPE).stdout


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_a_freed_block_is_not_cleared_again() -> None:
    """20 times 48 MB are 245,760 pages of 4 KB, each of which the kernel clears or doesn't."""
    pages = 20 * (48 << 20) // os.sysconf("SC_PAGESIZE")
    kept, faults = output_of(BLOCKS, "kept").split()
    assert kept == b"True"
    assert int(faults) < pages / 100
    assert int(output_of(BLOCKS, "returned").split()[1]) > pages / 4


@pytest.mark.slow
def test_it_changes_no_number(tmp_path: Path) -> None:
    """The rewind point of a stage, in two processes."""
    digests = {
        hashlib.sha256(output_of(STAGE, how, str(tmp_path / how))).hexdigest()
        for how in ("kept", "returned")
    }
    assert len(digests) == 1


def test_a_users_own_choice_stays() -> None:
    program = (
        "from rewind_ray.training.allocator import keep_freed_memory; print(keep_freed_memory())"
    )
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "131072"}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    assert found == b"False\n"

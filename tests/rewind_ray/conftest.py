"""A storage of its own for every test, and PyTorch's thread count left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.rewind_ray.tiny_stages import Lab


@pytest.fixture(autouse=True)
def thread_count() -> Iterator[None]:
    """Stages set it for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "storage")


@pytest.fixture
def new_lab(tmp_path: Path) -> Callable[[str], Lab]:
    """Further storages, by name."""
    return lambda name: Lab(tmp_path / name)

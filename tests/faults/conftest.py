from __future__ import annotations

import pytest

from tests.sweeps.conftest import undisturbed as undisturbed


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "storage"

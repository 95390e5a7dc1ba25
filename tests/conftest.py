"""Tests that run beside others share the cores, and laws are tried on few examples by default."""

from __future__ import annotations

import os

from hypothesis import settings

workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if workers > 1:  # before torch is imported, also in what the tests start
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

settings.register_profile("quick", deadline=None, max_examples=30)  # busy machines are no failure
settings.register_profile("thorough", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

"""Starts Ray, or connects to it. Imports Ray, but not Tune, which takes seconds more."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

from rewind_ray.command_line import WRONG_USAGE
from rewind_ray.errors import UserError
from sweeps.run.own_code import runtime_env
from sweeps.run.ray_access import check_address, keep_token_private
from sweeps.run.ray_watch import RayWatch, end_process

CONNECT_LOOKS = 40
"""Seconds, about, in which a cluster has to answer; it takes a few."""
PRELOADED = {
    "RAY_preload_python_modules": "torch,ray.tune,trainables.stage_trainable",
    "OMP_NUM_THREADS": "1",
}
"""Environment of workers that import what stages need as soon as they start. torch then reads the
number of threads, which Ray itself would set only with a worker's first stage."""


def start_ray(address: str, *, preload: bool = False) -> None:
    """Connect to a cluster, or start Ray in this process's charge, without its dashboard.

    Workers get the user's own modules that this process has imported. preload: those of a Ray that
    is started here, one for each CPU, import what stages of one thread need before they are given
    any, while this process does something else. Raises UserError for an ``address`` that can't be
    used.
    """
    check_address(address)
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if code := runtime_env(address):
        quiet["runtime_env"] = code
    if address == "local":
        with environment(PRELOADED if preload else {}):
            ray.init(address="local", include_dashboard=False, **quiet)
    else:
        connect(address, quiet)
    keep_token_private()


def connect(address: str, quiet: dict[str, Any]) -> None:
    """Raises UserError where no cluster answers; Ray alone would try for a quarter of an hour."""
    advice = "start it (ray start --head), give another --address, or leave it out"
    silence = f"no Ray answers at --address {address}; {advice}"
    watch = RayWatch(
        never,
        lambda _: print(f"error: {silence}", file=sys.stderr),
        end=partial(end_process, WRONG_USAGE),
        silent_looks=CONNECT_LOOKS,
    )
    try:
        with watch:
            ray.init(address=address, **quiet)
    except KeyboardInterrupt:
        if watch.ended is None:
            raise
        raise UserError(silence) from None
    except ConnectionError as error:
        raise UserError(f"can't connect to Ray at --address {address}: {error}; {advice}") from None


def never() -> None:
    """No sign of Ray's life, until it is connected to."""
    raise TimeoutError


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """A context in which processes that are started find these variables, unless they are set."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]

"""Starts Ray, or connects to it. Imports Ray, but not Tune, which takes seconds more."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from typing import Any

import ray

from rewind_ray.command_line import WRONG_USAGE
from rewind_ray.errors import UserError
from sweeps.run.own_code import runtime_env
from sweeps.run.ray_access import check_address, keep_token_private
from sweeps.run.ray_watch import RayWatch, end_process

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # workers read it

CONNECT_LOOKS = 40
"""Seconds, about, in which a cluster has to answer; it takes a few."""


def start_ray(address: str) -> None:
    """Connect to a cluster, or start Ray in this process's charge, without its dashboard.

    Workers get the user's own modules that this process has imported. Raises UserError for an
    ``address`` that can't be used.
    """
    check_address(address)
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if environment := runtime_env(address):
        quiet["runtime_env"] = environment
    if address == "local":
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

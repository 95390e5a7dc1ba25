"""Requests to a storage that may be away for a while: it delays them, and loses nothing."""

from __future__ import annotations

import errno
import logging
import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_SECONDS = 300.0
"""A storage may be away for so long before a request to it fails."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0

PASSING_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("EAGAIN", "EINTR", "EIO", "ESTALE", "EREMOTEIO", "ENOTCONN", "EPIPE", "ETIMEDOUT"),
        *("ECONNREFUSED", "ECONNRESET", "ECONNABORTED", "EHOSTDOWN", "EHOSTUNREACH"),
        *("ENETDOWN", "ENETUNREACH", "ENETRESET"),
    )
    if hasattr(errno, name)
)
"""What a network file system says while its server is away. Not among them: no such file, no
permission, no space, read-only."""

PASSING_MESSAGE = re.compile(
    r"NETWORK_CONNECTION(?!.*curlCode: (?:51|58|60|77)\b)"  # these are about certificates
    r"|SLOW_DOWN|THROTTLING|INTERNAL_FAILURE|REQUEST_TIMEOUT|SERVICE_UNAVAILABLE"
    r"|HTTP status (?:408|429|500|502|503|504)"
    r"|Status\((?:UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL|ABORTED):"  # Google
)
"""What Arrow tells of an object store; such errors have no errno."""


def patiently(kind: str, request: Callable[[], T]) -> T:
    """The request's result, made again and again while the storage is away or says slow down.

    kind: of file system, for the log, which tells once that it waits and once that it goes on.
    Raises what the request raises, after PATIENCE_SECONDS of trying where it is an outage's error.
    """
    pause, give_up = FIRST_PAUSE_SECONDS, math.inf
    while True:
        try:
            result = request()
        except OSError as error:
            now = time.monotonic()
            give_up = min(give_up, now + PATIENCE_SECONDS)
            if not is_passing(error):
                raise
            if now >= give_up:
                _away.pop(kind, None)
                raise OSError(
                    f"the storage ({kind}) was away for {PATIENCE_SECONDS:g} s; nothing is lost, "
                    f"the same command continues: {error}"
                ) from error
            _tell_away(kind, error)
            # jitter, so that many workers don't come back all at the same moment
            time.sleep(min(pause * random.uniform(0.5, 1), max(give_up - now, 0)))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        else:
            if kind in _away:
                _tell_back(kind)
            return result


@contextmanager
def patience_of(seconds: float) -> Iterator[None]:
    """Within it a request fails after so long: somebody waits for an answer, and loses nothing."""
    global PATIENCE_SECONDS
    before, PATIENCE_SECONDS = PATIENCE_SECONDS, seconds
    try:
        yield
    finally:
        PATIENCE_SECONDS = before


def is_passing(error: OSError) -> bool:
    """Whether waiting may help."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if error.errno is not None:
        return error.errno in PASSING_ERRNOS
    return PASSING_MESSAGE.search(str(error)) is not None


_away: dict[str, float] = {}
"""Kinds of file system that this process waits for, and since when."""
_telling = threading.Lock()


def _tell_away(kind: str, error: OSError) -> None:
    with _telling:
        if kind not in _away:
            _away[kind] = time.monotonic()
            log.warning(
                "the storage (%s) doesn't answer; waiting for it, up to %g s: %s",
                *(kind, PATIENCE_SECONDS, error),
            )


def _tell_back(kind: str) -> None:
    with _telling:
        since = _away.pop(kind, None)
        if since is not None:
            seconds = time.monotonic() - since
            log.warning("the storage (%s) is back after %.1f s", kind, seconds)

"""Many requests at a time: a storage over a network answers slowly, but many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")

READERS = 16
"""Requests at once."""
A_TURN = 64
"""Keys that a thread takes at once, at most. Handing one over takes as long as reading a small file
of a local disk."""


def side_by_side(work: Callable[[K], T], keys: Iterable[K], readers: int = READERS) -> list[T]:
    """``[work(key) for key in keys]``, by several threads. Raises what ``work`` raises first."""
    keys = list(keys)
    size = max(1, min(A_TURN, len(keys) // (4 * readers)))
    turns = [keys[first : first + size] for first in range(0, len(keys), size)]
    with ThreadPoolExecutor(readers) as pool:
        done = pool.map(lambda turn: [work(key) for key in turn], turns)
        return [result for turn in done for result in turn]


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Does ``work`` in a thread while the block runs, and waits for it; before the block where no
    thread can be started. Raises what either raises, of two errors the block's."""
    with ThreadPoolExecutor(1) as pool:
        try:
            done = pool.submit(work)
        except RuntimeError:  # no memory for its stack, or as many as the system allows
            done = None
            work()
        yield
    if done is not None:
        done.result()

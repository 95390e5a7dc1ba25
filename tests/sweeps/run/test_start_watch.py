"""Workers that never start: when a machine is given up on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sweeps.run.start_watch import Starting, StartWatch

LOOK = 10.0
WORKERS = [Starting(actor=actor, node=node) for actor in "ab" for node in "xy"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.sets(st.sampled_from(WORKERS)), max_size=12), st.integers(1, 4))
def test_a_worker_is_overdue_once_it_was_starting_on_one_node_for_long_enough(tables, intervals):
    """That is in the last looks, one more than intervals between them, all of them."""
    clock, shown = Clock(), iter(tables)
    watch = StartWatch(lambda: next(shown), intervals * LOOK, LOOK, clock)
    for number in range(1, len(tables) + 1):
        last = tables[max(0, number - 1 - intervals) : number]
        expected = set.intersection(*last) if len(last) == intervals + 1 else set()
        assert set(watch.overdue()) == expected
        clock.now += LOOK


def test_between_two_looks_and_without_an_answer_nobody_is_overdue():
    """And a driver that was frozen for an hour has looked but once."""
    clock, answers = Clock(), iter([WORKERS, None, WORKERS, WORKERS])

    def ask():
        if (answer := next(answers)) is None:
            raise RuntimeError("no answer")
        return answer

    watch = StartWatch(ask, 2 * LOOK, LOOK, clock)
    assert watch.overdue() == []
    clock.now += 3600
    assert watch.overdue() == watch.overdue() == []
    clock.now += LOOK
    assert watch.overdue() == watch.overdue() == []
    clock.now += LOOK
    assert watch.overdue() == WORKERS

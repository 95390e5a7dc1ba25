import subprocess
import sys
import threading

import pytest

from rewind_ray.store.side_by_side import beside, side_by_side


def fail(words: str) -> None:
    raise ValueError(words)


def test_work_is_done_while_the_block_runs() -> None:
    met = threading.Barrier(2, timeout=30)
    with beside(lambda: met.wait() and None):
        met.wait()  # returns only once the work has come here too


def test_the_block_ends_with_the_work() -> None:
    entered, done = threading.Event(), []

    def work() -> None:
        entered.wait(30)
        done.append(True)

    with beside(work):
        entered.set()
    assert done


def test_an_error_of_the_work_is_raised_after_the_block() -> None:
    reached = []
    with pytest.raises(ValueError, match="work"), beside(lambda: fail("work")):
        reached.append(True)
    assert reached


def test_of_two_errors_that_of_the_block_is_raised() -> None:
    with pytest.raises(ValueError, match="block"), beside(lambda: fail("work")):
        fail("block")


def test_results_are_in_the_order_of_the_keys() -> None:
    assert side_by_side(lambda key: key * key, range(1000)) == [key * key for key in range(1000)]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda key: 1 / key, [1, 0])


def test_without_room_for_a_thread_the_work_is_done_before_the_block() -> None:
    """A real want of memory: a thread's stack takes megabytes, and the process may grow by one."""
    code = (
        "import resource\n"
        "from rewind_ray.store.side_by_side import beside\n"
        "done = []\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "size = pages * resource.getpagesize() + 2**20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "with beside(lambda: done.append('work')):\n"
        "    done.append('block')\n"
        "print(done)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "['work', 'block']\n", ran.stderr

"""Notices that Ray itself has ended, and then interrupts the driver.

Without its raylet Tune waits for ever. Without its control service (GCS) Ray ends the whole process
after 60 seconds, with only its own message.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from rewind_ray.command_line import FAILED, INTERRUPTED

LOOK_SECONDS = 1.0
PAUSE_LOOKS = 3
"""Looks between an answer and the next question."""
SILENT_LOOKS = 25
"""Looks without an answer; Ray's limit is 60 seconds, and the driver needs some to end."""
INTERRUPTS, INTERRUPT_LOOKS = 2, 8
"""Tune ends in good order after the first, and at once after the second, unless it is inside a call
of Ray's that never returns."""
TERMINATED_LOOKS = 8
"""Silent looks after SIGTERM. Sent to the whole process group, as Slurm sends it, it ends Ray's own
processes too; and what is left after half a minute is killed."""

CONTINUES = "interrupted; the same command continues"
terminated = threading.Event()
"""Set once this process has got SIGTERM."""


def own_node_trouble() -> Callable[[], str | None]:
    """A function that asks Ray whether this process's node is alive; see ``RayWatch``."""
    import ray

    own_id = ray.get_runtime_context().get_node_id()

    def trouble() -> str | None:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        return None if own_id in alive else "its raylet on this machine is gone"

    return trouble


def interrupt_main_thread() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def on_sigterm(*_: object) -> None:
    """As Ctrl-C, and remembered."""
    terminated.set()
    interrupt_main_thread()


def end_process(code: int | None = None) -> None:
    """End at once, without a call to Ray, whose processes here end with this one."""
    sys.stderr.flush()
    os._exit(code or (INTERRUPTED if terminated.is_set() else FAILED))


class RayWatch:
    """A context in which the main thread gets SIGINT, as by Ctrl-C, once Ray has ended. Where it
    can't react, the process ends.

    Time is counted in looks and not by a clock: a process that was frozen, or a laptop that was
    asleep, has missed no answer.
    """

    def __init__(
        self,
        trouble: Callable[[], str | None],
        last_words: Callable[[str], None],
        interrupt: Callable[[], None] = interrupt_main_thread,
        end: Callable[[], None] = end_process,
        look_seconds: float = LOOK_SECONDS,
        silent_looks: int = SILENT_LOOKS,
    ) -> None:
        """trouble: what is wrong with Ray, None if nothing; it may block for ever where Ray is
        gone, or raise. last_words: shows how Ray has ended, where the main thread can't any more
        and the process ends."""
        self.ended: str | None = None
        """How Ray has ended, if so."""
        self._trouble = trouble
        self._last_words = last_words
        self._interrupt = interrupt
        self._end = end
        self._look_seconds = look_seconds
        self._silent_looks = silent_looks
        self._answers = 0
        self._over = threading.Event()
        self._firing = threading.Lock()

    def __enter__(self) -> RayWatch:
        for work in (self._ask, self._look):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._firing:
            self._over.set()

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                found = self._trouble()
            except Exception:  # no answer; the looks without one are counted
                time.sleep(self._look_seconds)
                continue
            if found:
                self.ended = found
            self._answers += 1
            self._over.wait(PAUSE_LOOKS * self._look_seconds)

    def _look(self) -> None:
        silent, answers = 0, 0
        while not self._over.wait(self._look_seconds):
            silent = silent + 1 if answers == self._answers else 0
            answers = self._answers
            if silent >= (TERMINATED_LOOKS if terminated.is_set() else self._silent_looks):
                self.ended = self.ended or "its control service (GCS) doesn't answer"
            if self.ended:
                break
        interrupts = INTERRUPTS - terminated.is_set()  # that one has been
        for do in (*[self._interrupt] * interrupts, self._give_up):
            with self._firing:
                if self._over.is_set():
                    return
                do()
            self._over.wait(INTERRUPT_LOOKS * self._look_seconds)

    def _give_up(self) -> None:
        self._last_words(self.ended or "")
        self._end()

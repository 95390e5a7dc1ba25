"""The watch over Ray's own processes; tests/faults kills real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from sweeps.run import ray_watch
from sweeps.run.ray_watch import INTERRUPTS, SILENT_LOOKS, RayWatch
from tests.sweeps.running import ROOT

LOOK_SECONDS = 0.01


def silent_for_ever() -> None:
    threading.Event().wait()


def raises() -> None:
    raise RuntimeError("Ray has not been started yet")


def gone() -> str:
    return "it is gone"


def watched(
    trouble: Callable[[], str | None],
    leaves: bool,
    seconds: float = 60.0,
    silent_looks: int = SILENT_LOOKS,
) -> tuple[list[str], RayWatch]:
    """What the watch does, and the watch. leaves: whether the main thread reacts to the first
    interrupt."""
    did: list[str] = []
    reacted, ended = threading.Event(), threading.Event()

    def interrupt() -> None:
        did.append("interrupt")
        if leaves:
            reacted.set()

    def end() -> None:
        did.append("end")
        ended.set()

    watch = RayWatch(trouble, did.append, interrupt, end, LOOK_SECONDS, silent_looks)
    with watch:
        (reacted if leaves else ended).wait(seconds)
    return did, watch


@pytest.mark.parametrize(
    ("trouble", "how"), [(silent_for_ever, "GCS"), (raises, "GCS"), (gone, "it is gone")]
)
def test_the_end_of_ray_interrupts_the_main_thread_once_if_that_leaves(trouble, how):
    did, watch = watched(trouble, leaves=True)
    time.sleep(30 * LOOK_SECONDS)  # longer than the watch waits before it goes further
    assert did == ["interrupt"]
    assert how in watch.ended


def test_a_main_thread_that_cannot_leave_ends_with_a_word():
    did, watch = watched(gone, leaves=False)
    assert did == ["interrupt"] * INTERRUPTS + [watch.ended, "end"]


def test_a_driver_that_got_sigterm_waits_less_for_a_silent_ray(monkeypatch):
    """SIGTERM was the first of its interrupts."""
    monkeypatch.setattr(ray_watch, "terminated", threading.Event())
    monkeypatch.setattr(ray_watch, "interrupt_main_thread", lambda: None)
    ray_watch.on_sigterm()
    did, watch = watched(silent_for_ever, leaves=False, silent_looks=10**9)
    assert did == ["interrupt"] * (INTERRUPTS - 1) + [watch.ended, "end"]


def test_a_living_ray_is_left_alone():
    did, watch = watched(lambda: None, leaves=False, seconds=100 * LOOK_SECONDS)
    assert did == [] and watch.ended is None


def test_a_process_that_was_frozen_has_missed_no_answer():
    code = (
        "import time; from sweeps.run.ray_watch import RayWatch\n"
        f"with RayWatch(lambda: None, print, look_seconds={LOOK_SECONDS}):\n"
        "    print('begun', flush=True); time.sleep(2)\n"
        "print('undisturbed')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(1)  # a hundred looks
    os.kill(process.pid, signal.SIGCONT)
    assert process.communicate()[0] == "undisturbed\n" and process.returncode == 0

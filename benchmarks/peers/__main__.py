"""Seconds of an update beside a bare loop's, open_lth's and Mikler's, in one run, on the CPU.

ResNet-20, batches of 128 images of 32x32 pixels, with masks, each through its own code's loop and
input pipeline, on noise. All take turns, a round of updates each, so that the ratios hold when the
machine's speed drifts. Nothing is fetched: the peers are checkouts at hand.

  git clone https://github.com/facebookresearch/open_lth
  git clone https://github.com/sjmikler/reproducing-comparing-rewinding-and-finetuning mikler
  python -m benchmarks.peers --open-lth open_lth --mikler mikler
  python -m benchmarks.peers --loops eager compiled bare
  python -m benchmarks.peers --mikler mikler --tensorflow-python venv-tf/bin/python
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

import tyro

HERE = Path(__file__).parent
OURS = {"eager": "ours", "compiled": "ours, compiled", "bare": "bare"}
"""Loop -> the beginning of its name."""


class Contender:
    """A process that makes a round of updates when asked to."""

    def __init__(self, name: str, command: list[str], threads: int) -> None:
        self.name = name
        self.seconds: list[float] = []
        """Of each round."""
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        project = str(HERE.parents[1])
        environment["PYTHONPATH"] = f"{project}{os.pathsep}{environment.get('PYTHONPATH', '')}"
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed in end)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self.trouble = "" if self._answer() == "ready" else self._last_words()
        """Why it can't take part; empty where it does."""

    def take_turn(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        if not (answer := self._answer()):
            sys.exit(f"{self.name} has ended: {self._last_words()}")
        return float(answer)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _last_words(self) -> str:
        self._process.communicate()
        self._errors.seek(0)
        return (self._errors.read().strip().splitlines() or ["it said nothing"])[-1]


def contenders(
    precisions: tuple[str, ...],
    loops: tuple[str, ...],
    updates: int,
    threads: int,
    open_lth: Path | None,
    mikler: Path | None,
    tensorflow_python: str,
) -> list[Contender]:
    """Ours first. Those that can't take part are named and left out."""

    def started(name: str, script: str, *last: str, python: str = sys.executable) -> Contender:
        command = [python, str(HERE / script), str(updates), str(threads), *last]
        return Contender(name, command, threads)

    found = [
        started(f"{OURS[loop]}, {precision}", "ours.py", precision, loop)
        for precision in precisions
        for loop in loops
    ]
    if open_lth is not None:
        found.append(started("open_lth, fp32", "open_lth.py", str(open_lth.absolute())))
    if mikler is not None:
        checkout = str(mikler.absolute())
        found.append(started("Mikler, fp32", "mikler.py", checkout, python=tensorflow_python))
    for contender in found:
        if contender.trouble:
            print(f"{contender.name}: left out: {contender.trouble}")
    return [contender for contender in found if not contender.trouble]


def main(
    open_lth: Path | None = None,
    mikler: Path | None = None,
    tensorflow_python: str = sys.executable,
    precisions: tuple[str, ...] = ("fp32", "bf16"),
    loops: tuple[Literal["eager", "compiled", "bare"], ...] = ("eager",),
    updates: int = 10,
    rounds: int = 7,
    threads: int = 2,
) -> None:
    """Prints milliseconds an update of each, and ours over each other's.

    Args:
        open_lth: checkout of facebookresearch/open_lth
        mikler: checkout of sjmikler/reproducing-comparing-rewinding-and-finetuning
        tensorflow_python: Python with TensorFlow and Keras 2, for Mikler's
        precisions: of ours; bf16 is slow where a CPU has no instructions for it
        loops: of ours; bare: forward, backward and step on one batch, without what a sweep does
        updates: of a round
        rounds: of each, after one that isn't counted
        threads: CPU threads
    """
    taking_part = contenders(
        precisions, loops, updates, threads, open_lth, mikler, tensorflow_python
    )
    try:
        for contender in taking_part:
            contender.take_turn()
        for _ in range(rounds):
            for contender in taking_part:
                contender.seconds.append(contender.take_turn())
    finally:
        for contender in taking_part:
            contender.end()
    print(f"ResNet-20, batch 128, {threads} threads; medians of {rounds} rounds of {updates}")
    for contender in taking_part:
        each = [1000 * seconds / updates for seconds in contender.seconds]
        print(f"{contender.name:20} {statistics.median(each):7.1f} ms an update")
    ours = [each for each in taking_part if each.name.startswith("ours")]
    others = [each for each in taking_part if each not in ours]
    for own in ours:
        for other in others:
            if other.name.startswith("bare") and other.name[-4:] != own.name[-4:]:
                continue  # of another precision
            ratios = [a / b for a, b in zip(own.seconds, other.seconds, strict=True)]
            print(
                f"{own.name} / {other.name}: {statistics.median(ratios):.3f} "
                f"({min(ratios):.3f} to {max(ratios):.3f})"
            )


if __name__ == "__main__":
    tyro.cli(main)

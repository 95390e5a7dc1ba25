"""Wall time of the whole quickstart against the training it consists of.

Pure training is the sum of the epochs' training seconds over two cores, as the epochs themselves
measured it; evaluation, rewind points, Ray, Python's start, table and figure are overhead. What
Python and Ray need before the first stage starts is told apart.

  python -m benchmarks.quickstart_overhead
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CORES = 2


def main() -> None:
    with tempfile.TemporaryDirectory() as storage:
        begun = time.time()
        process = subprocess.Popen(
            [sys.executable, "-m", "sweeps.quickstart", "--storage", storage],
            stdout=subprocess.DEVNULL,
        )
        if process.wait() != 0:
            sys.exit("the quickstart failed")
        wall = time.time() - begun
        metrics = [
            (path.stat().st_mtime, json.loads(path.read_text()))
            for path in Path(storage).glob("stages/*/epochs/*.json")
        ]
        first_point = min(written for written, _ in metrics) - begun
        last_point = max(written for written, _ in metrics) - begun
        training = sum(epoch.get("train_seconds", 0.0) for _, epoch in metrics)
    pure = training / CORES
    print(
        f"wall {wall:.1f} s; pure training {training:.1f} s, over {CORES} cores {pure:.1f} s; "
        f"ratio {wall / pure:.2f}\n"
        f"start of Python and Ray to the first rewind point {first_point:.1f} s; "
        f"first to last rewind point {last_point - first_point:.1f} s "
        f"(ratio {(last_point - first_point) / pure:.2f}); table, figure and Ray's end "
        f"{wall - last_point:.1f} s; ratio without start {(wall - first_point) / pure:.2f}"
    )


if __name__ == "__main__":
    main()

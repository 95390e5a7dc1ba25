"""A sweep whose stages fail in every way there is: ``python -m tests.sweeps.failing STORAGE``.

Prints what the driver found, as json. Every pickle that Tune writes is replaced at once by one
that leaves a mark when it is loaded.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from rewind_ray.spec import dense_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Runtime
from sweeps.options import Options
from sweeps.plan.graph import build_graph
from sweeps.run.dispatcher import Dispatcher
from sweeps.run.live_view import LiveView
from sweeps.run.tensorboard import TensorBoard
from tests.sweeps.running import tiny_protocol
from trainables.stage_trainable import StageTrainable

KINDS = ("value", "type", "runtime", "once", "killed", "good")
"""Of failures, by the stage's seed."""
NAME = "failing"


class FailingTrainable(StageTrainable):
    """Fails as the seed of its stage says, and counts its tries in the storage."""

    def _train(self) -> dict[str, Any]:
        stage = self._ledger().read_spec(self.config["stage_id"])
        tries = Path(self.config["runtime"]["storage"]) / "tries" / str(stage.seed)
        tries.parent.mkdir(exist_ok=True)
        if self._run is None:
            with tries.open("a") as file:
                file.write("x")
        match (*KINDS, "full")[stage.seed]:
            case "value":
                raise ValueError("the setting \x1b[2J is 7")
            case "type":
                raise TypeError("a mistake of ours")
            case "runtime":
                raise RuntimeError("the device is in a bad mood")
            case "once" if tries.read_text() == "x":
                raise ConnectionError("the network hiccuped")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tries))
        return super()._train()


class Bomb:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return open, (self.mark, "w")


def poison(storage: Path, over: threading.Event) -> None:
    """Whoever can write to the storage can do this."""
    while not over.wait(0.02):
        for path in storage.glob("tune/*/*/*/error.pkl"):
            path.write_bytes(pickle.dumps(Bomb(str(storage / "executed"))))


def main(storage: str, seeds: list[int]) -> None:
    from sweeps.run import tune as tuning

    tuning.StageTrainable = FailingTrainable
    tuning.MAX_FAILURES = 2 if "killed" in [KINDS[s] for s in seeds if s < len(KINDS)] else 8
    graph = build_graph([dense_stage(tiny_protocol(), seed) for seed in seeds])
    ledger = Ledger(storage)
    dispatcher = Dispatcher(graph, ledger)
    console = Console(file=sys.stderr, width=200)
    over = threading.Event()
    threading.Thread(target=poison, args=(Path(storage), over)).start()
    raised = None
    begun = time.monotonic()
    try:
        with LiveView(NAME, graph, dispatcher, console) as progress:
            tensorboard = TensorBoard(ledger, NAME, graph)
            options = Options(storage=storage, max_concurrent=2)
            tuning.train_graph(
                dispatcher, Runtime(storage=storage), options, progress, tensorboard, NAME
            )
    except OSError as error:
        raised = str(error)
    finally:
        over.set()
    found = {
        "states": {n.stage.seed: dispatcher.states[i] for i, n in graph.items()},
        "reasons": {n.stage.seed: dispatcher.reasons.get(i) for i, n in graph.items()},
        "tries": {int(path.name): len(path.read_text()) for path in Path(storage).glob("tries/*")},
        "raised": raised,
        "seconds": time.monotonic() - begun,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], [int(seed) for seed in sys.argv[2:]])

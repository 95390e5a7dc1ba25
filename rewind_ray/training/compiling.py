"""Forward and backward passes that PyTorch's Inductor compiles; on a CPU it needs a C++ compiler.

Operations that lie next to each other become one, which rounds less often, so a compiled stage has
other bits than an uncompiled one. Which of the two a stage is, it stays (as with its threads).
Inductor keeps what it compiles in a folder that all processes of a user share on a machine.
"""

from __future__ import annotations

import json
import logging
import math
import re
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rewind_ray.datasets.cache import cache_folder, locked, replacing
from rewind_ray.digests import text_digest
from rewind_ray.seeding import seeded
from rewind_ray.tasks import Batch, Loss, Task, as_loss
from rewind_ray.training.update import BatchLoss, autocast

log = logging.getLogger(__name__)

COMPILES = ("off", "auto", "on")
SHORT = 300.0
"""Seconds of training up to which ``auto`` compiles no stage. Compiling ResNet-20 takes 20 to 40,
and on the CPUs where it is a gain it saved a fifth of an update."""
UPDATES = 10_000
"""On a GPU, where passes are recorded and not measured one by one: the same in updates."""
GAIN = 0.97
"""Of a pass's time, compiled, at most; what is nearer to 1 may be chance."""
ROUNDS = 7


def is_worth_it(task: Task, updates: int) -> bool:
    """Whether a stage of so many updates is faster compiled, which depends on the processor.

    On a CPU, by measuring: to be called with the stage's threads and within ``arithmetic``.

    Both ways take turns with a batch of the task's, once for each network on a machine: what was
    found stays in the user's cache, so that stages that are alike are treated alike.
    """
    if task.device.type == "cuda":
        return updates >= UPDATES
    network, batch = sample_of(task)
    eager = passes(task, network, batch, task.loss)
    eager()
    if updates * min(eager() for _ in range(2)) <= SHORT:
        return False
    folder = cache_folder("compiling")
    path = folder / f"{digest_of(task, network, batch)}.json"
    with locked(folder):
        try:
            ratio = float(json.loads(path.read_text())["ratio"])
        except (OSError, ValueError, KeyError, TypeError):
            ratio = measured(eager, passes(task, network, batch, compiled_loss(task.loss, network)))
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"ratio": ratio}))
    log.info("a compiled pass takes %.3f of the time of one that isn't", ratio)
    return ratio <= GAIN


def sample_of(task: Task) -> tuple[nn.Module, Batch]:
    """A network and a batch that no stage trains on; the random generators stay as they are."""
    with seeded(0):
        return task.network(0).train(), next(iter(task.batches("train", 0, 0)))


def passes(
    task: Task, network: nn.Module, batch: Batch, batch_loss: BatchLoss
) -> Callable[[], float]:
    """A function that makes a forward and a backward pass and returns its seconds."""

    def once() -> float:
        begun = time.perf_counter()
        network.zero_grad()
        with autocast(task.device, task.protocol.precision):
            loss = as_loss(batch_loss(network, batch), batch)
        loss.mean.backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - begun

    return once


def measured(eager: Callable[[], float], compiled: Callable[[], float]) -> float:
    """Median of the time of the second over that of the first; inf where it can't be compiled."""
    try:
        compiled()
        return statistics.median(compiled() / eager() for _ in range(ROUNDS))
    except Exception as error:  # no compiler, or what it doesn't know
        log.warning("not compiled: %s", str(error).strip().partition("\n")[0])
        return math.inf


def digest_of(task: Task, network: nn.Module, batch: Batch) -> str:
    """Of what decides about speed on one machine."""
    parts = (
        torch.__version__,
        torch.get_num_threads(),
        task.protocol.precision,
        type(task).__name__,
        re.sub(" at 0x[0-9a-f]+", "", repr(network)),
        [(part.shape, part.dtype) for part in batch if isinstance(part, Tensor)],
    )
    return text_digest(repr(parts))


def compiled_loss(batch_loss: BatchLoss, network: nn.Module) -> BatchLoss:
    """The same loss of a compiled network. Compiles when it is first called with a shape.

    What was compiled for other networks before is forgotten: PyTorch stops compiling, without a
    word, once it has done so a number of times.
    """
    torch.compiler.reset()
    forward: Any = torch.compile(network, dynamic=False)

    def loss(_: nn.Module, batch: Batch) -> Loss | Tensor:
        return batch_loss(forward, batch)

    return loss

"""An epoch broken off between two updates, kept so that a stopped worker loses no work.

One a stage: of the epoch that follows its last rewind point. The tensors are a rewind point's; the
json, written last, has the progress of the epoch and their checksum.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict
from typing import Any

from rewind_ray.store import checkpoint
from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.store.files import delete, read_bytes, read_sealed, write_atomically, write_sealed
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.strict_json import WHOLE_LIMIT, check_fields
from rewind_ray.training.epoch import Progress

log = logging.getLogger(__name__)


LIMIT = 2**16
"""Bytes of the json; those written have some hundred."""


def write_partial(
    ledger: Ledger, stage_id: str, epoch: int, point: RewindPoint, progress: Progress
) -> None:
    """epoch: the one being trained, from 1."""
    tensors = checkpoint.to_bytes(point)
    facts = {
        "stage_id": stage_id,
        "epoch": epoch,
        "sha256": hashlib.sha256(tensors).hexdigest(),
        "bytes": len(tensors),
        "progress": asdict(progress),
    }
    layout = ledger.layout
    write_atomically(ledger.filesystem, layout.partial_tensors(stage_id), tensors, ledger.fence)
    write_sealed(ledger.filesystem, layout.partial_facts(stage_id), facts, ledger.fence)


def read_partial(
    ledger: Ledger, stage_id: str, epoch: int, steps: int
) -> tuple[RewindPoint, Progress] | None:
    """What is there of this epoch of so many updates; None where nothing is, or nothing that can
    be trusted."""
    try:
        facts = _facts(ledger, stage_id)
        if facts["epoch"] != epoch:
            return None
        progress = _progress(facts["progress"], steps)
        return checkpoint.from_bytes(_tensors(ledger, stage_id, facts)), progress
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        log.warning("the epoch that was broken off is begun anew: %s", error)
        return None


def progress_of(ledger: Ledger, stage_id: str) -> tuple[int, int]:
    """How far a stage is: its last epoch, -1 before its start, and updates of the next."""
    epoch = max(ledger.metrics_epochs(stage_id), default=-1)
    try:
        facts = _facts(ledger, stage_id)
        updates = int(facts["progress"]["updates"]) if facts["epoch"] == epoch + 1 else 0
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        updates = 0
    return epoch, updates


def check_partial(ledger: Ledger, stage_id: str) -> None:
    """Raises ValueError or KeyError where it isn't what was written."""
    facts = _facts(ledger, stage_id)
    _progress(facts["progress"], WHOLE_LIMIT)
    _tensors(ledger, stage_id, facts)


def _facts(ledger: Ledger, stage_id: str) -> dict[str, Any]:
    facts = read_sealed(ledger.filesystem, ledger.layout.partial_facts(stage_id), LIMIT)
    if facts["stage_id"] != stage_id:
        raise ValueError(f"it is of stage {repr(facts['stage_id'])[:40]}")
    return facts


def _tensors(ledger: Ledger, stage_id: str, facts: dict[str, Any]) -> bytes:
    path = ledger.layout.partial_tensors(stage_id)
    tensors = read_bytes(ledger.filesystem, path, facts["bytes"])
    if hashlib.sha256(tensors).hexdigest() != facts["sha256"]:
        raise ValueError(f"{ledger.layout.shown(path)}: not the bytes that were written")
    return tensors


def _progress(values: Any, steps: int) -> Progress:
    check_fields(Progress, values)
    progress = Progress(**values)
    if not 0 < progress.updates < steps:
        raise ValueError(f"{progress.updates} updates of an epoch of {steps}")
    if not 0 <= progress.correct <= progress.examples or progress.seconds < 0:
        raise ValueError(
            f"{progress.correct} of {progress.examples} examples correct in its progress"
        )
    return progress


def drop_partial(ledger: Ledger, stage_id: str) -> None:
    ledger.fence()
    for path in (ledger.layout.partial_facts(stage_id), ledger.layout.partial_tensors(stage_id)):
        delete(ledger.filesystem, path)

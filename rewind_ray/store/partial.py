"""An epoch broken off between two updates, kept so that a stopped worker loses no work.

One a stage: of the epoch that follows its last rewind point. The tensors are a rewind point's; the
json, written last, tells how far the epoch was and their checksum.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from rewind_ray.epoch import Progress
from rewind_ray.store import checkpoint
from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.store.files import delete, read_bytes, write_atomically
from rewind_ray.store.ledger import Ledger


def write_partial(
    ledger: Ledger, stage_id: str, epoch: int, point: RewindPoint, progress: Progress
) -> None:
    """epoch: the one being trained, from 1."""
    tensors = checkpoint.to_bytes(point)
    digest = hashlib.sha256(tensors).hexdigest()
    facts = {"epoch": epoch, "sha256": digest, "progress": asdict(progress)}
    write_atomically(ledger.filesystem, ledger.layout.partial_tensors(stage_id), tensors)
    text = json.dumps(facts)
    write_atomically(ledger.filesystem, ledger.layout.partial_facts(stage_id), text.encode())


def read_partial(ledger: Ledger, stage_id: str, epoch: int) -> tuple[RewindPoint, Progress] | None:
    """What is there of this epoch; None where nothing is, or nothing that can be trusted."""
    layout = ledger.layout
    try:
        facts = json.loads(read_bytes(ledger.filesystem, layout.partial_facts(stage_id)))
        if facts["epoch"] != epoch:
            return None
        tensors = read_bytes(ledger.filesystem, layout.partial_tensors(stage_id))
        if hashlib.sha256(tensors).hexdigest() != facts["sha256"]:
            return None
        return checkpoint.from_bytes(tensors), Progress(**facts["progress"])
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None


def drop_partial(ledger: Ledger, stage_id: str) -> None:
    for path in (ledger.layout.partial_facts(stage_id), ledger.layout.partial_tensors(stage_id)):
        delete(ledger.filesystem, path)

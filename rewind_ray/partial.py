"""An epoch broken off between two updates, kept so that a stopped worker loses no work.

One a stage: of the epoch that follows its last rewind point. The tensors are a rewind point's; the
json, written last, tells how far the epoch was and their checksum.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from rewind_ray import checkpoint
from rewind_ray.checkpoint import RewindPoint
from rewind_ray.epoch import Progress
from rewind_ray.ledger import Ledger
from rewind_ray.storage import read_bytes, write_atomically


def write_partial(
    ledger: Ledger, stage_id: str, epoch: int, point: RewindPoint, progress: Progress
) -> None:
    """epoch: the one being trained, from 1."""
    tensors = checkpoint.to_bytes(point)
    digest = hashlib.sha256(tensors).hexdigest()
    facts = {"epoch": epoch, "sha256": digest, "progress": asdict(progress)}
    path = partial_path(ledger, stage_id)
    write_atomically(ledger.filesystem, f"{path}.safetensors", tensors)
    write_atomically(ledger.filesystem, f"{path}.json", json.dumps(facts).encode())


def read_partial(ledger: Ledger, stage_id: str, epoch: int) -> tuple[RewindPoint, Progress] | None:
    """What is there of this epoch; None where nothing is, or nothing that can be trusted."""
    path = partial_path(ledger, stage_id)
    try:
        facts = json.loads(read_bytes(ledger.filesystem, f"{path}.json"))
        if facts["epoch"] != epoch:
            return None
        tensors = read_bytes(ledger.filesystem, f"{path}.safetensors")
        if hashlib.sha256(tensors).hexdigest() != facts["sha256"]:
            return None
        return checkpoint.from_bytes(tensors), Progress(**facts["progress"])
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return None


def drop_partial(ledger: Ledger, stage_id: str) -> None:
    for ending in ("json", "safetensors"):
        path = f"{partial_path(ledger, stage_id)}.{ending}"
        if ledger.filesystem.get_file_info(path).is_file:
            ledger.filesystem.delete_file(path)


def partial_path(ledger: Ledger, stage_id: str) -> str:
    return f"{ledger.root}/stages/{stage_id}/partial"

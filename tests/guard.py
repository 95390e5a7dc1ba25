"""Numbers of small stages of all kinds, to compare before and after a change of shape.

A refactoring leaves rows and weights as they are, bit for bit on one machine (ids may change):

  python -m tests.guard --out before.json       # on the version before
  python -m tests.guard --against before.json   # on the version after; exit 1 where they differ
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rewind_ray.retraining import METHODS
from rewind_ray.spec import Prune, Retrain, Stage, dense_stage, retrain_stage
from tests.rewind_ray.tiny_stages import Lab, child, tiny

NOT_COMPARED = (
    "stage_id",
    "parent_id",
    "baseline_id",
    "train_seconds",
    "git_commit",
    "torch_version",
    "finished_at",
)
EARLY = {"weight_rewind", "blend", "low_lr_weight_rewind"}


def stages() -> Iterator[tuple[str, Stage]]:
    """Name -> last stage of a chain. The networks are tiny, the data 64 digits."""
    dense = dense_stage(tiny(), seed=0)
    yield "dense", dense
    for method in METHODS:
        yield method, child(dense, method, 3)
    first = child(dense, "weight_rewind", 3, restore_momentum=True)
    yield "second level, momentum restored", child(first, "weight_rewind", 3, restore_momentum=True)
    step = child(dense, "step", 4, lr=0.02, drops=(2.0,), factor=0.5)
    yield "step with drops", step
    yield "snip", child(dense, "lr_rewind", 2, criterion="snip")
    random = child(dense, "lr_rewind", 2, criterion="random")
    yield "random, two levels", child(random, "lr_rewind", 2, criterion="random")
    yield "layer by layer", child(dense, "lr_rewind", 2, scope="layer")
    yield "one pattern", child(dense, "lr_rewind", 2, layers="stages.*.conv1")
    filters: dict[str, Any] = {"structure": "filters"}
    yield "filters", child(child(dense, "lr_rewind", 2, **filters), "lr_rewind", 2, **filters)
    yield "filters only", child(dense, "lr_rewind", 2, filters_only=True, **filters)
    yield "random filters", child(dense, "lr_rewind", 2, criterion="random", **filters)
    conv1 = {"layers": "stages.*.conv1", "shrink": True, **filters}
    small = child(dense, "weight_rewind", 2, restore_momentum=True, **conv1)
    yield "shrunk twice", child(small, "weight_rewind", 2, **conv1)
    two_of_four = Prune(fraction=None, structure="2:4", layers="stages.*")
    yield "2:4", retrain_stage(dense, two_of_four, Retrain(method="lr_rewind", epochs=2))
    for name, changes in PROTOCOLS.items():
        yield name, child(dense_stage(tiny(**changes), seed=1), "weight_rewind", 3)


PROTOCOLS: dict[str, dict[str, Any]] = {
    "smoothed labels": {"label_smoothing": 0.1},
    "bf16": {"precision": "bf16"},
    "decay of kernels, no Nesterov": {
        "decayed": "kernels",
        "optimizer_options": {"nesterov": False},
    },
    "no momentum": {"optimizer_options": {"momentum": 0.0}},
    "images by themselves": {"standardisation": "image", "initial_weights": "truncated_normal"},
    "updates, not passes": {"steps_per_epoch": 3},
    "wide network": {"network": "wrn_10_1"},
    "plain network": {"network": "vgg8", "prunable": "convolutions"},
    "no validation": {"validation": "none", "validation_fraction": 0.0},
}


def numbers(folder: Path) -> dict[str, dict[str, Any]]:
    lab = Lab(folder)
    found = {}
    for name, stage in stages():
        for step in stage.chain:
            epoch = step.rewind_epoch
            if epoch is not None and step.method in EARLY:
                lab.run(stage.baseline, rows=(stage.baseline.train_epochs,), rewinds=(epoch,))
            lab.run(step)
        row = {k: v for k, v in asdict(lab.row(stage)).items() if k not in NOT_COMPARED}
        found[name] = {"weights": digest(lab, stage), "row": row}
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def digest(lab: Lab, stage: Stage) -> str:
    """Of weights, buffers and mask at the stage's end."""
    point = lab.point(stage)
    digest = hashlib.sha256()
    for part in (point.weights, point.buffers, point.mask):
        for name in sorted(part):
            digest.update(name.encode())
            digest.update(part[name].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for every number that was there before and is another now."""
    lines = []
    for name, old in before.items():
        new = after.get(name)
        if new is None:
            lines.append(f"{name}: gone")
            continue
        if new["weights"] != old["weights"]:
            lines.append(f"{name}: weights {old['weights']} -> {new['weights']}")
        for column, value in old["row"].items():
            if column in new["row"] and new["row"][column] != value:
                lines.append(f"{name}: {column} {value!r} -> {new['row'][column]!r}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--against", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = numbers(Path(folder) / "storage")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1, default=str))
    if given.against:
        lines = differences(json.loads(given.against.read_text()), json.loads(json.dumps(found)))
        print("\n".join(lines) or f"{len(found)} kinds of stages: rows and weights as before")
        return 1 if lines else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

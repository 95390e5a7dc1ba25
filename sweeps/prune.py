"""Make a network smaller at nearly the same accuracy, and write it to a file.

Prunes 20% of the weights at a time and retrains after each step (Renda et al. 2020, Algorithm 1),
until the target compression is reached or the accuracy has dropped too far. The last network before
that is exported, with its facts in a json beside it. The drop is that of the validation accuracy
below the dense network (of the test accuracy without a validation set).

Examples:
  python -m sweeps.prune --network my_models:resnet --init trained.pt --dataset folder:photos \\
      --split 0.2 --target-compression 10 --max-accuracy-drop 0.5pt
  python -m sweeps.prune --network resnet20 --dataset cifar10 --max-accuracy-drop 1pt
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rewind_ray.errors import UserError
from rewind_ray.export.command import check_installed, load_export, write_export
from rewind_ray.result import ResultRow
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage
from rewind_ray.store.ledger import Ledger
from sweeps.algorithm1 import accuracy_drop, drops_beyond
from sweeps.compare import Training, chosen_protocol, given
from sweeps.options import Options, drop_limit
from sweeps.plan.chains import iterative, prepared, scaled, sweep_name
from sweeps.plan.naming import percent
from sweeps.run.launch import DONE, Sweep, command, run_sweep

NAME = "prune"
STEP = 0.2
"""Largest share of the remaining weights that a step removes; Renda et al. 2020, Algorithm 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    target_compression: Annotated[float, tyro.conf.arg(metavar="RATIO")] = 10.0
    """Stop at this compression ratio."""
    max_accuracy_drop: Annotated[str | None, tyro.conf.arg(metavar="DROP")] = None
    """Stop before the accuracy drops by more than this: 0.5pt (points) or 0.005."""
    retrain_epochs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Retraining epochs of each step; those of the original training (--epochs) if left out."""
    method: str = "lr_rewind"
    """Retraining method."""
    seed: int = 0
    """Seed of initial weights and batches."""
    format: Literal["pt2", "onnx", "safetensors"] = "pt2"
    """Format of the file: a program of torch.export, ONNX, or the weights alone."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Path of the file; pruned.pt2 in the working directory if left out."""


def chain(full: Protocol, protocol: Protocol, target: Target) -> Stage:
    """Equal steps, the last of which reaches the target exactly."""
    ratio = target.target_compression
    if not 1 < ratio < math.inf:
        raise UserError(f"--target-compression is {ratio:g}; allowed: above 1")
    steps = math.ceil(math.log(ratio) / -math.log(1 - STEP))
    epochs = scaled(target.retrain_epochs or full.epochs, full.epochs, protocol)
    retrain = Retrain(method=target.method, epochs=epochs)
    prune = Prune(fraction=1 - ratio ** (-1 / steps))
    return iterative(dense_stage(protocol, target.seed), retrain, steps, prune)


def reached(end: Stage, ledger: Ledger, limit: float | None) -> tuple[Stage, ResultRow] | None:
    """The last network of the chain within the limit; None if not even the first is."""
    found = None
    for stage in end.chain[1:]:
        row = ledger.sound_row(stage.stage_id, stage.train_epochs)
        if row is None or row.status == "diverged":
            break
        if limit is not None and accuracy_drop(ledger, stage, row) > limit:
            break
        found = stage, row
    return found


def show(
    end: Stage,
    found: tuple[Stage, ResultRow],
    target: Target,
    ledger: Ledger,
    data: str | None,
) -> None:
    """Export the network, and print what was reached and how to load it."""
    stage, row = found
    cut = any(step.prunes_channels for step in stage.chain)
    exported = load_export(ledger, stage.stage_id, stage.train_epochs, cut, data, trust=True)
    file = Path(target.out or f"pruned.{target.format}").absolute()
    facts = write_export(exported, file, target.format)
    if stage.stage_id == end.stage_id:
        print(f"reached   {row.compression_ratio:.2f}× as asked")
    else:
        print(
            f"reached   {row.compression_ratio:.2f}× of the {target.target_compression:g}× asked; "
            "the next step costs more accuracy than allowed, or diverged"
        )
    print(
        f"accuracy  test {percent(row.test_accuracy)}, dense "
        f"{percent(row.baseline_test_accuracy)}\n"
        f"size      {row.params_remaining:,} of {row.params_prunable:,} prunable weights are not "
        f"zero; the file has {facts['params_exported']:,} parameters, {file.stat().st_size:,} "
        f"bytes, {facts['flops_exported']:,} multiply-adds (dense {row.flops_dense:,})\n"
        f"file      {file}, with its facts in {file}.json\n"
        f"stage     {stage.stage_id}\n"
        f"load      {HOW_TO_LOAD[target.format].format(file=file.name)}"
    )


HOW_TO_LOAD = {
    "pt2": "torch.export.load('{file}').module()(inputs)",
    "onnx": "onnxruntime.InferenceSession('{file}')",
    "safetensors": "network.load_state_dict(safetensors.torch.load_file('{file}'))",
}


def main(
    *,
    training: Annotated[Training, tyro.conf.arg(name="")],
    target: Annotated[Target, tyro.conf.arg(name="")],
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    limit = drop_limit(target.max_accuracy_drop)
    check_installed(target.format)
    if target.out and Path(target.out).suffix != f".{target.format}":
        raise UserError(f"--out is {target.out!r}; with --format {target.format} it ends so")
    full, folder = chosen_protocol(training, options.data_folder)
    protocol = prepared(full, options)
    end = chain(full, protocol, target)
    ledger = Ledger(options.storage)

    sweep = Sweep(
        name=sweep_name(NAME, options),
        stages=[end],
        data=folder,
        **given(training),
        stop=drops_beyond(limit, ledger),
    )
    code = run_sweep(sweep, options)
    if options.dry_run or code != DONE:
        return code
    found = reached(end, ledger, limit)
    if found is None:
        print("not even the first step stays within --max-accuracy-drop; allow more, or --epochs")
        return DONE
    show(end, found, target, ledger, folder)
    return DONE


if __name__ == "__main__":
    command(main)

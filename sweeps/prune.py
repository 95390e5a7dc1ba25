"""Make a network smaller at nearly the same accuracy, and write it to a file.

Prunes at most 20% of the weights at a time and retrains after each step (Renda et al. 2020,
Algorithm 1), until the target is reached or the accuracy has dropped too far. The target is a
compression ratio, or the size of the file or the time of a forward pass, which take --structure
filters: single weights that are zero make a file no smaller and a network no faster. The last
network before that is exported, with its facts in a json and a model card beside it. The drop is
that of the validation accuracy below the dense network (of the test accuracy without a validation
set).

Examples:
  rewind-ray prune --network my_models:resnet --init trained.pt --dataset folder:photos \\
      --split 0.2 --target-compression 10 --max-accuracy-drop 0.5pt
  rewind-ray prune --network resnet20 --dataset cifar10 --structure filters \\
      --target-size 500kB
  rewind-ray prune --network my_models:resnet --dataset my_data:load --structure filters \\
      --target-latency 2ms --max-accuracy-drop 1pt
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from rewind_ray.command_line import DONE
from rewind_ray.errors import UserError
from rewind_ray.export.command import chosen_device, load_export, write_export
from rewind_ray.export.formats import Exported, Form, check_form
from rewind_ray.pruning import check_prune, criteria_help
from rewind_ray.pruning.criteria import DEFAULT_CRITERION
from rewind_ray.result import ResultRow
from rewind_ray.spec import SCOPES, Protocol, Prune, Retrain, Stage, dense_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.structures import DEFAULT_STRUCTURE
from rewind_ray.targets import (
    Plan,
    Target,
    chosen_target,
    last_within,
    measure_target,
    planned,
    step_of,
)
from sweeps.algorithm1 import drop_from_dense, drops_beyond
from sweeps.compare import Training, chosen_protocol, given
from sweeps.options import Options, drop_limit
from sweeps.plan.chains import iterative, prepared, scaled, sweep_name
from sweeps.plan.naming import percent
from sweeps.run.launch import Sweep, command, run_sweep

NAME = "prune"
Scopes: Any = Literal[tuple(SCOPES)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    target_compression: Annotated[float | None, tyro.conf.arg(metavar="RATIO")] = None
    """Stop at this compression ratio; 10 if no target is given."""
    target_size: Annotated[str | None, tyro.conf.arg(metavar="500kB")] = None
    """Stop once the file has no more bytes than this: 500kB, 1.5MB. Needs --structure filters."""
    target_latency: Annotated[str | None, tyro.conf.arg(metavar="2ms")] = None
    """Stop once a forward pass of one example takes no longer, in fp32 and on the device that the
    command runs on: 2ms. Needs --structure filters."""
    latency_device: Annotated[str, tyro.conf.arg(metavar="cpu|cuda|auto")] = "auto"
    """Device that --target-latency is measured on; auto: a GPU if there is one."""
    structure: str = DEFAULT_STRUCTURE
    """What is removed: unstructured (single weights), or filters, which are cut out."""
    criterion: Annotated[
        str, tyro.conf.arg(metavar="NAME", help=f"What is removed first: {criteria_help()}.")
    ] = DEFAULT_CRITERION
    scope: Scopes = "global"
    """Compare the weights of all layers, or take the same share of each."""
    max_accuracy_drop: Annotated[str | None, tyro.conf.arg(metavar="0.5pt|0.005")] = None
    """Stop before the accuracy drops by more than this: 0.5pt (points) or 0.005."""
    retrain_epochs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Retraining epochs of each step; those of the original training (--epochs) if left out."""
    method: str = "lr_rewind"
    """Retraining method."""
    seed: int = 0
    """Seed of initial weights and batches."""
    format: Literal["pt2", "onnx", "safetensors", "state_dict"] = "pt2"
    """Format of the file: a program of torch.export, ONNX, or weights, as safetensors or .pt."""
    dtype: Literal["fp32", "fp16", "int8"] = "fp32"
    """Numbers in the file; int8 in ONNX only. The accuracy is measured again."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Path of the file; pruned.pt2 in the working directory if left out."""

    @property
    def form(self) -> Form:
        return Form(format=self.format, dtype=self.dtype)


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def target_of(wanted: Wanted) -> Target:
    return chosen_target(
        wanted.target_compression,
        wanted.target_size,
        wanted.target_latency,
        wanted.structure,
        option,
    )


def chain(full: Protocol, protocol: Protocol, wanted: Wanted, plan: Plan) -> Stage:
    """The longest chain that may be needed."""
    retrain_epochs = full.epochs if wanted.retrain_epochs is None else wanted.retrain_epochs
    epochs = scaled(retrain_epochs, full.epochs, protocol)
    retrain = Retrain(method=wanted.method, epochs=epochs)
    return iterative(dense_stage(protocol, wanted.seed), retrain, plan.most, plan.step)


class Measured:
    """What stages reach of the target, each measured once."""

    def __init__(self, target: Target, wanted: Wanted, ledger: Ledger, data: str | None) -> None:
        self.target, self.ledger = target, ledger
        self._wanted, self.data = wanted, data
        self.device = chosen_device(wanted.latency_device, "--latency-device")
        self._values: dict[str, float] = {}
        self.out_of_reach = False
        """Whether the file has more beside the weights than the target allows."""

    def value(self, stage: Stage, row: ResultRow) -> float:
        """Compression ratio, bytes or milliseconds."""
        if not self.target.is_measured:
            return row.compression_ratio
        if stage.stage_id not in self._values:
            self._values[stage.stage_id], hopeless = measure_target(
                self.target, self.exported(stage), self._wanted.form, self.device
            )
            self.out_of_reach |= hopeless
        return self._values[stage.stage_id]

    def is_last(self, stage: Stage, row: ResultRow) -> bool:
        """Whether the target is reached with it, or can't be."""
        if stage.level == 0 or not self.target.is_measured:
            return False
        return self.target.reached(self.value(stage, row)) or self.out_of_reach

    def exported(self, stage: Stage) -> Exported:
        cut = any(step.prunes_channels for step in stage.chain)
        return load_export(
            self.ledger, stage.stage_id, stage.train_epochs, cut, self.data, trust=True
        )


def best_of(
    end: Stage, ledger: Ledger, limit: float | None, measured: Measured
) -> tuple[Stage, ResultRow] | None:
    """The last network of the chain within the limit, no farther than the target; None if not even
    the first is."""

    def row_of(stage: Stage) -> ResultRow | None:
        return ledger.sound_row(stage.stage_id, stage.train_epochs)

    def is_too_far(stage: Stage, row: ResultRow) -> bool:
        return limit is not None and drop_from_dense(ledger, stage, row) > limit

    return last_within(end, row_of, is_too_far, measured.is_last)


def show(end: Stage, found: tuple[Stage, ResultRow], wanted: Wanted, measured: Measured) -> None:
    """Export the network, and print what was reached and how to load it."""
    stage, row = found
    exported = measured.exported(stage)
    file = Path(wanted.out or f"pruned.{wanted.form.suffix}").absolute()
    facts = write_export(exported, file, wanted.form, measured.data, trust=True)
    print(
        f"{reached_line(stage, row, end, measured)}\n"
        f"accuracy  test {percent(row.test_accuracy)}, dense "
        f"{percent(row.baseline_test_accuracy)}\n"
        f"size      {row.params_remaining:,} of {row.params_prunable:,} prunable weights are not "
        f"zero; the file has {facts['params_exported']:,} parameters, {file.stat().st_size:,} "
        f"bytes, {facts['flops_exported']:,} multiply-adds (dense {row.flops_dense:,})\n"
        f"file      {file}, with its facts in {file}.json and a model card in {file}.md\n"
        f"stage     {stage.stage_id}\n"
        f"load      {how_to_load(wanted.format, file.name, facts.get('source'))}"
    )
    if wanted.dtype != "fp32":
        print(f"{wanted.dtype:9} test {percent(facts['test_accuracy_exported'])}")


def reached_line(stage: Stage, row: ResultRow, end: Stage, measured: Measured) -> str:
    target, value = measured.target, measured.value(stage, row)
    ratio = f"{row.compression_ratio:.2f}×"
    if not target.is_measured:
        line = f"reached   {ratio}"
        done = stage.stage_id == end.stage_id
    else:
        line = f"reached   {target.text(value)} at {ratio}"
        done = target.reached(value)
    if target.kind == "latency":
        line += f" ({measured.device.type}, {torch.get_num_threads()} threads)"
    if done:
        return f"{line}, {target.text()} asked"
    why = "the next step costs more accuracy than allowed, or diverged"
    if measured.out_of_reach:
        why = "the rest of the file alone has more: try --format safetensors, or ask for more"
    elif stage.stage_id == end.stage_id:
        why = "the chain ends there: ask for more, or begin with a smaller network"
    return f"{line} of the {target.text()} asked; {why}"


HOW_TO_LOAD = {
    "pt2": "torch.export.load('{file}').module()(inputs)",
    "onnx": "onnxruntime.InferenceSession('{file}')",
    "safetensors": "network.load_state_dict(safetensors.torch.load_file('{file}'))",
    "state_dict": "network.load_state_dict(torch.load('{file}', weights_only=True))",
}


def how_to_load(format: str, file: str, source: dict[str, Any] | None) -> str:
    """Code for Python. source: the file with the network's code that lies beside weights, if any;
    a cut network's weights fit no other."""
    line = HOW_TO_LOAD[format].format(file=file)
    if source is None:
        return line
    return f"network = runpy.run_path({source['file']!r})['Network'](); {line}"


def main(
    *,
    training: Annotated[Training, tyro.conf.arg(name="")],
    wanted: Annotated[Wanted, tyro.conf.arg(name="")],
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    if options.seeds not in (None, 1):
        raise UserError(
            f"--seeds is {options.seeds}, and prune makes one network: --seed N is another one; "
            "repeats with several seeds are what rewind-ray compare is for"
        )
    limit = drop_limit(wanted.max_accuracy_drop)
    target = target_of(wanted)
    step = step_of(wanted.structure, wanted.criterion, wanted.scope)
    check_prune(step)
    check_form(wanted.form)
    ending = f".{wanted.form.suffix}"
    if wanted.out and Path(wanted.out).suffix != ending:
        raise UserError(
            f"--out is {wanted.out!r}; with --format {wanted.format} its name ends in {ending}"
        )
    full, folder = chosen_protocol(training, options.data_folder)
    protocol = prepared(full, options)
    ledger = Ledger(options.storage)
    measured = Measured(target, wanted, ledger, folder)
    plan = planned_steps(target, step, protocol, wanted, training, measured, folder, options)
    end = chain(full, protocol, wanted, plan)
    drops = drops_beyond(limit, ledger)

    def stop(stage: Stage, row: ResultRow) -> bool:
        return bool(drops and drops(stage, row)) or measured.is_last(stage, row)

    sweep = Sweep(
        name=sweep_name(NAME, options), stages=[end], data=folder, **given(training), stop=stop
    )
    code = run_sweep(sweep, options)
    if options.dry_run or code != DONE:
        return code
    found = best_of(end, ledger, limit, measured)
    if found is None:
        print("not even the first step stays within --max-accuracy-drop; allow more, or --epochs")
        return DONE
    show(end, found, wanted, measured)
    return DONE


def planned_steps(
    target: Target,
    step: Prune,
    protocol: Protocol,
    wanted: Wanted,
    training: Training,
    measured: Measured,
    folder: str | None,
    options: Options,
) -> Plan:
    """Of the network itself; with --smoke, whose network is another one, a single step."""
    if target.is_measured and options.smoke:
        return Plan(step=step, steps=1, most=1)
    asked = next((name for name in ("target_size", "target_latency") if getattr(wanted, name)), "")
    plan = planned(
        target,
        step,
        protocol,
        wanted.seed,
        option(asked),
        data=folder,
        **given(training),
        device=measured.device,
    )
    if target.is_measured:
        assert plan.step.fraction is not None
        ratio = (1 - plan.step.fraction) ** -plan.steps
        print(
            f"plan      {target.text()} takes about {ratio:.1f}×: {plan.steps} steps of "
            f"{plan.step.fraction:.1%}, and up to {plan.most - plan.steps} more where the trained "
            "network needs them"
        )
    return plan


if __name__ == "__main__":
    command(main)

"""A trained stage as a file for others, and what is known of it.

The pruned weights are zero in the file; --shrink cuts pruned filters out for good. In the file,
and beside it as FILE.json, are the input's standardisation, classes, accuracies, parameters and
multiply-adds; with --latency the json also tells how long a forward pass takes here.

Examples:
  rewind-ray export best --storage results --max-accuracy-drop 0.5pt --format onnx
  rewind-ray export 4f0c --format json
  rewind-ray export 4f0c --format pt2 --shrink --latency --out small.pt2
  rewind-ray export 4f0c1d2e3a4b5c6d --storage s3://bucket/folder --epoch 90
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import io
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from pyarrow import fs
from torch import Tensor, nn
from tyro.conf import Positional, arg

from rewind_ray.command_line import exit_code, run_cli
from rewind_ray.datasets.stream import RESIZE_RATIO
from rewind_ray.datasets.tensorflow_view import CROP_PADDING
from rewind_ray.errors import DataError, UserError
from rewind_ray.export.best import BEST, best_stage
from rewind_ray.export.card import model_card
from rewind_ray.export.formats import (
    INPUT,
    OUTPUT,
    WRITERS,
    Exported,
    Form,
    check_form,
    check_task,
    in_file,
    stored_tensors,
)
from rewind_ray.export.latency import compare
from rewind_ray.export.plain import NotPlain, plain_source
from rewind_ray.export.quantise import quantised
from rewind_ray.importing import is_import_path
from rewind_ray.pruning import Mask, apply_mask_, unpruned
from rewind_ray.pruning.channels import follower_mask
from rewind_ray.pruning.flops import multiply_adds, remaining_multiply_adds
from rewind_ray.pruning.shrink import cut_of, cut_tensors, kept_kernels, shrink_
from rewind_ray.pruning.trace import followers
from rewind_ray.result import row_to_dict
from rewind_ray.spec import Stage, stage_to_dict
from rewind_ray.store import checkpoint
from rewind_ray.store.files import write_atomically
from rewind_ray.store.ledger import CorruptRewindPoint, Ledger
from rewind_ray.structures import with_option
from rewind_ray.tasks import Task, load_task, task_class
from rewind_ray.tasks.image import ImageClassification
from rewind_ray.tasks.own import Classification
from rewind_ray.text import printable
from rewind_ray.training.recalibrate import pruned_accuracies
from rewind_ray.training.row import dense_multiply_adds, device_name

log = logging.getLogger("rewind_ray.export")

NEAR_MATCHES = 5
STANDARDISED = {
    "dataset": "(pixel - mean) / std of each channel, of pixels from 0 to 255",
    "image": "(pixel - mean) / max(std, values ** -0.5), of all values of each image",
    "imagenet": "(pixel - mean) / std of each channel, of pixels from 0 to 255",
}
Format = Literal["safetensors", "pt2", "onnx", "state_dict", "json"]
Dtype = Literal["fp32", "fp16", "int8"]


@contextmanager
def reading(what: str) -> Iterator[None]:
    """What is stored of a stage may be damaged where what was typed is right."""
    try:
        yield
    except (CorruptRewindPoint, FileNotFoundError, ValueError) as error:
        raise DataError(f"can't read {what}: {error}") from error


def load_export(
    ledger: Ledger,
    stage_id: str,
    epoch: int | None,
    shrink: bool,
    data: str | None,
    trust: bool = False,
) -> Exported:
    """The network of a stage and what is known of it.

    epoch: None: that of the longest result row. data: folder of the data set's files, needed only
    where what was kept of it is damaged. trust: import the stage's own code, see ``check_trust``.
    Raises UserError for an epoch without a rewind point or a ``shrink`` that can't be, DataError
    where what is stored can't be read.
    """
    with reading(f"what stage {stage_id} is"):
        stage = ledger.read_spec(stage_id)
    epoch = chosen_epoch(ledger, stage_id, epoch)
    if shrink:
        check_filters(stage)
    task = recalled_task(ledger, stage, data, trust)
    example = task.example()
    network, mask = masked_network(ledger, stage, epoch, task)
    facts = {
        "stage_id": stage_id,
        "epoch": epoch,
        "num_inputs": len(example),
        "torch_version": torch.__version__,
        "input": image_facts(task) if isinstance(task, ImageClassification) else input_facts(task),
        "output": output_facts(network, example),
        **accuracies(ledger, stage_id, epoch),
        **sizes(task, stage, network, mask),
    }
    if shrink:
        cut = cut_of(network, mask, example)
        shrink_(network, cut)
        mask = cut_tensors(mask, cut)
    computed = multiply_adds(network, example)
    facts |= {
        "shrunk": shrink or any(step.prune.shrink for step in stage.chain if step.prune),
        "params_exported": sum(parameter.numel() for parameter in network.parameters()),
        "flops_exported": sum(computed.values()),
        "spec": stage_to_dict(stage),
        "row": None,
    }
    if epoch in ledger.row_epochs(stage_id):
        with reading(f"the row of stage {stage_id}"):
            facts["row"] = row_to_dict(ledger.read_row(stage_id, epoch))
    return Exported(
        network=network, mask=mask, facts=facts, stage=stage, task=task, example=example
    )


def recalled_task(ledger: Ledger, stage: Stage, data: str | None, trust: bool) -> Task:
    """From what was kept of the data with the stage, or with another of its chain, all of which
    are trained on the same; else from the data itself."""
    protocol = stage.protocol
    check_trust(stage, trust, protocol.network, protocol.task)
    kind = task_class(protocol.task)
    for step in reversed(stage.chain):
        try:
            return kind.recalled(protocol, ledger.read_data(step.stage_id), data)
        except FileNotFoundError:
            continue
        except UserError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            log.warning("what stage %s has kept of its data is damaged: %s", step.stage_id, error)
    return loaded_task(stage, data, trust)


def loaded_task(stage: Stage, data: str | None, trust: bool) -> Task:
    """With its data. Raises UserError or DataError where they can't be had."""
    protocol = stage.protocol
    check_trust(stage, trust, protocol.network, protocol.task, protocol.dataset)
    return load_task(protocol, data, torch.device("cpu"))


def check_trust(stage: Stage, trust: bool, *names: str) -> None:
    """Raises UserError for code outside this package, unless it is to be trusted: the storage may
    be another's, and to import what it names is to run it."""
    own = [name for name in names if is_import_path(name)]
    if own and not trust:
        raise UserError(
            f"stage {stage.stage_id} is made by code outside this package: {', '.join(own)}; if "
            "it is yours, or you trust who wrote the storage, give --trust, which imports it"
        )


# Which stage, which epoch


def find_stage(ledger: Ledger, start: str) -> str:
    """The stage whose id starts so. Raises UserError, listing near ones, unless there is one."""
    stage_ids = ledger.stage_ids()
    if not stage_ids:
        raise UserError(
            f"there are no stages in {ledger.uri}; give the --storage that a sweep wrote to"
        )
    found = [stage_id for stage_id in stage_ids if stage_id.startswith(start)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{len(found)} stages start with {start!r}: {some(found)}; give more of the id"
        )

    def likeness(stage_id: str) -> float:
        return difflib.SequenceMatcher(None, start, stage_id[: len(start)]).ratio()

    near = sorted(stage_ids, key=likeness, reverse=True)
    raise UserError(f"no stage {start!r} in {ledger.uri}; nearest: {some(near)}")


def some(stage_ids: list[str]) -> str:
    more = ", ..." if len(stage_ids) > NEAR_MATCHES else ""
    return ", ".join(stage_ids[:NEAR_MATCHES]) + more


def chosen_epoch(ledger: Ledger, stage_id: str, epoch: int | None) -> int:
    """Raises UserError, listing those there are, if it has no rewind point."""
    points = ", ".join(map(str, ledger.points(stage_id))) or "none"
    if epoch is None:
        finished = ledger.row_epochs(stage_id)
        if not finished:
            raise UserError(
                f"stage {stage_id} has no finished row; let its sweep end, or give an --epoch "
                f"that has a rewind point: {points}"
            )
        epoch = finished[-1]
    if epoch not in ledger.points(stage_id):
        raise UserError(
            f"stage {stage_id} has no rewind point at epoch {epoch}; there are some at: {points}"
        )
    return epoch


def check_filters(stage: Stage) -> None:
    """Raises UserError if there are no filters to cut out."""
    if not any(step.prunes_channels for step in stage.chain):
        structures = sorted({step.prune.structure for step in stage.chain if step.prune})
        pruned = f"pruned {', '.join(structures)}" if structures else "dense"
        cuttable = " or ".join(with_option("shrink"))
        raise UserError(
            f"--shrink cuts out whole filters, and stage {stage.stage_id} is {pruned}; leave "
            f"--shrink out, or export a stage of structure {cuttable}"
        )


# The network


def masked_network(ledger: Ledger, stage: Stage, epoch: int, task: Task) -> tuple[nn.Module, Mask]:
    """In evaluation mode, its pruned weights zero; as small as the stage itself trained it.

    The mask is that of its kernels and of what pruned filters take with them.
    """
    with reading(f"epoch {epoch} of stage {stage.stage_id}"):
        point = checkpoint.from_bytes(ledger.read_point(stage.stage_id, epoch))
    if isinstance(task, ImageClassification):
        network = task.empty_network()
    else:
        network = task.network(stage.seed)
    if point.cut:
        shrink_(network, point.cut)
    checkpoint.load_network_(network, point)
    mask = point.mask
    if mask and stage.channels_take_norms:
        mask = {**mask, **follower_mask(network, mask, followers(network, task.example()))}
    if mask:
        apply_mask_(dict(network.named_parameters()), mask)
    return network.eval(), mask


# What is known of it


def output_facts(network: nn.Module, example: tuple[Tensor, ...]) -> dict[str, Any]:
    with torch.no_grad():
        output = network(*example)
    if not isinstance(output, Tensor):
        return {"name": OUTPUT, "type": type(output).__name__}
    dtype = str(output.dtype).removeprefix("torch.")
    return {"name": OUTPUT, "shape": ["N", *output.shape[1:]], "dtype": dtype}


def input_facts(task: Task) -> dict[str, Any]:
    """Shape and type; what else there is to know of own data, its user knows."""
    example = task.example()[0]
    dtype = str(example.dtype).removeprefix("torch.")
    names = task.classes if isinstance(task, Classification) else None
    known = {"name": INPUT, "shape": ["N", *example.shape[1:]], "dtype": dtype}
    return known if names is None else known | {"classes": list(names)}


def image_facts(task: ImageClassification) -> dict[str, Any]:
    """What to do to an image before the network sees it, and what its classes are called.

    Mean, deviation and names are None, with a warning, where the data set can't be had.
    """
    mean = std = classes = None
    protocol, info = task.protocol, task.info
    try:
        classes = list(task.classes)
        mean, std = task.pixel_moments or (None, None)
    except (ValueError, OSError) as error:
        log.warning("without the data set no class names, mean and deviation: %s", error)
    return {
        "name": INPUT,
        "shape": ["N", *task.input_shape],
        "dtype": "float32",
        "channels": "grey" if info.channels == 1 else "RGB",
        "resized": resized(task),
        "standardised": STANDARDISED[protocol.standardisation],
        "mean": mean,
        "std": std,
        "classes": classes,
    }


def resized(task: ImageClassification) -> str | None:
    """How an image of another size was made to fit in evaluation; None: all had this size."""
    size = task.info.image_size
    if task.protocol.augmentation == "imagenet_tf":
        return (
            f"the centre, of {size}/{size + CROP_PADDING} of the shorter side, cut out and resized "
            f"to {size} pixels, bicubic (TensorFlow 1's, not antialiased)"
        )
    if task.streamed:
        side = round(size * RESIZE_RATIO)
    elif task.protocol.dataset.startswith("folder:"):
        side = size
    else:
        return None
    return f"shorter side to {side} pixels, bilinear, antialiased; the centre cut out"


def accuracies(ledger: Ledger, stage_id: str, epoch: int) -> dict[str, float | None]:
    """Of this epoch, and of the network right after pruning."""
    with reading(f"the metrics of stage {stage_id}"):
        metrics = ledger.read_metrics(stage_id, epoch)
        before = pruned_accuracies(ledger, stage_id)
    return {name: metrics.get(name) for name in ("val_accuracy", "test_accuracy")} | before


def sizes(task: Task, stage: Stage, network: nn.Module, mask: Mask) -> dict[str, float]:
    """As in the result row: ``remaining`` skips the zeros, and channels that could be cut out."""
    example = task.example()
    dense = task.meta_network()
    prunable = task.prunable(dense)
    params_prunable = sum(parameter.numel() for parameter in prunable.values())
    of_prunable = {name: kept for name, kept in mask.items() if name in prunable}
    params_remaining = unpruned(of_prunable) if mask else params_prunable
    if stage.channels_take_norms:
        mask = kept_kernels(network, mask, example)
    return {
        "density": params_remaining / params_prunable,
        "params_total": sum(parameter.numel() for parameter in dense.parameters()),
        "params_prunable": params_prunable,
        "params_remaining": params_remaining,
        "flops_dense": dense_multiply_adds(task),
        "flops_remaining": remaining_multiply_adds(multiply_adds(network, example), mask),
    }


def measured_latency(exported: Exported, device: torch.device) -> dict[str, Any]:
    """Against the dense network, in PyTorch without compilation.

    Raises UserError for networks that take no floating-point input.
    """
    if not exported.task.example()[0].is_floating_point():
        raise UserError(
            f"--latency of task {exported.task.name}, whose networks take no floating-point input; "
            "leave it out"
        )
    dense = exported.task.network(exported.stage.seed)
    measured = compare(dense, exported.network, tuple(exported.task.example()[0].shape[1:]), device)
    for one in measured:
        log.info(
            "batch %d: dense %.3f ms, exported %.3f ms; exported / dense %.3f (%.3f to %.3f)",
            *(one.batch_size, one.dense_ms, one.exported_ms),
            *(one.ratio, one.lowest_ratio, one.highest_ratio),
        )
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": "fp32",
        "memory_format": "channels_last",
        "batches": [asdict(one) for one in measured],
    }


# The command


def export_command(
    stage: Annotated[
        Positional[str], arg(metavar="STAGE|best", help="Id of a stage, or its start; or best.")
    ],
    *,
    storage: Annotated[str, arg(metavar="URI", help="Storage root of the sweeps.")] = "results",
    sweep: Annotated[
        str | None, arg(metavar="NAME", help="Of best: only stages of this sweep.")
    ] = None,
    max_accuracy_drop: Annotated[
        str | None,
        arg(
            metavar="0.5pt|0.005",
            help="Of best: the smallest network that is no further below its dense one; 0.5pt if "
            "left out.",
        ),
    ] = None,
    epoch: Annotated[
        int | None, arg(metavar="N", help="That of its longest finished row if left out.")
    ] = None,
    format: Annotated[
        Format,
        arg(
            metavar="safetensors|pt2|onnx|state_dict|json",
            help="Weights; a program of torch.export; ONNX; what torch.save makes of a state_dict; "
            "or only what is known.",
        ),
    ] = "safetensors",
    dtype: Annotated[
        Dtype,
        arg(
            metavar="fp32|fp16|int8",
            help="Numbers in the file; int8 in ONNX only, by training data. The accuracy is "
            "measured again.",
        ),
    ] = "fp32",
    masks: Annotated[
        bool,
        arg(help="In a state_dict: NAME_orig and NAME_mask, as torch.nn.utils.prune has them."),
    ] = False,
    shrink: Annotated[bool, arg(help="Cut pruned filters out physically.")] = False,
    latency: Annotated[
        bool, arg(help="Measure a forward pass against the dense network's.")
    ] = False,
    device: Annotated[
        str, arg(metavar="cpu|cuda|auto", help="That latency is measured on; auto: a GPU if any.")
    ] = "auto",
    data: Annotated[
        str | None,
        arg(metavar="DIR", help="Folder of the data set's files, as in the sweep."),
    ] = None,
    trust: Annotated[
        bool, arg(help="Import the code that the stage names as its network, data or task.")
    ] = False,
    out: Annotated[
        str | None,
        arg(metavar="FILE", help="STAGE-EPOCH.FORMAT here if left out; json is printed then."),
    ] = None,
) -> None:
    form = Form(format=format, dtype=dtype, masks=masks)
    check_form(form)
    if latency and dtype != "fp32":
        raise UserError(
            f"--latency with --dtype {dtype}; it is measured in PyTorch in fp32: leave one out"
        )
    if out and Path(out).suffix != f".{form.suffix}":
        raise UserError(f"--out is {out!r}; with --format {format} its name ends in .{form.suffix}")
    on = chosen_device(device)
    ledger = Ledger(storage)
    if stage == BEST:
        stage = best_stage(ledger, max_accuracy_drop or "0.5pt", sweep)
    elif sweep or max_accuracy_drop:
        raise UserError(
            f"--sweep and --max-accuracy-drop choose the best network, and {stage!r} is chosen "
            f"already; write export {BEST}, or leave them out"
        )
    exported = load_export(ledger, find_stage(ledger, stage), epoch, shrink, data, trust)
    check_task(exported.task, form)
    if format == "json":
        facts = exported.facts
        if latency:
            facts = facts | {"latency": measured_latency(exported, on)}
        text = json.dumps(facts, indent=1)
        if out is None:
            print(text, flush=True)
        else:
            write(Path(out).absolute(), text.encode())
        return
    target = Path(out or default_name(exported.facts, form)).absolute()
    write_export(exported, target, form, data, trust, on if latency else None)


def write_export(
    exported: Exported,
    target: Path,
    form: Form,
    data: str | None = None,
    trust: bool = False,
    latency_on: torch.device | None = None,
) -> dict[str, Any]:
    """The file, what the task and the format put beside it, FILE.json with what is known of it,
    which is returned, and FILE.md, its model card.

    data, trust: see ``load_export``; the data are needed for other dtypes than fp32. Raises
    UserError for masks that a dense network doesn't have, or int8 without data.
    """
    check_task(exported.task, form)
    if form.masks and not exported.mask:
        raise UserError(
            f"--masks: stage {exported.stage.stage_id} is dense and has none; leave it out"
        )
    facts = in_file(exported, form) | {"masks": form.masks}
    task = None if form.dtype == "fp32" else task_with_data(exported, form, data, trust)
    content = WRITERS[form.format](exported, form)
    if form.dtype == "int8":
        assert task is not None
        content = quantised(content, INPUT, training_inputs(task, exported))
    if form.dtype != "fp32":
        facts["test_accuracy_exported"] = accuracy_of(exported, form, content, task)
    facts |= written(target, content) | beside(exported, target, form)
    if latency_on is not None:
        facts["latency"] = measured_latency(exported, latency_on)
    write(Path(f"{target}.json"), json.dumps(facts, indent=1).encode())
    write(Path(f"{target}.md"), model_card(facts).encode())
    return facts


def written(path: Path, content: bytes) -> dict[str, Any]:
    write(path, content)
    digest = hashlib.sha256(content).hexdigest()
    return {"file": path.name, "sha256": digest, "bytes": len(content)}


def beside(exported: Exported, target: Path, form: Form) -> dict[str, Any]:
    """Source for weights, where it can be had, and the task's attachments."""
    facts: dict[str, Any] = {}
    if form.format in ("safetensors", "state_dict"):
        facts["source"] = None
        try:
            source = plain_source(exported.network, exported.example)
            facts["source"] = written(Path(f"{target}.py"), source.encode())
        except NotPlain as error:
            facts["no_source"] = printable(str(error))[:200]
    for ending, content in exported.task.attachments().items():
        facts[ending] = written(Path(f"{target}.{ending}"), content)
    return facts


# Smaller numbers, measured on the data


def task_with_data(exported: Exported, form: Form, data: str | None, trust: bool) -> Task | None:
    """None, with a warning, where fp16 goes without. Raises UserError for int8."""
    try:
        return loaded_task(exported.stage, data, trust)
    except (ValueError, OSError) as error:
        if form.dtype == "int8":
            raise UserError(
                "--dtype int8 measures on training data how large activations get, and they can't "
                f"be had: {error}; give --data DIR, or --dtype fp16, which needs none"
            ) from error
        log.warning("the accuracy in %s isn't measured without the data: %s", form.dtype, error)
        return None


def training_inputs(task: Task, exported: Exported) -> Iterator[Tensor]:
    """Of the first epoch. Raises UserError where a batch isn't (inputs, ...) of the example's
    shape."""
    (example, *others) = exported.example
    for batch in task.batches("train", exported.stage.seed, 0):
        inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
        if others or not isinstance(inputs, Tensor) or inputs.shape[1:] != example.shape[1:]:
            raise UserError(
                f"--dtype int8 for task {task.name}, whose batches aren't (inputs, ...) of its "
                "network's one input; take --dtype fp16"
            )
        yield inputs.cpu()


@torch.no_grad()
def accuracy_of(exported: Exported, form: Form, content: bytes, task: Task | None) -> float | None:
    """The task's metric on the test data, of the network in the file."""
    if task is None:
        return None
    run = running(exported, form, content)
    if run is None:
        log.warning("the accuracy in %s isn't measured without onnxruntime", form.dtype)
        return None
    return task.evaluate(run.eval(), "test")


def running(exported: Exported, form: Form, content: bytes) -> nn.Module | None:
    """The file's content as a module; None without what runs it."""
    if form.format == "onnx":
        return OfOnnx(content) if find_spec("onnxruntime") else None
    if form.format == "pt2":
        return Called(torch.export.load(io.BytesIO(content)).module())
    network = copy.deepcopy(exported.network)
    network.load_state_dict(stored_tensors(exported, form), strict=False)
    return network


class Called(nn.Module):
    """A module that can't be put into evaluation mode, because it knows no other."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._call = module.__call__

    def forward(self, *inputs: Tensor) -> Any:
        """As the module."""
        return self._call(*inputs)


class OfOnnx(nn.Module):
    """ONNX Runtime, on the CPU."""

    def __init__(self, model: bytes) -> None:
        super().__init__()
        import onnxruntime

        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: of any batch size."""
        (found,) = self._session.run(None, {INPUT: inputs.cpu().numpy()})
        return torch.from_numpy(found).to(inputs.device)


def default_name(facts: dict[str, Any], form: Form) -> str:
    shrunk = "-shrunk" if facts["shrunk"] else ""
    dtype = "" if form.dtype == "fp32" else f"-{form.dtype}"
    return f"{facts['stage_id']}-{facts['epoch']:04d}{shrunk}{dtype}.{form.suffix}"


def write(path: Path, content: bytes) -> None:
    write_atomically(fs.LocalFileSystem(), str(path), content)
    log.info("wrote %s (%s bytes)", path, f"{len(content):,}")


def chosen_device(name: str, option: str = "--device") -> torch.device:
    """Raises UserError, naming the option, for one that isn't here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("it isn't measured on")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{option} {name}: {reason}; allowed: auto, cpu, cuda") from error
    return device


def main(arguments: Sequence[str]) -> int:
    """Its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    return exit_code(
        lambda: run_cli(
            partial(tyro.cli, export_command),
            "rewind-ray export",
            __doc__,
            arguments or ["--help"],
        )
    )

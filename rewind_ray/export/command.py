"""A trained stage as a file for others, and what is known of it.

The pruned weights are zero in the file; --shrink cuts pruned filters out for good. In the file,
and beside it as FILE.json, are the input's standardisation, classes, accuracies, parameters and
multiply-adds; with --latency the json also tells how long a forward pass takes here.

Examples:
  python -m rewind_ray.export 4f0c --format json
  python -m rewind_ray.export 4f0c --format pt2 --shrink --latency --out small.pt2
  python -m rewind_ray.export 4f0c1d2e3a4b5c6d --storage s3://bucket/folder --epoch 90
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from pyarrow import fs
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tyro.conf import Positional, arg

from rewind_ray.command_line import exit_code, run_cli
from rewind_ray.datasets.stream import RESIZE_RATIO
from rewind_ray.datasets.tensorflow_view import CROP_PADDING
from rewind_ray.errors import DataError, UserError
from rewind_ray.export.latency import compare
from rewind_ray.importing import is_import_path
from rewind_ray.pruning import Mask, apply_mask_, unpruned
from rewind_ray.pruning.channels import follower_mask
from rewind_ray.pruning.cut import Cut
from rewind_ray.pruning.flops import multiply_adds, remaining_multiply_adds
from rewind_ray.pruning.shrink import cut_of, kept_kernels, shrink_
from rewind_ray.pruning.trace import followers
from rewind_ray.spec import Stage, stage_to_dict
from rewind_ray.store import checkpoint
from rewind_ray.store.files import write_atomically
from rewind_ray.store.ledger import CorruptRewindPoint, Ledger
from rewind_ray.structures import with_option
from rewind_ray.tasks import Task, planned_task, task_class
from rewind_ray.tasks.image import ImageClassification
from rewind_ray.training.recalibrate import pruned_accuracies
from rewind_ray.training.row import device_name

log = logging.getLogger("rewind_ray.export")

FACTS = "rewind_ray"
"""Name, in every file, of the json with what is known of the network."""
INPUT, OUTPUT = "images", "logits"
NEAR_MATCHES = 5
STANDARDISED = {
    "dataset": "(pixel - mean) / std of each channel, of pixels from 0 to 255",
    "image": "(pixel - mean) / max(std, values ** -0.5), of all values of each image",
    "imagenet": "(pixel - mean) / std of each channel, of pixels from 0 to 255",
}
ONNX_PACKAGES = ("onnx", "onnxscript")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """What is stored of a stage may be damaged where what was typed is right."""
    try:
        yield
    except (CorruptRewindPoint, FileNotFoundError, ValueError) as error:
        raise DataError(f"can't read {what}: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A trained network, ready to be written."""

    network: nn.Module
    """On the CPU, in evaluation mode, its pruned weights zero or cut out."""
    facts: dict[str, Any]
    """What is known of it, as plain data."""
    stage: Stage
    task: Task


def load_export(
    ledger: Ledger,
    stage_id: str,
    epoch: int | None,
    shrink: bool,
    data: str | None,
    trust: bool = False,
) -> Exported:
    """The network of a stage and what is known of it.

    epoch: None: that of the longest result row. data: folder of the data set's files. trust:
    import the stage's own code, see ``task_for``. Raises UserError for an epoch without a rewind
    point or a ``shrink`` that can't be, DataError where what is stored can't be read.
    """
    with reading(f"what stage {stage_id} is"):
        stage = ledger.read_spec(stage_id)
    epoch = chosen_epoch(ledger, stage_id, epoch)
    if shrink:
        check_filters(stage)
    task = task_for(stage, data, trust)
    network, mask = masked_network(ledger, stage, epoch, task)
    facts = {
        "stage_id": stage_id,
        "epoch": epoch,
        "torch_version": torch.__version__,
        "input": image_facts(task) if isinstance(task, ImageClassification) else input_facts(task),
        "output": output_facts(network, task),
        **accuracies(ledger, stage_id, epoch),
        **sizes(task, stage, network, mask),
    }
    if shrink:
        shrink_(network, cut_of(network, mask, task.example()))
    computed = multiply_adds(network, task.example())
    facts |= {
        "shrunk": shrink or any(step.prune.shrink for step in stage.chain if step.prune),
        "params_exported": sum(parameter.numel() for parameter in network.parameters()),
        "flops_exported": sum(computed.values()),
        "spec": stage_to_dict(stage),
        "row": None,
    }
    if epoch in ledger.row_epochs(stage_id):
        with reading(f"the row of stage {stage_id}"):
            facts["row"] = asdict(ledger.read_row(stage_id, epoch))
    return Exported(network=network, facts=facts, stage=stage, task=task)


def task_for(stage: Stage, data: str | None, trust: bool) -> Task:
    """Raises UserError for a stage with code of its own, unless it is to be trusted: the storage
    may be another's, and to import what it names is to run it."""
    protocol = stage.protocol
    own = [n for n in (protocol.network, protocol.dataset, protocol.task) if is_import_path(n)]
    if own and not trust:
        raise UserError(
            f"stage {stage.stage_id} is made by code outside this package: {', '.join(own)}; if "
            "it is yours, or you trust who wrote the storage, give --trust, which imports it"
        )
    return planned_task(protocol, data)


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


def output_facts(network: nn.Module, task: Task) -> dict[str, Any]:
    with torch.no_grad():
        output = network(*task.example())
    if not isinstance(output, Tensor):
        return {"name": OUTPUT, "type": type(output).__name__}
    dtype = str(output.dtype).removeprefix("torch.")
    return {"name": OUTPUT, "shape": ["N", *output.shape[1:]], "dtype": dtype}


def input_facts(task: Task) -> dict[str, Any]:
    """Shape and type; what else there is to know of own data, its user knows."""
    example = task.example()[0]
    dtype = str(example.dtype).removeprefix("torch.")
    return {"name": INPUT, "shape": ["N", *example.shape[1:]], "dtype": dtype}


def image_facts(task: ImageClassification) -> dict[str, Any]:
    """What to do to an image before the network sees it, and what its classes are called.

    Mean, deviation and names are None, with a warning, where the data set can't be had.
    """
    mean = std = classes = None
    protocol, info = task.protocol, task.info
    try:
        classes = list(task.classes)
        if protocol.standardisation != "image":
            mean, std = task.pixel_moments()
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
        "flops_dense": sum(multiply_adds(dense, example).values()),
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


# Formats


def as_safetensors(exported: Exported) -> bytes:
    """Weights and BatchNorm's statistics by name. Nothing in it is executed when it is read."""
    tensors = {name: tensor.contiguous() for name, tensor in own_tensors(exported.network).items()}
    return save(tensors, metadata={FACTS: json.dumps(exported.facts)})


def own_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Its state, what two modules share under the first of its names only."""
    names = {name for name, _ in (*network.named_parameters(), *network.named_buffers())}
    return {name: tensor for name, tensor in network.state_dict().items() if name in names}


def as_pt2(exported: Exported) -> bytes:
    """A program of ``torch.export``, for batches of any size."""
    buffer = io.BytesIO()
    extra = {f"{FACTS}.json": json.dumps(exported.facts)}
    torch.export.save(exported_program(exported), buffer, extra_files=extra)
    return buffer.getvalue()


def as_onnx(exported: Exported) -> bytes:
    """By PyTorch's own exporter. Raises UserError without the packages that it needs."""
    program = torch.onnx.export(
        exported_program(exported), input_names=[INPUT], output_names=[OUTPUT], verbose=False
    )
    assert program is not None
    program.model.metadata_props[FACTS] = json.dumps(exported.facts)
    data: bytes = program.model_proto.SerializeToString()
    return data


def exported_program(exported: Exported) -> torch.export.ExportedProgram:
    number = torch.export.Dim("N")
    examples = tuple(torch.cat([given, given]) for given in exported.task.example())
    shapes = tuple({0: number} for _ in examples)
    return torch.export.export(exported.network, examples, dynamic_shapes=shapes)


WRITERS: dict[str, Callable[[Exported], bytes]] = {
    "safetensors": as_safetensors,
    "pt2": as_pt2,
    "onnx": as_onnx,
}
Format = Literal["safetensors", "pt2", "onnx", "json"]


def check_installed(format: str) -> None:
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if format == "onnx" and missing:
        raise UserError(
            f"--format onnx needs {' and '.join(missing)}: pip install {' '.join(missing)}; "
            "safetensors and pt2 need nothing more"
        )


def check_format(task: Task, format: str) -> None:
    if format not in task.formats:
        raise UserError(
            f"--format {format} for task {task.name}; allowed: {', '.join(task.formats)}"
        )


def read_safetensors(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network that was exported to the file, in evaluation mode, and what is known of it.

    Raises UserError if the file isn't one of ours.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            facts_text = (opened.metadata() or {}).get(FACTS)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is no whole safetensors file: {error}") from error
    if facts_text is None:
        raise UserError(f"{path} was not written by rewind_ray.export: it doesn't say so")
    facts = json.loads(facts_text)
    protocol = facts["spec"]["protocol"]
    own = [name for name in (protocol["network"], protocol["task"]) if is_import_path(name)]
    if own:
        raise UserError(
            f"{path} holds weights of {own[0]}, which is no network of this package; "
            "build it yourself and give them to its load_state_dict, or export it as .pt2"
        )
    network = task_class(protocol["task"]).rebuilt(facts)
    shrink_(network, cut_to_shapes(own_tensors(network), tensors))
    wanted = own_tensors(network).keys()
    if tensors.keys() != wanted:
        raise UserError(
            f"{path} holds other tensors than a {protocol['network']} has: "
            f"{', '.join(sorted(tensors.keys() ^ wanted)[:NEAR_MATCHES])}"
        )
    network.load_state_dict(tensors, strict=False)  # names of what is shared aren't in the file
    return network.eval(), facts


def cut_to_shapes(large: Mapping[str, Tensor], small: Mapping[str, Tensor]) -> Cut:
    """One that leaves the small tensors' shapes, of whichever positions."""
    shapes = {
        name: (tuple(tensor.shape), tuple(small[name].shape))
        for name, tensor in large.items()
        if name in small and tensor.shape != small[name].shape
    }
    return Cut(
        sizes={name: before for name, (before, _) in shapes.items()},
        kept={
            name: tuple(
                None if a == b else tuple(range(b)) for b, a in zip(after, before, strict=True)
            )
            for name, (before, after) in shapes.items()
        },
    )


# The command


def export_command(
    stage: Annotated[Positional[str], arg(metavar="STAGE", help="Id of a stage, or its start.")],
    *,
    storage: Annotated[str, arg(metavar="URI", help="Storage root of the sweeps.")] = "results",
    epoch: Annotated[
        int | None, arg(metavar="N", help="That of its longest finished row if left out.")
    ] = None,
    format: Annotated[
        Format,
        arg(
            metavar="safetensors|pt2|onnx|json",
            help="Weights; a program of torch.export; ONNX; or only what is known.",
        ),
    ] = "safetensors",
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
    check_installed(format)
    if out and Path(out).suffix != f".{format}":
        raise UserError(f"--out is {out!r}; with --format {format} its name ends in .{format}")
    on = chosen_device(device)
    ledger = Ledger(storage)
    exported = load_export(ledger, find_stage(ledger, stage), epoch, shrink, data, trust)
    check_format(exported.task, format)
    facts = dict(exported.facts)
    target = Path(out or default_name(facts, format)).absolute()
    if format != "json":
        facts |= write_network(exported, target, format)
    if latency:
        facts["latency"] = measured_latency(exported, on)
    text = json.dumps(facts, indent=1)
    if format == "json" and out is None:
        print(text, flush=True)
    else:
        write(target if format == "json" else Path(f"{target}.json"), text.encode())


def write_network(exported: Exported, target: Path, format: str) -> dict[str, Any]:
    """The file, and what the task puts beside it. Their names and digests."""
    content = WRITERS[format](exported)
    write(target, content)
    facts: dict[str, Any] = {"file": target.name, "sha256": hashlib.sha256(content).hexdigest()}
    for ending, beside in exported.task.attachments().items():
        path = Path(f"{target}.{ending}")
        write(path, beside)
        facts[ending] = {"file": path.name, "sha256": hashlib.sha256(beside).hexdigest()}
    return facts


def write_export(exported: Exported, target: Path, format: str) -> dict[str, Any]:
    """The file, and beside it as FILE.json what is known of the network; which is returned."""
    facts = exported.facts | write_network(exported, target, format)
    write(Path(f"{target}.json"), json.dumps(facts, indent=1).encode())
    return facts


def default_name(facts: dict[str, Any], format: str) -> str:
    shrunk = "-shrunk" if facts["shrunk"] else ""
    return f"{facts['stage_id']}-{facts['epoch']:04d}{shrunk}.{format}"


def write(path: Path, content: bytes) -> None:
    write_atomically(fs.LocalFileSystem(), str(path), content)
    log.info("wrote %s (%s bytes)", path, f"{len(content):,}")


def chosen_device(name: str) -> torch.device:
    """Raises UserError for one that isn't here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"--device {name}: {reason}; allowed: auto, cpu, cuda") from error
    return device


def main(arguments: Sequence[str]) -> int:
    """Its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    return exit_code(
        lambda: run_cli(
            partial(tyro.cli, export_command),
            "python -m rewind_ray.export",
            __doc__,
            arguments or ["--help"],
        )
    )

"""The formats of an exported network, as bytes."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from rewind_ray.errors import UserError
from rewind_ray.importing import is_import_path
from rewind_ray.pruning import Mask
from rewind_ray.pruning.cut import Cut
from rewind_ray.pruning.shrink import shrink_
from rewind_ray.spec import Stage
from rewind_ray.tasks import Task, task_class
from rewind_ray.text import first_line

FACTS = "rewind_ray"
"""Name, in every file but a state_dict, of the json with what is known of the network."""
INPUT, OUTPUT = "images", "logits"
NAMES_SHOWN = 5
ONNX_PACKAGES = ("onnx", "onnxscript")
SUFFIXES = {"state_dict": "pt"}
"""Format -> ending of its files, where that isn't its name."""
DTYPES = {
    "fp32": ("safetensors", "pt2", "onnx", "state_dict"),
    "fp16": ("safetensors", "pt2", "onnx", "state_dict"),
    "int8": ("onnx",),
}
"""Type of the numbers -> formats that hold them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A trained network, ready to be written."""

    network: nn.Module
    """On the CPU, in evaluation mode, its pruned weights zero or cut out."""
    mask: Mask
    """Of the same shapes: True where a weight stayed; empty of a dense network."""
    facts: dict[str, Any]
    """What is known of it, as plain data."""
    stage: Stage
    task: Task
    """Perhaps without its data."""
    example: tuple[Tensor, ...]
    """Inputs of one forward pass on one example."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How a network is written."""

    format: str
    """Key of WRITERS, or "json"."""
    dtype: str = "fp32"
    """Key of DTYPES."""
    masks: bool = False
    """A state_dict has NAME_orig and NAME_mask instead of NAME, as torch.nn.utils.prune does."""

    @property
    def suffix(self) -> str:
        return SUFFIXES.get(self.format, self.format)


def form_of(path: str, dtype: str = "fp32", masks: bool = False) -> Form:
    """By the ending of a file's name. Raises UserError for one that no format has."""
    endings = {SUFFIXES.get(format, format): format for format in WRITERS}
    ending = Path(path).suffix.removeprefix(".")
    if ending not in endings:
        raise UserError(f"{path!r} has no known ending; allowed: .{', .'.join(endings)}")
    form = Form(format=endings[ending], dtype=dtype, masks=masks)
    check_form(form)
    return form


def check_form(form: Form) -> None:
    """Raises UserError for a type that the format doesn't hold, or packages that are missing."""
    if form.dtype not in DTYPES:
        raise UserError(f"dtype {form.dtype!r} is unknown; allowed: {', '.join(DTYPES)}")
    if form.format not in DTYPES[form.dtype] and form != Form(format="json"):
        raise UserError(
            f"--dtype {form.dtype} with --format {form.format}; allowed with it: --format "
            f"{', '.join(DTYPES[form.dtype])}"
        )
    if form.masks and form.format != "state_dict":
        raise UserError(
            f"--masks with --format {form.format}; only --format state_dict has masks, as "
            "torch.nn.utils.prune reads them"
        )
    needed = [*(ONNX_PACKAGES if form.format == "onnx" else ())]
    needed += ["onnxruntime"] if form.dtype == "int8" else []
    if missing := [name for name in needed if find_spec(name) is None]:
        what = f"--format {form.format}" if form.dtype != "int8" else "--dtype int8"
        raise UserError(
            f"{what} needs {' and '.join(missing)}: pip install {' '.join(missing)}; "
            "safetensors, pt2 and state_dict need nothing more"
        )


def check_task(task: Task, form: Form) -> None:
    """Raises UserError for a format that the task's networks can't be written in."""
    if form.format not in task.formats:
        raise UserError(
            f"--format {form.format} for task {task.name}; allowed: {', '.join(task.formats)}"
        )


# Writing


def as_safetensors(exported: Exported, form: Form) -> bytes:
    """Weights and BatchNorm's statistics by name. Nothing in it is executed when it is read."""
    tensors = {n: t.contiguous() for n, t in stored_tensors(exported, form).items()}
    return save(tensors, metadata={FACTS: json.dumps(in_file(exported, form))})


def as_state_dict(exported: Exported, form: Form) -> bytes:
    """By ``torch.save``, for ``torch.load(path, weights_only=True)``: tensors and nothing else."""
    tensors = stored_tensors(exported, form)
    if form.masks:
        masked = {name: kept.cpu() for name, kept in exported.mask.items()}
        for name, kept in masked.items():
            weight = tensors.pop(name)
            tensors |= {f"{name}_orig": weight, f"{name}_mask": kept.to(weight.dtype)}
    buffer = io.BytesIO()
    torch.save({name: tensor.clone() for name, tensor in tensors.items()}, buffer)
    return buffer.getvalue()


def as_pt2(exported: Exported, form: Form) -> bytes:
    """A program of ``torch.export``, for batches of any size."""
    buffer = io.BytesIO()
    extra = {f"{FACTS}.json": json.dumps(in_file(exported, form))}
    torch.export.save(exported_program(exported, form), buffer, extra_files=extra)
    return buffer.getvalue()


def as_onnx(exported: Exported, form: Form) -> bytes:
    """By PyTorch's own exporter. int8 is made of it by ``quantise``."""
    program = torch.onnx.export(
        exported_program(exported, form), input_names=[INPUT], output_names=[OUTPUT], verbose=False
    )
    assert program is not None
    program.model.metadata_props[FACTS] = json.dumps(in_file(exported, form))
    data: bytes = program.model_proto.SerializeToString()
    return data


WRITERS: dict[str, Callable[[Exported, Form], bytes]] = {
    "safetensors": as_safetensors,
    "pt2": as_pt2,
    "onnx": as_onnx,
    "state_dict": as_state_dict,
}


def in_file(exported: Exported, form: Form) -> dict[str, Any]:
    """What the file says of itself."""
    return exported.facts | {"format": form.format, "dtype": form.dtype}


def stored_tensors(exported: Exported, form: Form) -> dict[str, Tensor]:
    tensors = own_tensors(exported.network)
    return halved(tensors) if form.dtype == "fp16" else tensors


def own_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Its state, what two modules share under the first of its names only."""
    names = {name for name, _ in (*network.named_parameters(), *network.named_buffers())}
    return {name: tensor for name, tensor in network.state_dict().items() if name in names}


def exported_program(exported: Exported, form: Form) -> torch.export.ExportedProgram:
    """For any number of examples. Raises UserError for a network that branches on values."""
    number = torch.export.Dim("N")
    examples = tuple(torch.cat([given, given]) for given in exported.example)
    shapes = tuple({0: number} for _ in examples)
    try:
        if form.dtype == "fp16":  # whose forward has all inputs as one argument
            return torch.export.export(InHalf(exported.network), examples, dynamic_shapes=(shapes,))
        return torch.export.export(exported.network, examples, dynamic_shapes=shapes)
    except Exception as error:  # of many types, most of them private
        if not type(error).__module__.startswith("torch."):
            raise
        raise UserError(
            f"PyTorch can't make one program of {type(exported.network).__name__}'s forward pass "
            f"({first_line(error)[:160]}): a branch on values, or a size that is "
            "fixed to one number of examples; --format safetensors or state_dict keeps the weights"
        ) from error


# fp16


class InHalf(nn.Module):
    """A copy with weights and arithmetic in fp16; inputs and outputs stay fp32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        halved(own_tensors(network))
        self.network = copy.deepcopy(network).half().eval()

    def forward(self, *inputs: Tensor) -> Any:
        """As the network."""
        found = self.network(*(one.half() if one.is_floating_point() else one for one in inputs))
        return found.float() if isinstance(found, Tensor) and found.is_floating_point() else found


def halved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In fp16, integers as they are. Raises UserError, naming it, for a number too large."""
    found = {}
    for name, tensor in tensors.items():
        found[name] = tensor.half() if tensor.is_floating_point() else tensor
        if not torch.equal(found[name].isfinite(), tensor.isfinite()):
            raise UserError(
                f"--dtype fp16: {name} has values up to {float(tensor.abs().max()):g}, and fp16 "
                f"ends at {torch.finfo(torch.float16).max:g}; leave --dtype out"
            )
    return found


# Reading


def read_safetensors(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network that was exported to the file, in evaluation mode, and what is known of it.

    Its weights are fp32, also those of a file in fp16. Raises UserError if the file isn't one of
    ours.
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
            f"{', '.join(sorted(tensors.keys() ^ wanted)[:NAMES_SHOWN])}"
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

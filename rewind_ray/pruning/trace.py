"""How channels run through a network: torch-pruning's dependency graph, read into plain data.

The graph's own objects have no types, and none of them leaves this module.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rewind_ray.errors import UserError
from rewind_ray.pruning.channels import Channels, ChannelTensor, Coupled
from rewind_ray.pruning.example import fitted
from rewind_ray.text import first_line

ZERO_STAYS_ZERO = {
    *("Relu", "LeakyRelu", "Elu", "Gelu", "Silu", "Hardswish", "Mish", "Tanh"),
    *("Add", "Sub", "Mul", "MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D", "Mean"),
    *("T", "Clone", "NativeDropout"),
}
"""PyTorch's operations that keep channels apart, and make zero of zeros."""


def channels_of(network: nn.Module, example: tuple[Tensor, ...]) -> Channels:
    """The channels of a network that could be cut.

    network: of any weights; only its structure counts. example: inputs of one forward pass on one
    example; only their shapes and types count.
    """
    trace = _trace(network, example)
    coupled = []
    for group in trace.groups():
        if not all(trace.is_cuttable(item.dep) for item in group):
            continue
        writers, tensors = [], []
        for item in group:
            channels, positions = torch.tensor(item.root_idxs), torch.tensor(item.idxs)
            if trace.writes(item.dep):
                writers.append((trace.names[item.dep.target.module], channels, positions))
            tensors += [
                ChannelTensor(name, dim, shape, channels, positions)
                for name, dim, shape in trace.tensors(item.dep)
            ]
        coupled.append(Coupled(len(group[0].idxs), tuple(writers), tuple(tensors)))
    names = frozenset(name for name, _ in network.named_parameters())
    return Channels(tuple(coupled), names)


def followers(network: nn.Module, example: tuple[Tensor, ...]) -> dict[str, list[str]]:
    """Name of each convolution's weight -> the BatchNorms that its channels run into.

    On the way there may be sums, activations and other BatchNorms, no other convolution. A
    BatchNorm after a sum (a pre-activated ResNet's) follows every convolution that is summed, and
    loses a channel when all of them have lost it. One that also follows something else than
    convolutions is left out. network, example: as of ``channels_of``.

    The names hold for the shrunk network too.
    """
    return _followers(_trace(network, example))


@dataclass(frozen=True, slots=True)
class _Trace:
    """torch-pruning's view of a network; its nodes and dependencies have no types."""

    graph: Any
    names: dict[nn.Module, str]

    def groups(self) -> Iterator[Any]:
        """All that the channels of a convolution run through, coupled ones together; each once."""
        import torch_pruning as tp

        covered: set[nn.Module] = set()
        for module in self.names:
            if (
                isinstance(module, nn.Conv2d)
                and module not in covered
                and module in self.graph.module2node
            ):
                channels = list(range(module.out_channels))
                group = self.graph.get_pruning_group(module, tp.prune_conv_out_channels, channels)
                covered.update(item.dep.target.module for item in group if self.writes(item.dep))
                yield group

    def writes(self, dep: Any) -> bool:
        """Whether the channels come out of a convolution or BatchNorm here."""
        return isinstance(
            dep.target.module, (nn.Conv2d, nn.BatchNorm2d)
        ) and self.graph.is_out_channel_pruning_fn(dep.handler)

    def is_cuttable(self, dep: Any) -> bool:
        """Whether it is known how the channels run through it."""
        module = dep.target.module
        if isinstance(module, nn.Conv2d):
            return module.groups == 1
        if isinstance(module, nn.Linear):  # its outputs have a bias, and no filters
            return not self.graph.is_out_channel_pruning_fn(dep.handler)
        if isinstance(module, nn.BatchNorm2d):
            return True
        return is_of_type(dep.target, "RESHAPE") or _zero_stays_zero(dep.target)

    def tensors(self, dep: Any) -> list[tuple[str, int, tuple[int, ...]]]:
        """Name, dimension of the channels, and shape of what they run through."""
        module = dep.target.module
        if module not in self.names:
            return []
        own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        reads = isinstance(module, (nn.Conv2d, nn.Linear)) and not self.writes(dep)
        return [
            (f"{self.names[module]}.{name}", int(reads), tuple(tensor.shape))
            for name, tensor in own.items()
            if tensor.dim() > int(reads)
        ]


def _trace(network: nn.Module, example: tuple[Tensor, ...]) -> _Trace:
    """Of a copy without data: nothing is computed.

    Raises UserError where the forward pass asks for values, as ``if x.mean() > 0`` does.
    """
    import torch_pruning as tp

    copied = copy.deepcopy(network).to("meta").requires_grad_(True)
    try:
        with torch.enable_grad():
            graph = tp.DependencyGraph().build_dependency(
                copied,
                fitted(example, copied),
                forward_fn=lambda traced, inputs: traced(*inputs),
                verbose=False,
            )
    except RuntimeError as error:
        raise UserError(
            f"where the channels of {type(network).__name__} run can't be followed: its forward "
            f"pass fails on tensors without values ({first_line(error)[:120]}); "
            "write it without branches on values, or prune single weights: structure unstructured"
        ) from error
    return _Trace(graph, {module: name for name, module in copied.named_modules()})


def is_of_type(node: Any, kind: str) -> bool:
    """Whether torch-pruning takes a node for that kind of operation."""
    from torch_pruning.ops import OPTYPE

    return bool(node.type == OPTYPE[kind])


def _followers(trace: _Trace) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {
        f"{name}.weight": []
        for module, name in trace.names.items()
        if isinstance(module, nn.Conv2d)
    }
    for module, name in trace.names.items():
        if isinstance(module, nn.BatchNorm2d) and module in trace.graph.module2node:
            for convolution in _sources(trace.graph.module2node[module]):
                found[f"{trace.names[convolution]}.weight"].append(name)
    return found


def _sources(norm: Any) -> list[nn.Module]:
    """Convolutions whose channels run into the node; none if not all of it comes from them."""
    sources: dict[nn.Module, None] = {}
    if not norm.module.affine:
        return []
    seen, to_visit = set(), [norm]
    while to_visit:
        node = to_visit.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node.module, nn.Conv2d):
            sources[node.module] = None
        elif node.inputs and (isinstance(node.module, nn.BatchNorm2d) or _zero_stays_zero(node)):
            to_visit += node.inputs
        else:
            return []
    return list(sources)


def _zero_stays_zero(node: Any) -> bool:
    if not is_of_type(node, "ELEMENTWISE"):
        return False
    operation = node.grad_fn.name().rstrip("0123456789").removesuffix("Backward")
    if operation == "ConstantPadNd":  # of the last two dimensions, height and width; with zeros
        return not any(getattr(node.grad_fn, "_saved_pad", (1,) * 5)[4:])
    if operation in ("Add", "Sub") and any(f is None for f, _ in node.grad_fn.next_functions):
        return False  # of a constant, or of the input
    if operation == "Mean":
        dims = getattr(node.grad_fn, "_saved_dim", (1,))
        rank = len(getattr(node.grad_fn, "_saved_self_sym_sizes", ()))
        if any(dim in (1, 1 - rank, 1 - rank + 2**64) for dim in dims):
            return False  # over the channels
    return operation in ZERO_STAYS_ZERO

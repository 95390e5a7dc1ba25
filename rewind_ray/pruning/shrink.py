"""Physical shrinking: the channels that filter pruning killed are cut out of the network for good.

A pruned filter takes its BatchNorm channel with it (``apply_filter_mask_``): else that would still
put out a constant. Then a channel that nothing alive writes is zero everywhere, and the network
without it computes the same. Which tensors a channel runs through is found by torch-pruning's
dependency graph; what is removed is plain data, a ``Cut``, that maps weights, buffers, momentum
and masks of the dense network by name.

What can't be cut stays: a filter that is pruned while another layer still writes its channel (the
residual streams), and one channel of a layer that has lost all of them. Both are zero, and stay
zero under the mask that was cut along with the weights; a small network is trained under it as
the dense one was under its own.

A masked network counts what the small one has: weights that read channels which can be cut are
pruned along with them (``Channels.closed``). They multiply zeros, so this changes no function.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from rewind_ray.pruning.masks import Mask, apply_mask_, unpruned

ZERO_STAYS_ZERO = {
    *("Relu", "LeakyRelu", "Elu", "Gelu", "Silu", "Hardswish", "Mish", "Tanh"),
    *("Add", "Sub", "Mul", "MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D", "Mean"),
    *("T", "Clone", "NativeDropout"),
}
"""PyTorch's operations that keep channels apart, and make zero of zeros."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What is left of the tensors of a network. Tensors it doesn't name stay whole."""

    sizes: dict[str, tuple[int, ...]]
    """Name of a parameter or buffer -> its shape before the cut."""
    kept: dict[str, tuple[tuple[int, ...] | None, ...]]
    """Its name -> for every dimension the positions that stay, rising; None: all of them."""

    def __post_init__(self) -> None:
        if self.sizes.keys() != self.kept.keys():
            raise ValueError(
                f"a cut with sizes of {sorted(self.sizes)} and positions of {sorted(self.kept)}; "
                "both must name the same tensors"
            )
        for name, shape in self.sizes.items():
            if len(self.kept[name]) != len(shape):
                raise ValueError(f"{name} has shape {shape}, but {len(self.kept[name])} dimensions")
            for size, kept in zip(shape, self.kept[name], strict=True):
                if kept is not None and not (
                    kept and kept[0] >= 0 and kept[-1] < size and _rising(kept)
                ):
                    raise ValueError(
                        f"{name} keeps {kept} of {size}; positions must rise from 0 to {size - 1}, "
                        "and one must stay"
                    )

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a named tensor after the cut."""
        return tuple(
            size if kept is None else len(kept)
            for size, kept in zip(self.sizes[name], self.kept[name], strict=True)
        )


# What a pruned filter takes with it


def followers(network: nn.Module, example: tuple[Tensor, ...]) -> dict[str, list[str]]:
    """Name of each convolution's weight -> the BatchNorms that its channels run into.

    On the way there may be sums, activations and other BatchNorms, no other convolution. A
    BatchNorm after a sum (a pre-activated ResNet's) follows every convolution that is summed, and
    loses a channel when all of them have lost it. One that also follows something else than
    convolutions is left out. example: inputs of one forward pass.

    The names hold for the shrunk network too.
    """
    return _followers(_trace(network, example))


def follower_mask(network: nn.Module, mask: Mask, followers: Mapping[str, list[str]]) -> Mask:
    """Masks of BatchNorms' scales and shifts, and of convolutions' biases: pruned with filters.

    To be applied together with ``mask`` after every update, ``{**mask, **follower_mask(...)}``.
    These entries are no prunable weights: density doesn't count them.
    """
    parameters = dict(network.named_parameters())
    return {
        name: ~dead
        for module, dead in _dead_channels(mask, followers).items()
        for name in (f"{module}.weight", f"{module}.bias")
        if name in parameters and name not in mask
    }


def apply_filter_mask_(network: nn.Module, mask: Mask, followers: Mapping[str, list[str]]) -> None:
    """Set to zero what entirely pruned filters take with them; the filters: ``apply_mask_``."""
    parameters = dict(network.named_parameters())
    apply_mask_(parameters, follower_mask(network, mask, followers))


def _dead_channels(mask: Mask, followers: Mapping[str, list[str]]) -> dict[str, Tensor]:
    """Name of a convolution or BatchNorm -> which of its channels are pruned: (C,) bool.

    A BatchNorm's are if all convolutions before it have lost them.
    """
    dead = {
        name.removesuffix(".weight"): ~mask[name].flatten(1).any(dim=1)
        for name in followers
        if name in mask
    }
    before: dict[str, list[str]] = {}
    for name, norms in followers.items():
        for norm in norms:
            before.setdefault(norm, []).append(name.removesuffix(".weight"))
    for norm, convolutions in before.items():
        if all(convolution in dead for convolution in convolutions):
            dead[norm] = torch.stack([dead[c] for c in convolutions]).all(dim=0)
    return dead


# The cut


def cut_of(network: nn.Module, mask: Mask, example: tuple[Tensor, ...]) -> Cut:
    """All channels that can be removed for good; the rest computes what the masked network did.

    mask: of kernels, BatchNorms and biases, ``{**mask, **follower_mask(...)}``: a filter whose
    BatchNorm or bias isn't pruned along puts out a constant, and stays.

    A channel goes if all that writes it is pruned, so that of a residual stream only if all its
    blocks have lost it. A layer keeps one channel (a zero) if it would lose all: the first that
    anything still reads. Channels that run through something unknown stay: grouped convolutions,
    concatenations, other normalisations, operations that make something of zeros.

    network: of any weights; only its structure counts. example: inputs of one forward pass.
    """
    return channels_of(network, example).cut(mask)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A parameter or buffer that coupled channels run through."""

    name: str
    dim: int
    """Where its channels are: 0, or 1 of a kernel that reads them."""
    shape: tuple[int, ...]
    channels: Tensor
    """(n,) int64: of each of these positions, the channel that is there."""
    positions: Tensor
    """(n,) int64, along ``dim``."""


@dataclass(frozen=True, slots=True)
class _Coupled:
    """Channels that are cut together, such as those of a residual stream."""

    size: int
    writers: tuple[tuple[str, Tensor, Tensor], ...]
    """Convolutions and BatchNorms; channels and positions as of ``_Tensor``."""
    tensors: tuple[_Tensor, ...]


@dataclass(frozen=True, slots=True)
class Channels:
    """Which channels of a network could be cut, and from what: its structure as plain data."""

    coupled: tuple[_Coupled, ...]
    parameters: frozenset[str]
    """Names."""

    def cut(self, mask: Mask) -> Cut:
        """See ``cut_of``."""
        sizes: dict[str, tuple[int, ...]] = {}
        kept: dict[str, dict[int, Tensor]] = {}
        for tensor, left in self._left(mask):
            sizes[tensor.name] = tensor.shape
            of_dims = kept.setdefault(tensor.name, {})
            of_dims[tensor.dim] = left & of_dims.get(tensor.dim, left)
        return Cut(
            sizes=sizes,
            kept={
                name: tuple(
                    tuple(of_dims[dim].nonzero().flatten().tolist()) if dim in of_dims else None
                    for dim in range(len(sizes[name]))
                )
                for name, of_dims in kept.items()
            },
        )

    def closed(self, mask: Mask, companions: Callable[[Mask], Mask]) -> Mask:
        """The mask without the weights that read channels which can be cut.

        These multiply zeros. Without them a masked network has the weights that the shrunk one
        has, and no more. A filter that has no other weights goes with them, and so on.

        companions: what a mask of kernels takes with it, see ``follower_mask``.
        """
        while True:
            closed = dict(mask)
            for tensor, left in self._left({**mask, **companions(mask)}):
                if tensor.name in closed:
                    kept = closed[tensor.name]
                    shape = [-1 if dim == tensor.dim else 1 for dim in range(kept.dim())]
                    closed[tensor.name] = kept & left.to(kept.device).view(shape)
            if unpruned(closed) == unpruned(mask):
                return closed
            mask = closed

    def _left(self, mask: Mask) -> Iterator[tuple[_Tensor, Tensor]]:
        """Tensors that a cut takes from, and which positions along their ``dim`` it leaves."""
        dead: dict[str, Tensor | None] = {}
        for coupled in self.coupled:
            gone = torch.ones(coupled.size, dtype=torch.bool)
            for module, channels, positions in coupled.writers:
                if module not in dead:
                    dead[module] = self._dead(module, mask)
                lost = dead[module]
                alive = channels if lost is None else channels[~lost[positions]]
                gone[alive] = False
            if gone.all():
                gone[_first_read(coupled, mask)] = False
            if not gone.any():
                continue
            for tensor in coupled.tensors:
                left = torch.ones(tensor.shape[tensor.dim], dtype=torch.bool)
                left[tensor.positions] = ~gone[tensor.channels]
                if not left.all():
                    yield tensor, left

    def _dead(self, module: str, mask: Mask) -> Tensor | None:
        """Channels of which all that the module has is pruned, (C,) bool; None: none."""
        own = [f"{module}.{name}" for name in ("weight", "bias")]
        own = [name for name in own if name in self.parameters]
        if not own or not all(name in mask for name in own):
            return None
        kept = [mask[name].view(len(mask[name]), -1).any(dim=1).cpu() for name in own]
        return ~torch.stack(kept).any(dim=0)


def _first_read(coupled: _Coupled, mask: Mask) -> int:
    """The first channel that a masked kernel still reads; 0 if none does."""
    read = torch.zeros(coupled.size, dtype=torch.bool)
    for tensor in coupled.tensors:
        if tensor.dim == 1 and tensor.name in mask:
            used = mask[tensor.name].movedim(1, 0).flatten(1).any(1).cpu()
            read[tensor.channels[used[tensor.positions]]] = True
    return int(read.to(torch.uint8).argmax())


def channels_of(network: nn.Module, example: tuple[Tensor, ...]) -> Channels:
    """network: of any weights; only its structure counts. example: inputs of one forward pass."""
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
                _Tensor(name, dim, shape, channels, positions)
                for name, dim, shape in trace.tensors(item.dep)
            ]
        coupled.append(_Coupled(len(group[0].idxs), tuple(writers), tuple(tensors)))
    names = frozenset(name for name, _ in network.named_parameters())
    return Channels(tuple(coupled), names)


def kept_kernels(network: nn.Module, mask: Mask, example: tuple[Tensor, ...]) -> Mask:
    """``mask``, and the kernels that can't be pruned but read channels that can be cut.

    mask: as of ``cut_of``. What ``flops.remaining_multiply_adds`` counts by.
    """
    kept = dict(mask)
    for tensor, left in channels_of(network, example)._left(mask):
        if tensor.name not in mask and tensor.name.endswith(".weight") and len(tensor.shape) > 1:
            shape = [-1 if dim == tensor.dim else 1 for dim in range(len(tensor.shape))]
            whole = kept.get(tensor.name, torch.ones(tensor.shape, dtype=torch.bool))
            kept[tensor.name] = whole & left.view(shape)
    return kept


def compose(first: Cut, second: Cut) -> Cut:
    """Both as one; the second is of the network that the first left.

    Raises ValueError if it isn't.
    """
    sizes, kept = dict(first.sizes), dict(first.kept)
    for name, then in second.kept.items():
        if name not in kept:
            sizes[name], kept[name] = second.sizes[name], then
            continue
        if second.sizes[name] != first.shape(name):
            raise ValueError(
                f"these cuts don't follow one another: the first leaves {name} with shape "
                f"{first.shape(name)}, the second is of one with {second.sizes[name]}"
            )
        kept[name] = tuple(
            b if a is None else a if b is None else tuple(a[at] for at in b)
            for a, b in zip(kept[name], then, strict=True)
        )
    return Cut(sizes=sizes, kept=kept)


def cut_tensors(tensors: Mapping[str, Tensor], cut: Cut) -> dict[str, Tensor]:
    """What the cut leaves of weights, buffers, momentum or masks of the dense network.

    Tensors that it doesn't name are passed on as they are. Raises ValueError where a shape isn't
    that before the cut.
    """
    small = dict(tensors)
    for name in cut.kept.keys() & tensors.keys():
        tensor = tensors[name]
        if tuple(tensor.shape) != cut.sizes[name]:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, the cut is of {cut.sizes[name]}"
            )
        # layout decides on the bits of a convolution: the small tensor takes that of the large
        layout = torch.contiguous_format
        if tensor.dim() == 4 and not tensor.is_contiguous():
            layout = torch.channels_last
        for dim, kept in enumerate(cut.kept[name]):
            if kept is not None:
                tensor = tensor.index_select(dim, torch.tensor(kept, device=tensor.device))
        small[name] = tensor.contiguous(memory_format=layout)
    return small


@torch.no_grad()
def shrink_(network: nn.Module, cut: Cut) -> nn.Module:
    """Make the network the small one, its weights those that the cut leaves.

    Its parameters are new ones, so an optimiser must be made after this. Networks that hold the
    number of channels elsewhere than in Conv2d, BatchNorm2d and Linear can't be shrunk. Raises
    ValueError, the network left as it was, if the cut is not of this network.
    """
    own: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    unknown = sorted(cut.kept.keys() - own.keys())
    if unknown:
        raise ValueError(f"the cut is not of this network, which has no {unknown[0]}")
    for name, small in cut_tensors({name: own[name] for name in cut.kept}, cut).items():
        path, _, attribute = name.rpartition(".")
        if isinstance(own[name], nn.Parameter):
            small = nn.Parameter(small, requires_grad=own[name].requires_grad)
        setattr(network.get_submodule(path), attribute, small)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.out_channels = module.weight.shape[0]
            module.in_channels = module.weight.shape[1] * module.groups
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            module.num_features = module.weight.shape[0]
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = module.weight.shape
    return network


def cut_to_json(cut: Cut) -> str:
    return json.dumps({name: [cut.sizes[name], cut.kept[name]] for name in sorted(cut.kept)})


def cut_from_json(text: str) -> Cut:
    """Raises ValueError if the text is no cut."""
    try:
        read = {
            str(name): (
                tuple(int(size) for size in sizes),
                tuple(None if at is None else tuple(int(a) for a in at) for at in kept),
            )
            for name, (sizes, kept) in json.loads(text).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"this is no cut: {error}") from error
    return Cut(
        sizes={name: sizes for name, (sizes, _) in read.items()},
        kept={name: kept for name, (_, kept) in read.items()},
    )


def _rising(positions: tuple[int, ...]) -> bool:
    return all(a < b for a, b in pairwise(positions))


# The dependency graph


@dataclass(frozen=True, slots=True)
class _Trace:
    """torch-pruning's view of a network; its nodes and dependencies have no types."""

    graph: Any
    names: dict[nn.Module, str]

    def groups(self) -> Iterator[Any]:
        """All that the channels of a convolution run through, coupled ones together; each once."""
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
        return dep.target.type == tp.ops.OPTYPE.RESHAPE or _zero_stays_zero(dep.target)

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
    """Of a copy without data: nothing is computed."""
    copied = copy.deepcopy(network).to("meta").requires_grad_(True)
    dtype = next(copied.parameters()).dtype
    inputs = tuple(
        given.to("meta", dtype if given.is_floating_point() else given.dtype) for given in example
    )
    with torch.enable_grad():
        graph = tp.DependencyGraph().build_dependency(copied, inputs, verbose=False)
    return _Trace(graph, {module: name for name, module in copied.named_modules()})


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
    if node.type != tp.ops.OPTYPE.ELEMENTWISE:
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

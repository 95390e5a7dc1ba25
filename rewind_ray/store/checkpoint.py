"""A rewind point as bytes: weights, buffers, optimizer state, mask, as safetensors. No pickle.

Reading one never executes anything from it, and a point that doesn't fit the network is refused.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rewind_ray.pruning import Mask
from rewind_ray.pruning.cut import Cut, compose, cut_from_json, cut_to_json
from rewind_ray.pruning.shrink import cut_tensors

FORMAT = "2"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights and the optimizer's state may be."""
LONGEST_NAME, MOST_DIMENSIONS = 500, 8
"""Of a tensor of any network."""
HEADER_LIMIT = 2**24
"""Bytes of a rewind point's header: some 100,000 tensors."""
PARTS = ("weights", "buffers", "optimizer", "mask")
CUT = "cut/json"
"""A tensor and not metadata: safetensors writes several metadata in any order, and equal points
must be equal bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RewindPoint:
    """The state of a training run at the end of an epoch, on the CPU; names as in the network."""

    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    """BatchNorm's running statistics."""
    optimizer: dict[str, Tensor]
    """The optimizer's state as ``key/parameter``, such as ``momentum_buffer/dense.weight``: tensors
    of the parameter's shape, and scalars such as a count of updates. Empty before the first
    update."""
    mask: Mask
    """Empty for a dense network."""
    cut: Cut | None = None
    """What was physically removed from the dense network; None: nothing."""


def capture(
    network: nn.Module, optimizer: torch.optim.Optimizer, mask: Mask, cut: Cut | None = None
) -> RewindPoint:
    """A copy of the present state."""
    return RewindPoint(
        weights={name: _copy(p) for name, p in network.named_parameters()},
        buffers={name: _copy(b) for name, b in network.named_buffers()},
        optimizer={name: _copy(tensor) for name, tensor in _state_of(network, optimizer)},
        mask={name: _copy(kept) for name, kept in mask.items()},
        cut=cut,
    )


def _state_of(network: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:  # SGD without momentum
                _is_scalar(value, parameter, key, optimizer)
                yield f"{key}/{name}", value


def _is_scalar(
    value: object, parameter: Tensor, key: str, optimizer: torch.optim.Optimizer
) -> bool:
    """Whether it is one number for the whole parameter, not one a weight. Raises TypeError for
    anything else, which could neither be checked when it is read nor cut with the network."""
    if isinstance(value, Tensor) and value.dtype in FLOATS:
        if value.shape == parameter.shape:
            return False
        if value.dim() == 0:
            return True
    what = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:40]
    raise TypeError(
        f"{type(optimizer).__name__} keeps {key} as {what} for a parameter of shape "
        f"{tuple(parameter.shape)}; a rewind point holds floating-point tensors of the "
        "parameter's shape, and scalars"
    )


def state_keys(optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """What it keeps of a parameter from its first update on: key -> whether that is a scalar.

    Found by an update of a twin on a parameter of its own.
    """
    device = optimizer.param_groups[0]["params"][0].device
    probe = nn.Parameter(torch.zeros(3, 2, device=device))
    probe.grad = torch.zeros_like(probe)
    twin = copy.copy(optimizer)
    twin.state = defaultdict(dict)
    twin.param_groups = [{**optimizer.param_groups[0], "params": [probe]}]
    twin.step()
    return {
        key: _is_scalar(value, probe, key, optimizer)
        for key, value in twin.state[probe].items()
        if value is not None
    }


def cut_point(point: RewindPoint, cut: Cut) -> RewindPoint:
    """The state of the smaller network: every tensor without what ``cut`` removes."""
    earlier = point.cut
    return RewindPoint(
        weights=cut_tensors(point.weights, cut),
        buffers=cut_tensors(point.buffers, cut),
        optimizer=_cut_state(point.optimizer, cut),
        mask=cut_tensors(point.mask, cut),
        cut=compose(earlier, cut) if earlier else cut,
    )


def _cut_state(state: Mapping[str, Tensor], cut: Cut) -> dict[str, Tensor]:
    """Each tensor as its parameter; scalars stay."""
    small = dict(state)
    for key in {_key_and_name(full)[0] for full in state}:
        of_key = {name: state[f"{key}/{name}"] for name in cut.kept if f"{key}/{name}" in state}
        whole = {name: tensor for name, tensor in of_key.items() if tensor.dim()}
        small |= {f"{key}/{name}": tensor for name, tensor in cut_tensors(whole, cut).items()}
    return small


@torch.no_grad()
def load_network_(network: nn.Module, point: RewindPoint) -> None:
    """Copy weights and buffers into the network.

    Raises ValueError, the network left as it was, where they or the optimizer's state don't fit.
    """
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    _check_shapes(parameters, point.weights, "weights")
    _check_shapes(buffers, point.buffers, "buffers")
    _check_state(parameters, point.optimizer)
    for own, given in ((parameters, point.weights), (buffers, point.buffers)):
        for name, tensor in own.items():
            tensor.copy_(given[name])


def load_optimizer_(
    network: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]
) -> None:
    """Give the optimizer this state; without any it starts from none.

    Raises ValueError, the optimizer left as it was, where it doesn't fit.
    """
    parameters = dict(network.named_parameters())
    _check_state(parameters, state)
    scalars = state_keys(optimizer) if state else {}
    _check_keys(scalars, parameters, state, type(optimizer).__name__)
    at_weights = any(g.get("capturable") or g.get("fused") for g in optimizer.param_groups)
    optimizer.state.clear()
    for full, tensor in state.items():
        key, name = _key_and_name(full)
        parameter = parameters[name]
        if scalars[key]:  # on the CPU, unless the whole update is on the device
            own = tensor.to(parameter.device if at_weights else "cpu", copy=True)
        else:  # laid out as the parameter, as after an uninterrupted run: else the bits may differ
            own = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        optimizer.state[parameter][key] = own


def _key_and_name(full: str) -> tuple[str, str]:
    key, _, name = full.partition("/")
    return key, name


def _check_state(parameters: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Raises ValueError where there is no such parameter, or it has another shape or type."""
    for full, tensor in state.items():
        key, name = _key_and_name(full)
        parameter = parameters.get(name)
        if parameter is None or tensor.dim():
            own = {} if parameter is None else {name: parameter}
            _check_shapes(own, {name: tensor}, f"optimizer's {key}")


def _check_keys(
    scalars: Mapping[str, bool],
    parameters: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    optimizer: str,
) -> None:
    """Raises ValueError where a parameter has anything but all that the optimizer keeps.

    scalars: see ``state_keys``. One that was never updated, for want of a gradient, has nothing.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for key, name in map(_key_and_name, state):
        found[name].add(key)
    for name, keys in found.items():
        if keys != scalars.keys():
            raise ValueError(
                f"the state doesn't fit {optimizer}: of {name} there is {', '.join(sorted(keys))}, "
                f"and it keeps {', '.join(sorted(scalars)) or 'nothing'}"
            )
        for key in keys:
            wanted = () if scalars[key] else tuple(parameters[name].shape)
            shape = tuple(state[f"{key}/{name}"].shape)
            if shape != wanted:
                raise ValueError(
                    f"the state doesn't fit {optimizer}: {key} of {name} has shape {shape}, and "
                    f"it wants {wanted}"
                )


def blend(one: RewindPoint, other: RewindPoint, alpha: float) -> RewindPoint:
    """alpha * one + (1 - alpha) * other, exactly either at the ends; counters are ``one``'s.

    Unless both have the same state of the optimizer there is none in the blend.
    """
    if alpha in (0, 1):
        return one if alpha else other

    def mixed(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: alpha * tensor + (1 - alpha) * b[name] if tensor.is_floating_point() else tensor
            for name, tensor in a.items()
        }

    counters = {full: tensor for full, tensor in one.optimizer.items() if not tensor.dim()}
    same_state = one.optimizer.keys() == other.optimizer.keys()
    return RewindPoint(
        weights=mixed(one.weights, other.weights),
        buffers=mixed(one.buffers, other.buffers),
        optimizer=mixed(one.optimizer, other.optimizer) | counters if same_state else {},
        mask=one.mask,
        cut=one.cut,
    )


def to_bytes(point: RewindPoint) -> bytes:
    """A mask takes 1 bit a weight. Raises MemoryError if there is no memory for the bytes."""
    tensors = {
        f"{part}/{name}": (pack_bits(tensor) if part == "mask" else tensor).contiguous()
        for part in PARTS
        for name, tensor in getattr(point, part).items()
    }
    if point.cut is not None:
        text = bytearray(cut_to_json(point.cut).encode())
        tensors[CUT] = torch.frombuffer(text, dtype=torch.uint8)
    try:
        return save(tensors, metadata={"format": FORMAT})
    except BaseException as panic:  # of Rust, where Python's memory is at its end
        if type(panic).__name__ != "PanicException":
            raise
        raise MemoryError(f"no memory for a checkpoint: {panic}") from panic


def from_bytes(data: bytes) -> RewindPoint:
    """Raises ValueError if the bytes are no rewind point.

    Weights and optimizer states that aren't finite are none either: no diverged training has one.
    """
    header = int.from_bytes(data[:8], "little")
    if header > HEADER_LIMIT:
        raise ValueError(f"this is no rewind point: a header of {header:,} bytes")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, OverflowError, RuntimeError) as error:
        raise ValueError(f"this is no rewind point: {str(error)[:500]}") from error
    cut = _cut_of(tensors.pop(CUT)) if CUT in tensors else None
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        if part not in parts or len(key) > LONGEST_NAME or tensor.dim() > MOST_DIMENSIONS:
            raise ValueError(f"this is no rewind point: unknown tensor {key[:80]!r}")
        parts[part][name] = tensor
    for name, packed in parts["mask"].items():
        if name not in parts["weights"]:
            raise ValueError(f"this is no rewind point: a mask for {name!r}, which has no weights")
        parts["mask"][name] = unpack_bits(packed, parts["weights"][name].shape)
    for part in ("weights", "optimizer"):
        for name, tensor in parts[part].items():
            if tensor.dtype not in FLOATS or not bool(tensor.isfinite().all()):
                raise ValueError(f"this is no rewind point: {part} of {name!r} aren't finite")
    for full, tensor in parts["optimizer"].items():
        weights = parts["weights"].get(_key_and_name(full)[1])
        if weights is None:
            raise ValueError(f"this is no rewind point: a state {full!r} without weights")
        if weights.dim() and not tensor.dim() and tensor < 0:
            raise ValueError(f"this is no rewind point: a counter {full!r} below 0")
    for name, buffer in parts["buffers"].items():
        if not bool(buffer.isfinite().all()):
            raise ValueError(f"this is no rewind point: buffer {name!r} isn't finite")
        if name.endswith("running_var") and bool((buffer < 0).any()):
            raise ValueError(f"this is no rewind point: a variance in {name!r} is below 0")
    return RewindPoint(**parts, cut=cut)


def check_mask(point: RewindPoint, prunable: Collection[str], pruned: bool) -> None:
    """Raises ValueError where a pruned stage's mask is missing, where a dense one has any, where
    it isn't that of the prunable weights, or where a pruned weight isn't zero."""
    expected = set(prunable) if pruned else set()
    if point.mask.keys() != expected:
        raise ValueError(
            f"this is no rewind point of the stage: a mask of {len(point.mask)} tensors, and "
            f"{len(expected)} are pruned"
        )
    for name, kept in point.mask.items():
        if bool(point.weights[name][~kept].any()):
            raise ValueError(f"this is no rewind point: pruned weights of {name!r} aren't zero")


def _cut_of(text: Tensor) -> Cut:
    if text.dtype != torch.uint8 or text.dim() != 1:
        raise ValueError(f"this is no rewind point: a cut of {text.dtype} {tuple(text.shape)}")
    try:
        return cut_from_json(text.numpy().tobytes().decode())
    except (ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"this is no rewind point: {str(error)[:500]}") from error


def pack_bits(mask: Tensor) -> Tensor:
    """bool, any shape -> uint8 (ceil(n / 8),), the first weight in the lowest bit."""
    flat = mask.flatten().to(torch.uint8)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    weights = 2 ** torch.arange(8, dtype=torch.uint8)
    return (padded * weights).sum(dim=1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, shape: torch.Size) -> Tensor:
    """Inverse of ``pack_bits``. Raises ValueError where the sizes don't match."""
    if packed.dtype != torch.uint8 or packed.shape != (-(-shape.numel() // 8),):
        raise ValueError(f"a mask of {packed.dtype} {tuple(packed.shape)} for {tuple(shape)}")
    bits = (packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.flatten()[: shape.numel()].bool().view(shape)


def _check_shapes(own: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    found = {name: tuple(tensor.shape) for name, tensor in given.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"the {what} don't fit the network: {name} has shape {found.get(name)}, "
                f"the network wants {expected.get(name)}"
            )
        if own[name].dtype != given[name].dtype:
            raise ValueError(
                f"the {what} don't fit the network: {name} is of {given[name].dtype}, "
                f"the network wants {own[name].dtype}"
            )


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)

"""A rewind point as bytes: weights, buffers, momentum and mask, as safetensors. No pickle.

Reading one never executes anything from it, and a point that doesn't fit the network is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rewind_ray.pruning import Mask
from rewind_ray.pruning.cut import Cut, compose, cut_from_json, cut_to_json
from rewind_ray.pruning.shrink import cut_tensors

FORMAT = "1"
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights and momentum may be."""
LONGEST_NAME, MOST_DIMENSIONS = 500, 8
"""Of a tensor of any network."""
HEADER_LIMIT = 2**24
"""Bytes of a rewind point's header: some 100,000 tensors."""
PARTS = ("weights", "buffers", "momentum", "mask")
CUT = "cut/json"
"""A tensor and not metadata: safetensors writes several metadata in any order, and equal points
must be equal bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RewindPoint:
    """The state of a training run at the end of an epoch, on the CPU; names as in the network."""

    weights: dict[str, Tensor]
    buffers: dict[str, Tensor]
    """BatchNorm's running statistics."""
    momentum: dict[str, Tensor]
    """SGD's velocity; empty before the first update."""
    mask: Mask
    """Empty for a dense network."""
    cut: Cut | None = None
    """What was physically removed from the dense network; None: nothing."""


def capture(
    network: nn.Module, optimizer: torch.optim.Optimizer, mask: Mask, cut: Cut | None = None
) -> RewindPoint:
    """A copy of the present state."""
    parameters = dict(network.named_parameters())
    velocities = {name: optimizer.state[p].get("momentum_buffer") for name, p in parameters.items()}
    return RewindPoint(
        weights={name: _copy(p) for name, p in parameters.items()},
        buffers={name: _copy(b) for name, b in network.named_buffers()},
        momentum={name: _copy(v) for name, v in velocities.items() if v is not None},
        mask={name: _copy(kept) for name, kept in mask.items()},
        cut=cut,
    )


def cut_point(point: RewindPoint, cut: Cut) -> RewindPoint:
    """The state of the smaller network: every tensor without what ``cut`` removes."""
    earlier = point.cut
    return RewindPoint(
        weights=cut_tensors(point.weights, cut),
        buffers=cut_tensors(point.buffers, cut),
        momentum=cut_tensors(point.momentum, cut),
        mask=cut_tensors(point.mask, cut),
        cut=compose(earlier, cut) if earlier else cut,
    )


@torch.no_grad()
def load_network_(network: nn.Module, point: RewindPoint) -> None:
    """Copy weights and buffers into the network.

    Raises ValueError, the network left as it was, where they or the momentum don't fit.
    """
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    _check_shapes(parameters, point.weights, "weights")
    _check_shapes(buffers, point.buffers, "buffers")
    if point.momentum:
        _check_shapes(parameters, point.momentum, "momentum")
    for own, given in ((parameters, point.weights), (buffers, point.buffers)):
        for name, tensor in own.items():
            tensor.copy_(given[name])


def load_momentum_(
    network: nn.Module, optimizer: torch.optim.Optimizer, momentum: dict[str, Tensor]
) -> None:
    """Give the optimiser these velocities; without any it starts from none."""
    optimizer.state.clear()
    if not momentum:
        return
    parameters = dict(network.named_parameters())
    _check_shapes(parameters, momentum, "momentum")
    for name, parameter in parameters.items():
        # laid out as the parameter, as after an uninterrupted run: else other bits may follow
        velocity = torch.empty_like(parameter, requires_grad=False)
        optimizer.state[parameter]["momentum_buffer"] = velocity.copy_(momentum[name])


def blend(one: RewindPoint, other: RewindPoint, alpha: float) -> RewindPoint:
    """alpha * one + (1 - alpha) * other, exactly either at the ends; counters are ``one``'s.

    Without momentum in one of them there is none in the blend.
    """
    if alpha in (0, 1):
        return one if alpha else other

    def mixed(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: alpha * tensor + (1 - alpha) * b[name] if tensor.is_floating_point() else tensor
            for name, tensor in a.items()
        }

    return RewindPoint(
        weights=mixed(one.weights, other.weights),
        buffers=mixed(one.buffers, other.buffers),
        momentum=mixed(one.momentum, other.momentum) if one.momentum and other.momentum else {},
        mask=one.mask,
        cut=one.cut,
    )


def to_bytes(point: RewindPoint) -> bytes:
    """A mask takes 1 bit a weight."""
    tensors = {
        f"{part}/{name}": (pack_bits(tensor) if part == "mask" else tensor).contiguous()
        for part in PARTS
        for name, tensor in getattr(point, part).items()
    }
    if point.cut is not None:
        text = bytearray(cut_to_json(point.cut).encode())
        tensors[CUT] = torch.frombuffer(text, dtype=torch.uint8)
    return save(tensors, metadata={"format": FORMAT})


def from_bytes(data: bytes) -> RewindPoint:
    """Raises ValueError if the bytes are no rewind point.

    Weights and momentum that aren't finite are none either: no diverged training has one.
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
    for part in ("weights", "momentum"):
        for name, tensor in parts[part].items():
            if tensor.dtype not in FLOATS or not bool(tensor.isfinite().all()):
                raise ValueError(f"this is no rewind point: {part} of {name!r} aren't finite")
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

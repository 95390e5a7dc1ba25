"""A rewind point as bytes: weights, buffers, momentum and mask, as safetensors. No pickle.

Reading one never executes anything from it, and a point that doesn't fit the network is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rewind_ray.pruning import Mask

FORMAT = "1"
PARTS = ("weights", "buffers", "momentum", "mask")


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


def capture(network: nn.Module, optimizer: torch.optim.Optimizer, mask: Mask) -> RewindPoint:
    """A copy of the present state."""
    parameters = dict(network.named_parameters())
    velocities = {name: optimizer.state[p].get("momentum_buffer") for name, p in parameters.items()}
    return RewindPoint(
        weights={name: _copy(p) for name, p in parameters.items()},
        buffers={name: _copy(b) for name, b in network.named_buffers()},
        momentum={name: _copy(v) for name, v in velocities.items() if v is not None},
        mask={name: _copy(kept) for name, kept in mask.items()},
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


def to_bytes(point: RewindPoint) -> bytes:
    """A mask takes 1 bit a weight."""
    tensors = {
        f"{part}/{name}": (pack_bits(tensor) if part == "mask" else tensor).contiguous()
        for part in PARTS
        for name, tensor in getattr(point, part).items()
    }
    return save(tensors, metadata={"format": FORMAT})


def from_bytes(data: bytes) -> RewindPoint:
    """Raises ValueError if the bytes are no rewind point."""
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"this is no rewind point: {error}") from error
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        if part not in parts:
            raise ValueError(f"this is no rewind point: unknown tensor {key!r}")
        parts[part][name] = tensor
    for name, packed in parts["mask"].items():
        if name not in parts["weights"]:
            raise ValueError(f"this is no rewind point: a mask for {name!r}, which has no weights")
        parts["mask"][name] = unpack_bits(packed, parts["weights"][name].shape)
    return RewindPoint(**parts)


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
    if expected == found:
        return
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"the {what} don't fit the network: {name} has shape {found.get(name)}, "
                f"the network wants {expected.get(name)}"
            )


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)

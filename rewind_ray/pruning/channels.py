"""What pruned channels take with them, and which of them could be cut out of a network.

A pruned filter takes its BatchNorm channel along (``follower_mask``): else that would still put
out a constant. Then a channel that nothing alive writes is zero everywhere, and the network
without it computes the same.

A masked network counts what the small one has: weights that read channels which can be cut are
pruned along with them (``Channels.closed``). They multiply zeros, so this changes no function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rewind_ray.pruning.cut import Cut
from rewind_ray.pruning.masks import Mask, any_left, unpruned


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


def _dead_channels(mask: Mask, followers: Mapping[str, list[str]]) -> dict[str, Tensor]:
    """Name of a convolution or BatchNorm -> which of its channels are pruned: (C,) bool.

    A BatchNorm's are if all convolutions before it have lost them.
    """
    dead = {
        name.removesuffix(".weight"): ~any_left(mask[name]) for name in followers if name in mask
    }
    before: dict[str, list[str]] = {}
    for name, norms in followers.items():
        for norm in norms:
            before.setdefault(norm, []).append(name.removesuffix(".weight"))
    for norm, convolutions in before.items():
        if all(convolution in dead for convolution in convolutions):
            dead[norm] = torch.stack([dead[c] for c in convolutions]).all(dim=0)
    return dead


@dataclass(frozen=True, slots=True)
class ChannelTensor:
    """A parameter or buffer that coupled channels run through."""

    name: str
    dim: int
    """Where its channels are: 0, or 1 of a kernel that reads them."""
    shape: tuple[int, ...]
    channels: Tensor
    """(n,) int64: of each of these positions, the channel that is there."""
    positions: Tensor
    """(n,) int64, along ``dim``."""

    @property
    def is_kernel(self) -> bool:
        return len(self.shape) > 1

    def without(self, kept: Tensor, left: Tensor) -> Tensor:
        """A mask of this tensor like ``kept``, with nothing outside of the positions along ``dim``
        that are ``left``."""
        gone = (~left).nonzero().squeeze(1).to(kept.device)
        return kept.index_fill(self.dim, gone, False)


@dataclass(frozen=True, slots=True)
class Coupled:
    """Channels that are cut together, such as those of a residual stream."""

    size: int
    writers: tuple[tuple[str, Tensor, Tensor], ...]
    """Convolutions and BatchNorms; channels and positions as of ``ChannelTensor``."""
    tensors: tuple[ChannelTensor, ...]


@dataclass(frozen=True, slots=True)
class Channels:
    """Which channels of a network could be cut, and from what: its structure as plain data."""

    coupled: tuple[Coupled, ...]
    parameters: frozenset[str]
    """Names."""

    def cut(self, mask: Mask) -> Cut:
        """See ``shrink.cut_of``."""
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
                    closed[tensor.name] = tensor.without(closed[tensor.name], left)
            if unpruned(closed) == unpruned(mask):
                return closed
            mask = closed

    def kept_kernels(self, mask: Mask) -> Mask:
        """``mask``, and the kernels that can't be pruned but read channels that can be cut.

        mask: as of ``cut``. What ``flops.remaining_multiply_adds`` counts by.
        """
        kept = dict(mask)
        for tensor, left in self._left(mask):
            if tensor.name not in mask and tensor.name.endswith(".weight") and tensor.is_kernel:
                whole = kept.get(tensor.name, torch.ones(tensor.shape, dtype=torch.bool))
                kept[tensor.name] = tensor.without(whole, left)
        return kept

    def _left(self, mask: Mask) -> Iterator[tuple[ChannelTensor, Tensor]]:
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
        kept = [any_left(mask[name].view(len(mask[name]), -1)).cpu() for name in own]
        return ~torch.stack(kept).any(dim=0)


def _first_read(coupled: Coupled, mask: Mask) -> int:
    """The first channel that a masked kernel still reads; 0 if none does."""
    read = torch.zeros(coupled.size, dtype=torch.bool)
    for tensor in coupled.tensors:
        if tensor.dim == 1 and tensor.name in mask:
            used = any_left(mask[tensor.name].movedim(1, 0)).cpu()
            read[tensor.channels[used[tensor.positions]]] = True
    return int(read.to(torch.uint8).argmax())

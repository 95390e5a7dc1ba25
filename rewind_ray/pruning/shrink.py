"""Physical shrinking: the channels that pruning has left without use are cut out for good.

What can't be cut stays: a filter that is pruned while another layer still writes its channel (the
residual streams), and one channel of a layer that has lost all of them. Both are zero, and stay
zero under the mask that was cut along with the weights; a small network is trained under it as
the dense one was under its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rewind_ray.pruning.cut import Cut
from rewind_ray.pruning.masks import Mask
from rewind_ray.pruning.trace import channels_of


def cut_of(network: nn.Module, mask: Mask, example: tuple[Tensor, ...]) -> Cut:
    """All channels that can be removed for good; the rest computes what the masked network did.

    mask: of kernels, BatchNorms and biases, ``{**mask, **follower_mask(...)}``: a filter whose
    BatchNorm or bias isn't pruned along puts out a constant, and stays.

    A channel goes if all that writes it is pruned, so that of a residual stream only if all its
    blocks have lost it. A layer keeps one channel (a zero) if it would lose all: the first that
    anything still reads. Channels that run through something unknown stay: grouped convolutions,
    concatenations, other normalisations, operations that make something of zeros.

    network, example: as of ``trace.channels_of``.
    """
    return channels_of(network, example).cut(mask)


def kept_kernels(network: nn.Module, mask: Mask, example: tuple[Tensor, ...]) -> Mask:
    """See ``Channels.kept_kernels``. network, example: as of ``trace.channels_of``."""
    return channels_of(network, example).kept_kernels(mask)


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

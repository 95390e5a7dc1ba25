"""Networks of the user's own: what an import path builds, from a seed, and trained weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from rewind_ray.digests import tensors_digest
from rewind_ray.errors import MissingFile, UserError
from rewind_ray.importing import import_object
from rewind_ray.network_options import Option
from rewind_ray.seeding import seeded
from rewind_ray.text import printable

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep a state_dict."""
PARALLEL = "module."
"""What DataParallel puts before every name."""
NAMES_SHOWN = 8


def own_builder(path: str) -> Any:
    """Raises UserError where there is nothing that can be called."""
    builder = import_object(path, "network")
    if not callable(builder):
        raise UserError(
            f"network {path!r} is {printable(repr(builder))[:80]}; give a function or class that "
            "returns an nn.Module"
        )
    return builder


def build_own(
    path: str, options: Mapping[str, Option], from_data: Mapping[str, int], seed: int
) -> nn.Module:
    """``builder(**options)``, its random numbers drawn from ``seed``; on the CPU.

    from_data: arguments such as ``num_classes`` that the builder gets if it names them and they
    aren't among the options. Raises UserError for arguments that it doesn't take, and for what is
    no network.
    """
    builder = own_builder(path)
    arguments = {**_wanted(builder, from_data), **options}
    _check_arguments(path, builder, arguments)
    with seeded(seed), torch.device("cpu"):
        network = builder(**arguments)
    if not isinstance(network, nn.Module):
        raise UserError(
            f"network {path!r} returned a {type(network).__name__}; let it return an nn.Module"
        )
    if getattr(network.forward, "__func__", None) is nn.Module.forward:
        raise UserError(
            f"network {path!r} returned a {type(network).__name__}, which has no forward; if its "
            "class defines __call__ instead, rename that"
        )
    parameters = list(network.parameters())
    if not parameters:
        raise UserError(f"network {path!r} has no parameters; there is nothing to train or prune")
    if any(isinstance(parameter, UninitializedParameter) for parameter in parameters):
        raise UserError(
            f"network {path!r} has lazy modules without shapes; pass an example through it in the "
            "function that builds it"
        )
    return network


def _wanted(builder: Any, from_data: Mapping[str, int]) -> dict[str, int]:
    try:
        named = inspect.signature(builder).parameters
    except (TypeError, ValueError):  # of some callables written in C
        return {}
    return {name: value for name, value in from_data.items() if name in named}


def _check_arguments(path: str, builder: Any, arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(builder)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise UserError(
            f"network {path!r} takes {signature}: {error}; give its arguments as "
            "--network-option name=value"
        ) from error


# Trained weights


def read_weights(path: str | Path, flag: str = "--init") -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a ``state_dict`` that ``torch.save`` wrote, by name.

    Nothing in the file is executed: a pickled one is read with ``weights_only=True``. flag: by
    which the path was given, for messages. Raises MissingFile, or UserError for what is neither,
    and for weights that are NaN or infinite.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise MissingFile(f"{flag} {path}: there is no such file")
    try:
        if place.suffix == ".safetensors":
            found: Any = load_safetensors(place.read_bytes())
        else:
            found = torch.load(place, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(f"{flag} {path} is no whole safetensors file: {error}") from error
    except Exception as error:  # torch.load raises errors of many types
        reason = printable(str(error).partition("\n")[0])[:200]
        raise UserError(
            f"{flag} {path} can't be read as weights alone ({reason}); save them by "
            "torch.save(network.state_dict(), file), or as safetensors"
        ) from error
    for key in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{flag} {path} holds a {type(found).__name__}; give a state_dict")
    odd = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if odd:
        raise UserError(
            f"{flag} {path} holds more than tensors: {_some(map(str, odd))}; give a state_dict"
        )
    if all(name.startswith(PARALLEL) for name in found):
        found = {name.removeprefix(PARALLEL): value for name, value in found.items()}
    bad = [n for n, t in found.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if bad:
        raise UserError(
            f"{flag} {path} has values that are NaN or infinite in {_some(map(str, bad))}; give "
            "weights of an earlier epoch"
        )
    return {str(name): value.detach() for name, value in found.items()}


def weights_bytes(weights: Mapping[str, Tensor]) -> bytes:
    return save_safetensors({name: tensor.clone().contiguous() for name, tensor in weights.items()})


def weights_from_bytes(data: bytes, digest: str) -> dict[str, Tensor]:
    """Raises ValueError unless they are the weights of this digest."""
    try:
        weights = load_safetensors(data)
    except SafetensorError as error:
        raise ValueError(f"the stored initial weights are damaged: {error}") from error
    if tensors_digest(weights) != digest:
        raise ValueError("the stored initial weights are not those that the stage was made for")
    return weights


@torch.no_grad()
def load_weights_(network: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Copy them into the network. what: their source, for the message.

    Raises UserError, naming what doesn't fit, with the network left as it was. BatchNorm's counters
    may be missing, and so may a parameter that is another one by a second name.
    """
    own = network.state_dict(keep_vars=True)
    given = {id(tensor) for name, tensor in own.items() if name in weights}
    missing = [
        name
        for name, tensor in own.items()
        if name not in weights
        and id(tensor) not in given
        and not name.endswith("num_batches_tracked")
    ]
    unknown = [name for name in weights if name not in own]
    shapes = [
        f"{name} {tuple(weights[name].shape)}, the network's {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    problems = [
        f"{words}: {_some(names)}"
        for words, names in (
            ("missing", missing),
            ("not in the network", unknown),
            ("of another shape", shapes),
        )
        if names
    ]
    if problems:
        raise UserError(
            f"the weights of {what} don't fit the network; {'; '.join(problems)}. Give the "
            "network's own weights, or its arguments by --network-option"
        )
    for name, tensor in own.items():
        if name in weights:
            tensor.copy_(weights[name])


def _some(names: Any) -> str:
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(printable(name) for name in names[:NAMES_SHOWN]) + more

"""What an own network, task and data set are, as a protocol's digests; and whether they will do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rewind_ray.digests import code_digest, network_digest, tensors_digest
from rewind_ray.errors import UserError
from rewind_ray.importing import is_import_path
from rewind_ray.models.own import own_builder
from rewind_ray.spec import Protocol
from rewind_ray.tasks.task import Task

log = logging.getLogger(__name__)

PROBE_SEED = 0
"""Of the initial weights that identify a network."""
COVERED = 0.9
"""Share of the parameters that may be pruned, below which the user is warned."""
NAMES_SHOWN = 4


def own_digests(task: Task) -> dict[str, Any]:
    """Fields of ``Protocol``: digests of whatever of its network, task and data is the user's own.

    The data is loaded.
    """
    protocol = task.protocol
    digests: dict[str, Any] = {}
    own_task = is_import_path(protocol.task)
    if own_task:
        digests["task_digest"] = code_digest([type(task)])
    if own_task or is_import_path(protocol.network):
        builder = type(task).network if own_task else own_builder(protocol.network)
        digests["network_digest"] = network_digest(task.network(PROBE_SEED), builder)
    if is_import_path(protocol.dataset) or (own_task and not protocol.data_digest):
        digests["data_digest"] = task.data_digest()
    return digests


def check_identity(task: Task) -> None:
    """Raises UserError where network, task or data here are others than the protocol was made for.

    Initial weights that differ while the code is the same are a warning: another kind of processor
    may round them differently.
    """
    protocol = task.protocol
    if not (protocol.network_digest or protocol.task_digest or is_import_path(protocol.dataset)):
        return
    for name, found in own_digests(task).items():
        expected = getattr(protocol, name)
        if not expected or expected == found:
            continue
        what = name.removesuffix("_digest")
        if what == "network" and expected.partition("-")[0] == found.partition("-")[0]:
            log.warning(
                "network %s starts from other weights on this machine than where the sweep was "
                "started: it reads them from a file that differs, or this processor rounds "
                "differently",
                protocol.network,
            )
            continue
        path = {"network": protocol.network, "task": protocol.task, "data": protocol.dataset}[what]
        raise UserError(
            f"{what} {path} is {found} here, and the stage was made for {expected}: its "
            f"{'content' if what == 'data' else 'code'} has changed since or is another on this "
            "machine; start the sweep anew, or put the old one back"
        )


def check_network(task: Task) -> None:
    """Raises UserError, saying why, unless the task's network can be trained and pruned."""
    protocol = task.protocol
    network, again = task.network(PROBE_SEED), task.network(PROBE_SEED)
    name = protocol.network
    if tensors_digest(dict(network.named_parameters())) != tensors_digest(
        dict(again.named_parameters())
    ):
        raise UserError(
            f"network {name} has other weights each time it is built with the same seed; draw them "
            "from the global generators of torch, numpy or random, and from nothing else"
        )
    for label, buffer in network.named_buffers():
        if buffer.is_floating_point() and not bool(buffer.isfinite().all()):
            raise UserError(
                f"network {name} has infinite values in its buffer {label}; make it a mask of "
                "booleans, or no buffer"
            )
    if not task.prunable(network):
        kinds = sorted({type(m).__name__ for m in network.modules() if list(m.parameters(False))})
        raise UserError(
            f"network {name} has no weights that may be pruned by {protocol.prunable!r}; it has "
            f"parameters in {', '.join(kinds)}: choose some by a pattern of names, such as "
            "--prunable '*weight*'"
        )
    _check_forward(task, network)


@torch.no_grad()
def _check_forward(task: Task, network: nn.Module) -> None:
    example = [given.to(task.device) for given in task.example()]
    shapes = ", ".join(f"{tuple(given.shape)} {given.dtype}" for given in example)
    name = task.protocol.network
    try:
        output = network.eval()(*example)
    except Exception as error:  # whatever the user's forward raises
        raise UserError(
            f"network {name} doesn't take the data's inputs, {shapes}: "
            f"{type(error).__name__}: {error}; change one of them"
        ) from error
    num_classes = getattr(task, "num_classes", None)
    if num_classes is None:
        return
    shape = tuple(getattr(output, "shape", ()))
    if len(shape) != 2 or shape[1] < num_classes:
        found = f"shape {shape}" if shape else f"a {type(output).__name__}"
        raise UserError(
            f"network {name} gives {found} for one example; {num_classes} classes take logits of "
            f"shape (1, {num_classes}): --network-option num_classes={num_classes}, if it is so "
            "called"
        )


def uncovered(
    network: nn.Module,
    prunable: Callable[[nn.Module], dict[str, nn.Parameter]],
    protocol: Protocol,
) -> str | None:
    """A warning that says what pruning leaves out; None where it reaches nearly all parameters."""
    everything = dict(network.named_parameters())
    reached = prunable(network)
    total = sum(parameter.numel() for parameter in everything.values())
    share = sum(parameter.numel() for parameter in reached.values()) / total
    if share >= COVERED:
        return None
    rest = sorted(
        ((p.numel(), name) for name, p in everything.items() if name not in reached), reverse=True
    )
    largest = ", ".join(f"{name} ({number / total:.1%})" for number, name in rest[:NAMES_SHOWN])
    largest += ", ..." if len(rest) > NAMES_SHOWN else ""
    return (
        f"--prunable {protocol.prunable} reaches {share:.1%} of the {total:,} parameters of "
        f"{protocol.network}; left as they are: {largest}"
        "; a pattern of names such as --prunable '*weight*' reaches more"
    )

"""Trained weights that dense networks are given, on their way to the workers."""

from __future__ import annotations

from pathlib import Path

from rewind_ray.digests import tensors_digest
from rewind_ray.errors import UserError
from rewind_ray.models.history import FLAG, history_files
from rewind_ray.models.own import read_weights, weights_bytes
from rewind_ray.spec import BUILDER
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.graph import Graph


def store_given(
    graph: Graph, ledger: Ledger, file: str | Path | None = None, folder: str | Path | None = None
) -> None:
    """Put the weights that the graph's stages start from where all workers find them.

    file: of one network that was given; folder: of the history of one. Raises UserError where they
    are no longer those that the stages were made for.
    """
    wanted = {
        (epoch, node.stage.protocol.given[epoch])
        for node in graph.values()
        if node.stage.adopted
        for epoch in node.row_epochs | node.rewind_epochs
    }
    files = history_files(folder) if folder else {}
    for epoch, digest in sorted(wanted):
        if digest == BUILDER:
            continue
        place = files.get(epoch, file)
        if place is None:
            raise UserError(
                f"the network's weights of epoch {epoch} aren't given; give the file or folder "
                f"that has them by --init or {FLAG}"
            )
        weights = read_weights(place, FLAG if folder else "--init")
        if tensors_digest(weights) != digest:
            raise UserError(f"{place} has changed since it was first read; start anew")
        ledger.write_init(digest, weights_bytes(weights))

"""Learning curves: what every epoch of a chain measured, read from the storage root.

A chain goes from its dense network through all its pruning steps. Epochs are counted from the end
of the dense training, which lies at 0 and before; the epoch at which a network was pruned is there
twice, dense and pruned.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from rewind_ray.store.ledger import Ledger
from rewind_ray.store.side_by_side import side_by_side

log = logging.getLogger(__name__)

METRICS = ("test_accuracy", "val_accuracy", "train_loss", "lr")
EPOCHS_A_STAGE = 60  # read of a longer stage, evenly spread

Link = tuple[str, int]
"""A stage, and how many of its epochs the chain holds."""


def chain_ends(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that chains end with, each stage at its longest.

    The first step of an iterative chain ends a one-shot chain as well; later steps end one only
    where no other stage goes on from them.
    """
    pruned = rows[rows["level"] > 0].sort_values("train_epochs", ascending=False, kind="stable")
    longest = pruned.drop_duplicates("stage_id").sort_index()
    continued = longest["stage_id"].isin(set(rows["parent_id"].dropna()))
    return longest[(longest["level"] == 1) | ~continued]


def learning_curves(ledger: Ledger, ends: pd.DataFrame) -> pd.DataFrame:
    """One line an epoch: the columns ``chain`` (stage_id of its end), ``stage_id``, ``level``,
    ``epoch`` and METRICS; chains in the order of ``ends``.

    What can't be read is left out, with one warning that counts it.
    """
    lengths = zip(ends["stage_id"], ends["train_epochs"], strict=True)
    links = side_by_side(lambda end: _links(ledger, *end), lengths)
    chains = dict(zip(ends["stage_id"], links, strict=True))
    wanted = _epochs_to_read(chains.values())
    read = side_by_side(lambda key: _read(ledger, *key), wanted)
    metrics = dict(zip(wanted, read, strict=True))
    lost = sum(not links for links in chains.values()), sum(not found for found in metrics.values())
    if any(lost):
        log.warning("learning curves: %d chains and %d epochs can't be read", *lost)
    lines = [
        {"chain": end, "stage_id": stage_id, "level": level, "epoch": start + epoch}
        | metrics[stage_id, epoch]
        for end, links in chains.items()
        for level, start, (stage_id, length) in _placed(links)
        for epoch in sampled(length)
        if metrics[stage_id, epoch]
    ]
    return pd.DataFrame(lines, columns=["chain", "stage_id", "level", "epoch", *METRICS])


def sampled(length: int) -> list[int]:
    """Epochs from 0 up to ``length``, both included; EPOCHS_A_STAGE of them at most."""
    count = min(length + 1, EPOCHS_A_STAGE)
    return [int(epoch) for epoch in np.linspace(0, length, count).round()]


def _links(ledger: Ledger, stage_id: str, train_epochs: int) -> list[Link]:
    """From the baseline to the stage; none where its description can't be read."""
    try:
        *before, end = ledger.read_spec(stage_id).chain
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []
    # The description may be of a shorter asking; a parent's length is part of the child's identity
    return [
        *((stage.stage_id, stage.train_epochs) for stage in before),
        (end.stage_id, train_epochs),
    ]


def _placed(links: list[Link]) -> Iterable[tuple[int, int, Link]]:
    """Level, epoch it starts at, and link."""
    start = -links[0][1] if links else 0
    for level, link in enumerate(links):
        yield level, start, link
        start += link[1]


def _epochs_to_read(chains: Iterable[list[Link]]) -> list[tuple[str, int]]:
    """Each epoch of each stage once, however many chains share it."""
    links = dict.fromkeys(link for chain in chains for link in chain)
    return list(dict.fromkeys((stage, epoch) for stage, n in links for epoch in sampled(n)))


def _read(ledger: Ledger, stage_id: str, epoch: int) -> dict[str, Any]:
    """Its METRICS; empty where they can't be read."""
    try:
        metrics = ledger.read_metrics(stage_id, epoch)
        return {name: metrics.get(name) for name in METRICS}
    except (OSError, ValueError, AttributeError):
        return {}

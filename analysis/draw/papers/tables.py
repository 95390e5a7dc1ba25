"""What the papers' tables have in common."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.draw.papers.content import PaperTable
from analysis.draw.papers.notes import origin_note
from analysis.draw.papers.scenes import Source, place
from analysis.table.columns import BadRows


def table_of(
    head: str,
    cells: pd.DataFrame,
    order: Sequence[str],
    main: Source,
    beside: Source | None,
    notes: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> PaperTable:
    """Rows of ``main`` with what is published of them; those named in ``order`` first."""
    shown = set(cells.loc[cells["published"] == bool(main.paper), "row"])
    cells = cells[cells["row"].isin(shown)]
    ranks = {row: _rank(row, order) for row in shown}
    absent = [name for number, name in enumerate(order) if number not in ranks.values()]
    ranked = cells.assign(rank=cells["row"].map(ranks))
    return PaperTable(
        head=head,
        columns=tuple(dict.fromkeys(cells["column"])),
        cells=ranked.sort_values(["rank", "row"], kind="stable").drop(columns="rank"),
        notes=(*origin_note(main, beside, shown=bool(cells["published"].any())), *notes),
        missing=(*absent, *missing),
    )


def _rank(row: str, order: Sequence[str]) -> int:
    """Of the name that the row has, or has with an addition; last if of none."""
    found = [
        number
        for number, name in enumerate(order)
        if row == name or row.startswith((f"{name} · ", f"{name}, "))
    ]
    return max(found, key=lambda number: len(order[number]), default=len(order))


def dense_networks(source: Source, wanted: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Name and dense rows of each network, data set and protocol, at their longest training.

    Those named in ``wanted``; if there is none of them, all. Raises BadRows if there is no dense
    row.
    """
    dense = source.rows[(source.rows["level"] == 0) & (source.rows["status"] != "diverged")]
    if dense.empty:
        raise BadRows("none of these rows fits: the table shows dense networks, level 0")
    found: dict[str, tuple[str, pd.DataFrame]] = {}
    for (network, dataset, protocol), rows in dense.groupby(["network", "dataset", "protocol"]):
        name = place(network, dataset)
        full = name if protocol in ("", source.paper) else f"{name} · protocol {protocol}"
        found[full] = (name, rows[rows["train_epochs"] == rows["train_epochs"].max()])
    fitting = {full: rows for full, (name, rows) in found.items() if name in wanted}
    return list((fitting or {full: rows for full, (_, rows) in found.items()}).items())

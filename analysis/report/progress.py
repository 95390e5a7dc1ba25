"""How far the sweeps of a storage root are: what is there, begun, and missing."""

from __future__ import annotations

from analysis.report.blocks import Block, Section, Table, Words
from analysis.report.material import Begun, Material, Sweep
from analysis.report.words import cut, several

WHAT_BEGUN_MEANS = (
    "Begun stages have rewind points but not their result: they are running, or go on from there "
    "when the sweep is started again. A search that stops by itself may have asked for rows that "
    "will never come."
)


def progress(material: Material) -> Section | None:
    """Of sweeps that lack rows; None where all are complete."""
    open_sweeps = [sweep for sweep in material.sweeps if sweep.there < sweep.asked]
    if not open_sweeps:
        return None
    blocks: list[Block] = [sweeps_table(open_sweeps)]
    begun = [stage for sweep in open_sweeps for stage in sweep.begun]
    if begun:
        blocks.append(begun_table(begun))
    blocks.append(Words(text=WHAT_BEGUN_MEANS, kind="note"))
    return Section(id="progress", title="Still running or missing", blocks=tuple(blocks))


def progress_of(sweep: Sweep) -> str:
    if sweep.there == sweep.asked:
        return f"Sweep {sweep.name}: all {sweep.asked:,} rows are there."
    unknown = f", {sweep.not_looked_up:,} not looked at" if sweep.not_looked_up else ""
    return (
        f"Sweep {sweep.name}: {sweep.there:,} of {sweep.asked:,} rows are there; "
        f"{several(len(sweep.begun), 'stage')} begun, not finished{unknown}."
    )


def sweeps_table(sweeps: list[Sweep]) -> Table:
    numbers = ("rows asked for", "there", "missing", "stages begun")
    lines = [
        (
            sweep.name,
            f"{sweep.asked:,}",
            f"{sweep.there:,}",
            f"{sweep.asked - sweep.there:,}",
            f"{len(sweep.begun):,}",
        )
        for sweep in sweeps
    ]
    return cut(
        Table(
            caption="Sweeps",
            columns=("sweep", *numbers),
            lines=tuple(lines),
            numeric=frozenset(numbers),
        )
    )


def begun_table(begun: list[Begun]) -> Table:
    numbers = ("level", "seed", "epoch", "of")
    lines = [
        (
            each.stage.stage_id,
            each.stage.protocol.network,
            each.stage.protocol.dataset,
            each.stage.method,
            *map(str, (each.stage.level, each.stage.seed, each.epoch, each.length)),
        )
        for each in begun
    ]
    return cut(
        Table(
            caption="Stages begun",
            columns=("stage", "network", "data set", "method", *numbers),
            lines=tuple(lines),
            numeric=frozenset(numbers),
        )
    )

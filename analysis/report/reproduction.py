"""The last section: how to make it all again."""

from __future__ import annotations

import shlex
from typing import Any

import pandas as pd

from analysis.report.blocks import Block, Code, Facts, Section, Table, Words
from analysis.report.material import Material, Sweep
from analysis.report.words import cut, lines_of

VERSIONS = {
    "git_commit": "code",
    "torch_version": "torch",
    "ray_version": "ray",
    "device": "device",
    "precision": "precision",
}

DEFINITIONS = (
    "Density is the share of the prunable weights that is left; compression is 1 / density.",
    "Speedup is theoretical: multiply-adds of one forward pass, dense over pruned, zeros skipped.",
    "Search cost is all retraining of a chain, in epochs or in multiply-adds, zeros skipped.",
    "What is shown is test accuracy. Retraining times are chosen by validation accuracy where "
    "there is one; the highest compressions within a drop, and what is beaten, by test accuracy.",
    "Diverged results are kept out of medians and counted.",
)


def reproduction(material: Material) -> Section:
    blocks: list[Block] = []
    commands = "\n".join(command_of(sweep) for sweep in material.sweeps if sweep.command)
    if commands:
        blocks += [Words(text="The sweeps, as they were started:"), Code(text=commands)]
    blocks.append(versions_table(material.rows))
    if material.protocols:
        blocks.append(protocols_table(material.protocols))
    sources = material.rows["source"].dropna().value_counts()
    if len(sources):
        blocks.append(sources_table(sources))
    blocks.append(Facts(texts=DEFINITIONS))
    return Section(id="reproduction", title="Methods and versions", blocks=tuple(blocks))


def command_of(sweep: Sweep) -> str:
    name, *options = sweep.command
    return shlex.join(["rewind-ray", name.replace("_", "-"), *options])


def versions_table(rows: pd.DataFrame) -> Table:
    found = rows[list(VERSIONS)].fillna("").value_counts().reset_index()
    return cut(
        Table(
            caption="Code and hardware",
            columns=(*VERSIONS.values(), "results"),
            lines=tuple((*line[:-1], f"{line[-1]:,}") for line in lines_of(found)),
            numeric=frozenset(["results"]),
        )
    )


def sources_table(sources: pd.Series) -> Table:
    return cut(
        Table(
            caption="Published results",
            columns=("source", "results"),
            lines=tuple((str(source), f"{number:,}") for source, number in sources.items()),
            numeric=frozenset(["results"]),
        )
    )


def protocols_table(protocols: tuple[dict[str, Any], ...]) -> Table:
    """A line a setting, a column a protocol."""
    flat = [_flat(protocol) for protocol in protocols]
    settings = dict.fromkeys(name for each in flat for name in each)
    several = [f"protocol {number}" for number in range(1, len(flat) + 1)]
    return Table(
        caption="How the dense networks were trained",
        columns=("setting", *(several if len(flat) > 1 else ["value"])),
        lines=tuple(
            (name.replace("_", " "), *(each.get(name, "") for each in flat)) for name in settings
        ),
    )


def _flat(protocol: dict[str, Any]) -> dict[str, str]:
    """Settings that say something, as text; those of the schedule under its name."""
    found: dict[str, str] = {}
    for name, value in protocol.items():
        if isinstance(value, dict):
            (inner,) = value.values()
            found |= {f"{name}: {key}": text for key, text in _flat(inner).items()}
        elif value is not None and value != "" and value != []:
            found[name] = _setting(value)
    return found


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_setting, value))
    return f"{value:g}" if isinstance(value, float) else str(value)

"""``rewind-ray storage status | gc | verify URI``"""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rewind_ray.command_line import DONE, FAILED, make_console
from rewind_ray.errors import MissingFile
from rewind_ray.store.housekeeping import (
    REASONS,
    Amount,
    Damage,
    Garbage,
    Holdings,
    collect,
    delete_garbage,
    holdings,
    read_records,
    to_verify,
    verify,
)
from rewind_ray.store.ledger import Ledger
from rewind_ray.text import printable

SHOWN = 20
"""Most paths of a kind to print; --json prints all."""
KINDS = {
    "tensors": "rewind points",
    "metrics": "metrics of epochs",
    "row": "result rows",
    "spec": "stage descriptions",
    "data": "facts about the data",
    "partial": "partial epochs",
    "partial tensors": "tensors of partial epochs",
    "lease": "leases",
    "sweep": "sweeps' records",
    "control": "what sweeps are asked for",
    "log": "sweeps' logs",
    "driver": "drivers' heartbeats",
    "tensorboard": "TensorBoard",
    "tune": "Ray Tune's files",
    "figures": "figures",
    "temporary": "unfinished files",
    "other": "other files",
}
URI = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="URI")]


@dataclass(frozen=True, slots=True)
class Status:
    """Files and sizes by kind, and the progress of each sweep."""

    uri: URI
    """Local folder or URI (s3://, gs://)."""
    json: bool = False
    """Print only JSON."""


@dataclass(frozen=True, slots=True)
class Gc:
    """List what no sweep needs; delete it with --delete.

    That is: stages of no sweep, rewind points that no stage needs, and leftovers of writers that
    died. Never files younger than an hour, nor any of a stage that has one.
    """

    uri: URI
    """Local folder or URI (s3://, gs://)."""
    delete: bool = False
    """Delete what is listed."""
    keep: Literal["all", "referenced"] = "all"
    """Rewind points of the baselines to keep: of all epochs, or only those that sweeps need."""
    json: bool = False
    """Print only JSON."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Check every checksum, row and description; list what is damaged and how to repair it."""

    uri: URI
    """Local folder or URI (s3://, gs://)."""
    json: bool = False
    """Print only JSON."""


Action = (
    Annotated[Status, tyro.conf.subcommand("status", prefix_name=False)]
    | Annotated[Gc, tyro.conf.subcommand("gc", prefix_name=False)]
    | Annotated[Verify, tyro.conf.subcommand("verify", prefix_name=False)]
)


def storage_command(action: Annotated[Action, tyro.conf.arg(name="")]) -> int:
    """Show, clean up or check a storage.

    Examples:
      rewind-ray storage status results
      rewind-ray storage gc s3://bucket/results
      rewind-ray storage gc s3://bucket/results --delete
      rewind-ray storage verify results --json
    """
    match action:
        case Status():
            return show_status(action)
        case Gc():
            return collect_garbage(action)
        case Verify():
            return verify_storage(action)


def existing(uri: str) -> Ledger:
    """The storage's ledger. Raises MissingFile if there is none."""
    ledger = Ledger(uri)
    if not ledger.stage_ids() and not ledger.sweeps():
        raise MissingFile(f"no stages and no sweeps in {uri}; give the root of a storage")
    return ledger


def print_json(content: Any) -> None:
    print(json_text.dumps(content, indent=1))


# status


def show_status(action: Status) -> int:
    ledger = existing(action.uri)
    records, damaged = read_records(ledger)
    with waiting("listing"):
        entries = ledger.entries()
    whole, sweeps = holdings(entries, records)
    if action.json:
        described = {name: describe(found) for name, found in sweeps.items()}
        print_json(
            {"storage": ledger.uri, **describe(whole), "sweeps": described, "damaged": damaged}
        )
    else:
        console = make_console()
        print(f"storage {ledger.uri}")
        console.print(kinds_table(whole.kinds))
        console.print(sweeps_table(whole, sweeps))
    for error in damaged.values():
        print(f"error: {error}", file=sys.stderr)
    return FAILED if damaged else DONE


def describe(found: Holdings) -> dict[str, Any]:
    kinds = {kind: asdict(amount) for kind, amount in found.kinds.items()}
    return asdict(found) | {"not_begun": found.not_begun, "kinds": kinds}


def kinds_table(kinds: dict[str, Amount]) -> Table:
    table = Table()
    table.add_column("")
    table.add_column("files", justify="right")
    table.add_column("size", justify="right")
    for kind, title in KINDS.items():
        if kind in kinds:
            table.add_row(title, f"{kinds[kind].files:,}", decimal(kinds[kind].bytes))
    files = sum(amount.files for amount in kinds.values())
    table.add_section()
    table.add_row("all", f"{files:,}", decimal(sum(amount.bytes for amount in kinds.values())))
    return table


def sweeps_table(whole: Holdings, sweeps: dict[str, Holdings]) -> Table:
    table = Table(caption="Stages that sweeps share are counted by each.", caption_justify="left")
    table.add_column("sweep", overflow="fold")
    for title in ("stages", "done", "half-done", "rows", "rewind points"):
        table.add_column(title, justify="right")
    for title in ("their size", "TensorBoard", "Tune"):
        table.add_column(title, justify="right")
    for name, found in sweeps.items():
        table.add_row(escape(printable(name)), *numbers(found))
    table.add_section()
    table.add_row("all stages", *numbers(whole))
    return table


def numbers(found: Holdings) -> list[str]:
    sizes = {kind: found.kinds.get(kind, Amount()) for kind in ("tensors", "tensorboard", "tune")}
    return [
        *(f"{count:,}" for count in (found.stages, found.done, found.half_done)),
        f"{found.rows:,} of {max(found.rows, found.rows_wanted):,}",
        f"{sizes['tensors'].files:,}",
        *(decimal(amount.bytes) for amount in sizes.values()),
    ]


# gc


def collect_garbage(action: Gc) -> int:
    ledger = existing(action.uri)
    look = delete_garbage if action.delete else collect
    with waiting("deleting" if action.delete else "listing"):
        found = look(ledger, action.keep)
    if action.json:
        print_json(
            {
                "storage": ledger.uri,
                "deleted": action.delete,
                "bytes": sum(item.bytes for item in found),
                "garbage": [describe_garbage(item) for item in found],
            }
        )
    else:
        print_garbage(found, action.delete, action.keep)
    return DONE


def describe_garbage(item: Garbage) -> dict[str, Any]:
    paths = [entry.file.path for entry in item.entries]
    return {
        "reason": item.reason,
        "stage_id": item.stage_id,
        "rows": sum(entry.kind == "row" for entry in item.entries),
        "bytes": item.bytes,
        "paths": paths,
    }


def print_garbage(found: list[Garbage], deleted: bool, keep: str) -> None:
    if not found:
        print("Nothing to delete. What has a file younger than an hour is left alone.")
        if keep == "referenced":
            print("So are rewind points of baselines while a sweep here has stages not yet begun.")
        return
    for reason, title in REASONS.items():
        items = [item for item in found if item.reason == reason]
        if items:
            print(f"{len(items):,} {title}, {decimal(sum(item.bytes for item in items))}")
            print_first(line_of(item) for item in items)
    size = decimal(sum(item.bytes for item in found))
    print(f"{size} deleted." if deleted else f"{size} in all; --delete deletes it.")


def line_of(item: Garbage) -> str:
    if item.reason != "stage":
        return f"  {printable(item.entries[0].file.path)}  {decimal(item.bytes)}"
    rows = sum(entry.kind == "row" for entry in item.entries)
    return f"  stages/{item.stage_id}  {decimal(item.bytes)}, {rows} result rows"


def print_first(lines: Iterable[str]) -> None:
    lines = list(lines)
    print("\n".join(lines[:SHOWN]))
    if len(lines) > SHOWN:
        print(f"  and {len(lines) - SHOWN:,} more; --json lists all")


# verify


def verify_storage(action: Verify) -> int:
    ledger = existing(action.uri)
    with waiting("listing"):
        entries = to_verify(ledger.entries())
    total = sum(entry.file.size for entry in entries)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=total)
        damaged = verify(ledger, entries, lambda entry: bar.advance(task, entry.file.size))
    counts = {kind: sum(entry.kind == kind for entry in entries) for kind in KINDS}
    checked = {kind: count for kind, count in counts.items() if count}
    if action.json:
        print_json(
            {
                "storage": ledger.uri,
                "checked": checked,
                "bytes": total,
                "damaged": [describe_damage(item) for item in damaged],
            }
        )
    else:
        for item in damaged:
            what = printable(f"{item.path}: {item.error}")
            print(f"damaged  {what}\n         {item.way_out}")
        listed = ", ".join(f"{count:,} {KINDS[kind]}" for kind, count in checked.items())
        print(f"{listed or 'no files'} checked, {decimal(total)}: {len(damaged):,} damaged")
    return FAILED if damaged else DONE


def describe_damage(item: Damage) -> dict[str, str]:
    return asdict(item) | {"way_out": item.way_out}


# progress, on stderr and only on a terminal


def waiting(what: str) -> Any:
    return Console(stderr=True).status(what)


def progress_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)

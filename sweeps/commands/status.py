"""``rewind-ray status [--watch] STORAGE``: how far sweeps are, read from the storage alone."""

from __future__ import annotations

import json as json_text
import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import tyro
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rewind_ray.command_line import DONE, FAILED, make_console
from rewind_ray.errors import MissingFile, UserError
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.progress import (
    ClusterNote,
    ProgressReader,
    RunningStage,
    StorageProgress,
    SweepProgress,
)
from rewind_ray.text import printable
from sweeps.plan.naming import percent, stage_title
from sweeps.run.live_view import duration
from sweeps.run.sweep_log import read_lines

RUNNING_SHOWN = 8
LOG_LINES_SHOWN = 40
FAILURES_SHOWN = 5
"""Of a sweep; --json has all."""
LOCAL_SECONDS, REMOTE_SECONDS = 2.0, 30.0
DAY_SECONDS = 86_400
"""Between two looks with --watch; each lists all stages, by requests where they cost something."""


def status_command(
    storage: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STORAGE")] = "results",
    sweep: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    watch: bool = False,
    interval: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None,
    price_per_hour: Annotated[float | None, tyro.conf.arg(metavar="F")] = None,
    json: bool = False,
    log: bool = False,
) -> int:
    """Show progress, failures, machines and cost of sweeps, from the storage alone.

    Works from any machine that can read the storage, while sweeps run and afterwards. A stage
    counts as running while the heartbeat of its driver is less than a minute old by this machine's
    clock. Stages after a failed one count as waiting.

    Examples:
      rewind-ray status results
      rewind-ray status --watch s3://bucket/results
      rewind-ray status results --sweep quickstart --json
      rewind-ray status results --price-per-hour 0.8
      rewind-ray status s3://bucket/results --log

    Args:
        storage: local folder or URI (s3://, gs://)
        sweep: only this sweep; all if left out
        watch: look again and again, until Ctrl-C
        interval: seconds between two looks; 2 for a local folder, 30 for other storage
        price_per_hour: of what one stage occupies, to show the cost so far
        json: print only JSON on stdout; with --watch a line a look
        log: print instead the last lines of the sweep's log, which its driver writes every minute
    """
    if interval is not None and not 0 < interval <= DAY_SECONDS:
        raise UserError(f"--interval is {interval:g}; allowed: above 0, up to {DAY_SECONDS:,}")
    if price_per_hour is not None and not 0 <= price_per_hour < math.inf:
        raise UserError(f"--price-per-hour is {price_per_hour:g}; allowed: numbers from 0 up")
    ledger = Ledger(storage)
    if log:
        return show_log(ledger, sweep, watch or json)
    if not watch and not ledger.sweeps():
        raise MissingFile(f"no sweeps in {storage}; give the root of a storage")
    reader = ProgressReader(ledger)
    console = make_console()
    if not watch:
        found = reader.read(sweep)
        if json:
            print(json_text.dumps(described(found, price_per_hour), indent=1))
        else:
            console.print(shown(found, price_per_hour))
        for error in found.damaged:
            print(f"error: {error}", file=sys.stderr)
        return FAILED if found.damaged or any(s.failures for s in found.sweeps) else DONE
    local = ledger.filesystem.type_name == "local"
    seconds = interval or (LOCAL_SECONDS if local else REMOTE_SECONDS)
    look = partial(reader.read, sweep)
    with suppress(KeyboardInterrupt):  # how one leaves
        if json:
            follow(look, lambda found: print_line(described(found, price_per_hour)), seconds)
        elif not console.is_terminal:
            follow(look, lambda found: console.print(shown(found, price_per_hour)), seconds)
        with Live(console=console, auto_refresh=False) as live:
            follow(
                look, lambda found: live.update(shown(found, price_per_hour), refresh=True), seconds
            )
    return DONE


def show_log(ledger: Ledger, sweep: str | None, more: bool) -> int:
    """more: options that ask for something else."""
    if more:
        raise UserError("--log is with --watch or --json; allowed: by itself, or with --sweep")
    name = ledger.chosen_sweep(sweep)
    lines = read_lines(ledger, name)
    path = ledger.layout.shown(ledger.layout.log(name))
    if not lines:
        raise MissingFile(f"no {path} in {ledger.uri}: its driver hasn't written any lines")
    print("\n".join(lines[-LOG_LINES_SHOWN:]))
    if len(lines) > LOG_LINES_SHOWN:
        print(f"the last {LOG_LINES_SHOWN} of {len(lines):,} lines; all are in {path}")
    return DONE


def print_line(content: dict[str, Any]) -> None:
    print(json_text.dumps(content), flush=True)


def follow(
    look: Callable[[], StorageProgress], show: Callable[[StorageProgress], None], seconds: float
) -> None:
    """Look again and again; never returns. A storage that is away is a line, not the end.

    Raises OSError where what was found can't be shown, such as to a reader that has ended.
    """
    while True:
        try:
            found = look()
        except OSError as error:
            print(f"error: {printable(str(error))}; trying again", file=sys.stderr)
        else:
            show(found)
        time.sleep(seconds)


# for programs


def described(found: StorageProgress, price: float | None) -> dict[str, Any]:
    """As JSON takes it; times in seconds, accuracies as fractions."""
    return {
        "storage": found.uri,
        "drivers": found.drivers,
        "last_sign": found.last_sign,
        "sweeps": [describe_sweep(sweep, price) for sweep in found.sweeps],
        "damaged": found.damaged,
    }


def describe_sweep(sweep: SweepProgress, price: float | None) -> dict[str, Any]:
    found = {field.name: getattr(sweep, field.name) for field in fields(SweepProgress)}
    derived = {name: getattr(sweep, name) for name in ("waiting", "machines", "seconds_left")}
    shown = {
        "running": [describe_running(stage) for stage in sweep.running],
        "clusters": [asdict(note) for note in sweep.clusters],
        "cost": cost_of(sweep, price),
    }
    return found | derived | shown


def describe_running(stage: RunningStage) -> dict[str, Any]:
    title = stage_title(stage.stage) if stage.stage else None
    return {
        "stage_id": stage.stage_id,
        "title": title,
        "machine": stage.machine,
        "epoch": stage.epoch,
        "epochs": stage.epochs,
        "metrics": stage.metrics,
    }


def cost_of(sweep: SweepProgress, price: float | None) -> float | None:
    return None if price is None else price * sum(sweep.device_hours.values())


# for people


def shown(found: StorageProgress, price: float | None = None) -> Group:
    """At most 80 columns wide, unless names are long."""
    head = Text(f"storage  {printable(found.uri)}   {datetime.now(UTC):%H:%M:%S} UTC", style="dim")
    parts: list[Any] = [head]
    if not found.sweeps:
        parts.append(Text("no sweeps yet"))
    for sweep in found.sweeps:
        parts += ["", *sweep_lines(sweep, price)]
    if found.last_sign and not found.drivers:
        ago = duration(max(0.0, time.time() - found.last_sign))
        parts += ["", Text(f"No driver is running; the last file was written {ago} ago.")]
    return Group(*parts)


def sweep_lines(sweep: SweepProgress, price: float | None) -> list[Any]:
    counts = [f"{sweep.done} of {sweep.stages} stages done", f"{len(sweep.running)} running"]
    counts.append(f"{max(0, sweep.waiting)} waiting")
    for number, what in (
        (len(sweep.failures), "failed"),
        (sweep.diverged, "diverged"),
        (sweep.collapsed, "collapsed"),
    ):
        if number:
            counts.append(f"{number} {what}")
    bar = Table.grid()  # a line of its own, which a ProgressBar by itself doesn't end
    bar.add_row(
        ProgressBar(total=max(sweep.epochs_total, 1), completed=sweep.epochs_done, width=60)
    )
    lines: list[Any] = [
        Text(printable(sweep.name), style="bold"),
        bar,
        Text(", ".join(counts)),
        Text(pace_line(sweep)),
        Text(cost_line(sweep, price)),
    ]
    if sweep.control:
        lines.append(Text(f"asked     {sweep.control}", style="yellow"))
    lines += [Text(f"cluster   {cluster_line(note)}") for note in sweep.clusters]
    if sweep.machines:
        listed = (f"{printable(host)} ({number})" for host, number in sweep.machines.items())
        lines.append(Text(f"machines  {', '.join(listed)}"))
    if sweep.running:
        lines.append(running_table(sweep.running))
    for stage_id, why in list(sweep.failures.items())[:FAILURES_SHOWN]:
        lines.append(Text.assemble(("failed ", "red"), f"{stage_id} {printable(why)}"))
    if len(sweep.failures) > FAILURES_SHOWN:
        lines.append(Text(f"… and {len(sweep.failures) - FAILURES_SHOWN} more; --json lists all"))
    return lines


def pace_line(sweep: SweepProgress) -> str:
    parts = [f"{sweep.epochs_done:,} of {sweep.epochs_total:,} epochs"]
    if sweep.epochs_per_hour is not None:
        parts.append(f"{sweep.epochs_per_hour:,.0f} epochs/h")
    if sweep.examples_per_second is not None:
        parts.append(f"{sweep.examples_per_second:,.0f} examples/s")
    if sweep.seconds_left is not None:
        parts.append(f"about {duration(sweep.seconds_left)} left")
    return ", ".join(parts)


def cost_line(sweep: SweepProgress, price: float | None) -> str:
    """Of finished stages; hours of stages that trained side by side are added up."""
    hours = sum(sweep.device_hours.values())
    devices = ", ".join(f"{number:.2f} {name}" for name, number in sweep.device_hours.items())
    text = f"{hours:.2f} hours of training so far" + (f" ({devices})" if devices else "")
    cost = cost_of(sweep, price)
    return text if cost is None else f"{text}, cost {cost:,.2f}"


def cluster_line(note: ClusterNote) -> str:
    """What the driver has last said."""
    parts = [f"{note.machines} machines"]
    if note.pending:
        parts.append(f"{note.pending} of the waiting stages have no slot yet")
    if note.waits_for:
        parts.append(printable(note.waits_for))
    if note.dollars is not None:
        parts.append(f"${note.dollars:,.2f} since its start")
    return ", ".join(parts)


def running_table(running: list[RunningStage]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("running", no_wrap=True, max_width=46)
    for column in ("epoch", "test"):
        table.add_column(column, no_wrap=True, justify="right")
    table.add_column("machine", no_wrap=True, max_width=14)
    for stage in running[:RUNNING_SHOWN]:
        table.add_row(
            Text(stage_title(stage.stage) if stage.stage else stage.stage_id),
            f"{stage.epoch}/{stage.epochs}",
            percent(stage.metrics.get("test_accuracy")),
            Text(printable(stage.machine)),
        )
    if len(running) > RUNNING_SHOWN:
        table.add_row(f"… and {len(running) - RUNNING_SHOWN} more", "", "", "")
    return table

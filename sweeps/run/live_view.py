"""Progress of a running sweep: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.plan.graph import Graph, Node
from sweeps.plan.naming import percent, title_in
from sweeps.run.dispatcher import Dispatcher, State
from sweeps.run.sweep_log import SweepLog

PLAIN_LINE_SECONDS = 30
"""Between two lines where nothing is redrawn."""
LOG_LINE_SECONDS = 600
"""Between two summaries in the sweep's log."""
RUNNING_SHOWN = 12
ENDED_SHOWN = 8
NARROW = 100
"""Columns below which the bars of single stages are left out."""
TITLE_SHARE = {True: 42, False: 56}
"""Widest title of a running stage, on a narrow and on a wide terminal."""
STYLES = {
    State.DONE: "green",
    State.DIVERGED: "red",
    State.FAILED: "red",
    State.BLOCKED: "yellow",
}


@dataclass(kw_only=True, slots=True)
class Running:
    node: Node
    since: float
    epoch: int = 0
    trained: int = 0
    metrics: dict[str, float | None] = field(default_factory=dict)


class LiveView:
    """Follows the progress of every stage, and draws it at most twice a second."""

    def __init__(
        self,
        name: str,
        graph: Graph,
        dispatcher: Dispatcher,
        console: Console,
        log: SweepLog | None = None,
    ) -> None:
        """log: gets all lines, also those that a terminal shows for a while only."""
        self.name = name
        self._log = log
        self.graph = graph
        self.dispatcher = dispatcher
        self.console = console
        self._counted, self._total = (-1, -1), 0
        self._title = title_in(node.stage for node in graph.values())
        self.running: dict[str, Running] = {}
        self.ended: deque[Text] = deque(maxlen=ENDED_SHOWN)
        done_before = [n for i, n in graph.items() if dispatcher.states[i] == State.DONE]
        self.epochs_done = sum(node.epochs for node in done_before)
        self._trained = 0  # epochs, those of lost workers too
        self.begun: float | None = None
        self._trains_since: float | None = None
        self._last_line = self._last_logged = time.monotonic()
        self.describe_cluster: Callable[[], str] = str
        """What the cluster starts or can't; empty: nothing."""
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                get_renderable=self.render, console=console, refresh_per_second=2, transient=True
            )

    def __enter__(self) -> LiveView:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop drawing and restore the terminal."""
        if self._live:
            self._live.stop()

    def last_words(self, text: str) -> None:
        """Show why the process ends at once, when nothing else will come of it."""
        self.stop()
        print(text, file=sys.stderr, flush=True)
        self.log(text)
        if self._log:
            self._log.close()

    def log(self, text: str) -> None:
        """Add lines to the sweep's log only."""
        if self._log:
            self._log.add(text)

    @property
    def epochs_total(self) -> int:
        """Epochs of all stages except those that turned out not to be needed."""
        counted = (self.dispatcher.counts[State.STOPPED], self.dispatcher.grown)
        if self._counted != counted:
            self._counted = counted
            states = self.dispatcher.states
            self._total = sum(
                node.epochs for i, node in self.graph.items() if states[i] != State.STOPPED
            )
        return self._total

    # events

    def start(self, node: Node) -> None:
        self.begun = self.begun or time.monotonic()
        self.running[node.stage_id] = Running(node=node, since=time.monotonic())

    def advance(self, node: Node, epoch: int, trained: int, metrics: dict[str, float]) -> None:
        """``epoch`` epochs of the stage are done, ``trained`` of them since the last call."""
        running = self.running[node.stage_id]
        self.epochs_done += epoch - running.epoch
        self._trained += trained
        running.epoch = epoch
        running.trained += trained
        running.metrics = dict(metrics)
        if trained and self._trains_since is None:  # what came before is Ray's start
            seconds = trained * (metrics.get("train_seconds") or math.inf)
            self._trains_since = max(running.since, time.monotonic() - seconds)
        if not self._live and time.monotonic() - self._last_line > PLAIN_LINE_SECONDS:
            self._print(Text(f"{self.summary()}"))
        if time.monotonic() - self._last_logged > LOG_LINE_SECONDS:
            self._last_logged = time.monotonic()
            self.log(self.summary())

    def end(self, node: Node, outcome: str) -> None:
        running = self.running.pop(node.stage_id)
        self.epochs_done += node.epochs - running.epoch
        seconds = time.monotonic() - running.since
        state = self.dispatcher.states[node.stage_id]
        idle = "" if running.trained or state != State.DONE else "  nothing was left to train"
        self._line(node, state, f"{outcome}{idle}  ({duration(seconds)})")

    def _line(self, node: Node, state: State, outcome: str) -> None:
        ended = sum(self.dispatcher.counts[state] for state in STYLES)
        line = Text.assemble(
            f"[{ended}/{len(self.dispatcher.graph)}] ",
            (f"{state:8} ", STYLES.get(state, "")),
            f"{self._title(node.stage)}  {outcome}",
        )
        self.ended.append(line)
        self.log(line.plain)
        if not self._live:
            self._print(line)

    def defer(self, node: Node, why: str) -> None:
        """The stage has stopped running without being finished."""
        running = self.running.pop(node.stage_id)
        self.epochs_done -= running.epoch
        self._line(node, self.dispatcher.states[node.stage_id], why)

    def pause(self, node: Node) -> None:
        """The stage has stopped running, and starts again after a pause."""
        running = self.running.pop(node.stage_id, None)
        if running is not None:
            self.epochs_done -= running.epoch

    def finished_elsewhere(self, node: Node) -> None:
        self.epochs_done += node.epochs
        self._line(node, self.dispatcher.states[node.stage_id], "trained by another sweep")

    def note(self, text: str) -> None:
        """Print a warning above the live view."""
        self.log(text)
        self.console.print(Text(text, style="yellow"))

    # views

    def seconds_left(self) -> float | None:
        """Estimate from the pace so far; None until there is one."""
        if self._trains_since is None:
            return None
        pace = (time.monotonic() - self._trains_since) / self._trained
        return pace * (self.epochs_total - self.epochs_done)

    def summary(self) -> str:
        counts = self.dispatcher.counts
        waiting = counts[State.WAITING] + counts[State.READY]
        parts = [f"{counts[State.DONE]} done", *self._under_way(), f"{waiting} waiting"]
        for state in (State.ELSEWHERE, State.DIVERGED, State.FAILED, State.BLOCKED, State.STOPPED):
            if counts[state]:
                parts.append(f"{counts[state]} {state}")
        epochs = f"{self.epochs_done}/{self.epochs_total} epochs"
        stages = f"{self.name}: {', '.join(parts)} of {len(self.dispatcher.graph)} stages"
        return f"{stages}; {epochs}; {self._time()}{self._cluster()}"

    @property
    def pending(self) -> int:
        """Stages handed out for which Ray has no room yet, or that are tried again in a moment."""
        return max(0, self.dispatcher.counts[State.RUNNING] - len(self.running))

    def _under_way(self) -> list[str]:
        parts = [f"{len(self.running)} running"]
        return [*parts, f"{self.pending} pending"] if self.pending else parts

    def _cluster(self) -> str:
        said = self.describe_cluster()
        return f"; cluster: {said}" if said else ""

    def done_of_total(self) -> tuple[int, int]:
        """Position and end of the progress bar, in epochs."""
        return self.epochs_done, self.epochs_total

    def _time(self) -> str:
        if self.dispatcher.ended and self.begun is not None:
            return f"trained for {duration(time.monotonic() - self.begun)}"
        left = self.seconds_left()
        return "time left unknown" if left is None else f"about {duration(left)} left"

    def render(self) -> Group:
        running = list(self.running.values())
        narrow = self.console.width < NARROW
        table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
        table.add_column("running", no_wrap=True, max_width=TITLE_SHARE[narrow])
        for column in ("epoch", *(() if narrow else ("",)), "test", "loss", "examples/s"):
            table.add_column(column, no_wrap=True)
        for item in running[:RUNNING_SHOWN]:
            metrics = item.metrics
            loss, speed = metrics.get("train_loss"), metrics.get("examples_per_second")
            bar = ProgressBar(total=item.node.epochs, completed=item.epoch, width=16)
            table.add_row(
                self._title(item.node.stage),
                f"{item.epoch}/{item.node.epochs}",
                *(() if narrow else (bar,)),
                percent(metrics.get("test_accuracy")),
                "–" if loss is None else f"{loss:.3f}",
                "–" if speed is None else f"{speed:,.0f}",
            )
        whole = Table.grid(expand=True)
        done, total = self.done_of_total()
        whole.add_row(ProgressBar(total=total, completed=done))
        parts: list[Text | Table] = [*self.ended, Text(self.summary(), style="bold"), whole, table]
        if len(running) > RUNNING_SHOWN:
            parts.append(Text(f"… and {len(running) - RUNNING_SHOWN} more", style="dim"))
        return Group(*parts)

    def _print(self, line: Text) -> None:
        self._last_line = time.monotonic()
        self.console.print(line, soft_wrap=True)


def duration(seconds: float) -> str:
    """``12 s``, ``3:05`` (minutes), ``2:03:05`` (hours)."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"

"""The live view of a search."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from sweeps.run.dispatcher import State
from sweeps.run.live_view import LiveView
from sweeps.run.sweep_log import SweepLog
from sweeps.searching.search import Search


class SearchView(LiveView):
    """Counts suggestions: how many stages they will take isn't known beforehand."""

    def __init__(
        self, name: str, search: Search, console: Console, log: SweepLog | None = None
    ) -> None:
        super().__init__(name, search.dispatcher.graph, search.dispatcher, console, log)
        self.search = search

    def say(self, line: str) -> None:
        """Print a line about a suggestion above the live view."""
        self.log(line)
        self.console.print(Text(line, style="bold"), soft_wrap=True)

    def done_of_total(self) -> tuple[int, int]:
        wanted = self.search.effort.suggestions
        return min(self.search.num_suggested, wanted), wanted

    def summary(self) -> str:
        search, counts = self.search, self.dispatcher.counts
        waiting = counts[State.WAITING] + counts[State.READY]
        done, wanted = self.done_of_total()
        parts = [f"{done} of {wanted} suggestions", f"{search.num_given_up} given up early"]
        parts += [f"stages: {', '.join(self._under_way())}, {waiting} waiting"]
        parts += [f"{counts[State.DONE]} done", f"{self.epochs_done:,} epochs"]
        return f"{self.name}: {', '.join(parts)}{self._cluster()}"

"""What has happened so far, on disk after every sweep and as a table."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from benchmarks.soak.running import Running
from benchmarks.soak.verdict import Verdict


@dataclass(kw_only=True)
class Tally:
    counts: Counter[str] = field(default_factory=Counter)
    """By fault; of damage ``kind: change``."""
    recovery: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from the fault to the first epoch that was finished after it."""
    sweeps: int = 0
    restarts: int = 0
    tracebacks: int = 0
    seconds: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    broken: list[str] = field(default_factory=list)
    """What never should have happened: a driver that hangs, a sweep that doesn't end."""

    @property
    def faults(self) -> int:
        return self.counts.total()

    def add(self, running: Running, verdict: Verdict, seconds: float, broken: str) -> None:
        self.counts += running.counts
        for name, several in running.recovery.items():
            self.recovery.setdefault(name, []).extend(several)
        self.sweeps += 1
        self.restarts += running.restarts
        self.tracebacks += running.tracebacks
        self.seconds += seconds
        self.verdict += verdict
        self.broken += [broken] * bool(broken)

    def write(self, path: Path) -> None:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        path.write_text(json.dumps(values | {"verdict": asdict(self.verdict)}, indent=1))

    @property
    def clean(self) -> bool:
        return not self.tracebacks and not self.broken and not any(asdict(self.verdict).values())


def read_tally(path: Path) -> Tally:
    """That of a soak which was broken off; an empty one where there is none."""
    if not path.exists():
        return Tally()
    values = json.loads(path.read_text())
    counts, verdict = Counter(values.pop("counts")), Verdict(**values.pop("verdict"))
    return Tally(counts=counts, verdict=verdict, **values)


def table(tally: Tally) -> str:
    """Faults of one kind in a line: how often, and how soon an epoch was finished after it."""
    lines = [f"{'fault':56} {'times':>6} {'median s':>9} {'longest s':>10}"]
    damage = {name for name in tally.counts if ": " in name}
    lines += [line_of(name, [name], tally) for name in sorted(tally.counts.keys() - damage)]
    for kind in sorted({name.partition(": ")[0] for name in damage}):
        names = [name for name in damage if name.startswith(f"{kind}: ")]
        lines.append(line_of(f"damaged: {kind}", names, tally))
    changes = Counter[str]()
    for name in damage:
        changes[name.partition(": ")[2]] += tally.counts[name]
    how = ", ".join(f"{change} {times}" for change, times in sorted(changes.items()))
    return "\n".join(
        [
            *lines,
            f"{tally.faults} faults in {tally.sweeps} sweeps, {tally.seconds:.0f} s",
            f"damage: {how or 'none'}",
            f"the command was given again {tally.restarts} times, after an end with a word; with a "
            f"traceback: {tally.tracebacks}",
            ", ".join(f"{k.replace('_', ' ')}: {v}" for k, v in asdict(tally.verdict).items()),
            *tally.broken,
        ]
    )


def line_of(title: str, names: list[str], tally: Tally) -> str:
    times = sum(tally.counts[name] for name in names)
    seconds = [s for name in names for s in tally.recovery.get(name, ())] or [float("nan")]
    return f"{title:56} {times:6} {statistics.median(seconds):9.1f} {max(seconds):10.1f}"

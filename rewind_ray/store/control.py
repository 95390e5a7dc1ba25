"""What a sweep is asked to do while it runs: to pause, or to train fewer stages at once.

Asked from any machine that can write to the storage; the sweep's driver looks every few seconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rewind_ray.store.files import read_sealed, write_sealed
from rewind_ray.store.ledger import DamagedRecord, Ledger

LIMIT = 2**12


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    paused: bool = False
    at_once: int | None = None
    """Most stages to train at once; None: what the sweep's own command says."""

    def most(self, at_once: int) -> int:
        """Stages to train at once. at_once: what the sweep's own command says."""
        return 0 if self.paused else at_once if self.at_once is None else self.at_once

    def describe(self) -> str:
        """Empty where nothing is asked for."""
        share = f"at most {self.at_once} at once" if self.at_once is not None else ""
        return "paused" + (f", then {share}" if share else "") if self.paused else share


def write_control(ledger: Ledger, sweep: str, control: Control) -> None:
    write_sealed(ledger.filesystem, ledger.layout.control(sweep), asdict(control))


def read_control(ledger: Ledger, sweep: str) -> Control:
    """Raises DamagedRecord."""
    path = ledger.layout.control(sweep)
    try:
        record = read_sealed(ledger.filesystem, path, LIMIT)
    except FileNotFoundError:
        return Control()
    except ValueError as error:
        raise DamagedRecord(f"can't read {ledger.layout.shown(path)}: {error}") from error
    match record:
        case {"paused": bool(paused), "at_once": None | int() as at_once}:
            if not isinstance(at_once, bool) and (at_once is None or at_once > 0):
                return Control(paused=paused, at_once=at_once)
    raise DamagedRecord(f"{ledger.layout.shown(path)} holds no control of a sweep")

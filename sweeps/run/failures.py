"""Failed stages, in the sweep's record, so that ``rewind-ray status`` shows them."""

from __future__ import annotations

from contextlib import suppress

from sweeps.run.dispatcher import Dispatcher, State


def record_failures(name: str, dispatcher: Dispatcher) -> None:
    """Write the reasons of failed stages to the sweep's record, instead of earlier ones."""
    ledger = dispatcher.ledger
    failures = {
        stage_id: dispatcher.reasons[stage_id]
        for stage_id, state in dispatcher.states.items()
        if state == State.FAILED
    }
    with suppress(OSError, ValueError):  # the storage may be what stopped the sweep
        record = ledger.read_sweep(name)
        if record.get("failures", {}) != failures:
            ledger.write_sweep(name, record | {"failures": failures})

"""``rewind-ray control STORAGE --pause``: to a sweep while it runs."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated

import tyro

from rewind_ray.command_line import DONE, make_console
from rewind_ray.errors import UserError
from rewind_ray.store.control import Control, read_control, write_control
from rewind_ray.store.ledger import DamagedRecord, Ledger


def control_command(
    storage: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STORAGE")] = "results",
    sweep: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    pause: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    at_once: Annotated[str | None, tyro.conf.arg(metavar="N")] = None,
) -> int:
    """Pause or resume a sweep, or change its share of the machines, while it runs.

    Works from any machine that can write to the storage; the sweep notices within seconds. Stages
    that are to stop train to the end of their epoch, and go on from there later. What is asked for
    stays until something else is, also for a driver that is started again. Without an option it
    shows what was asked for.

    Two sweeps that share a cluster of 8 slots: give one --at-once 6 and the other --at-once 2.

    Examples:
      rewind-ray control results
      rewind-ray control s3://bucket/results --sweep compare --pause
      rewind-ray control s3://bucket/results --sweep compare --resume
      rewind-ray control s3://bucket/results --sweep compare --at-once 2

    Args:
        storage: local folder or URI (s3://, gs://)
        sweep: the sweep; may be left out where the storage has only one
        pause: begin no more stages, and end those that run after their epoch
        resume: go on after --pause
        at_once: most stages to train at once; default: what the sweep's command says
    """
    if pause and resume:
        raise UserError("--pause and --resume exclude each other")
    ledger = Ledger(storage)
    name = ledger.chosen_sweep(sweep)
    changes = pause or resume or at_once is not None
    control = control_of(ledger, name, repair=changes)
    if pause or resume:
        control = replace(control, paused=pause)
    if at_once is not None:
        control = replace(control, at_once=stages_at_once(at_once))
    if changes:
        write_control(ledger, name, control)
    make_console().print(
        f"{name}: {control.describe() or 'as its command says'}", markup=False, soft_wrap=True
    )
    return DONE


def stages_at_once(text: str) -> int | None:
    if text == "default":
        return None
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise UserError(
            f"--at-once is {text[:40]!r}; allowed: 1, 2, 3, ... or default. --pause trains none"
        )
    return int(text)


def control_of(ledger: Ledger, sweep: str, repair: bool) -> Control:
    """repair: what is damaged counts as nothing, because it is written anew."""
    try:
        return read_control(ledger, sweep)
    except DamagedRecord:
        if repair:
            return Control()
        raise

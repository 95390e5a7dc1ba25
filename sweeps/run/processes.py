"""Processes of this machine, from /proc. No Ray."""

from __future__ import annotations

from pathlib import Path


def command_lines() -> dict[int, list[str]]:
    """Process id -> its arguments, of all that may be read; empty where there is no /proc."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # gone meanwhile
            continue
        if text:
            found[int(folder.name)] = text.rstrip("\0").split("\0")
    return found


def parent_of(pid: int) -> int | None:
    """None where there is no such process any more."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None

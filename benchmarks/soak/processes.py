"""Processes of this machine, from /proc: a driver's, what they are, and where they listen."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections import defaultdict
from pathlib import Path

LISTENING = "0A"
"""State of a socket in /proc/net/tcp."""

WORKER, RAYLET, GCS = "ray::StageTrainable", "/raylet/raylet", "/gcs/gcs_server"
"""In the command lines of Ray's processes."""


def descendants(pid: int) -> dict[int, str]:
    """Of a process, itself left out: pid -> command line, of those that aren't zombies."""
    children = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        parent, state = parent_and_state(int(folder.name))
        if state not in ("Z", "X", ""):
            children[parent].append(int(folder.name))
    found: dict[int, str] = {}
    waiting = list(children[pid])
    while waiting:
        child = waiting.pop()
        found[child] = command_line(child)
        waiting += children[child]
    return found


def parent_and_state(pid: int) -> tuple[int, str]:
    """(0, "") where there is no such process."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, ""
    return int(parent), state


def runs(pid: int) -> bool:
    return parent_and_state(pid)[1] not in ("Z", "X", "")


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def find(processes: dict[int, str], words: str) -> list[int]:
    """Those with the words in their command line, as they are now: Ray's workers rename
    themselves."""
    return [pid for pid in processes if words in command_line(pid)]


def listening_on(pid: int) -> set[str]:
    """Addresses on which a process listens; none if it has ended."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            return set()
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in sockets:
                found.add(address_of(fields[1].partition(":")[0]))
    return found


def address_of(digits: str) -> str:
    """The kernel writes an address as words of 32 bits in this machine's order of bytes."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    address = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)

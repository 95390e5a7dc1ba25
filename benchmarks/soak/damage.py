"""What is done to files, and which of them still have it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.soak.places import Disk, Place
from rewind_ray.store.files import File
from rewind_ray.store.layout import entry

KINDS = (
    *("row", "metrics", "spec", "data", "tensors", "partial", "partial tensors", "lease"),
    *("driver", "sweep"),
)
"""Of files in a storage; see ``rewind_ray.store.layout.Entry.kind``."""
CACHE = "decoded images"
"""Of files in the cache: another kind."""


def half(content: bytes, rng: random.Random) -> bytes:
    return content[: len(content) // 2]


def empty(content: bytes, rng: random.Random) -> bytes:
    return b""


def zeroed(content: bytes, rng: random.Random) -> bytes:
    return bytes(len(content))


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Another bit of one byte."""
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def edited(content: bytes, rng: random.Random) -> bytes:
    """Another value in a json, its checksum left as it was; of other files a byte."""
    try:
        whole = json.loads(content)
    except ValueError:
        return flipped(content, rng)
    holder, key = rng.choice(places_of(whole))
    old = holder[key]
    if isinstance(old, bool) or old is None:
        holder[key] = 1
    elif isinstance(old, (int, float)):
        holder[key] = old + rng.choice((1, -1, 0.25, 10**6))
    else:
        holder[key] = f"{old}0" if isinstance(old, str) else "0"
    return json.dumps(whole, indent=1).encode()


def places_of(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in json whose value holds no other."""
    keys: Any = list(value) if isinstance(value, dict) else range(len(value))
    found: list[tuple[Any, Any]] = []
    for key in keys:
        inner = value[key]
        found += places_of(inner) if isinstance(inner, (dict, list)) and inner else [(value, key)]
    return found


CHANGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "cut in half": half,
    "emptied": empty,
    "zeroed": zeroed,
    "a bit flipped": flipped,
    "a value edited": edited,
    "deleted": lambda content, rng: None,
    "another file's content": lambda content, rng: None,  # see ``damage_one``
}


def kind_of(path: str) -> str:
    return entry(File(path, 0, 0.0)).kind


@dataclass
class Damage:
    """What was done to the files of a storage."""

    place: Place
    done: dict[str, bytes] = field(default_factory=dict)
    """Path -> the content it was given."""

    def left(self) -> set[str]:
        """Paths that still have it."""
        found = set()
        for path, content in self.done.items():
            try:
                if self.place.read(path) == content:
                    found.add(path)
            except FileNotFoundError:
                continue
        return found


def damage_one(damage: Damage, rng: random.Random) -> tuple[str, str] | None:
    """Damage a file of a kind chosen at random. (kind, change), or None if nothing was changed."""
    by_kind: dict[str, list[str]] = {}
    for path in sorted(damage.place.files()):
        if kind_of(path) in KINDS:
            by_kind.setdefault(kind_of(path), []).append(path)
    if not by_kind:
        return None
    kind = rng.choice(sorted(by_kind))
    path, change = rng.choice(by_kind[kind]), rng.choice(sorted(CHANGES))
    donor = rng.choice(by_kind[kind])
    try:
        before = damage.place.read(path)
        if change == "another file's content":
            after: bytes | None = damage.place.read(donor)
        else:
            after = CHANGES[change](before, rng)
        if after == before:
            return None
        if after is None:
            damage.place.delete(path)
            damage.done.pop(path, None)
        else:
            damage.place.write(path, after)
            damage.done[path] = after
    except (FileNotFoundError, ValueError, IndexError):  # gone meanwhile, or nothing left to change
        return None
    return kind, change


def damage_cache(cache: Disk, rng: random.Random) -> tuple[str, str] | None:
    """As ``damage_one``, in the cache of decoded images."""
    files = [path for path in sorted(cache.files()) if path.endswith((".npy", ".json"))]
    if not files:
        return None
    path, change = rng.choice(files), rng.choice(sorted(CHANGES))
    try:
        before = cache.read(path)
        donor = cache.read(rng.choice(files))
        after = donor if change == "another file's content" else CHANGES[change](before, rng)
        if after == before:
            return None
        cache.delete(path) if after is None else cache.write(path, after)
    except (FileNotFoundError, ValueError, IndexError):
        return None
    return CACHE, change

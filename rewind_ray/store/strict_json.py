"""Json that proves itself, read strictly: what was damaged or edited is refused.

Every json of a storage is an object that carries the sha256 of its own content. That finds every
accident and every careless edit. It keeps nobody out who computes it anew
(docs/threat-model.md).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from rewind_ray.errors import DataError

TEXT_LIMIT = 1000
"""Characters of any text in a spec or a row."""
WHOLE_LIMIT = 2**63
"""Tables hold whole numbers below this."""


CHECKSUM = "checksum"
"""Name of the member that is no content."""


class DamagedJson(DataError):
    """It isn't what was written."""


def seal(content: Mapping[str, Any]) -> bytes:
    """As json, with its checksum. Raises ValueError for NaN and Infinity."""
    sealed = {**content, CHECKSUM: content_checksum(content)}
    return json.dumps(sealed, indent=1, allow_nan=False).encode()


def unseal(data: bytes) -> dict[str, Any]:
    """Inverse of ``seal``. Raises DamagedJson where the content isn't what was sealed."""
    try:
        content = parse_json(data)
    except ValueError as error:
        raise DamagedJson(str(error)) from error
    if not isinstance(content, dict) or CHECKSUM not in content:
        raise DamagedJson("this json has no checksum: it was edited, or is none of ours")
    if content.pop(CHECKSUM) != content_checksum(content):
        raise DamagedJson("the checksum doesn't fit: this json was edited or damaged")
    return content


def content_checksum(content: Mapping[str, Any]) -> str:
    """Of the content in canonical form, so that neither spaces nor the order of names matter."""
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise DamagedJson("this json is nested too deeply") from None
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def parse_json(data: bytes) -> Any:
    """Raises ValueError for all but plain json in UTF-8.

    So it does for a name given twice, for NaN and Infinity, and for a nesting or a number too
    large for Python.
    """
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_each_once,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:  # which carries all of the data along
        raise ValueError(f"this json is not UTF-8: {error.reason} at {error.start}") from None
    except RecursionError:
        raise ValueError("this json is nested too deeply") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    once = dict(pairs)
    if len(once) < len(pairs):
        raise ValueError("this json gives a name twice")
    return once


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"this json has the number {text[:20]}; allowed: finite ones")
    return number


def check_fields(kind: type, values: Mapping[str, Any]) -> None:
    """Raises ValueError, naming it, if a value from json is not of its field's type.

    kind: a dataclass; a whole number may stand for a float, a list for a tuple, and a dict for a
    dataclass. Names that are no field's, and missing ones, are left to the dataclass itself.
    """
    allowed = _allowed_fields(kind)
    for name, value in values.items():
        if name in allowed and not _fits(value, allowed[name]):
            kinds = " or ".join(
                sorted(getattr(hint, "__name__", str(hint)) for hint in allowed[name])
            )
            raise ValueError(
                f"{name} is {repr(value)[:60]}, which doesn't fit {kind.__name__}'s {kinds}"
            )


@cache
def _allowed_fields(kind: type) -> dict[str, frozenset[Any]]:
    return {name: _allowed(hint) for name, hint in get_type_hints(kind).items()}


@cache
def _allowed(hint: Any) -> frozenset[Any]:
    """The types that an annotation allows."""
    return frozenset(get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint])


def _fits(value: Any, allowed: frozenset[Any]) -> bool:
    kind = type(value)
    if kind is str:
        return str in allowed and len(value) <= TEXT_LIMIT
    if kind is int:
        whole = int in allowed and abs(value) < WHOLE_LIMIT
        return whole or (float in allowed and abs(value) < 10**300)
    if kind in (list, tuple):
        return any(get_origin(hint) is tuple and _all_fit(value, hint) for hint in allowed)
    if kind is dict:
        return any(is_dataclass(hint) for hint in allowed)
    return kind in allowed


def _all_fit(values: Sequence[Any], hint: Any) -> bool:
    """hint: tuple[x, ...] or tuple[x, y]."""
    hints = get_args(hint)
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(values)
    return len(values) == len(hints) and all(map(_fits, values, map(_allowed, hints)))

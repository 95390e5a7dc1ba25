"""What tells stages apart that no column of a row tells: their protocol and their knobs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import Any

import pandas as pd

from rewind_ray.spec import Prune, Retrain, Stage, canonical

PROTOCOL_DIGITS = 6
NO_KNOBS = "none"

IN_COLUMNS = {
    Prune: ("fraction", "criterion", "structure", "power"),
    Retrain: ("method", "epochs"),
}
"""Fields that columns of the row tell, or its density."""

ALIKE = ["network", "dataset"]
"""Rows that a protocol could tell apart."""

SAME_KIND = [*ALIKE, "structure", "criterion", "schedule_kind", "method"]
"""Rows that a variant could tell apart."""


def details_of(stage: Stage) -> dict[str, str | None]:
    """``protocol``, a short digest, and ``variant``, such as ``alpha 0.5`` or ``resnet56-A``."""
    text = json.dumps(canonical(stage.protocol), sort_keys=True)
    parts = [*_knobs(stage.prune), *_knobs(stage.retrain)]
    if stage.baseline.train_epochs != stage.protocol.epochs and stage.parent:
        parts.append(f"from epoch {stage.baseline.train_epochs}")
    ways = [_way(step) for step in stage.chain[1:]]
    if any(way != ways[-1] for way in ways):
        parts.append(f"after {_digest(json.dumps(ways[:-1]))}")
    told = ", ".join(parts)
    return {"protocol": _digest(text), "variant": told or None, "knobs": told or NO_KNOBS}


def keep_what_differs(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows``, without a protocol or variant that all rows it could tell apart have.

    Published rows keep what their paper says.
    """
    told = {"protocol": ALIKE, "variant": [*ALIKE, "protocol", *SAME_KIND[2:]]}
    differs = {
        name: (rows.groupby(among, dropna=False)[name].transform("nunique") > 1)
        | rows["source"].notna()
        for name, among in told.items()
    }
    return rows.assign(**{name: rows[name].where(several, "") for name, several in differs.items()})


def _knobs(spec: Prune | Retrain | None) -> list[str]:
    if spec is None:
        return []
    chosen = {
        item.name: getattr(spec, item.name)
        for item in fields(spec)
        if item.name not in IN_COLUMNS[type(spec)]
        and getattr(spec, item.name) != _default(type(spec), item.name)
    }
    return [_knob(name, value) for name, value in chosen.items()]


def _knob(name: str, value: Any) -> str:
    if name == "rates":
        return str(value)
    readable = name.replace("_", " ")
    if value is True:
        return readable
    if isinstance(value, tuple):
        return f"{readable} {' '.join(f'{part:g}' for part in value)}"
    return f"{readable} {value:g}" if isinstance(value, float) else f"{readable} {value}"


def _default(kind: type, name: str) -> Any:
    (item,) = (item for item in fields(kind) if item.name == name)
    return item.default


def _way(step: Stage) -> Any:
    """How a step was made, its amount left out: those of a chain are alike."""
    prune, retrain = canonical(step.prune)["Prune"], canonical(step.retrain)["Retrain"]
    return [{k: v for k, v in prune.items() if k not in ("power", "fraction")}, retrain]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:PROTOCOL_DIGITS]

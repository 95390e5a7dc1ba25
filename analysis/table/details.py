"""What tells stages apart beside the columns of a row, and the knobs as text to be shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from analysis.table.groups import first_lines, group_numbers, with_several
from rewind_ray.knobs import Knob, columns_of, knobs_of, label_of, unset_of
from rewind_ray.spec import Prune, Retrain, Stage, canonical

PROTOCOL_DIGITS = 6

ALIKE = ["network", "dataset"]
"""Rows that a protocol could tell apart."""

SAME_KIND = [*ALIKE, "protocol", "structure", "criterion", "schedule_kind", "method"]
"""Rows that a variant could tell apart."""

KNOBS: dict[str, Knob] = {
    column: knobs_of(spec)[name]
    for spec in (Prune, Retrain)
    for column, name in columns_of(spec).items()
}
"""Column -> the knob that it holds."""

UNSET: dict[str, Any] = {
    column: unset_of(spec)[name]
    for spec in (Prune, Retrain)
    for column, name in columns_of(spec).items()
}
"""Column -> value where the knob is left out, if the cell isn't empty then."""

OF_PRUNE, OF_RETRAIN = (list(columns_of(spec)) for spec in (Prune, Retrain))
"""Their columns."""

OF_START = ["pruned_at", "pruned_over_speedup", "earlier_steps"]

LABELLED = [*(column for column, knob in KNOBS.items() if knob.label), *OF_START]
"""Columns that ``labels`` reads."""

SAME_IN_A_POINT = [
    *KNOBS,
    *OF_START,
    "published_setting",
]
"""What a variant is made of."""


def details_of(stage: Stage) -> dict[str, Any]:
    """``protocol``, a short digest; ``pruned_at``, unless that is the end of the dense training;
    ``earlier_steps``, a digest, where they differ from the last one."""
    early = stage.parent and stage.baseline.train_epochs != stage.protocol.epochs
    ways = [_way(step) for step in stage.chain[1:]]
    return {
        "protocol": _digest(json.dumps(canonical(stage.protocol), sort_keys=True)),
        "pruned_at": stage.baseline.train_epochs if early else None,
        "earlier_steps": _digest(json.dumps(ways[:-1]))
        if any(way != ways[-1] for way in ways)
        else None,
    }


def keep_what_differs(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with ``variant``, and without a protocol that all rows it could tell apart have.

    Published rows keep what their paper says.
    """
    several = with_several(group_numbers(rows, ALIKE), rows["protocol"])
    rows = rows.assign(protocol=rows["protocol"].where(several | rows["source"].notna(), ""))
    return rows.assign(variant=variants(rows))


def variants(rows: pd.DataFrame, without: Sequence[str] = ()) -> pd.Series:
    """The knobs in which rows of one kind differ, as text: ``alpha 0.5, from epoch 30``.

    What a paper calls its setting stands for the knobs. without: columns that are left out.
    """

    def of_lines(lines: pd.DataFrame) -> pd.Series:
        shown = shown_labels(lines).drop(columns=list(without), errors="ignore")
        return lines["published_setting"].where(lines["published_setting"] != "", joined(shown))

    return of_distinct(of_lines, rows, [*SAME_KIND, *LABELLED, "published_setting"])


def of_distinct(
    function: Callable[[pd.DataFrame], Any], rows: pd.DataFrame, columns: list[str]
) -> Any:
    """What ``function`` makes of each line of ``rows``, computed once for lines that are the same
    in ``columns``, which is all that it looks at."""
    number = group_numbers(rows, columns)
    found = function(rows.iloc[first_lines(number)][columns])
    return found.take(number.to_numpy()).set_axis(rows.index)


def shown_labels(rows: pd.DataFrame, within: Sequence[str] = SAME_KIND) -> pd.DataFrame:
    """``labels`` that differ somewhere, empty where all rows that are alike in ``within`` have the
    same."""
    found = labels(rows)
    found = found[found.columns[found.nunique() > 1]]
    if found.empty:
        return found
    kinds = [rows[name] for name in within]
    return found.where(found.groupby(kinds, dropna=False).transform("nunique") > 1, "")


def labels(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each knob that has one, and of what else a stage's description says; empty where it is
    left out. Columns as in ``rows``."""
    return of_distinct(_labels, rows, LABELLED)


def _labels(rows: pd.DataFrame) -> pd.DataFrame:
    found = {
        column: rows[column].map(_labels_of_values(rows[column], knob, UNSET[column]))
        for column, knob in KNOBS.items()
        if knob.label
    }
    divided = rows["pruned_over_speedup"].eq(True).fillna(False).map({True: "/k", False: ""})
    at = rows["pruned_at"].map(lambda epoch: f"from epoch {epoch:g}", na_action="ignore")
    found["pruned_at"] = at.astype("str") + divided
    found["earlier_steps"] = rows["earlier_steps"].map("after {}".format, na_action="ignore")
    return pd.DataFrame(found, index=rows.index, dtype="str").fillna("")


def joined(parts: pd.DataFrame) -> pd.Series:
    """The texts of each line, joined by commas."""
    if not len(parts.columns):
        return pd.Series("", parts.index, dtype="str")
    distinct = parts.drop_duplicates()
    texts = [", ".join(filter(None, line)) for line in distinct.itertuples(index=False)]
    if len(distinct) == len(parts):
        return pd.Series(texts, parts.index, dtype="str")
    keys = pd.MultiIndex.from_frame(distinct)
    places = keys.get_indexer(pd.MultiIndex.from_frame(parts))
    return pd.Series([texts[place] for place in places], parts.index, dtype="str")


def _labels_of_values(values: pd.Series, knob: Knob, unset: Any) -> dict[Any, str]:
    distinct = values.dropna().unique().tolist()
    return {value: label_of(knob, value) for value in distinct if value != unset}


def _way(step: Stage) -> Any:
    """How a step was made, its amount left out: those of a chain are alike."""
    prune, retrain = canonical(step.prune)["Prune"], canonical(step.retrain)["Retrain"]
    return [{k: v for k, v in prune.items() if k not in ("power", "fraction")}, retrain]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:PROTOCOL_DIGITS]

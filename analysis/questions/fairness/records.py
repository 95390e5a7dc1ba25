"""A pair as plain data."""

from __future__ import annotations

from typing import Any

from analysis.questions.fairness.labels import label_of_pair
from analysis.questions.fairness.prepared import GROUP
from analysis.questions.fairness.verdicts import Pair
from analysis.table.details import ALIKE


def pair_record(pair: Pair) -> dict[str, Any]:
    """A pair as plain data, for JSON and tables; in ``a`` and ``b`` the columns of GROUP."""
    breaks = pair.breaks
    return {
        "network": pair.a.network,
        "dataset": pair.a.dataset,
        "a": {name: getattr(pair.a, name) for name in GROUP if name not in ALIKE},
        "b": {name: getattr(pair.b, name) for name in GROUP if name not in ALIKE},
        "label": label_of_pair(pair),
        "setup": pair.setup or None,
        "beside": list(pair.beside),
        "next_setup": pair.next_setup,
        "broken": pair.broken,
        "broken_status": breaks.status if breaks else None,
        "broken_words": breaks.words if breaks else None,
        "compressions": list(pair.compressions),
        "shared_baselines": pair.shared_baselines,
        "seeds_a": pair.seeds[0],
        "seeds_b": pair.seeds[1],
        "conditions": {
            name: {"status": found.status, "words": found.words}
            for name, found in pair.findings.items()
        },
    }

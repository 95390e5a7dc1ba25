"""Published results as rows: what the analysis does on one's own, it does on these.

Which column is filled with what, and what is empty and why: docs/reference.md.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis.reference import mikler2022, renda2020, wang2023
from analysis.reference.compared import compared
from rewind_ray.errors import UserError

__all__ = ["PUBLISHED", "compared", "published"]

PUBLISHED: dict[str, Callable[[], pd.DataFrame]] = {
    "renda2020": renda2020.rows,
    "mikler2022": mikler2022.rows,
    "wang2023": wang2023.rows,
}


def published(name: str) -> pd.DataFrame:
    """The results of a paper as checked rows, each with its ``source``.

    Raises UserError, listing the known ones, for another name.
    """
    if name not in PUBLISHED:
        raise UserError(f"no published results {name!r}; there are {', '.join(PUBLISHED)}")
    return PUBLISHED[name]()

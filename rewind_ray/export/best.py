"""``rewind-ray export best``: the smallest network of a storage within a drop of accuracy."""

from __future__ import annotations

from rewind_ray.errors import UserError
from rewind_ray.spec import Stage
from rewind_ray.store.ledger import Ledger

BEST = "best"
"""In the place of a stage's id."""


def best_stage(ledger: Ledger, max_accuracy_drop: str, sweep: str | None) -> str:
    """The id of the most compressed stage that is within the drop below its dense network.

    sweep: only its stages; None: all. Raises UserError where the stages are of several networks or
    data sets, where none is finished, and where none is within the drop.
    """
    from rewind_ray.api import Results  # imports the export

    listed = ledger.listed(ledger.sweep_rows(sweep) if sweep else None)
    stages = [ledger.read_spec(i) for i in listed.stage_ids() if listed.row_epochs(i)]
    pruned = [s for s in stages if s.level and all(_has_row(listed, t) for t in (s, s.baseline))]
    kinds = sorted({f"{s.protocol.network} on {s.protocol.dataset}" for s in pruned})
    if len(kinds) > 1:
        raise UserError(
            f"export {BEST}: there are {', '.join(kinds)} in {ledger.uri}; say which by --sweep, "
            "or give the id of a stage"
        )
    if not pruned:
        raise UserError(
            f"export {BEST}: no pruned network is finished in {ledger.uri}; rewind-ray status "
            "shows what is there"
        )
    found = Results(storage=ledger.uri, name=BEST, stages=pruned).best(max_accuracy_drop)
    return found.stage.stage_id


def _has_row(ledger: Ledger, stage: Stage) -> bool:
    return ledger.has_row(stage.stage_id, stage.train_epochs)

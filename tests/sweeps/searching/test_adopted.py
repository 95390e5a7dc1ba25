"""A search whose dense network was given trained."""

from __future__ import annotations

import pytest

from rewind_ray.errors import UserError
from rewind_ray.limits import Range
from rewind_ray.models.own import weights_bytes
from rewind_ray.retraining import METHODS
from rewind_ray.spec import BUILDER, dense_stage
from rewind_ray.tasks import adopting, planned_task
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage
from sweeps.search import Knobs, space_of
from sweeps.searching.space import default_space, narrowed, rewind_epochs
from tests.sweeps.running import tiny_protocol
from tests.sweeps.searching.searches import SMALL, searching

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
REWINDING = {name for name, method in METHODS.items() if method.weights in ("baseline", "blend")}
FRESH = {name for name, method in METHODS.items() if method.weights == "fresh"}
DIGEST = 16 * "a"


def history(*epochs: int) -> str:
    return " ".join(f"{epoch}:{DIGEST}" for epoch in epochs)


@pytest.mark.parametrize(
    ("init", "missing"),
    [
        ("", set()),
        (DIGEST, REWINDING),
        (BUILDER, REWINDING | FRESH),
        (history(0, 1, 2, 3, 4), set()),
        (history(1, 2, 3, 4), REWINDING),  # a share of 1 goes back to epoch 0
    ],
)
def test_methods_without_weights_to_start_from_are_left_out_and_named(
    init: str, missing: set[str]
) -> None:
    space, note = space_of(Knobs(), tiny_protocol(init=init))
    assert set(space.methods) == set(METHODS) - missing
    assert all(name in (note or "") for name in missing) and bool(note) == bool(missing)


def test_shares_that_go_back_to_what_is_there_keep_the_rewinding_methods() -> None:
    protocol = tiny_protocol(init=history(2, 4))
    space, note = space_of(Knobs(shares=(0.5,)), protocol)
    assert set(space.methods) == set(METHODS) and note is None
    assert rewind_epochs(space, protocol) == {2}
    endless = narrowed(default_space(protocol), {"shares": Range(low=0.1, high=1.0)})
    assert rewind_epochs(endless, protocol) == {0, 1, 2, 3}


def test_a_method_that_is_asked_for_and_can_not_be_is_refused() -> None:
    with pytest.raises(UserError, match=r"--methods has weight_rewind: .*--init-history DIR"):
        space_of(Knobs(methods=("finetune", "weight_rewind")), tiny_protocol(init=DIGEST))


def test_it_prunes_what_was_given_and_trains_no_baseline(storage) -> None:
    protocol = tiny_protocol()
    given = planned_task(protocol, None).network(5).state_dict()
    init = adopting(protocol, None, given, "test").init
    space = narrowed(SMALL, {"methods": ("finetune", "lr_rewind"), "levels": (1,)})
    search = searching(storage, space=space, init=init, suggestions=3, seeds=1)
    ledger = search.dispatcher.ledger
    ledger.write_init(init, weights_bytes(given))
    search.begin("nobody", 1)
    trained = []
    while not (search.ended and search.dispatcher.ended):
        search.settle()
        node = search.dispatcher.next_ready()
        if node is None:
            assert search.more() or search.ended
            continue
        trained.append(node.stage)
        run_stage(node.job, Runtime(storage=str(storage)))
        search.dispatcher.finish(node.stage_id)
    dense = dense_stage(search.protocol, 0)
    assert trained[0].stage_id == dense.stage_id and len(trained) > 1
    assert ledger.points(dense.stage_id) == [0] and ledger.row_epochs(dense.stage_id) == [0]
    assert search.sharing().epochs_of_baselines == 0

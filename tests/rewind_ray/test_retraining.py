"""Which learning rates a retraining follows: tables written by hand, and the rewind point's law."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_ray.protocols import mikler_resnet, mikler_wrn, renda_cifar
from rewind_ray.retraining import METHODS, RATES, RateContext, method_named
from rewind_ray.schedule import Schedule, learning_rate
from rewind_ray.spec import Prune, Retrain, Stage, dense_stage, retrain_stage
from rewind_ray.stage import epoch_rates
from tests.rewind_ray.tiny_stages import child, tiny

STEPS = 3
HALVES = Schedule(lr=0.8, drops=(2, 4), factor=0.5)  # over 6 epochs; halves are exact
REWOUND = {
    6: [0.8] * 6 + [0.4] * 6 + [0.2] * 6,
    5: [0.8] * 3 + [0.4] * 6 + [0.2] * 6,
    4: [0.4] * 6 + [0.2] * 6,
    3: [0.4] * 3 + [0.2] * 6,
    2: [0.2] * 6,
    1: [0.2] * 3,
}
"""Retraining epochs t -> the rate of each of its 3 t updates, for T = 6."""


def rates(stage: Stage, epochs: int) -> list[float]:
    """Of every update, as the epochs of a stage get them."""
    return [
        epoch_rates(stage, epoch, STEPS)(update)
        for epoch in range(epochs)
        for update in range(STEPS)
    ]


def halves(**changes: object) -> Stage:
    return dense_stage(tiny(schedule=HALVES, **changes), 0)


def test_the_dense_network_follows_the_schedule() -> None:
    assert rates(halves(), 8) == REWOUND[6] + [0.2] * 6


@pytest.mark.parametrize("method", ["weight_rewind", "lr_rewind"])
@pytest.mark.parametrize("epochs", REWOUND)
def test_rewinding_repeats_the_last_epochs(method: str, epochs: int) -> None:
    stage = child(halves(), method, epochs)
    assert rates(stage, epochs) == REWOUND[epochs]
    second = child(stage, method, epochs)  # the levels of a chain don't add up
    assert rates(second, epochs) == REWOUND[epochs]


@pytest.mark.parametrize("epochs", [1, 6, 20])
def test_fine_tuning_keeps_the_last_rate(epochs: int) -> None:
    """20: longer than the original training."""
    assert rates(child(halves(), "finetune", epochs), epochs) == [0.2] * (STEPS * epochs)


def test_fine_tuning_at_a_given_rate() -> None:
    assert rates(child(halves(), "finetune", 4, lr=0.03), 4) == [0.03] * 12


def test_rewinding_into_a_warm_up() -> None:
    warm = Schedule(lr=0.6, warmup_epochs=2)
    stage = child(dense_stage(tiny(schedule=warm), 0), "lr_rewind", 5)
    assert rates(stage, 2) == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.6, 0.6], rel=1e-12)


def test_renda_fine_tunes_at_the_last_rate_and_rewinds_to_epoch_142() -> None:
    """Renda et al. 2020, Table 1: 182 epochs; 40 of retraining rewind to 142, past both drops."""
    baseline = dense_stage(renda_cifar(), 0)
    prune = Prune(fraction=0.8)
    tuned = retrain_stage(baseline, prune, Retrain(method="finetune", epochs=40))
    assert epoch_rates(tuned, 0, 390)(0) == pytest.approx(0.001, rel=1e-12)
    rewound = retrain_stage(baseline, prune, Retrain(method="lr_rewind", epochs=40))
    assert rewound.rewind_epoch == 142
    longer = retrain_stage(baseline, prune, Retrain(method="lr_rewind", epochs=92))
    assert epoch_rates(longer, 0, 390)(389) == pytest.approx(0.1, rel=1e-12)
    assert epoch_rates(longer, 1, 390)(0) == pytest.approx(0.01, rel=1e-12)


@pytest.mark.parametrize(
    ("protocol", "epochs", "update", "rate"),
    [
        (mikler_resnet, 30, 0, 0.1),  # update 12,000 of 72,000
        (mikler_resnet, 30, 23_999, 0.1),
        (mikler_resnet, 30, 24_000, 0.01),  # update 36,000
        (mikler_resnet, 30, 42_000, 0.001),  # update 54,000
        (mikler_wrn, 10, 3_999, 0.004),
        (mikler_wrn, 10, 4_000, 0.0008),  # update 64,000 of 80,000
    ],
)
def test_mikler_rewound(protocol: object, epochs: int, update: int, rate: float) -> None:
    baseline = dense_stage(protocol(), 0)  # type: ignore[operator]
    retrain = Retrain(method="weight_rewind", epochs=epochs)
    stage = retrain_stage(baseline, Prune(fraction=0.2), retrain)
    epoch, within = divmod(update, 2000)
    assert epoch_rates(stage, epoch, 2000)(within) == pytest.approx(rate, rel=1e-12)


@given(
    steps=st.integers(1, 50),
    dense_epochs=st.integers(1, 40),
    drops=st.lists(st.integers(1, 40), unique=True, max_size=4).map(sorted),
    warmup=st.integers(0, 5),
    data=st.data(),
)
def test_the_rewound_rate_starts_at_the_rewind_point(
    steps: int, dense_epochs: int, drops: list[int], warmup: int, data: st.DataObject
) -> None:
    """Law: update u of the retraining has the rate of update (T - t) * steps + u of S."""
    schedule = Schedule(lr=1, drops=tuple(drops), factor=0.5, warmup_epochs=warmup)
    epochs = data.draw(st.integers(1, dense_epochs))
    update = data.draw(st.sampled_from([0, 1, steps - 1, steps, epochs * steps - 1]))
    context = RateContext(
        schedule=schedule,
        steps_per_epoch=steps,
        dense_epochs=dense_epochs,
        retrain_epochs=epochs,
        lr=None,
    )
    start = (dense_epochs - epochs) * steps
    assert RATES["rewound"](update, context) == learning_rate(start + update, schedule, steps)
    last = learning_rate(dense_epochs * steps - 1, schedule, steps)
    assert RATES["last"](update, context) == last
    assert RATES["rewound"](epochs * steps - 1, context) == last


def test_the_table_is_renda_s() -> None:
    """Renda et al. 2020, §2.3: TRAIN^t of (W_T, m, T), (W_{T-t}, m, T-t) and (W_T, m, T-t)."""
    table = {name: (row.weights, row.rate, row.rewinds) for name, row in METHODS.items()}
    published = {
        "finetune": ("parent", "last", False),
        "weight_rewind": ("baseline", "rewound", True),
        "lr_rewind": ("parent", "rewound", True),
    }
    assert {name: table[name] for name in published} == published


def test_only_rates_that_depend_on_the_length_put_it_in_the_id() -> None:
    """Where two lengths share an id, they must share every rate."""
    for name, method in METHODS.items():
        shorter, longer = child(halves(), name, 2), child(halves(), name, 4)
        same_rates = rates(shorter, 2) == rates(longer, 2)
        assert method.length_in_id == (not same_rates)
        assert (shorter.stage_id == longer.stage_id) == same_rates


def test_unknown_methods_list_the_known() -> None:
    known = "known: finetune, weight_rewind, lr_rewind"
    with pytest.raises(ValueError, match=f"unknown retraining method 'lottery'; {known}"):
        method_named("lottery")

"""Which learning rates a retraining follows: tables written by hand, and the rewind point's law."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewind_ray.protocols import mikler_resnet, mikler_wrn, renda_cifar
from rewind_ray.retraining import METHODS, RATES, RateContext, method_named, stays_at_first
from rewind_ray.schedule import SHAPES, Schedule, learning_rate
from rewind_ray.spec import Prune, Retrain, Stage, dense_stage, retrain_stage
from rewind_ray.training.stage import epoch_rates
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


@pytest.mark.parametrize("method", ["weight_rewind", "lr_rewind", "blend"])
@pytest.mark.parametrize("start", [0, 1, 20, 36])
def test_rates_from_another_epoch_than_the_weights(method: str, start: int) -> None:
    """Law: update u has the rate of update start * steps + u of S; T - t or left out is one id."""
    dense = dense_stage(mikler_resnet(), 0)
    alpha = {"alpha": 0.5} if method == "blend" else {}

    def stage(rates_from: int | None) -> Stage:
        retrain = Retrain(method=method, epochs=32, rates_from=rates_from, **alpha)
        return retrain_stage(dense, Prune(fraction=0.2), retrain)

    for epoch in range(32):
        found = epoch_rates(stage(start), epoch, 2000)(7)
        there = learning_rate((start + epoch) * 2000 + 7, dense.protocol.schedule, 2000, 36)
        assert found == pytest.approx(there, rel=1e-12)
    assert stage(start).rewind_epoch == 4
    assert stage(4).stage_id == stage(None).stage_id != stage(start).stage_id
    for wrong in (-1, 37, 0.5, True):
        with pytest.raises(ValueError, match=f"rates_from is {wrong}.*allowed: whole numbers"):
            stage(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rates_from is 0, but finetune doesn't use it"):
        Retrain(method="finetune", epochs=32, rates_from=0)


@pytest.mark.parametrize("last", [0.0, 1e-4, 5e-3])
def test_a_cosine_ends_at_its_last_rate(last: float) -> None:
    """torch's CosineAnnealingLR, a step an update."""
    retrain = Retrain(method="cosine", epochs=3, lr=1e-2, last_lr=last)
    stage = retrain_stage(dense_stage(mikler_resnet(), 0), Prune(fraction=0.2), retrain)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-2)
    annealed = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3 * 20, eta_min=last)
    for update in range(60):
        epoch, within = divmod(update, 20)
        rate = epoch_rates(stage, epoch, 20)(within)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        annealed.step()
    assert (retrain.last_lr is None) == (last == 0)
    with pytest.raises(ValueError, match=r"last_lr is 0\.01; allowed: 0 up to below lr"):
        Retrain(method="cosine", epochs=3, lr=1e-2, last_lr=1e-2)


@given(
    steps=st.integers(1, 50),
    dense_epochs=st.integers(1, 40),
    data=st.data(),
)
def test_the_rewound_rate_starts_at_the_rewind_point(
    steps: int, dense_epochs: int, data: st.DataObject
) -> None:
    """Law: update u of the retraining has the rate of update (T - t) * steps + u of S."""
    drops = data.draw(st.sets(st.integers(0, dense_epochs - 1), max_size=4).map(sorted))
    warmup = data.draw(st.integers(0, min(5, dense_epochs - 1)))
    later = tuple(drop for drop in drops if drop)
    schedule = Schedule(lr=1, drops=later, factor=0.5, warmup_epochs=warmup)
    epochs = data.draw(st.integers(1, dense_epochs))
    update = data.draw(st.sampled_from([0, 1, steps - 1, steps, epochs * steps - 1]))
    context = RateContext(
        schedule=schedule,
        steps_per_epoch=steps,
        dense_epochs=dense_epochs,
        train_epochs=epochs,
        retrain=Retrain(method="lr_rewind", epochs=epochs),
    )
    start = (dense_epochs - epochs) * steps
    there = learning_rate(start + update, schedule, steps, dense_epochs)
    assert RATES["rewound"].rate(update, context) == there
    last = learning_rate(dense_epochs * steps - 1, schedule, steps, dense_epochs)
    assert RATES["rewound"].rate(epochs * steps - 1, context) == last
    assert RATES["last"].rate(update, context) == last


# Every other method: the rate of each update, by hand. T = 6 epochs of 3 updates, S = 0.8, 0.4,
# 0.2 for two epochs each.

RATES_BY_HAND: list[tuple[str, int, dict[str, object], list[float]]] = [
    # the last rate, from rewound weights
    ("low_lr_weight_rewind", 2, {}, [0.2] * 6),
    ("low_lr_weight_rewind", 2, {"lr": 0.05}, [0.05] * 6),
    # S from its start, then S[T] extended: T + t epochs
    ("reinit", 2, {}, [0.8] * 6 + [0.4] * 6 + [0.2] * 12),
    # S, stretched into T epochs: S
    ("scratch_e", 5, {}, [0.8] * 6 + [0.4] * 6 + [0.2] * 6),
    # S, stretched into 6 * 1.5 + 3 = 12 epochs
    ("scratch_b", 3, {"speedup": 1.5}, [0.8] * 12 + [0.4] * 12 + [0.2] * 12),
    # S, squeezed into 2 epochs
    ("slr", 2, {"warmup": 0}, [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]),
    # ... and over the last 9 of 12 updates, after 3 of warm-up (a quarter)
    ("slr", 4, {"warmup": 0.25}, [0, 0.8 / 3, 1.6 / 3] + [0.8] * 3 + [0.4] * 3 + [0.2] * 3),
    # half a cosine from 0.8 to 0.8e-4, cos of 0, 36, 72, 108, 144, 180 degrees:
    # 0.40004 + 0.39996 * (1, 0.809017, 0.309017, -0.309017, -0.809017, -1)
    ("clr", 2, {"warmup": 0}, [0.8, 0.723614, 0.523634, 0.276446, 0.076466, 0.00008]),
    # ... after 2 intervals of warm-up (half of 6 updates, less one) from 0.008, over 3:
    # 0.404 - 0.396 * (1, 0), then cos of 0, 60, 120, 180 degrees
    ("clr", 2, {"warmup": 0.5}, [0.008, 0.404, 0.8, 0.60002, 0.20006, 0.00008]),
    # a straight line to 0
    ("llr", 2, {"warmup": 0}, [0.8, 4 / 6, 3.2 / 6, 0.4, 1.6 / 6, 0.8 / 6]),
    ("llr", 2, {"warmup": 1 / 3}, [0, 0.4, 0.8, 0.6, 0.4, 0.2]),
    ("llr", 2, {"warmup": 1 / 3, "lr": 0.4}, [0, 0.2, 0.4, 0.3, 0.2, 0.1]),
    # 10% of 6 updates is one (0.6, rounded) where nothing else is said
    ("llr", 2, {}, [0, 0.8, 0.64, 0.48, 0.32, 0.16]),
    # a given rate, decayed at given epochs of the retraining
    ("step", 3, {"lr": 0.5}, [0.5] * 9),
    ("step", 3, {"lr": 0.5, "drops": (1, 2)}, [0.5] * 3 + [0.05] * 3 + [0.005] * 3),
    ("step", 3, {"lr": 0.5, "drops": (2,), "factor": 0.5}, [0.5] * 6 + [0.25] * 3),
    # a given rate, annealed
    ("cosine", 2, {"lr": 0.4}, [0.4, 0.373205, 0.3, 0.2, 0.1, 0.026795]),
    # as the two rewindings
    ("blend", 3, {"alpha": 0.5}, REWOUND[3]),
]


@pytest.mark.parametrize(("method", "epochs", "knobs", "expected"), RATES_BY_HAND)
def test_rates_by_hand(
    method: str, epochs: int, knobs: dict[str, object], expected: list[float]
) -> None:
    stage = child(halves(), method, epochs, **knobs)
    assert stage.train_epochs * STEPS == len(expected)
    assert rates(stage, stage.train_epochs) == pytest.approx(expected, abs=1e-6)


WARM = Schedule(lr=0.4, drops=(30, 60, 80), factor=0.1, warmup_epochs=5)  # Renda's ImageNet


def test_a_schedule_s_own_warm_up_is_not_climbed_a_second_time() -> None:
    """renda_imagenet, t = 45 of T = 90: 4.5 epochs of warm-up, then S at 40.5 / 90 of its length.

    Its drops come at 4.5 + 0.45 * (30, 60, 80) = 18, 31.5 and 40.5 epochs.
    """
    stage = child(dense_stage(tiny(schedule=WARM, epochs=90), 0), "slr", 45)
    steps = 20
    got = [epoch_rates(stage, epoch, steps)(u) for epoch in range(45) for u in range(steps)]
    climb = [0.4 * update / 90 for update in range(90)]
    levels = [0.4] * (360 - 90) + [0.04] * (630 - 360) + [0.004] * (810 - 630) + [0.0004] * 90
    assert got == pytest.approx(climb + levels, rel=1e-12)


@pytest.mark.parametrize(("method", "knobs"), [("scratch_e", {}), ("scratch_b", {"speedup": 2})])
def test_scratch_stretches_the_warm_up_with_the_schedule(
    method: str, knobs: dict[str, float]
) -> None:
    """Liu et al. 2019 train from scratch as the dense network was trained: one climb, S's own."""
    stage = child(dense_stage(tiny(schedule=WARM, epochs=90), 0), method, 10, **knobs)
    length = stage.train_epochs / 90
    got = rates(stage, stage.train_epochs)
    top = got.index(0.4)
    assert top == round(5 * length * STEPS)
    assert got[:top] == sorted(got[:top]) and got[0] == 0
    assert got[top:] == sorted(got[top:], reverse=True)
    assert got[-1] == pytest.approx(0.0004)


CLIMBING = ("slr", "clr", "llr", "allr")


@given(
    method=st.sampled_from(CLIMBING),
    steps=st.integers(1, 12),
    dense_epochs=st.integers(1, 30),
    epochs=st.integers(1, 30),
    drops=st.lists(st.integers(1, 29), unique=True, max_size=3).map(sorted),
    own_warmup=st.integers(0, 6),
    warmup=st.floats(0, 0.95),
    removed_norm=st.floats(0, 1.5),
)
def test_no_rate_climbs_again_once_it_fell(
    method: str,
    steps: int,
    dense_epochs: int,
    epochs: int,
    drops: list[int],
    own_warmup: int,
    warmup: float,
    removed_norm: float,
) -> None:
    """Laws of the restarts: up, at most to the top, by the end of the warm-up; then only down."""
    context = RateContext(
        schedule=Schedule(lr=0.4, drops=tuple(drops), warmup_epochs=own_warmup),
        steps_per_epoch=steps,
        dense_epochs=dense_epochs,
        train_epochs=epochs,
        retrain=Retrain(method=method, epochs=epochs, warmup=warmup),
        removed_norm=removed_norm,
    )
    got = [RATES[METHODS[method].rate].rate(update, context) for update in range(epochs * steps)]
    warm = math.ceil(warmup * len(got)) + 1
    highest = got.index(max(got))
    assert highest <= warm
    assert got[: highest + 1] == sorted(got[: highest + 1])
    assert got[highest:] == sorted(got[highest:], reverse=True)
    assert max(got) <= 0.4 * (1 + 1e-12)
    if method == "slr" and len(got) >= 100:
        plain = Schedule(lr=0.4, drops=tuple(drops))
        last = learning_rate(dense_epochs * steps - 1, plain, steps, dense_epochs)
        assert got[-1] == pytest.approx(last)
    if method == "clr" and len(got) > 1:
        assert got[-1] == pytest.approx(0.4e-4)


@pytest.mark.parametrize("warmup", [0.05, 0.1, 0.3])
@pytest.mark.parametrize(("epochs", "steps"), [(1, 60), (40, 7), (72, 3)])
def test_clr_is_the_one_cycle_that_le_and_hua_ran(epochs: int, steps: int, warmup: float) -> None:
    """PyTorch's, with the arguments of their main_finetune.py (pct_start 0.1)."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.8,
        epochs=epochs,
        steps_per_epoch=steps,
        pct_start=warmup,
        div_factor=100,
        final_div_factor=100,
    )
    expected = []
    for update in range(epochs * steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if update + 1 < epochs * steps:
            one_cycle.step()
    stage = child(dense_stage(tiny(schedule=HALVES), 0), "clr", epochs, warmup=warmup)
    got = [epoch_rates(stage, epoch, steps)(u) for epoch in range(epochs) for u in range(steps)]
    assert got == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("removed_norm", "share"),
    [(0.9, 0.9), (0.5, 0.5), (0.1, 1 / 3), (0.0, 1 / 3), (1.0, 1.0), (1.7, 1.0)],
)
def test_allr_s_top_rate_is_clipped_between_t_over_T_and_1(
    removed_norm: float, share: float
) -> None:
    """clip(r_max * removed_norm, r_max * t / T, r_max), t = 2 of T = 6; Zimmer et al. 2023."""
    stage = child(halves(), "allr", 2, warmup=0)
    linear = [0.8, 4 / 6, 3.2 / 6, 0.4, 1.6 / 6, 0.8 / 6]
    got = [
        epoch_rates(stage, epoch, STEPS, removed_norm)(update)
        for epoch in range(2)
        for update in range(STEPS)
    ]
    assert got == pytest.approx([share * rate for rate in linear])


# Schedules of other shapes


def shaped(shape: str, **changes: float) -> Stage:
    schedule = Schedule(lr=0.8, shape=shape, **changes)  # type: ignore[arg-type]
    return dense_stage(tiny(schedule=schedule), 0)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("weight_rewind", [0.8 * (18 - u) / 18 for u in range(12, 18)]),
        ("reinit", [0.8 * (18 - u) / 18 for u in range(18)] + [0.0] * 6),
        ("scratch_e", [0.8 * (18 - u) / 18 for u in range(18)]),
        ("slr", [0, *(0.8 * (18 - 18 * u // 5) / 18 for u in range(5))]),
    ],
)
def test_methods_that_follow_a_schedule_follow_a_linear_one(
    method: str, expected: list[float]
) -> None:
    stage = child(shaped("linear"), method, 2)
    assert rates(stage, stage.train_epochs) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("method", ["finetune", "low_lr_weight_rewind"])
def test_the_last_rate_of_a_schedule_that_ends_at_0_is_refused(method: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{method} trains at the last rate .* 0 .*'cosine'; give"
    ):
        child(shaped("cosine"), method, 2)
    assert rates(child(shaped("cosine"), method, 1, lr=0.1), 1) == [0.1] * 3
    assert rates(child(shaped("cosine", last_lr=0.05), method, 1), 1) == [0.05] * 3
    warm = shaped("inverse_sqrt", warmup_epochs=1.5)
    assert rates(child(warm, method, 1), 1) == pytest.approx([0.4] * 3)


def test_where_the_rate_stays_at_first() -> None:
    """Of every method under every shape: whether the updates of its first epoch share a rate."""
    for shape in SHAPES:
        changes = {"drops": (2, 4)} if shape == "steps" else {"last_lr": 0.1}
        changes = changes if set(changes) <= set(SHAPES[shape].takes) else {}
        warmup = {"warmup_epochs": 0.01} if SHAPES[shape].needs_warmup else {}
        dense = shaped(shape, **changes, **warmup)
        for name in METHODS:
            stage = child(dense, name, 4, **({"warmup": 0} if name == "slr" else {}))
            found = [
                epoch_rates(stage, 0, 100)(update) for update in range(1 if warmup else 0, 100)
            ]
            stays = stays_at_first(METHODS[name], dense.protocol.schedule)
            assert stays == (len(set(found)) == 1), (shape, name)


def test_every_method_is_in_these_tables() -> None:
    by_hand = {method for method, *_ in RATES_BY_HAND} | {"allr"}
    assert by_hand | {"finetune", "weight_rewind", "lr_rewind"} == set(METHODS)


def test_the_table_is_the_papers() -> None:
    """Design, §1: which weights each starts from."""
    origins = {name: row.weights for name, row in METHODS.items()}
    assert origins == {
        "finetune": "parent",
        "weight_rewind": "baseline",
        "lr_rewind": "parent",
        "low_lr_weight_rewind": "baseline",
        "reinit": "fresh",
        "scratch_e": "fresh",
        "scratch_b": "fresh",
        "slr": "parent",
        "clr": "parent",
        "llr": "parent",
        "allr": "parent",
        "step": "parent",
        "cosine": "parent",
        "blend": "blend",
    }


def test_only_numbers_that_depend_on_the_length_put_it_in_the_id() -> None:
    """Where two lengths share an id, they must share every rate, and start alike."""
    for name, method in METHODS.items():
        shorter, longer = child(halves(), name, 2), child(halves(), name, 4)
        common = min(shorter.train_epochs, longer.train_epochs)
        same_rates = rates(shorter, common) == rates(longer, common)
        starts_by_length = method.weights in ("baseline", "blend")
        drops_later = name == "step"  # only as long as no drops are given
        if not drops_later:
            assert method.length_in_id == (not same_rates or starts_by_length), name
        assert (shorter.stage_id == longer.stage_id) == (not method.length_in_id)


def test_unknown_methods_list_the_known() -> None:
    known = "known: finetune, weight_rewind, lr_rewind"
    with pytest.raises(ValueError, match=f"unknown retraining method 'lottery'; {known}"):
        method_named("lottery")

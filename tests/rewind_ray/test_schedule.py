"""Learning rates against tables written by hand, and against the papers' boundaries."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
)

from rewind_ray.protocols import mikler_resnet, mikler_wrn, renda_cifar
from rewind_ray.schedule import (
    SHAPES,
    WARMUPS,
    Schedule,
    Shape,
    fallen,
    last_rate,
    learning_rate,
)
from rewind_ray.spec import Prune, Retrain, dense_stage, retrain_stage
from rewind_ray.training.stage import epoch_rates
from tests.rewind_ray.tiny_stages import tiny

HALVES = Schedule(lr=0.8, drops=(2, 4), factor=0.5)  # halves are exact


def rates(schedule: Schedule, updates: int, steps_per_epoch: int) -> list[float]:
    """Of a training of 6 epochs."""
    return [learning_rate(update, schedule, steps_per_epoch, 6) for update in range(updates)]


def test_every_update_of_a_training_and_beyond_its_end() -> None:
    """3 updates an epoch, drops at 2 and 4; the last rate is extended for ever."""
    expected = [0.8] * 6 + [0.4] * 6 + [0.2] * 6 + [0.2] * 90
    assert rates(HALVES, 108, steps_per_epoch=3) == expected


def test_one_update_an_epoch() -> None:
    assert rates(HALVES, 6, steps_per_epoch=1) == [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]


def test_without_drops_the_rate_stays() -> None:
    assert rates(Schedule(lr=0.3), 9, steps_per_epoch=2) == [0.3] * 9


def test_a_warm_up_climbs_from_zero_and_drops_count_from_the_start() -> None:
    schedule = Schedule(lr=0.8, drops=(3,), factor=0.5, warmup_epochs=2)
    expected = [0, 0.8 / 6, 1.6 / 6, 2.4 / 6, 3.2 / 6, 4.0 / 6, 0.8, 0.8, 0.8, 0.4, 0.4]
    assert rates(schedule, 11, steps_per_epoch=3) == pytest.approx(expected, rel=1e-12)


def test_a_drop_within_an_epoch() -> None:
    schedule = Schedule(lr=0.8, drops=(1.5,), factor=0.5)
    assert rates(schedule, 8, steps_per_epoch=4) == [0.8] * 6 + [0.4] * 2


@pytest.mark.parametrize(
    ("update", "rate"),
    [
        (0, 0.1),
        (35_999, 0.1),
        (36_000, 0.01),
        (53_999, 0.01),
        (54_000, 0.001),
        (71_999, 0.001),
        (500_000, 0.001),
    ],
)
def test_mikler_resnet_boundaries(update: int, rate: float) -> None:
    protocol = mikler_resnet()
    assert protocol.steps_per_epoch == 2000
    assert learning_rate(update, protocol.schedule, 2000, protocol.epochs) == pytest.approx(
        rate, rel=1e-12
    )


@pytest.mark.parametrize(
    ("update", "rate"),
    [
        (0, 0.1),
        (31_999, 0.1),
        (32_000, 0.02),
        (47_999, 0.02),
        (48_000, 0.004),
        (63_999, 0.004),
        (64_000, 0.0008),
        (79_999, 0.0008),
    ],
)
def test_mikler_wrn_boundaries(update: int, rate: float) -> None:
    protocol = mikler_wrn()
    assert protocol.steps_per_epoch == 2000
    assert learning_rate(update, protocol.schedule, 2000, protocol.epochs) == pytest.approx(
        rate, rel=1e-12
    )


@pytest.mark.parametrize(
    ("update", "rate"),
    [
        (0, 0.1),
        (91 * 390 - 1, 0.1),
        (91 * 390, 0.01),
        (136 * 390 - 1, 0.01),
        (136 * 390, 0.001),
        (182 * 390 - 1, 0.001),
    ],
)
def test_renda_cifar_boundaries(update: int, rate: float) -> None:
    """390 full batches of 128 in the 50,000 images of CIFAR-10."""
    schedule = renda_cifar().schedule
    assert learning_rate(update, schedule, 50_000 // 128, 182) == pytest.approx(rate, rel=1e-12)


GNMT = Schedule(
    lr=0.002,
    drops=(3.75, 4.165, 4.58),
    factor=0.5,
    warmup_epochs=0.125,
    warmup_shape="exponential",
    warmup_start=0.01,
)


def renda_table_1(t: float) -> float:
    """Renda et al. 2020, Table 1, GNMT; t in epochs."""
    if t < 0.125:
        return 0.002 * 0.01 ** (1 - 8 * t)
    ends = {3.75: 0.002, 4.165: 0.001, 4.58: 0.0005, math.inf: 0.00025}
    return next(rate for end, rate in ends.items() if t < end)


def test_the_rates_of_gnmt_in_renda_s_table_1() -> None:
    steps = 2000  # so that every boundary is a whole update
    for update in range(0, 5 * steps, 5):
        expected = renda_table_1(update / steps)
        assert learning_rate(update, GNMT, steps, 5) == pytest.approx(expected, rel=1e-12)
    assert last_rate(GNMT, 5) == pytest.approx(0.00025)


def torch_rates(scheduler: Callable[[torch.optim.Optimizer], Any], updates: int) -> list[float]:
    """Of every update, by one of torch's schedulers that is stepped after each."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.8)
    scheduled = scheduler(optimizer)
    found = []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduled.step()
    return found


EPOCHS, STEPS = 6, 5
HALF = Prune(fraction=0.5)
UPDATES = EPOCHS * STEPS
TORCH: dict[str, tuple[Schedule, Callable[[torch.optim.Optimizer], Any]]] = {
    "steps": (HALVES, lambda o: MultiStepLR(o, [2 * STEPS, 4 * STEPS], gamma=0.5)),
    "constant": (Schedule(lr=0.8), lambda o: ConstantLR(o, factor=1)),
    "cosine": (
        Schedule(lr=0.8, shape="cosine", last_lr=0.1),
        lambda o: CosineAnnealingLR(o, UPDATES, eta_min=0.1),
    ),
    "linear": (
        Schedule(lr=0.8, shape="linear", last_lr=0.2),
        lambda o: LinearLR(o, start_factor=1, end_factor=0.25, total_iters=UPDATES),
    ),
    "inverse_sqrt": (  # Vaswani et al. 2017, eq. 3, from the end of a warm-up of an epoch on
        Schedule(lr=0.8, shape="inverse_sqrt", warmup_epochs=1),
        lambda o: LambdaLR(o, lambda u: min(u / STEPS, math.sqrt(STEPS / u)) if u else 0),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_torch_s(shape: str) -> None:
    schedule, scheduler = TORCH[shape]
    found = [learning_rate(update, schedule, STEPS, EPOCHS) for update in range(UPDATES)]
    assert found == pytest.approx(torch_rates(scheduler, UPDATES), rel=1e-9)


@pytest.mark.parametrize("warmup_shape", WARMUPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_laws_of_every_shape_and_warm_up(shape: str, warmup_shape: str) -> None:
    """From the start's share up to the top, then never up again; S[g > T] = S[T]; one rate at one
    time, however many updates an epoch has."""
    schedule = replace(
        TORCH[shape][0], warmup_epochs=1.5, warmup_shape=warmup_shape, warmup_start=0.1
    )
    found = [learning_rate(update, schedule, 4, EPOCHS) for update in range(4 * EPOCHS)]
    assert found[0] == pytest.approx(0.08)
    top = found.index(0.8)
    assert top == 6 and found[:7] == sorted(found[:7])
    assert found[top:] == sorted(found[top:], reverse=True)
    beyond = [learning_rate(update, schedule, 4, EPOCHS) for update in (24, 25, 1000)]
    assert set(beyond) == {last_rate(schedule, EPOCHS)} and beyond[0] <= found[-1]
    finer = [learning_rate(10 * update, schedule, 40, EPOCHS) for update in range(4 * EPOCHS)]
    assert finer == found


def test_a_shape_is_an_entry_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/extending.md."""

    def square_root(update: int, schedule: Schedule, steps_per_epoch: int, epochs: int) -> float:
        return schedule.lr * math.sqrt(1 - fallen(update, schedule, steps_per_epoch, epochs))

    monkeypatch.setitem(SHAPES, "square_root", Shape(rate=square_root, source="of an example"))
    schedule = Schedule(lr=0.8, shape="square_root", warmup_epochs=1)
    found = [learning_rate(update, schedule, 2, 5) for update in range(12)]
    expected = [0, 0.4, *(0.8 * math.sqrt(left / 8) for left in range(8, 0, -1)), 0, 0]
    assert found == pytest.approx(expected)
    retrain = Retrain(method="lr_rewind", epochs=2)
    stage = retrain_stage(dense_stage(tiny(schedule=schedule, epochs=5), 0), HALF, retrain)
    assert [epoch_rates(stage, 1, 2)(update) for update in (0, 1)] == found[8:10]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_stays_where_it_says_so(shape: str) -> None:
    """From the top on, whatever a warm-up did before; see ``trainability_accuracy``."""
    schedule = TORCH[shape][0]
    first = round(schedule.warmup_epochs * STEPS)
    found = [learning_rate(first + update, schedule, STEPS, EPOCHS) for update in range(STEPS)]
    assert (len(set(found)) == 1) == SHAPES[shape].stays


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0}, "lr is 0.0; a learning rate is above 0"),
        ({"lr": -1}, "lr is -1.0; a learning rate is above 0"),
        ({"lr": float("nan")}, "lr is nan; a learning rate is above 0"),
        ({"lr": float("inf")}, "lr is inf; a learning rate is above 0 and finite"),
        ({"lr": 1, "factor": 0}, "factor is 0.0; a drop's factor lies between 0 and 1"),
        ({"lr": 1, "factor": 1}, "factor is 1.0; a drop's factor lies between 0 and 1"),
        ({"lr": 1, "factor": float("nan")}, "factor is nan"),
        ({"lr": 1, "warmup_epochs": -1}, "warmup_epochs is -1.0; it can't be negative"),
        ({"lr": 1, "warmup_epochs": float("nan")}, "warmup_epochs is nan"),
        ({"lr": 1, "warmup_epochs": float("inf")}, "warmup_epochs is inf"),
        ({"lr": 1, "drops": (4, 2)}, r"drops are \(4.0, 2.0\); .* rising order"),
        ({"lr": 1, "drops": (2, 2)}, r"drops are \(2.0, 2.0\); .* rising order"),
        ({"lr": 1, "drops": (0, 2)}, r"drops are \(0.0, 2.0\); they are epochs above 0"),
        ({"lr": 1, "drops": (float("nan"),)}, r"drops are \(nan,\)"),
        ({"lr": 1, "shape": "cubic"}, "unknown shape 'cubic'; known: steps, constant, cosine"),
        ({"lr": 1, "shape": "cosine", "drops": (2,)}, r"drops is \(2.0,\) .* 'cosine', .*: steps"),
        ({"lr": 1, "drops": (2,), "last_lr": 0.1}, "last_lr is 0.1 .* that has: cosine, linear"),
        ({"lr": 1, "shape": "cosine", "last_lr": 1}, "last_lr is 1.0; allowed: 0 up to below lr"),
        ({"lr": 1, "shape": "inverse_sqrt"}, "'inverse_sqrt' .* give warmup_epochs above 0"),
        ({"lr": 1, "warmup_shape": "cubic"}, "unknown warmup_shape 'cubic'; known: linear, exp"),
        ({"lr": 1, "warmup_epochs": 1, "warmup_start": 1}, "warmup_start is 1.0; allowed: 0 up"),
        ({"lr": 1, "warmup_epochs": 1, "warmup_shape": "exponential"}, "give a warmup_start above"),
    ],
)
def test_refuses_nonsense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**settings)  # type: ignore[arg-type]

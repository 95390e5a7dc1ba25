"""Learning rates against tables written by hand, and against the papers' boundaries."""

from __future__ import annotations

import pytest

from rewind_ray.protocols import mikler_resnet, mikler_wrn, renda_cifar
from rewind_ray.schedule import Schedule, learning_rate

HALVES = Schedule(lr=0.8, drops=(2, 4), factor=0.5)  # halves are exact


def rates(schedule: Schedule, updates: int, steps_per_epoch: int) -> list[float]:
    return [learning_rate(update, schedule, steps_per_epoch) for update in range(updates)]


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
    assert learning_rate(update, protocol.schedule, 2000) == pytest.approx(rate, rel=1e-12)


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
    assert learning_rate(update, protocol.schedule, 2000) == pytest.approx(rate, rel=1e-12)


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
    assert learning_rate(update, schedule, 50_000 // 128) == pytest.approx(rate, rel=1e-12)


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
    ],
)
def test_refuses_nonsense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**settings)  # type: ignore[arg-type]

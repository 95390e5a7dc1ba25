"""Flags made of knobs, typed and read."""

from __future__ import annotations

from typing import Any

import pytest
import tyro

from rewind_ray.knobs import knobs_of
from rewind_ray.retraining import METHODS
from rewind_ray.spec import Prune, Retrain
from sweeps.plan.flags import PruneFlags, RetrainFlags, flags_for, prunings, retrainings


def typed(kind: Any, *arguments: str) -> Any:
    return tyro.cli(kind, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))


def test_nothing_typed_is_each_method_s_default() -> None:
    flags = typed(RetrainFlags)
    for name, method in METHODS.items():
        (retrain,) = retrainings(name, 4, flags)
        usual = {knob: knobs_of(Retrain)[knob].usual for knob in method.needs}
        assert retrain == Retrain(method=name, epochs=4, **usual)
    assert list(prunings({"fraction": 0.5}, typed(PruneFlags))) == [Prune(fraction=0.5)]


def test_several_values_are_as_many_retrainings() -> None:
    flags = typed(RetrainFlags, "--knob-lr", "0.1", "0.01", "--knob-factor", "0.5", "--knob-drops")
    found = list(retrainings("step", 4, flags))
    assert found == [Retrain(method="step", epochs=4, lr=lr) for lr in (0.1, 0.01)]
    flags = typed(RetrainFlags, "--knob-drops", "1", "2.5", "--knob-factor", "0.5", "0.2")
    assert [(r.drops, r.factor) for r in retrainings("step", 4, flags)] == [
        ((1, 2.5), 0.5),
        ((1, 2.5), 0.2),
    ]
    assert len(list(retrainings("blend", 4, typed(RetrainFlags, "--alpha", "0", "0.5", "1")))) == 3
    rates = typed(PruneFlags, "--rates", "resnet56-A", "--powers", "1", "2", "3")
    amounts = [prune.power for prune in prunings({"fraction": None, "structure": "filters"}, rates)]
    assert amounts == [1, 2, 3]


def test_a_method_gets_the_knobs_that_it_uses() -> None:
    flags = typed(RetrainFlags, "--restore-momentum", "--knob-lr", "0.1", "--rates-from", "0")
    (fresh,) = retrainings("reinit", 4, flags)
    assert fresh == Retrain(method="reinit", epochs=4)
    (rewound,) = retrainings("weight_rewind", 4, flags)
    assert (rewound.restore_momentum, rewound.rates_from, rewound.lr) == (True, 0, None)


@pytest.mark.parametrize(
    "spec",
    [
        Retrain(method="step", epochs=4, lr=0.1, drops=(1, 2.5), factor=0.5),
        Retrain(method="clr", epochs=4, warmup=0.0, restore_momentum=True),
        Retrain(method="cosine", epochs=4, lr=0.1, last_lr=0.01),
        Retrain(method="weight_rewind", epochs=4, rates_from=0),
        Prune(fraction=None, structure="filters", rates="resnet56-A", power=2),
        Prune(fraction=0.5, structure="filters", scope="layer", layers="stages.*", shrink=True),
        Prune(fraction=0.5, structure="filters", filters_only=True, keep_layers=True),
    ],
)
def test_what_was_given_as_flags_and_back(spec: Any) -> None:
    words = []
    for flag, value in flags_for(spec).items():
        values = value if isinstance(value, tuple) else () if value is True else (value,)
        words += [f"--{flag.replace('_', '-')}", *map(str, values)]
    if isinstance(spec, Retrain):
        (again,) = retrainings(spec.method, spec.epochs, typed(RetrainFlags, *words))
        assert again == spec
    else:
        settings = {"fraction": spec.fraction, "structure": spec.structure}
        assert list(prunings(settings, typed(PruneFlags, *words))) == [spec]


def test_a_wrong_value_is_named() -> None:
    with pytest.raises(ValueError, match=r"alpha is 2\.0; allowed: 0 to 1"):
        list(retrainings("blend", 4, typed(RetrainFlags, "--alpha", "2")))

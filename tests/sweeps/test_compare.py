"""The training that flags of ``sweeps.compare`` describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol
from sweeps.compare import Training, chosen_protocol
from sweeps.entry import main
from sweeps.plan.chains import smoke


def chosen(**flags: Any) -> Protocol:
    training = Training(network="digits_resnet", dataset="digits", protocol="digits", **flags)
    return chosen_protocol(training, None)[0]


def test_without_flags_it_is_the_protocol() -> None:
    assert chosen().schedule == Schedule(lr=0.1, drops=(8, 12))
    assert (chosen().optimizer, chosen().optimizer_options) == ("sgd", ())


def test_another_optimizer_has_options_and_a_rate_of_its_own() -> None:
    protocol = chosen(optimizer="adamw", lr=0.001, optimizer_options=("beta2=0.98",))
    assert protocol.optimizer == "adamw" and protocol.schedule.lr == 0.001
    assert protocol.optimizer_settings == {"beta1": 0.9, "beta2": 0.98, "eps": 1e-8}
    with pytest.raises(ValueError, match=r"--optimizer adam without --lr.*0\.1 is one for sgd"):
        chosen(optimizer="adam")
    assert chosen(optimizer="sgd", optimizer_options=("momentum=0.5",)).optimizer_options == (
        ("momentum", 0.5),
    )


def test_batch_and_weight_decay() -> None:
    protocol = chosen(batch_size=32, weight_decay=0.01)
    assert (protocol.batch_size, protocol.weight_decay) == (32, 0.01)


@pytest.mark.parametrize(
    ("flags", "schedule"),
    [
        ({"schedule": "cosine", "last_lr": 0.01}, Schedule(lr=0.1, shape="cosine", last_lr=0.01)),
        ({"schedule": "constant"}, Schedule(lr=0.1)),
        ({"drops": (7.5,)}, Schedule(lr=0.1, drops=(7.5,))),
        ({"epochs": 32}, Schedule(lr=0.1, drops=(16, 24))),
        (
            {"schedule": "inverse_sqrt", "warmup_epochs": 2},
            Schedule(lr=0.1, shape="inverse_sqrt", warmup_epochs=2),
        ),
    ],
)
def test_the_schedule(flags: dict[str, Any], schedule: Schedule) -> None:
    assert chosen(**flags).schedule == schedule


@pytest.mark.parametrize("shape", ["steps", "constant", "cosine", "linear", "inverse_sqrt"])
def test_a_smoke_run_keeps_the_schedule_s_shape(shape: str) -> None:
    protocol = chosen(schedule=shape, epochs=40, warmup_epochs=4)
    small = smoke(protocol)
    assert small.schedule.shape == shape
    assert small.schedule.warmup_epochs * protocol.epochs == 4 * small.epochs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--alpha", "0.3"),
            "--alpha is given, which none of --methods finetune",
        ),
        (("--methods", "finetune", "--rates-from", "3"), "--rates-from is given"),
        (("--levels", "-1"), "--levels is -1; allowed: whole numbers from 0 up"),
        (("--name", "../x"), "--name: '../x' is no sweep's name"),
        (("--name", "", "--smoke"), "--name: '' is no sweep's name"),
        (("--name", "-x"), "allowed: a name that doesn't begin with -"),
        (("--gpus-per-trial", "1e999999999"), "--gpus-per-trial is '1e999999999'; allowed: auto"),
        (("--epochs", "1000000000"), "allowed: whole numbers from 1 to 1,000,000"),
    ],
)
def test_what_has_no_effect_or_never_ends_is_refused(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ("--network", "digits_resnet", "--dataset", "digits", "--protocol", "digits")
    first = arguments if arguments[0] != "--name" else (f"--name={arguments[1]}", *arguments[2:])
    typed = ("compare", *base, "--storage", str(tmp_path / "x"), "--dry-run", *first)
    assert main(typed) == 2
    assert words in capsys.readouterr().err


def test_a_knob_that_one_of_the_methods_takes_is_not_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ("--network", "digits_resnet", "--dataset", "digits", "--protocol", "digits")
    more = ("--methods", "lr_rewind", "blend", "--alpha", "0.3", "0.7", "--dry-run")
    assert main(("compare", *base, "--storage", str(tmp_path / "x"), *more)) == 0
    assert "blend" in capsys.readouterr().out

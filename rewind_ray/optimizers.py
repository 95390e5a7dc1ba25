"""The optimizers by name: their options with defaults and limits, and how each is built.

A new optimizer is a new entry of OPTIMIZERS. Its options are data, so describing a stage needs no
torch; only ``build`` imports it. Rewind points hold whatever tensors it keeps, see
``store.checkpoint``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rewind_ray.errors import UserError
from rewind_ray.limits import TRUE_OR_FALSE, Allowed, Numbers, check
from rewind_ray.schedule import rounded

if TYPE_CHECKING:
    from torch.optim import Optimizer

Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    default: Value
    allowed: Allowed
    help: str
    only_with: str = ""
    """Another option of the same optimizer; where that is 0 this one has no effect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerKind:
    build: Callable[..., Optimizer]
    """Of parameter groups, and as keywords ``lr``, ``weight_decay`` and the options."""
    options: Mapping[str, Option]
    weight_decay: str
    """What ``Protocol.weight_decay``, here c, does to a weight w in an update."""
    tensors: int
    """How many numbers it keeps of each weight."""
    state_needs: str = ""
    """Option without which (at 0) it keeps no state from one update to the next."""
    source: str


def sgd(groups: Sequence[Any], *, momentum: float, nesterov: bool, **common: Any) -> Optimizer:
    from torch.optim import SGD

    nesterov = nesterov and momentum > 0
    return SGD(groups, momentum=momentum, nesterov=nesterov, **kernels(groups), **common)


def adam(
    groups: Sequence[Any], *, beta1: float, beta2: float, eps: float, **common: Any
) -> Optimizer:
    from torch.optim import Adam

    settings = {**kernels(groups), "capturable": on_gpu(groups)}
    return Adam(groups, betas=(beta1, beta2), eps=eps, **settings, **common)


def adamw(
    groups: Sequence[Any], *, beta1: float, beta2: float, eps: float, **common: Any
) -> Optimizer:
    from torch.optim import AdamW

    settings = {**kernels(groups), "capturable": on_gpu(groups)}
    return AdamW(groups, betas=(beta1, beta2), eps=eps, **settings, **common)


def on_gpu(groups: Sequence[Mapping[str, Any]]) -> bool:
    return all(parameter.is_cuda for group in groups for parameter in group["params"])


def kernels(groups: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Which of PyTorch's implementations of an optimizer is used for these parameters.

    On a GPU the fused one: a launch for all of them, and a rate that lies on the device, so that
    the update can be recorded. Not on a CPU: there it rounds otherwise, and takes for granted that
    a gradient lies in memory as its weights do.
    """
    fused = on_gpu(groups)
    return {"fused": fused, "foreach": not fused}


SHARE = Numbers(least=0, below=1)
MOMENTS = {
    "beta1": Option(default=0.9, allowed=SHARE, help="decay of the mean of the gradients"),
    "beta2": Option(default=0.999, allowed=SHARE, help="decay of the mean of their squares"),
    "eps": Option(default=1e-8, allowed=Numbers(above=0), help="added to the root of the latter"),
}
"""Of Adam and AdamW; defaults of Kingma & Ba 2015, Algorithm 1."""

OPTIMIZERS: dict[str, OptimizerKind] = {
    "sgd": OptimizerKind(
        build=sgd,
        options={
            "momentum": Option(default=0.9, allowed=SHARE, help="share of the velocity that stays"),
            "nesterov": Option(
                default=True,
                allowed=TRUE_OR_FALSE,
                help="look ahead along the velocity",
                only_with="momentum",
            ),
        },
        weight_decay="c * w is added to the gradient, so w' = w - lr * (gradient + c * w)",
        tensors=1,
        state_needs="momentum",
        source="stochastic gradient descent with momentum; Sutskever et al. 2013, §2",
    ),
    "adam": OptimizerKind(
        build=adam,
        options=MOMENTS,
        tensors=2,
        weight_decay="c * w is added to the gradient, before its mean and square are taken (L2)",
        source="Kingma & Ba 2015, Algorithm 1",
    ),
    "adamw": OptimizerKind(
        build=adamw,
        options=MOMENTS,
        tensors=2,
        weight_decay="w is multiplied by 1 - lr * c beside Adam's step, which doesn't see it",
        source="Loshchilov & Hutter 2019, Algorithm 2",
    ),
}


def optimizer_named(name: str) -> OptimizerKind:
    """Raises UserError, listing the known optimizers, for an unknown name."""
    if name not in OPTIMIZERS:
        raise UserError(f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def changed_options(name: str, given: Mapping[str, Value]) -> dict[str, Value]:
    """Those of the given options that change what is trained: neither defaults nor without effect.

    Raises UserError for an option that the optimizer doesn't have, or a value it doesn't allow.
    """
    options = optimizer_named(name).options
    for option in given:
        if option not in options:
            raise UserError(
                f"{option} is no option of the optimizer {name}; known: {', '.join(options)}"
            )
    values = {option: _settled(value, options[option].default) for option, value in given.items()}
    for option, value in values.items():
        check(option, value, options[option].allowed)
    whole = {option: row.default for option, row in options.items()} | values
    return {
        option: value
        for option, value in values.items()
        if value != options[option].default
        and (not options[option].only_with or whole[options[option].only_with])
    }


def all_options(name: str, changed: Mapping[str, Value]) -> dict[str, Value]:
    """With the defaults of those that aren't given."""
    return {o: row.default for o, row in optimizer_named(name).options.items()} | dict(changed)


def read_options(name: str, texts: Iterable[str]) -> dict[str, Value]:
    """Of texts such as ``momentum=0.8`` or ``nesterov=false``. Raises UserError for others."""
    defaults = all_options(name, {})
    options: dict[str, Value] = {}
    for text in texts:
        option, _, value = text.partition("=")
        if option not in defaults:
            raise UserError(
                f"{text!r} is no option of the optimizer {name}; give NAME=VALUE, of the names "
                f"{', '.join(defaults)}"
            )
        options[option] = _read(value, defaults[option], text)
    return options


def _read(value: str, default: Value, text: str) -> Value:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        return type(default)(value)
    except (KeyError, ValueError):
        kind = "true or false" if isinstance(default, bool) else "a number"
        raise UserError(f"{text!r} is no {kind}") from None


def keeps_state(name: str, changed: Mapping[str, Value]) -> bool:
    """Whether there is anything that a rewind point holds of it, and that could be restored."""
    needs = optimizer_named(name).state_needs
    return not needs or bool(all_options(name, changed)[needs])


def _settled(value: Value, default: Value) -> Value:
    """1 and 1.0 are the same number, 0.1 * 0.1 and 0.01 the same rate: each has one id."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return rounded(value) if is_number and isinstance(default, float) else value  # type: ignore[arg-type]

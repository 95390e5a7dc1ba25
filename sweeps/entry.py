"""``rewind-ray``: all commands under one name.

Nothing is imported before the command is known, so that ``--help`` and ``--version`` don't wait
for torch and Ray.
"""

from __future__ import annotations

import difflib
import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

import analysis  # noqa: F401  (before files of the same name in the working directory)
import trainables  # noqa: F401
from rewind_ray import __version__

FAILED, WRONG_USAGE = 1, 2  # as in rewind_ray.command_line, which takes half a second to import
WIDTH = 79


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A line of ``rewind-ray --help``."""

    says: str
    run: Callable[[str, Sequence[str]], int]
    """Name and arguments -> exit code."""


def recipe(name: str, typed: Sequence[str]) -> int:
    """A module of ``sweeps`` with a function ``main``."""
    sys.argv = [name.replace("-", "_"), *typed]  # goes into the sweep's record
    module = import_module(f"sweeps.{sys.argv[0]}")
    code: int = import_module("sweeps.run.launch").code_of(module.main)
    return code


def around(name: str, typed: Sequence[str]) -> int:
    """A command of ``sweeps.commands``."""
    code: int = import_module("sweeps.__main__").main([name, *typed])
    return code


def others(module: str) -> Callable[[str, Sequence[str]], int]:
    """The ``main`` of another package's commands."""

    def run(name: str, typed: Sequence[str]) -> int:
        code: int = import_module(module).main(typed)
        return code

    return run


GROUPS: dict[str, dict[str, Command]] = {
    "Start here": {
        "quickstart": Command(says="three methods on handwritten digits, in minutes", run=recipe),
        "doctor": Command(says="check that a sweep can run here", run=around),
        "list": Command(says="recipes, networks, data, protocols, methods, ...", run=around),
    },
    "Your own network and data": {
        "compare": Command(says="compare retraining methods", run=recipe),
        "prune": Command(says="make a network smaller, and write it to a file", run=recipe),
        "search": Command(says="find the cheapest recipe, with Optuna", run=recipe),
        "algorithm1": Command(says="prune 20%, retrain, repeat up to a limit", run=recipe),
        "export": Command(
            says="a finished network as a file: safetensors, pt2, ONNX",
            run=others("rewind_ray.export.command"),
        ),
        "prepare-text": Command(
            says="parallel text for translation, before any training",
            run=others("rewind_ray.datasets.text.command"),
        ),
    },
    "Sweeps while they run, and after": {
        "status": Command(
            says="progress, failures, machines and cost, from the storage", run=around
        ),
        "control": Command(says="pause a sweep, or change its share of the machines", run=around),
        "analysis": Command(
            says="report, pareto, compare, headline, ... of any rows",
            run=others("analysis.__main__"),
        ),
        "storage": Command(says="show, clean up or verify a storage", run=around),
        "service": Command(
            says="a sweep that systemd starts again after a crash or reboot",
            run=others("sweeps.service"),
        ),
        "calibrate": Command(says="find the best number of concurrent stages", run=around),
    },
    "The papers": {
        "renda2020": Command(says="figures and tables of Renda et al. 2020", run=recipe),
        "mikler2022": Command(says="figures and tables of Mikler 2022", run=recipe),
        "wang2023": Command(says="tables of Wang et al. 2023", run=recipe),
        "iterative-wrn": Command(says="WRN-16-8, where learning-rate rewinding fails", run=recipe),
        "between-rewindings": Command(says="is anything between the two better?", run=recipe),
        "smoke": Command(says="try every recipe with a tiny network", run=around),
    },
    "Your shell": {
        "completion": Command(
            says="a completion script for bash, zsh or fish", run=others("sweeps.completion")
        ),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def overview() -> str:
    """All commands in a line each, at most 79 columns wide."""
    width = max(map(len, COMMANDS))
    lines = ["usage: rewind-ray COMMAND ...", "", "Prune neural networks, retrain them, compare."]
    for title, group in GROUPS.items():
        lines += ["", title, *(f"  {name:{width}}  {c.says}" for name, c in group.items())]
    return "\n".join(
        [
            *lines,
            "",
            "Examples:",
            "  rewind-ray quickstart",
            "  rewind-ray compare --network my_models:resnet --dataset folder:photos",
            "  rewind-ray status --watch results",
            "  rewind-ray analysis report results --out report.html",
            "",
            "rewind-ray COMMAND --help shows options and examples; rewind-ray --version.",
        ]
    )


def unknown(name: str) -> str:
    """What is said of a command that doesn't exist."""
    nearest = difflib.get_close_matches(name, COMMANDS, 1)
    guess = f"; do you mean {nearest[0]}?" if nearest else ""
    return f"error: there is no command {name!r}{guess} rewind-ray --help lists all"


def shown(text: str) -> int:
    """Print it; the exit code."""
    try:
        print(text, flush=True)
    except OSError as error:  # Python would write what is left once more when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"error: {error}", file=sys.stderr)
            return FAILED
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that was typed; its exit code. arguments: None for those of the process."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # × and · on a terminal that has only ASCII
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
    if not typed or typed[0] in ("--help", "-h", "help"):
        return shown(overview())
    if typed[0] == "--version":
        return shown(f"rewind-ray {__version__}")
    name = typed[0].replace("_", "-")
    if name not in COMMANDS:
        print(unknown(typed[0]), file=sys.stderr)
        return WRONG_USAGE
    try:
        here = os.getcwd()
    except OSError as error:
        print(f"error: the working directory is gone: {error}", file=sys.stderr)
        return FAILED
    if here not in sys.path:
        sys.path.insert(0, here)  # one's own modules, as with python -m
    return COMMANDS[name].run(name, typed[1:])


if __name__ == "__main__":
    sys.exit(main())

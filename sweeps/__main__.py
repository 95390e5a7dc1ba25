"""What there is to run.

Examples:
  python -m sweeps list
  python -m sweeps list --markdown
  python -m sweeps smoke --only wang2023
  python -m sweeps doctor --storage results
  python -m sweeps calibrate --network resnet56 --precision bf16
  python -m sweeps storage verify results
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import tyro
from rich.table import Table

from rewind_ray.errors import exit_code
from sweeps.commands.calibrate import calibrate_command
from sweeps.commands.doctor import doctor_command
from sweeps.commands.storage import storage_command

HEADINGS = ("command", "reproduces", "seeds", "stages", "epochs", "published")


def list_command(markdown: bool = False) -> None:
    """Every recipe: what it reproduces, its stages and epochs, the published headline values.

    Args:
        markdown: print a Markdown table, as in docs/catalogue.md
    """
    from sweeps.commands.list import table  # builds every graph: seconds, and torch
    from sweeps.run.launch import make_console

    lines = table()
    if markdown:
        print(f"| {' | '.join(HEADINGS)} |")
        print("| --- | --- | ---: | ---: | ---: | --- |")
        for line in lines:
            print(f"| `{line[0]}` | {' | '.join(line[1:])} |")
        return
    shown = Table(show_lines=True)
    for heading in HEADINGS:
        justify = "right" if heading in ("seeds", "stages", "epochs") else "left"
        shown.add_column(heading, justify=justify)
    for line in lines:
        shown.add_row(line[0].removeprefix("python -m "), *line[1:])
    make_console().print(shown)
    print(
        "Each by python -m COMMAND; --help, --dry-run and --smoke go with all of them, and with\n"
        "sweeps.search, which finds a recipe for a network of your own (docs/search.md)."
    )


def smoke_command(storage: str = "results-smoke", only: str = "") -> int:
    """Run every recipe of the list with --smoke and one seed; exit code 1 if one fails.

    Args:
        storage: where their results go; what is there already isn't trained again
        only: recipes whose command contains this
    """
    from sweeps.commands.list import entries

    outcomes = {}
    for entry in entries():
        if only in entry.command:
            module, *arguments = entry.command.split()
            command = [sys.executable, "-m", module, *arguments, "--smoke", "--seeds", "1"]
            print(f"\n== {entry.command}", flush=True)
            outcomes[entry.command] = subprocess.call([*command, "--storage", storage])
    print()
    for name, code in outcomes.items():
        print(f"{'done  ' if code == 0 else 'FAILED'} {name}")
    return int(any(outcomes.values()))


def main(arguments: Sequence[str]) -> int:
    """Its exit code."""
    app = tyro.extras.SubcommandApp()
    app.command(list_command, name="list")
    app.command(smoke_command, name="smoke")
    app.command(doctor_command, name="doctor")
    app.command(calibrate_command, name="calibrate")
    app.command(storage_command, name="storage")
    return exit_code(
        lambda: app.cli(
            prog="python -m sweeps",
            description=__doc__,
            args=arguments or ["--help"],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

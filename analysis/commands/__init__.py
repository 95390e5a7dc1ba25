"""The commands of ``rewind-ray analysis``: each reads rows, calls a module of the same name, and
shows what it found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What the list of commands shows; also the first line, and an example, of its help."""

    says: str
    example: str
    """What follows ``rewind-ray analysis``."""


COMMANDS = {
    "rows": Command(
        says="Gather the rows of a storage root in one table.",
        example="rows --storage results --out rows.csv",
    ),
    "pareto": Command(
        says="The best points in accuracy and compression.",
        example="pareto results --x search_cost_epochs --json",
    ),
    "headline": Command(
        says="How small each method gets a network without losing accuracy.",
        example="headline rows.csv --max-drops 0.05pt 0.5pt 2pt --out headlines.csv",
    ),
    "search-cost": Command(
        says="What each accuracy cost to find.",
        example="search-cost rows.csv --out search_cost.svg",
    ),
    "compare": Command(
        says="Which of two methods is better, and whether that is shown.",
        example="compare results --methods lr_rewind weight_rewind",
    ),
    "claims": Command(
        says="The papers' claims, judged on these rows.",
        example="claims rows.parquet --margin 0.2pt --json",
    ),
    "fairness": Command(
        says="How fairly the rows compare their methods.",
        example="fairness rows.parquet --out pairs.csv",
    ),
    "reference": Command(
        says="The published results of a paper as rows.",
        example="reference renda2020 --out renda2020.parquet",
    ),
    "figure": Command(
        says="A figure or table of a paper, from any rows.",
        example="figure renda2020.fig2 results --overlay published --out fig2.svg",
    ),
    "report": Command(
        says="One page with everything that the rows show.",
        example="report results --out report.html",
    ),
}


def overview() -> str:
    """All commands, with an example of each."""
    width = max(map(len, COMMANDS))
    lines = [
        f"{name:{width}}  {command.says}\n{'':{width}}  rewind-ray analysis {command.example}"
        for name, command in COMMANDS.items()
    ]
    head = "Ask the rows of a sweep. ROWS is a .csv, a .parquet or a storage root."
    return "\n\n".join([head, *lines, "rewind-ray analysis COMMAND --help shows all options."])

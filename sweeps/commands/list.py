"""``rewind-ray list``: the catalogue of recipes, and the names that options take."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from rewind_ray.command_line import make_console
from rewind_ray.protocols import digits, mikler_wrn, renda_cifar
from rewind_ray.spec import Stage, dense_stage
from sweeps import (
    algorithm1,
    between_rewindings,
    iterative_wrn,
    mikler2022,
    quickstart,
    renda2020,
    wang2023,
)
from sweeps.commands.names import KINDS
from sweeps.options import Options
from sweeps.plan.graph import build_graph, cost


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueEntry:
    command: str
    reproduces: str
    published: str
    """Headline values, in percent of test accuracy unless said otherwise."""
    seeds: int
    stages: Callable[[int], Iterable[Stage]]
    """Of one seed."""


MIKLER_PUBLISHED = {  # LRR, WR, FT: learning-rate and weight rewinding, fine-tuning
    "fig1": "92.46 dense; iterative at 9.35×: 92.07 LRR, 91.89 WR, 89.42 FT",
    "fig2": "93.71 dense; iterative at 22.7×: 93.13 LRR, 92.93 WR, 90.80 FT",
    "fig3": "92.46 dense; at 9.35×: 87.74 LRR, 87.68 WR, 85.57 FT",
    "fig4": "71.90 dense; at 9.35×: 69.09 LRR, 68.86 WR, 67.42 FT",
    "fig5": "95.72 dense; iterative at 100×: 87.52 LRR, 93.86 WR",
    "fig6": "95.72 dense; LRR 90.96 at 9.35× (steps of 20%), 91.11 at 17.2× (30%)",
    "table5": "94.29 dense; 93.74 LRR, 93.73 WR, 93.32 FT",
}
RENDA_PUBLISHED = {
    "fig1": "weight rewinding outperforms fine-tuning, learning-rate rewinding both (§3)",
    "fig2": "ResNet-50 keeps its accuracy at 5.96×, by learning-rate rewinding",
    "fig3": "rewinding is safe for t from 25% to 90% of the original training",
    "fig4": "both rewindings alike",
    "fig5": "ResNet-50 keeps its accuracy at 5.96×",
    "fig6": "weight rewinding nearly as good as learning-rate rewinding",
    "fig7": "reinitialisation poor with single weights, like weight rewinding with filters",
    "fig8": "learning-rate rewinding first, weight rewinding close",
    "fig9": "low-LR weight rewinding often peaks in the middle of training",
    "fig10": "reinitialisation best at few epochs, learning-rate rewinding at many",
    "fig11": "ResNet-50 4.8× fewer FLOPs at no accuracy drop, fine-tuning 1.7×",
    "fig12": "rewinding needs fewer FLOPs than fine-tuning",
    "table1": "91.71, 93.46, 93.77 (ResNet-20, -56, -110), 73.60, 76.17 (ResNet-34, -50), "
    "26.87 BLEU (GNMT)",
}
WANG_PUBLISHED = {
    "table4": "84.56 dense; at 95%: 76.67 scratch, 79.57 P30F90 1e-1, 29.89 P90F30 1e-4",
    "table5": "P90F30 1e-4: 29.89, and 78.18 with 1,485 epochs more",
    "table6": "step and cosine, from 1e-2 and 1e-3, against scratch",
    "table7": "step and cosine, from 1e-2 and 1e-3, against scratch",
    "setups": "as table4",
}


def catalogue() -> Iterator[CatalogueEntry]:
    """Ours first, then those of the papers, in their order."""
    yield CatalogueEntry(
        command="quickstart",
        reproduces="the three methods on handwritten digits",
        published="ours: see README",
        seeds=quickstart.SEEDS,
        stages=lambda seed: quickstart.quickstart(digits(), range(seed, seed + 1)),
    )
    yield CatalogueEntry(
        command="algorithm1",
        reproduces="Renda et al. 2020, Algorithms 1 and 2; ResNet-56 to 95% sparsity",
        published="Renda et al. 2020, figures 5 and 6",
        seeds=algorithm1.SEEDS,
        stages=algorithm1_stages,
    )
    yield CatalogueEntry(
        command="iterative-wrn",
        reproduces="Mikler 2022, figures 5 and 6, completed",
        published=MIKLER_PUBLISHED["fig5"],
        seeds=mikler2022.SEEDS,
        stages=iterative_wrn_stages,
    )
    yield CatalogueEntry(
        command="between-rewindings",
        reproduces="the question of Mikler 2022, §7: is anything between the rewindings better?",
        published="ours: see docs/recipe-search.md",
        seeds=between_rewindings.SEEDS,
        stages=between_rewindings_stages,
    )
    papers = (
        (mikler2022, MIKLER_PUBLISHED, mikler2022.stages_of),
        (renda2020, RENDA_PUBLISHED, renda_stages),
        (wang2023, WANG_PUBLISHED, wang_stages),
    )
    for module, published, stages in papers:
        for name, values in published.items():
            yield CatalogueEntry(
                command=f"{module.__name__.removeprefix('sweeps.')} {name}",
                reproduces=line_of(module.__doc__, name),
                published=values,
                seeds=module.SEEDS,
                stages=partial(stages, name),
            )


def line_of(docstring: str | None, name: str) -> str:
    """What a recipe's docstring says of one of its figures."""
    lines = [line.split(maxsplit=1) for line in (docstring or "").splitlines()]
    return next(words[1] for words in lines if len(words) == 2 and words[0] == name)


def algorithm1_stages(seed: int) -> list[Stage]:
    protocol = renda_cifar("resnet56")
    return [algorithm1.algorithm1(protocol, protocol, algorithm1.Algorithm(), seed)]


def iterative_wrn_stages(seed: int) -> Iterator[Stage]:
    dense = dense_stage(mikler_wrn(), seed)
    retrained = mikler2022.retrainings(
        dense.protocol, mikler2022.REWIND_EPOCH, "as_run", mikler2022.REWINDINGS
    )
    return iterative_wrn.iterative_wrn(dense, retrained, (0.2, 0.3), 100.0)


def between_rewindings_stages(seed: int) -> list[Stage]:
    protocol = mikler_wrn(validation="test", validation_fraction=0.2)
    ends = between_rewindings.between_rewindings(protocol, between_rewindings.Between(), seed)
    return [stage for _, _, stage in ends]


def renda_stages(name: str, seed: int) -> Iterator[Stage]:
    figure = renda2020.FIGURES[name]
    networks = renda2020.networks_of(name, figure)
    return renda2020.renda2020(figure, networks, Options(), range(seed, seed + 1))


def wang_stages(table: str, seed: int) -> Iterator[Stage]:
    make_protocol, recipe = wang2023.TABLES[table]
    protocol = make_protocol()
    return recipe(protocol, protocol, seed)


NUMERIC = ("seeds", "stages", "epochs", "parameters", "training", "test", "classes", "batch size")
HEADINGS = ("command", "reproduces", "seeds", "stages", "epochs", "published")


def table_lines() -> list[tuple[str, ...]]:
    """Command, what it reproduces, seeds, stages, epochs, published values."""
    lines: list[tuple[str, ...]] = []
    for entry in catalogue():
        one = cost(build_graph(entry.stages(0)))  # seeds share no stage
        whole = (entry.seeds * number for number in (one.stages, one.epochs))
        numbers = (str(entry.seeds), *(f"{number:,}" for number in whole))
        lines.append((f"rewind-ray {entry.command}", entry.reproduces, *numbers, entry.published))
    return lines


Kind: Any = Literal[("recipes", *KINDS)]


def list_command(
    kind: Annotated[Kind, tyro.conf.Positional] = "recipes",
    json: bool = False,
    markdown: bool = False,
) -> None:
    """List recipes, networks, datasets, protocols, methods, criteria or structures.

    Recipes with what each reproduces, its size, and the published values.

    Examples:
      rewind-ray list
      rewind-ray list networks
      rewind-ray list methods --json
      rewind-ray list recipes --markdown

    Args:
        kind: what to list
        json: print only JSON on stdout
        markdown: print a Markdown table, as in docs/catalogue.md
    """
    recipes = kind == "recipes"
    lines = [dict(zip(HEADINGS, line, strict=True)) for line in table_lines()] if recipes else None
    lines = KINDS[kind]() if lines is None else lines
    if json:
        print(json_text.dumps(lines, indent=1, ensure_ascii=False))
    elif markdown:
        print_markdown(lines)
    else:
        print_table(lines, ruled=recipes)
        if recipes:
            print(
                "All take --help, --dry-run and --smoke. rewind-ray search finds a recipe for\n"
                "your own network (docs/recipe-search.md)."
            )


def print_markdown(lines: list[dict[str, Any]]) -> None:
    rules = ["---:" if heading in NUMERIC else "---" for heading in lines[0]]
    print(f"| {' | '.join(lines[0])} |\n| {' | '.join(rules)} |")
    for line in lines:
        first, *others = map(text_of, line.values())
        print(f"| `{first}` | {' | '.join(others)} |")


def print_table(lines: list[dict[str, Any]], ruled: bool) -> None:
    shown = Table(show_lines=ruled)
    for heading in lines[0]:
        shown.add_column(heading, justify="right" if heading in NUMERIC else "left")
    for line in lines:
        shown.add_row(*(escape(text_of(value)) for value in line.values()))
    make_console().print(shown)


def text_of(value: Any) -> str:
    """Numbers with thousands apart; a value that doesn't exist is a dash."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)

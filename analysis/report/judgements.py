"""What the comparisons are worth: differences between methods, the papers' claims, fairness."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Any

import pandas as pd

from analysis.draw.looks import METHOD_LABELS
from analysis.questions.claims import CLAIMS, VERDICTS, judge, points_text, seeds_of, verdict_text
from analysis.questions.compare import (
    Comparison,
    compare,
    in_points,
    left_out_text,
    outcome_text,
    over,
)
from analysis.questions.fairness import SHORT, Group, Pair, label_of_pairs
from analysis.questions.judge import MARGIN
from analysis.report.blocks import Block, CellText, Section, Table, Words
from analysis.report.material import Material
from analysis.report.words import cut, listed, several, short_names
from analysis.table.columns import BadRows
from analysis.table.metrics import amount
from analysis.table.points import pruned_rows, sums_up
from analysis.table.text import panel_name

MAX_COMPARED = 100_000
"""Rows whose methods are compared; above, that can take minutes."""
MAX_PAIRS = 15
"""Of methods, in the table of comparisons: those closest to being shown to differ."""


# Differences between methods


def comparison(material: Material) -> Section | None:
    """None where no two methods meet, and no published sum of trials is left out."""
    title = "Which method is better"
    if len(material.rows) > MAX_COMPARED:
        text = (
            f"Comparing the methods of {len(material.rows):,} rows takes longer than a report may: "
            "rewind-ray analysis compare does it."
        )
        return Section(id="comparison", title=title, blocks=(Words(text=text, kind="note"),))
    try:
        compared = compare(material.rows)
    except BadRows:
        return _none_compared(material, title)
    blocks = (
        Words(text=f"{in_words(compared)} {left_out_text(compared.left_out)}".strip()),
        pairs_table(compared.overall),
        Words(text=HOW_COMPARED, kind="note"),
    )
    return Section(id="comparison", title=title, blocks=blocks)


def _none_compared(material: Material, title: str) -> Section | None:
    """A word of the published sums, where they may be why nothing could be compared."""
    if material.points.empty:
        return None
    left_out = int(sums_up(pruned_rows(material.rows)).sum())
    if not left_out:
        return None
    text = f"Nothing could be compared trial by trial. {left_out_text(left_out)}"
    return Section(id="comparison", title=title, blocks=(Words(text=text, kind="note"),))


HOW_COMPARED = (
    "Each method at the retraining time that validation accuracy chose for it. Differences of mean "
    "test accuracy in points, or of BLEU, are averaged per dense network first, and given with "
    "their 95% interval; p is of a t test, corrected for the number of comparisons (Holm). "
    "Equivalent: the difference is shown to be within a margin of "
    f"{amount(MARGIN)} or {amount(MARGIN, 'bleu')} in both directions. rewind-ray analysis compare "
    "shows every compression by itself, how many seeds a difference would need, and takes another "
    "--margin."
)


def in_words(compared: Comparison) -> str:
    pairs, lines = compared.overall, compared.scenarios
    shown, same = int((pairs["better"] != "").sum()), int(pairs["equivalent"].sum())
    hopeless = int((~pairs["could_show"]).sum())
    alone = int((lines["better"] != "").sum())
    few = (
        f" {hopeless:,} of them have too few seeds to show a difference as large as the margin."
        if hopeless
        else ""
    )
    return (
        f"Over all compressions {shown or 'none'} of {several(len(pairs), 'pair')} of methods show "
        f"a difference, {same or 'none'} are equivalent within the margin.{few} At single "
        f"compressions {alone or 'none'} of {several(len(lines), 'comparison')} show a difference."
    )


def pairs_table(pairs: pd.DataFrame) -> Table:
    ordered = pairs.assign(far=-pairs["difference"].abs())
    ordered = ordered.sort_values(["p_holm", "p", "far"], kind="stable")
    several_metrics = pairs["metric"].nunique() > 1
    lines = [
        (
            f"{_label(line.a)} against {_label(line.b)}"
            + (f", {line.metric}" if several_metrics else ""),
            f"{line.ahead} of {line.scenarios}",
            in_points(line.difference).replace("-", "−"),
            *(
                "" if pd.isna(end) else in_points(end).replace("-", "−")
                for end in (line.low, line.high)
            ),
            f"{line.p_holm:.2g}",
            over(line),
            outcome_text(line, MARGIN, _label(line.better)),
        )
        for line in ordered.head(MAX_PAIRS).itertuples()
    ]
    more = f", {MAX_PAIRS} of {len(pairs):,}" if len(pairs) > MAX_PAIRS else ""
    return Table(
        caption=f"Pairs of methods, over all compressions{more}",
        columns=("methods", "first ahead", "difference", "from", "to", "p", "over", "overall"),
        lines=tuple(lines),
        numeric=frozenset(["first ahead", "difference", "from", "to", "p"]),
    )


def _label(contender: str) -> str:
    """``lr_rewind, alpha 0`` is learning-rate rewinding, alpha 0."""
    return re.sub(r"^\w+", lambda method: METHOD_LABELS.get(method[0], method[0]), contender)


# Claims


def claims(material: Material) -> Section | None:
    """None where no claim can be judged."""
    try:
        verdicts, _ = judge(material.rows)
    except BadRows:
        return None
    text = (
        "What the papers claim, judged on these results in every scenario by itself, as the "
        "comparison above. Differences are the mean over compressions, averaged per dense network "
        "first, in points (or BLEU), with their 95% interval. “At least as good” is meant "
        f"within a margin of {amount(MARGIN)}: what is within it in both directions is equivalent. "
        "The verdicts are not corrected for their number: of 20 scenarios without any difference "
        "at most about one would be judged wrongly."
    )
    blocks = (Words(text=text), claims_table(verdicts))
    return Section(id="claims", title="The papers' claims", blocks=blocks)


def claims_table(verdicts: pd.DataFrame) -> Table:
    names, common = short_names(verdicts)
    alike = len(set(names)) == 1
    places = pd.Series("" if alike else names, index=verdicts.index)
    lines: list[tuple[CellText, ...]] = []
    for name, claim in CLAIMS.items():
        scenarios = verdicts[verdicts["claim"] == name]
        counts = Counter(scenarios["verdict"])
        tally = ", ".join(f"{counts[each]} {each}" for each in VERDICTS if counts[each])
        lines.append((f"{claim.text} ({claim.source}): {tally or 'nothing to judge it by'}",))
        lines += [
            _scenario(line, place)
            for line, place in zip(scenarios.itertuples(), places[scenarios.index], strict=True)
        ]
    numbers = ("difference", "from", "to", "points", "seeds")
    return cut(
        Table(
            caption=f"Claims: {names[0] if alike else common}".removesuffix(": "),
            columns=("methods", "scenario", "verdict", *numbers),
            lines=tuple(lines),
            numeric=frozenset(numbers),
        )
    )


def _scenario(line: Any, place: str) -> tuple[CellText, ...]:
    step = "" if pd.isna(line.step) else f"{100 * line.step:.3g} % a step"
    where = panel_name((place, line.variant, step))
    interval = (line.difference, line.low, line.high)
    return (
        f"{_label(line.method)} with {_label(line.method_other)}",
        where,
        verdict_text(line, MARGIN),
        *("" if pd.isna(each) else in_points(each).replace("-", "−") for each in interval),
        points_text(line),
        seeds_of(line),
    )


# Fairness


def fair(material: Material) -> Section | None:
    """None where nothing is compared."""
    if not material.pairs:
        return None
    label = label_of_pairs(list(material.pairs))
    text = (
        "How alike two methods were treated decides what their difference can be ascribed to. Of "
        "the comparison setups of Wang et al. 2023, from S1, the loosest, to S4.2, this is the "
        "strictest that each pair of methods satisfies, and what breaks the next."
    )
    summed_up = [Words(text=f"{label[0].upper()}{label[1:]}.")] if label else []
    blocks: list[Block] = [*summed_up, Words(text=text), setups_table(material.pairs)]
    return Section(id="fairness", title="Fairness", blocks=tuple(blocks))


def setups_table(pairs: tuple[Pair, ...]) -> Table:
    """Equal verdicts together, the strictest first."""
    verdicts: dict[tuple[Any, ...], list[Pair]] = defaultdict(list)
    for pair in pairs:
        status = pair.breaks.status if pair.breaks else None
        verdicts[pair.setup, pair.beside, pair.next_setup, pair.broken, status].append(pair)
    lines: list[tuple[CellText, ...]] = []
    for (setup, beside, next_setup, broken, status), found in verdicts.items():
        satisfied = [name for name in (setup, *beside) if name]
        lines.append(
            (
                ", ".join(satisfied) or "none",
                "; ".join(SHORT[name] for name in satisfied),
                f"{next_setup} wants {broken}: {status}" if next_setup else "",
                f"{len(found):,}",
                listed([_names(pair) for pair in found]),
            )
        )
    return cut(
        Table(
            caption="Pairs by what they satisfy",
            columns=("setup", "what is alike", "what breaks the next", "pairs", "such as"),
            lines=tuple(lines),
            numeric=frozenset(["pairs"]),
        )
    )


def _names(pair: Pair) -> str:
    a, b = (_group(group) for group in (pair.a, pair.b))
    return f"{a} and {b} on {pair.a.network}"


def _group(group: Group) -> str:
    return ", ".join(part for part in (_label(group.method), group.variant) if part)

"""``rewind-ray analysis fairness``"""

from __future__ import annotations

from typing import Annotated, Any

import pandas as pd
from tyro.conf import arg

from analysis.commands.options import Json, Rows
from analysis.questions.fairness import (
    CONDITIONS,
    FOUR,
    GROUP,
    OF_CROSS_TEST,
    SETUPS,
    SHORT,
    Group,
    Pair,
    cross_tests,
    fairness,
    label_of_pairs,
    pair_record,
)
from analysis.table.rows import read_rows, suffix_of, table_as_bytes, write_file
from analysis.table.text import aligned, json_text, panel_name, percent, records, times

PAIRS_SHOWN = 4  # of one verdict
TESTS_SHOWN = 12

PairsOut = Annotated[
    str | None,
    arg(metavar="FILE", help="All pairs as .csv.", help_behavior_hint="(optional)"),
]


def fairness_command(source: Rows, *, json: Json = False, out: PairsOut = None) -> None:
    """How fairly the rows compare their methods.

    For each two lines that a figure would draw, the strictest comparison setup of Wang et al. 2023
    that they satisfy, S1 up to S4.2, and SX-A and SX-B beside; and what breaks the next one, or
    why it is unknown. Then the cross test: whether the ranking of two ways of pruning
    depends on the retraining.

    Examples:
      rewind-ray analysis fairness rows.csv
      rewind-ray analysis fairness results --json
      rewind-ray analysis fairness rows.parquet --out pairs.csv
    """
    if out:
        suffix_of(out, (".csv",))
    rows = read_rows(source)
    pairs, tests = fairness(rows), cross_tests(rows)
    if out:
        write_file(out, table_as_bytes(pairs_table(pairs), ".csv"))
    if json:
        print(json_text(fairness_json(pairs, tests)), flush=True)
    else:
        parts = [pairs_text(pairs), cross_text(tests)]
        print("\n\n".join(part for part in parts if part), flush=True)


def fairness_json(pairs: list[Pair], tests: pd.DataFrame) -> dict[str, Any]:
    return {
        "label": label_of_pairs(pairs),
        "setups": {name: list(conditions) for name, conditions in SETUPS.items()},
        "pairs": [pair_record(pair) for pair in pairs],
        "cross_tests": records(tests),
    }


def pairs_table(pairs: list[Pair]) -> pd.DataFrame:
    """A line a pair: what ``pair_record`` has, flat."""
    attributes = [name for name in GROUP if name not in ("network", "dataset")]
    lines = []
    for record in map(pair_record, pairs):
        sides = {f"{name}_{side}": record[side][name] for name in attributes for side in ("a", "b")}
        statuses = {name: record["conditions"][name]["status"] for name in CONDITIONS}
        lists = {
            "beside": ", ".join(record["beside"]),
            "compressions": " ".join(f"{ratio:.6g}" for ratio in record["compressions"]),
        }
        flat = {name: record[name] for name in record if name not in ("a", "b", "conditions")}
        lines.append(sides | flat | lists | statuses)
    table = pd.DataFrame(lines)
    first = ["network", "dataset"]
    return table[[*first, *(name for name in table if name not in first)]] if lines else table


# text


def pairs_text(pairs: list[Pair]) -> str:
    """Equal verdicts together, the strictest first."""
    if not pairs:
        return "nothing is compared: there is one method, and one way of pruning"
    verdicts: dict[tuple[Any, ...], list[Pair]] = {}
    for pair in pairs:
        status = pair.breaks.status if pair.breaks else None
        verdict = (pair.setup, pair.beside, pair.next_setup, pair.broken, status)
        verdicts.setdefault(verdict, []).append(pair)
    return "\n\n".join(_verdict_text(found) for found in verdicts.values())


def _verdict_text(pairs: list[Pair]) -> str:
    example = pairs[0]
    satisfied = [name for name in (example.setup, *example.beside) if name]
    meaning = ", ".join(SHORT[name] for name in satisfied)
    number = _number(len(pairs), "pair")
    head = f"{number}: {', '.join(satisfied)} ({meaning})" if satisfied else f"{number}: no setup"
    if example.breaks:
        head += f"; {example.next_setup} wants {example.broken}: {example.breaks.status}"
    lines = [f"  {_pair_text(pair)}" for pair in pairs[:PAIRS_SHOWN]]
    left_out = len(pairs) - PAIRS_SHOWN
    more = [f"  and {left_out} more; --json and --out list all"] if left_out > 0 else []
    return "\n".join([head, *lines, *more])


def _pair_text(pair: Pair) -> str:
    where, name_a, name_b = pair_names(pair.a, pair.b)
    seeds = " vs ".join(dict.fromkeys(map(str, pair.seeds)))
    basis = [
        _number(len(pair.compressions), "compression"),
        f"{_number(pair.shared_baselines, 'base model')} shared",
        f"{seeds} seed{'' if seeds == '1' else 's'}",
    ]
    broken = [pair.breaks.words] if pair.breaks else []
    on = [", ".join(basis)] if pair.compressions else []
    return f"{name_a} vs {name_b} ({where}): " + "; ".join([*broken, *on])


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def pair_names(a: Group, b: Group) -> tuple[str, str, str]:
    """What two groups have in common, and what each is called beside the other."""
    both = [name for name in GROUP if name not in ("method", "variant")]
    same = [name for name in both if getattr(a, name) == getattr(b, name)]
    common = [name for name in same if name != "prune_fraction"]
    where = panel_name(tuple(getattr(a, name) for name in common))
    names = []
    for group in (a, b):
        parts = [group.method, group.variant]
        parts += [_attribute(group, name) for name in both if name not in same]
        names.append(", ".join(part for part in parts if part))
    return where, names[0], names[1]


def _attribute(group: Group, name: str) -> str:
    value = getattr(group, name)
    if name == "prune_fraction":
        return "" if value is None else f"{100 * value:.3g} % a step"
    if name == "protocol":
        return f"protocol {value}" if value else "own protocol"
    return str(value)


def cross_text(tests: pd.DataFrame) -> str:
    """A table for each A and B."""
    if tests.empty:
        return (
            "no cross test: no two ways of pruning were retrained in two same ways at the same "
            "compression"
        )
    by_test = int((tests["chosen_by"] == "test_accuracy").sum())
    parts = [
        "cross test: A+F_A is A with the retraining it is best with, by validation accuracy (by "
        f"test accuracy in {by_test} of {len(tests)}); F_B is the best of the others for B"
    ]
    parts += [
        _cross_table(place, group)
        for place, group in tests.groupby([*OF_CROSS_TEST, "a", "b"], dropna=False, sort=False)
    ]
    depending = int(tests["depends"].sum())
    parts.append(
        f"the ranking of A and B depends on the retraining in {depending} of {len(tests)} cross "
        "tests" + (f", in {_beyond(tests)} of them beyond the spread of seeds" if depending else "")
    )
    return "\n\n".join(parts)


def _beyond(tests: pd.DataFrame) -> int:
    return int((tests["depends"] & tests["beyond_spread"]).sum())


def _cross_table(place: Any, tests: pd.DataFrame) -> str:
    *where, a, b = place
    shown = tests.head(TESTS_SHOWN)
    cells = pd.DataFrame({"compression": shown["compression_ratio"].map(times)})
    cells["F_A"], cells["F_B"] = shown["f_a"], shown["f_b"]
    for name in FOUR:
        side, retraining = name.upper().split("_")
        texts = zip(shown[name], shown[f"n_{name}"], strict=True)
        head = f"{side}+F_{retraining[1]} (n)"
        cells[head] = [f"{percent(accuracy)} ({number})" for accuracy, number in texts]
    cells["ranking"] = [_ranking(line) for line in shown.to_dict("records")]
    left_out = len(tests) - len(shown)
    more = f"\nand {left_out} more; --json lists all" if left_out else ""
    head = f"{panel_name(tuple(where[:-1]))}: A is {a}; B is {b}"
    return f"{head}\n{aligned(cells, left={'F_A', 'F_B', 'ranking'})}{more}"


def _ranking(test: dict[str, Any]) -> str:
    """depends on the retraining: A ahead with F_A, B ahead with F_B, within the spread of seeds"""
    with_fa, with_fb = test["ranking_fa"], test["ranking_fb"]
    words = {"A": "A ahead", "B": "B ahead", "tie": "tie"}
    text = f"{words[with_fa]} with F_A, {words[with_fb]} with F_B"
    if with_fa == with_fb:
        text = f"{words[with_fa]} with both"
    if test["depends"]:
        text = f"depends on the retraining: {text}"
    if not test["beyond_spread"]:
        single = min(test[f"n_{name}"] for name in FOUR) < 2
        text += ", single seeds" if single else ", within the spread of seeds"
    if test["n_retrainings"] > 2:
        ahead = f"A in {test['n_a_ahead']}, B in {test['n_b_ahead']}"
        text += f" (ahead of {test['n_retrainings']} retrainings: {ahead})"
    return text

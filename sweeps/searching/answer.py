"""The printed result of a search: the front, the recommended recipe, and its comparison."""

from __future__ import annotations

import shlex
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table
from scipy import stats

from rewind_ray.result import ResultRow
from rewind_ray.spec import Protocol
from rewind_ray.store.files import write_atomically
from rewind_ray.store.ledger import Ledger
from rewind_ray.structures import DEFAULT_STRUCTURE
from sweeps.compare import Training
from sweeps.options import Options
from sweeps.plan.chains import scaled
from sweeps.plan.flags import flags_for
from sweeps.plan.naming import percent
from sweeps.run.summary import figure_path
from sweeps.searching.confirm import confirmation
from sweeps.searching.figure import draw_search
from sweeps.searching.objectives import Point, accuracy, violations
from sweeps.searching.rival import published_cost
from sweeps.searching.search import RECOMMENDED, Search
from sweeps.searching.space import Recipe

FRONT_SHOWN = 25
CONFIDENCE = 0.95
TOP = 0.2
"""Share of the suggestions that count as the best, for the importance of knobs."""
LEAST_SHARE = 0.005
FEWEST_FOR_IMPORTANCE = 25
"""Five among the best, as Optuna's documentation recommends; with fewer it is noise."""


def interval(accuracies: Sequence[float]) -> tuple[float, float] | None:
    """Student's 95% interval of the mean over seeds, within 0 and 1; None for a single seed."""
    if len(accuracies) < 2:
        return None
    mean, error = float(np.mean(accuracies)), float(stats.sem(accuracies))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(accuracies) - 1)) * error
    return max(0.0, mean - half), min(1.0, mean + half)


def interval_text(accuracies: Sequence[float]) -> str:
    found = interval(accuracies)
    return "–" if found is None else f"{100 * found[0]:.2f} to {100 * found[1]:.2f}"


# The front


def front_table(front: Sequence[Point], best: Point) -> Table:
    """Sorted by compression, then by accuracy; the recommended recipe is marked."""
    table = Table(
        title="The front: chosen by validation accuracy, test accuracy reported "
        "(mean, 95% interval over seeds)",
        title_justify="left",
    )
    table.add_column("recipe", overflow="fold")
    for column in ("compr.", "epochs", "val. %", "drop", "test %", "95% interval", "seeds"):
        table.add_column(column, justify="right", no_wrap=True)
    ordered = sorted(front, key=lambda point: (point.compression, -point.val_accuracy))
    for point in shortened(ordered, best):
        mark = "→ " if point is best else ""
        table.add_row(
            f"{mark}{point.recipe.describe()}",
            f"{point.compression:.2f}×",
            f"{point.cost_epochs:,}",
            f"{100 * point.val_accuracy:.2f}",
            f"{100 * point.drop:.2f}",
            f"{100 * float(np.mean(point.test_accuracies)):.2f}",
            interval_text(point.test_accuracies),
            str(len(point.seeds)),
        )
    return table


def shortened(points: Sequence[Point], best: Point) -> list[Point]:
    """FRONT_SHOWN points, evenly spaced, and the best among them."""
    if len(points) <= FRONT_SHOWN:
        return list(points)
    places = {round(i * (len(points) - 1) / (FRONT_SHOWN - 2)) for i in range(FRONT_SHOWN - 1)}
    return [points[place] for place in sorted(places | {list(points).index(best)})]


def front_csv(front: Sequence[Point], commands: dict[Recipe, str]) -> bytes:
    """One line for each recipe of the front, with the command that trains it."""
    lines = []
    for point in front:
        low, high = interval(point.test_accuracies) or (None, None)
        lines.append(
            {
                "recipe": point.recipe.describe(),
                "compression_ratio": point.compression,
                "search_cost_epochs": point.cost_epochs,
                "search_cost_flops": point.cost_flops,
                "val_accuracy": point.val_accuracy,
                "val_accuracy_drop": point.drop,
                "test_accuracy_mean": float(np.mean(point.test_accuracies)),
                "test_accuracy_low": low,
                "test_accuracy_high": high,
                "n_seeds": len(point.seeds),
                "command": commands[point.recipe],
            }
        )
    return bytes(pd.DataFrame(lines).to_csv(index=False).encode())


# A command to paste


def command_of(
    recipe: Recipe,
    training: Training,
    options: Options,
    seeds: int,
    protocol: Protocol,
    full_epochs: int,
) -> str:
    """The ``rewind-ray compare`` command that trains the recipe.

    full_epochs: of the training that --rewind-epoch is an epoch of; with --smoke the protocol's
    is a shorter one.
    """
    rewound = 0
    if recipe.retrain.method != "scratch_e":  # which has no retraining time of its own
        rewound = protocol.epochs - recipe.retrain.epochs
    asked = next(e for e in range(full_epochs + 1) if scaled(e, full_epochs, protocol) == rewound)
    fraction, structure = recipe.prune.fraction, recipe.prune.structure
    given = flags_for(recipe.prune)
    if fraction is None:  # whose weights are compared layer by layer in any case
        given.pop("scope", None)
    flags: dict[str, Any] = {
        **changed(training, Training()),
        **{name: getattr(options, name) for name in ("storage", "data", "precision", "smoke")},
        "seeds": seeds,
        "methods": recipe.retrain.method,
        "rewind_epoch": asked,
        "structure": structure if structure != DEFAULT_STRUCTURE else None,
        "densities": () if fraction else None,  # none: a chain of steps alone
        "fraction": fraction,
        "levels": recipe.levels if fraction else None,
        **given,
        **flags_for(recipe.retrain),
    }
    words = ["rewind-ray", "compare"]
    for name, value in flags.items():
        if value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", *words_of(value)]
    return shlex.join(words)


def changed(training: Training, default: Training) -> dict[str, Any]:
    values = {item.name: getattr(training, item.name) for item in fields(Training)}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def words_of(value: Any) -> list[str]:
    if value is True:
        return []
    return [str(part) for part in value] if isinstance(value, tuple) else [str(value)]


# The knobs


def importance_lines(study: optuna.Study) -> list[str]:
    """Importance of each knob for being among the best suggestions, most important first."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trials) < FEWEST_FOR_IMPORTANCE:
        return [
            f"importance of the knobs: {len(trials)} finished suggestions are too few, "
            f"{FEWEST_FOR_IMPORTANCE} are needed"
        ]
    counts = Counter(name for trial in trials for name in trial.params)
    frequent = [name for name, count in counts.items() if count >= FEWEST_FOR_IMPORTANCE]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that few trials have
        shares = optuna.importance.get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=TOP), params=frequent
        )
    lines = [f"{name} {share:.0%}" for name, share in shares.items() if share >= LEAST_SHARE]
    rare = [name for name in counts if name not in frequent]
    left_out = f"; too rarely suggested: {', '.join(rare)}" if rare else ""
    return [
        "importance of the knobs for being among the best fifth (PED-ANOVA): "
        f"{', '.join(lines)}{left_out}"
    ]


# All of it


def show_answer(
    search: Search,
    name: str,
    training: Training,
    options: Options,
    full_epochs: int,
    console: Console,
) -> bool:
    """Print the results; False if no recipe is within the limits."""
    for line in trouble_lines(search):
        console.print(line, style="red", markup=False, soft_wrap=True)
    for line in effort_lines(search):
        console.print(line, soft_wrap=True)
    best = search.recommended()
    if search.points:
        figure = figure_path(name, options)
        draw_search(list(search.points.values()), search.front(), best, search.goal.cost, figure)
        console.print(f"figure   {figure}", markup=False, soft_wrap=True)
    if best is None:
        console.print(f"[bold]{nearest_line(search)}[/]", soft_wrap=True)
        return False
    front = search.front()
    console.print(front_table(front, best))
    seeds = search.effort.seeds
    commands = {
        point.recipe: command_of(
            point.recipe, training, options, seeds, search.protocol, full_epochs
        )
        for point in front
    }
    lines = [
        f"[bold]recommended[/]  {best.recipe.describe()}: {best.compression:.2f}×, "
        f"{best.cost_epochs} epochs, test {percent(float(np.mean(best.test_accuracies)))}",
        *importance_lines(search.study.study),
        *confirmation_lines(search, best),
        "Train it with:",
    ]
    for line in lines:
        console.print(line, soft_wrap=True)
    print(commands[best.recipe])  # whole, however narrow the terminal
    ledger = Ledger(options.storage)
    path = ledger.layout.front(name)
    write_atomically(ledger.filesystem, path, front_csv(front, commands))
    console.print(f"front    {path}", markup=False, soft_wrap=True)
    return True


def trouble_lines(search: Search) -> list[str]:
    """Each line once, with its count."""
    found = Counter(search.trouble)
    return [f"{line} ({count} times)" if count > 1 else line for line, count in found.items()]


def effort_lines(search: Search) -> list[str]:
    sharing = search.sharing()
    different = len({search.study.recipe(trial) for trial in search.study.within_limits()})
    alone = sharing.epochs_asked - sharing.epochs_of_baselines
    times = sharing.epochs_asked / max(1, sharing.epochs_trained)
    levels_times = sharing.epochs_of_levels / max(1, sharing.epochs_trained)
    beyond = f", {search.num_beyond} beyond the limits not tried" if search.num_beyond else ""
    return [
        f"{search.num_suggested} suggestions, {different} different, {search.num_given_up} given "
        f"up early{beyond}; {len(search.points)} recipes measured, as every level is one",
        f"epochs   asked for {sharing.epochs_asked:,} ({alone:,} of retraining, "
        f"{sharing.epochs_of_baselines:,} of a baseline for each), trained "
        f"{sharing.epochs_trained:,}: {times:.1f} times fewer; every level by itself would be "
        f"{sharing.epochs_of_levels:,}: {levels_times:.1f} times",
    ]


def nearest_line(search: Search) -> str:
    """If no recipe keeps the limits: the nearest one, and its values."""
    points = list(search.points.values())
    if not points:
        return "no recipe was finished: there is nothing to recommend"

    def missed(point: Point) -> float:
        return sum(max(0.0, amount) for amount in violations(point, search.goal).values())

    nearest = min(points, key=missed)
    return (
        "target not reached: no recipe keeps all limits. Nearest: "
        f"{nearest.recipe.describe()}: {nearest.compression:.2f}×, validation accuracy "
        f"{100 * nearest.drop:.2f} points below the dense network's, {nearest.cost_epochs} epochs. "
        "More --suggestions, a wider space or looser limits may help"
    )


def confirmation_lines(search: Search, best: Point) -> list[str]:
    """The recommended recipe against its rivals, on seeds that nothing was chosen by."""
    if not search.confirmed:
        return []
    rows = {who: fresh_rows(search, recipe) for who, recipe in search.confirmed.items()}
    rivals = [who for who in search.confirmed if who != RECOMMENDED]
    others = sum(search.confirmed[who] != best.recipe for who in rivals)
    seeds = search.effort.confirm_seeds
    counted = "a fresh seed" if seeds == 1 else f"{seeds} fresh seeds"
    lines = [f"[bold]on {counted}[/], test accuracy, mean (95% interval):"]
    lines += [f"  {fresh_line(who, search.confirmed[who], rows[who], seeds)}" for who in rows]
    for who in rivals:
        if search.confirmed[who] == best.recipe:
            lines.append(f"  {who} is the recommended recipe")
            continue
        found = confirmation(rows[RECOMMENDED], rows[who], others)
        verdict = found.verdict() if found else "not compared: no seed has a result of both"
        lines.append(f"  against {who}: {verdict}")
    return [
        *lines,
        f"  (Algorithm 1 as published, {search.protocol.epochs} epochs a level, takes "
        f"{published_cost(best.compression, search.protocol):,} epochs to get there; finding this "
        f"recipe took {search.sharing().epochs_trained:,}, once)",
    ]


def fresh_rows(search: Search, recipe: Recipe) -> dict[int, ResultRow]:
    found = {seed: search.fresh_row(recipe, seed) for seed in search.fresh_seeds}
    return {seed: row for seed, row in found.items() if row is not None}


def fresh_line(who: str, recipe: Recipe, rows: dict[int, ResultRow], seeds: int) -> str:
    lost = f", {seeds - len(rows)} diverged or failed" if len(rows) < seeds else ""
    if not rows:
        return f"{who}: no result{lost}"
    tests = [accuracy(row.test_accuracy) for row in rows.values()]
    row = next(iter(rows.values()))
    return (
        f"{who}: {percent(float(np.mean(tests)))} ({interval_text(tests)})  {recipe.describe()}; "
        f"{row.compression_ratio:.2f}×, {row.search_cost_epochs} epochs, "
        f"{row.search_cost_flops:.2g} multiply-adds{lost}"
    )

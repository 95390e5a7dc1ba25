"""Find the cheapest recipe: Optuna proposes how to prune and retrain.

The objectives (--objectives) are validation accuracy, compression and search cost: two or three of
them, whose trade-off is shown as a front, or one, with limits on the others. Promising recipes are
repeated with more seeds, hopeless ones are given up. The result is the front, a recommended recipe
as a command, and its comparison with Renda et al.'s Algorithm 1 at the same search cost on fresh
seeds. The same command continues an interrupted search; nothing is suggested or trained twice.

Examples:
  rewind-ray search --dataset digits --network digits_resnet --protocol digits
  rewind-ray search --network resnet56 --objectives accuracy --target-compression 10 --dry-run
  rewind-ray search --objectives cost --target-compression 10 --max-accuracy-drop 0.5pt
  rewind-ray search --objectives accuracy compression --methods finetune lr_rewind llr
  rewind-ray search --space space.toml --sampler grid
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rewind_ray.command_line import DONE, incomplete, make_console
from rewind_ray.errors import UserError
from rewind_ray.spec import Protocol, Prune, Retrain, dense_stage
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.opening import check_writable
from rewind_ray.tasks import planned_task
from rewind_ray.training.given import store_given
from sweeps.compare import Training, chosen_protocol, given
from sweeps.options import SEEDS_LIMIT, Options, drop_limit
from sweeps.plan.chains import prepared, sweep_name
from sweeps.plan.estimate import check_disk, check_graph, prunable_shapes
from sweeps.plan.graph import build_graph, trained
from sweeps.run.failures import record_failures
from sweeps.run.launch import (
    Sweep,
    command,
    how_training_ended,
    prepare_data,
    record_sweep,
    report_trouble,
    runtime_of,
    say,
    warner,
)
from sweeps.run.notify import check_command
from sweeps.run.ray_access import listen_on_loopback
from sweeps.run.sweep_log import SweepLog
from sweeps.searching.objectives import LUMPS, Goal
from sweeps.searching.search import Effort, Search
from sweeps.searching.space import (
    KNOBS,
    Recipe,
    Space,
    SpaceKnob,
    default_space,
    endless_knobs,
    epochs_between,
    knob_text,
    lowest,
    narrowed,
    num_recipes,
    reach,
    reaches_any,
    read_space,
    takes_fraction,
    values_of,
    without_weights,
)
from sweeps.searching.study import SearchStudy, StudySpec

SEEDS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What to search for."""

    objectives: tuple[Literal["accuracy", "compression", "cost"], ...] = (
        "accuracy",
        "compression",
        "cost",
    )
    """One, two or three of: accuracy (on validation data), compression, cost (of retraining)."""
    cost: Literal["epochs", "flops"] = "epochs"
    """Unit of the search cost: epochs, or multiply-adds with zeros skipped."""
    max_accuracy_drop: Annotated[str | None, tyro.conf.arg(metavar="0.5pt|0.005")] = None
    """Limit on the drop of validation accuracy from the dense network: 0.5pt (points) or 0.005."""
    target_compression: Annotated[float | None, tyro.conf.arg(metavar="RATIO")] = None
    """Limit: lowest compression ratio."""
    budget_epochs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Limit: most retraining epochs of a recipe, over all levels."""


@dataclass(frozen=True, kw_only=True)
class _Knobs:
    space: Annotated[str | None, tyro.conf.arg(metavar="FILE.toml")] = None
    """File with the knobs: each a list, or a table with low, high, and step or log."""
    layers: Annotated[str | None, tyro.conf.arg(metavar="PATTERN")] = None
    """Only layers that N:M structures prune, such as stages.*: those whose inputs they divide."""
    max_compression: Annotated[float | None, tyro.conf.arg(metavar="RATIO")] = None
    """Highest compression ratio to try; 100 if left out."""


def flag_of(declared: SpaceKnob) -> Any:
    kind: Any = float if declared.kind is tuple else declared.kind
    return Annotated[tuple[kind, ...] | None, tyro.conf.arg(help=f"{declared.help}.")]


Knobs: Any = make_dataclass(
    "Knobs",
    [(name, flag_of(declared), field(default=None)) for name, declared in KNOBS.items()],
    bases=(_Knobs,),
    frozen=True,
    kw_only=True,
)
"""What to vary: each flag lists the values that a knob may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Searching:
    """How to search."""

    suggestions: Annotated[int, tyro.conf.arg(metavar="N")] = 60
    """Number of recipes to suggest; a higher number continues a finished search."""
    sampler: Literal["tpe", "nsga2", "random", "grid"] = "tpe"
    """Sampler of Optuna; grid: every recipe of the space, in random order."""
    sampler_seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of the sampler; suggestions are reproducible only with --max-concurrent 1."""
    confirm_seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 6
    """Fresh seeds for comparing the recommended recipe with Algorithm 1; 0: no comparison."""
    name: str = "search"
    """Name of the study, the sweep's record and the TensorBoard runs."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("suggestions", 1, 1_000_000),
            ("sampler_seed", 0, 2**32 - 1),
            ("confirm_seeds", 0, SEEDS_LIMIT),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                flag = name.replace("_", "-")
                raise UserError(
                    f"--{flag} is {value}; allowed: whole numbers from {least} to {most:,}"
                )
        if not self.name or set(self.name) & set("/\\ "):
            raise UserError(f"--name is {self.name!r}; allowed: a name without spaces or slashes")


def goal_of(wanted: Wanted) -> Goal:
    return Goal(
        objectives=wanted.objectives,
        cost=wanted.cost,
        max_accuracy_drop=drop_limit(wanted.max_accuracy_drop),
        target_compression=wanted.target_compression,
        budget_epochs=wanted.budget_epochs,
    )


def space_of(knobs: Knobs, protocol: Protocol) -> tuple[Space, str | None]:
    """The default space, narrowed by the file and then by the flags; and what had to be left out.

    Raises UserError where a method is asked for that has no weights to start from.
    """
    default = default_space(protocol)
    space = default if knobs.space is None else read_space(knobs.space, default)
    given = {item.name: getattr(knobs, item.name) for item in fields(Knobs)}
    del given["space"]
    space = narrowed(space, given)
    missing = without_weights(space, protocol)
    if not missing:
        return space, None
    name, reason = next(iter(missing.items()))
    if space.methods != default.methods:
        raise UserError(f"--methods has {name}: {reason}")
    left = tuple(method for method in values_of(space.methods) if method not in missing)
    note = f"without {', '.join(missing)}: {reason}"
    return replace(space, methods=left), note


def check_possible(spec: StudySpec, sampler: str, data: str | None) -> None:
    """Raises UserError, before anything trains, for goals that no recipe of the space can reach."""
    protocol, space, goal = spec.protocol, spec.space, spec.goal
    target, budget = goal.target_compression, goal.budget_epochs
    if protocol.validation == "none":
        raise UserError(
            f"the protocol of {protocol.network} on {protocol.dataset} has no validation set, and "
            "a search must not choose by the test set: --validation 0.2 takes a fifth of it"
        )
    if target is not None:
        prunable = sum(part.numel() for part in prunable_shapes(protocol, data).values())
        most = max(
            float(prunable) if reaches_any(structure) else ratio
            for structure, ratio in reach(space).items()
        )
        if most < target * (1 - LUMPS):
            raise UserError(
                f"--target-compression is {target:g}, but the space reaches {most:.4g} at most; "
                "lower it, or allow larger fractions, more levels or another structure"
            )
    cheapest, _ = epochs_between(space, protocol, target)
    if budget is not None and cheapest > budget:
        raise UserError(
            f"--budget-epochs is {budget}, but the cheapest recipe of the space takes {cheapest} "
            "epochs; raise it, or allow shorter retraining (--shares) or fewer levels"
        )
    if sampler == "grid" and endless_knobs(space):
        raise UserError(
            f"--sampler grid with a range without step: {', '.join(endless_knobs(space))}; name "
            "its values, or give it a step"
        )
    for structure in values_of(space.structures):
        prune = Prune(
            fraction=lowest(space.fractions) if takes_fraction(structure) else None,
            structure=structure,
            layers="" if takes_fraction(structure) else space.layers,
        )
        sample = Recipe(prune=prune, retrain=Retrain(method="reinit", epochs=1), levels=1)
        check_graph(build_graph(sample.chain(protocol, seed=0)), data)


def describe_search(spec: StudySpec, effort: Effort, sampler: str) -> list[Table | str]:
    """The space as a table, and lines on what the search can cost."""
    space, goal, protocol = spec.space, spec.goal, spec.protocol
    table = Table(title="space", title_justify="left")
    table.add_column("knob")
    table.add_column("values", overflow="fold")
    for name in KNOBS:
        table.add_row(name, knob_text(getattr(space, name)))
    target = goal.target_compression
    recipes = num_recipes(space, target is not None)
    baselines, each = effort.seeds + effort.confirm_seeds, trained(dense_stage(protocol, seed=0))
    cheapest, dearest = epochs_between(space, protocol, target)
    limits = [f"up to {space.max_compression:g}×" if target is None else f"from {target:g}× on"]
    if goal.max_accuracy_drop is not None:
        limits.append(f"accuracy at most {100 * goal.max_accuracy_drop:g} points below dense")
    if goal.budget_epochs is not None:
        limits.append(f"at most {goal.budget_epochs:,} epochs of retraining")
    return [
        table,
        f"objectives  {', '.join(goal.objectives)}; limits: {', '.join(limits)}",
        f"recipes     {recipes:,.0f} in the space" if recipes < 1e15 else "recipes     endless",
        f"search      {effort.suggestions} suggestions by {sampler}, up to {effort.seeds} seeds "
        f"each; {effort.confirm_seeds} fresh seeds for the comparison",
        f"epochs      {each} a baseline, {baselines} of them; "
        f"a recipe {cheapest:,} to {min(dearest, goal.budget_epochs or dearest):,} a seed",
    ]


def run_search(
    spec: StudySpec,
    effort: Effort,
    how: Searching,
    training: Training,
    full_epochs: int,
    folder: str | None,
    options: Options,
) -> int:
    """Search and show the results; the exit code."""
    from sweeps.searching.answer import show_answer

    console = make_console()
    protocol = spec.protocol
    ledger = Ledger(options.storage)
    check_writable(ledger.filesystem, ledger.root)
    check_command(options.notify)
    name = sweep_name(how.name, options)
    with SweepLog(ledger, name) as log:
        study = SearchStudy(ledger, name, spec, how.sampler, how.sampler_seed)
        num_validation = validation_images(protocol, folder)
        search = Search(study, ledger, effort, how.sampler, num_validation)
        made = f"{search.num_suggested} of {effort.suggestions} suggestions made before"
        say(f"{name}: {made}; storage {ledger.uri}", console, log)
        console.print(study.dashboard_hint(), soft_wrap=True, markup=False)
        check_disk(search.dispatcher.graph, ledger, options.keep, folder)
        baseline = dense_stage(protocol, seed=0)
        sweep = Sweep(name=name, stages=[baseline], data=folder, **given(training))
        store_given(search.dispatcher.graph, ledger, sweep.init, sweep.history)
        prepare_data(sweep)
        record_sweep(sweep, search.wanted(), ledger, warner(console, log))
        code = DONE
        while search.dispatcher.ended and search.more():  # without Ray, until something must train
            search.settle()
        if not (search.ended and search.dispatcher.ended):
            code = train(search, sweep, options, console, log)
            record_sweep(sweep, search.wanted(), ledger, warner(console, log))
        if code == DONE:
            report_trouble(search.dispatcher, console, log)
            found = show_answer(search, name, training, options, full_epochs, console)
            code = DONE if found and not search.trouble else incomplete()
        log.add(f"ended with exit code {code}")
    return code


def train(search: Search, sweep: Sweep, options: Options, console: Console, log: SweepLog) -> int:
    listen_on_loopback(options.address)  # before Ray is imported
    from sweeps.run.tensorboard import TensorBoard
    from sweeps.run.tune import train_graph
    from sweeps.searching.watching import SearchView

    dispatcher = search.dispatcher
    tensorboard = TensorBoard(dispatcher.ledger, sweep.name, dispatcher.graph)
    view = SearchView(sweep.name, search, console, log)

    def report(line: str) -> None:
        view.say(line)
        record_sweep(sweep, search.wanted(), dispatcher.ledger, view.note)

    search.report = report
    with view:
        try:
            limit = train_graph(
                dispatcher,
                runtime_of(sweep, options),
                options,
                view,
                tensorboard,
                sweep.name,
                search,
            )
        finally:
            tensorboard.close()
            record_failures(sweep.name, dispatcher)
    ended = dispatcher.ended and search.ended
    return how_training_ended(view.summary(), limit, ended, console, log)


def validation_images(protocol: Protocol, data: str | None) -> int:
    number = planned_task(protocol, data).sizes().num_val
    assert number is not None
    return number


def main(
    *,
    training: Annotated[Training, tyro.conf.arg(name="")],
    wanted: Annotated[Wanted, tyro.conf.arg(name="")],
    knobs: Annotated[Knobs, tyro.conf.arg(name="")],
    searching: Annotated[Searching, tyro.conf.arg(name="")],
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    goal = goal_of(wanted)
    full, folder = chosen_protocol(training, options.data_folder)
    protocol = prepared(full, options)
    space, note = space_of(knobs, protocol)
    spec = StudySpec(protocol=protocol, space=space, goal=goal)
    if note:
        make_console().print(f"[yellow]{escape(note)}[/]", soft_wrap=True)
    check_possible(spec, searching.sampler, folder)
    effort = Effort(
        suggestions=searching.suggestions,
        seeds=options.seeds or SEEDS,
        confirm_seeds=searching.confirm_seeds,
    )
    if options.dry_run:
        for part in describe_search(spec, effort, searching.sampler):
            make_console().print(part)
        return DONE
    return run_search(spec, effort, searching, training, full.epochs, folder, options)


if __name__ == "__main__":
    command(main)

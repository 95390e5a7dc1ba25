"""A search while it runs: it turns suggestions into stages and reports their results.

    suggestion   -> chain of the first seed -> promising? -> further seeds, one by one -> result
    all results  -> the missing seeds of recipes on the front
                 -> the recommended recipe and Algorithm 1, on seeds that nothing was chosen by

The Tune searcher asks it for stages when slots are idle and none is ready.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from math import inf
from statistics import median
from typing import Any

from optuna.trial import FrozenTrial, Trial, TrialState

from rewind_ray.result import ResultRow
from rewind_ray.spec import Stage, dense_stage
from rewind_ray.store.ledger import Ledger
from sweeps.plan.graph import Graph, build_graph, cost, trained
from sweeps.plan.naming import percent
from sweeps.run.dispatcher import ENDED, Dispatcher, State
from sweeps.searching.objectives import (
    LUMPS,
    Point,
    accuracy,
    front_of,
    is_promising,
    noise_of,
    point_of,
    recommended,
    violations,
)
from sweeps.searching.rival import rivals_at
from sweeps.searching.space import Recipe, num_recipes, rewind_epochs
from sweeps.searching.study import SearchStudy

FEWEST_TO_JUDGE = 5
"""Finished recipes that a chain must be compared with before it may be given up."""
SAME_COMPRESSION = 0.001  # relative
MOST_BEYOND = 1000
"""Most suggestions in a row that may be beyond the limits."""
RECOMMENDED = "recommended"
CONFIRM_FROM = 1000
"""Seeds from here on are for the confirmation; no recipe is chosen by them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much to try."""

    suggestions: int
    seeds: int
    """Most seeds of a recipe; a promising one gets all."""
    confirm_seeds: int


@dataclass(kw_only=True, slots=True, eq=False)
class Suggestion:
    """A recipe on its way through its seeds."""

    recipe: Recipe
    seeds: list[int]
    """Seeds to train it with, as far as decided."""
    trial: Trial | None = None
    """Trial awaiting its result; None once reported, or if the recipe isn't Optuna's."""
    gave_up: bool = False
    chains: dict[int, list[Stage]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharing:
    """Epochs of all suggestions and their seeds, with and without sharing stages."""

    epochs_asked: int
    """Each chain by itself, with its own baseline."""
    epochs_of_baselines: int
    """Of the baselines in ``epochs_asked``."""
    epochs_trained: int
    """Each stage once."""
    epochs_of_levels: int
    """If every level of every chain, which is a recipe too, were trained by itself."""


class Search:
    """Connects the study with the dispatcher of its stages."""

    def __init__(
        self, study: SearchStudy, ledger: Ledger, effort: Effort, sampler: str, num_validation: int
    ) -> None:
        self.study = study
        self.effort = effort
        self.protocol, self.goal = study.spec.protocol, study.spec.goal
        self.ended = False
        self.trouble: list[str] = []
        """Why the search ended early or is incomplete."""
        self.report: Callable[[str], None] = lambda line: None
        """Receives a line about each suggestion that has its result."""
        self.concluded: list[Suggestion] = []
        """Suggestions that have ended, each recipe as far as it was trained."""
        self.num_suggested = self.num_beyond = self.num_given_up = 0
        """Suggestions beyond the limits don't count as suggested."""
        self.points: dict[Recipe, Point] = {}
        """Every level of a chain is a recipe."""
        self.confirmed: dict[str, Recipe] = {}
        """Name -> recipe trained on fresh seeds: the recommended one, and its rivals."""
        self._rows: dict[Recipe, dict[int, ResultRow]] = {}
        self._dense: dict[int, ResultRow] = {}
        self._diverged: set[Recipe] = set()
        self._num_validation = num_validation
        has_target = self.goal.target_compression is not None
        self._most = num_recipes(study.spec.space, has_target) if sampler == "grid" else inf
        self._ledger = ledger
        self._slots = 1
        self._exhausted = False
        self._open: list[Suggestion] = []
        self._finished: dict[Recipe, list[dict[int, ResultRow]]] = {}
        """Recipe without its number of levels -> of each level, seed -> row."""
        self._of_stage: dict[tuple[str, int], tuple[Recipe, int]] = {}
        """Stage and length -> recipe and seed."""
        self._completed: set[tuple[Recipe, int]] = set()
        baselines = build_graph(dense_stage(self.protocol, seed) for seed in range(effort.seeds))
        for node in baselines.values():  # so that later suggestions find them all
            node.rewind_epochs |= rewind_epochs(study.spec.space, self.protocol)
        self.dispatcher = Dispatcher(baselines, ledger, self.is_hopeless)
        self._restore()

    # Called by the Tune searcher

    def begin(self, driver: str, slots: int) -> None:
        self.study.begin(driver)
        self._slots = slots

    def settle(self) -> None:
        """Conclude the suggestions whose stages have all ended."""
        while ended := [suggestion for suggestion in self._open if self._has_ended(suggestion)]:
            self._open.remove(ended[0])
            self._conclude(ended[0])

    def more(self) -> bool:
        """Add as many stages as keep the slots busy; False if there is nothing to add now."""
        if self.ended or len(self._open) >= 2 * self._slots - 1:  # one by one in a single slot
            return False
        wanted = self.num_suggested < self.effort.suggestions and not self._exhausted
        if wanted and self._ask():
            return True
        if self._open:
            return False
        self.ended = not (self._complete_front() or self._confirm())
        return not self.ended

    def is_hopeless(self, stage: Stage, row: ResultRow) -> bool:
        """Whether to give a suggestion up after this stage: on each of its seeds so far, at least
        FEWEST_TO_JUDGE finished recipes have pruned as far for no more search cost, and their
        median is more accurate by more than the noise. Never for chains that are trained
        already."""
        key = (stage.stage_id, row.train_epochs)
        if key not in self._of_stage:
            return False
        recipe, seed = self._of_stage[key]
        judged = {open_.recipe.up_to(0) for open_ in self._open if open_.trial is not None}
        if recipe.up_to(0) not in judged or self._is_trained(recipe.up_to(recipe.levels + 1), seed):
            return False
        rows = self._rows.get(recipe, {}) | {seed: row}
        return all(self._is_behind(recipe, seed, row) for seed, row in rows.items())

    # Suggestions

    def _restore(self) -> None:
        """Take up the suggestions of earlier runs."""
        running = []
        for trial in self.study.trials():
            if trial.state == TrialState.RUNNING:
                running.append(trial)
            elif "beyond" in trial.user_attrs:
                self.num_beyond += 1
            else:
                self._start(self._earlier(trial))
        self.settle()
        for trial in running:
            self._suggest(self.study.again(trial), self.study.recipe(trial))

    def _earlier(self, trial: FrozenTrial) -> Suggestion:
        """A suggestion whose result is in the study."""
        self.num_suggested += 1
        gave_up = trial.state == TrialState.PRUNED
        self.num_given_up += gave_up
        return Suggestion(
            recipe=self.study.recipe(trial).up_to(trial.user_attrs["levels"]),
            seeds=trial.user_attrs["seeds"],
            gave_up=gave_up,
        )

    def _ask(self) -> bool:
        """Start a suggestion within the limits; False if there is none."""
        for _ in range(MOST_BEYOND):
            if self.study.num_asked >= self._most:
                break
            if self._suggest(*self.study.ask()):
                return True
        else:
            self.trouble.append(
                f"{MOST_BEYOND} suggestions in a row were beyond the limits: widen the space, or "
                "the limits"
            )
        self._exhausted = True
        return False

    def _suggest(self, trial: Trial, recipe: Recipe) -> bool:
        """Start it; False if it is beyond the limits, as far as can be computed beforehand."""
        beyond = self._beyond(recipe)
        if beyond:
            self.num_beyond += 1
            self.study.tell(trial, None, beyond, {"beyond": True})
            return False
        self.num_suggested += 1
        self._start(Suggestion(recipe=recipe, seeds=[0], trial=trial))
        return True

    def _beyond(self, recipe: Recipe) -> dict[str, float]:
        goal, compression = self.goal, recipe.compression()
        missed = {"pruned too far": compression / self.study.spec.space.max_compression - 1}
        if goal.target_compression is not None:
            missed["compression"] = 1 - LUMPS - compression / goal.target_compression
            del missed["pruned too far"]
        if goal.budget_epochs is not None:
            missed["search cost"] = recipe.cost_epochs(self.protocol) / goal.budget_epochs - 1
        return {name: amount for name, amount in missed.items() if amount > 0}

    def _start(self, suggestion: Suggestion) -> None:
        """Add the stages of those of its seeds that have none yet."""
        if suggestion not in self._open:
            self._open.append(suggestion)
        for seed in sorted(set(suggestion.seeds).difference(suggestion.chains)):
            chain = suggestion.recipe.chain(self.protocol, seed)
            suggestion.chains[seed] = chain
            for stage in chain[1:]:
                place = (suggestion.recipe.up_to(stage.level), seed)
                self._of_stage.setdefault((stage.stage_id, stage.train_epochs), place)
            self.dispatcher.extend(chain)

    def _has_ended(self, suggestion: Suggestion) -> bool:
        stages = (stage for chain in suggestion.chains.values() for stage in chain)
        return all(self.dispatcher.states[stage.stage_id] in ENDED for stage in stages)

    def _conclude(self, suggestion: Suggestion) -> None:
        """Once all its stages have ended: add another seed, or report the result."""
        reached, end = self._record(suggestion)
        if end in (State.FAILED, State.BLOCKED):  # no verdict: the same command tries it again
            self.trouble.append(f"not finished: {suggestion.recipe.describe()}")
            return
        recipe = suggestion.recipe
        if end is None and suggestion.trial is not None and self._deserves_more(suggestion):
            suggestion.seeds.append(len(suggestion.seeds))
            self._start(suggestion)
            return
        if end is None and not suggestion.gave_up:
            levels = [self._rows[recipe.up_to(level)] for level in range(1, recipe.levels + 1)]
            self._finished[recipe.up_to(0)] = max(
                levels, self._finished.get(recipe.up_to(0), []), key=len
            )
        suggestion.recipe = recipe.up_to(reached)
        self.concluded.append(suggestion)
        if suggestion.trial is not None:
            self._report(suggestion, recipe, end)
            suggestion.trial = None

    def _record(self, suggestion: Suggestion) -> tuple[int, State | None]:
        """Read its rows; the number of levels that all its seeds have reached, and the state of
        the stage that ended a chain early, if any."""
        levels, end = suggestion.recipe.levels, None
        for seed, chain in suggestion.chains.items():
            for stage in chain:
                row = self._row(stage)
                if row is None:
                    levels, end = min(levels, max(0, stage.level - 1)), self._why(stage)
                    break
                self._add_row(suggestion.recipe.up_to(stage.level), seed, row)
            if end == State.DIVERGED:
                for level in range(levels + 1, suggestion.recipe.levels + 1):
                    self._diverged.add(suggestion.recipe.up_to(level))
                    self.points.pop(suggestion.recipe.up_to(level), None)
        return levels, end

    def _row(self, stage: Stage) -> ResultRow | None:
        """The row of a stage; None if it has none, or diverged."""
        if self.dispatcher.states[stage.stage_id] not in (State.DONE, State.DIVERGED):
            return None
        row = self._ledger.read_row(stage.stage_id, stage.train_epochs)
        return None if row.status == "diverged" else row

    def _why(self, stage: Stage) -> State:
        """The state of a stage without a row; ends the search if it is a dense network."""
        state = self.dispatcher.states[stage.stage_id]
        if stage.level == 0:
            self.trouble.append(f"the dense network of seed {stage.seed} {state}; search ended")
            self.ended = True
            self._open.clear()
            return State.FAILED
        return state

    def _add_row(self, recipe: Recipe, seed: int, row: ResultRow) -> None:
        if row.level == 0:
            self._dense[seed] = row
            return
        rows = self._rows.setdefault(recipe, {})
        if seed not in rows:
            rows[seed] = row
            if recipe not in self._diverged:
                self.points[recipe] = point_of(recipe, rows, self._dense)

    def _deserves_more(self, suggestion: Suggestion) -> bool:
        point = self.points.get(suggestion.recipe)
        if point is None or len(suggestion.seeds) >= self.effort.seeds:
            return False
        others = [other for other in self.points.values() if other is not point]
        return is_promising(point, others, self.goal, self.noise(point))

    def noise(self, point: Point) -> float:
        return noise_of(point.val_accuracy, self._num_validation)

    def _report(self, suggestion: Suggestion, asked: Recipe, end: State | None) -> None:
        """Record the result in the study, and print a line about it."""
        point = self.points.get(suggestion.recipe)
        notes: dict[str, Any] = {"levels": suggestion.recipe.levels, "seeds": suggestion.seeds}
        outcome = []
        if point is not None:
            notes |= {
                "val_accuracy": point.val_accuracy,
                "test_accuracy": median(point.test_accuracies),
                "compression": point.compression,
                "search_cost_epochs": point.cost_epochs,
                "search_cost_flops": point.cost_flops,
            }
            outcome = [
                f"validation {percent(point.val_accuracy)} ({-100 * point.drop:+.2f})",
                f"{point.compression:.2f}×",
                f"{point.cost_epochs} epochs",
                f"{len(point.seeds)} seed{'s' if len(point.seeds) > 1 else ''}",
            ]
        values = limits = None
        if end is None and point is not None:
            values = [point.value(name, self.goal.cost) for name in self.goal.objectives]
            limits = violations(point, self.goal)
        else:
            self.num_given_up += 1
            gave_up = "diverged" if end == State.DIVERGED else "given up"
            notes["ended"] = f"{gave_up} after level {suggestion.recipe.levels}"
            outcome.insert(0, notes["ended"])
        assert suggestion.trial is not None
        number = suggestion.trial.number
        self.study.tell(suggestion.trial, values, limits or {}, notes)
        self.report(f"suggestion {number}  {asked.describe()}:  {', '.join(outcome)}")

    # Chains without hope

    def _is_trained(self, recipe: Recipe, seed: int) -> bool:
        last = recipe.chain(self.protocol, seed)[-1]
        return last.train_epochs in self._ledger.row_epochs(last.stage_id)

    def _is_behind(self, recipe: Recipe, seed: int, row: ResultRow) -> bool:
        ours = recipe.up_to(0)
        rivals = []
        for other, levels in self._finished.items():
            if other != ours:
                rivals += self._rival(levels, seed, row)
        if len(rivals) < FEWEST_TO_JUDGE:
            return False
        level = median(rivals)
        return accuracy(row.val_accuracy) < level - noise_of(level, self._num_validation)

    def _rival(self, levels: list[dict[int, ResultRow]], seed: int, row: ResultRow) -> list[float]:
        """The accuracy of a recipe at the level where it has pruned as far as ``row``; empty if
        that cost more, or if it never did."""
        for rows in levels:
            theirs = rows.get(seed)
            if theirs is None or self._cost(theirs) > self._cost(row):
                return []
            if theirs.compression_ratio >= row.compression_ratio * (1 - SAME_COMPRESSION):
                return [accuracy(theirs.val_accuracy)]
        return []

    def _cost(self, row: ResultRow) -> float:
        return row.search_cost_flops if self.goal.cost == "flops" else row.search_cost_epochs

    # The end

    def front(self) -> list[Point]:
        return front_of(list(self.points.values()), self.goal)

    def recommended(self) -> Point | None:
        front = self.front()
        if not front:
            return None
        best = max(front, key=lambda point: point.val_accuracy)
        return recommended(front, self.goal, self.noise(best))

    def _complete_front(self) -> bool:
        """Train the recipes of the front with the seeds they lack, until none lacks any."""
        missing = [
            (point.recipe, seed)
            for point in self.front()
            for seed in range(self.effort.seeds)
            if seed not in point.seeds and (point.recipe, seed) not in self._completed
        ]
        self._completed.update(missing)
        for recipe, places in groupby(missing, key=lambda place: place[0]):
            self._start(Suggestion(recipe=recipe, seeds=[seed for _, seed in places]))
        return bool(missing)

    def _confirm(self) -> bool:
        """Train the recommended recipe, and its rivals at the same cost, on fresh seeds."""
        best = self.recommended()
        if self.confirmed or best is None or not self.effort.confirm_seeds:
            return False
        self.confirmed = {RECOMMENDED: best.recipe, **rivals_at(best, self.protocol)}
        for seed in self.fresh_seeds:
            for recipe in self.confirmed.values():
                self.dispatcher.extend(recipe.chain(self.protocol, seed))
        return True

    def wanted(self) -> Graph:
        """All stages except those of chains that were given up."""
        states = self.dispatcher.states
        return {i: node for i, node in self.dispatcher.graph.items() if states[i] != State.STOPPED}

    @property
    def fresh_seeds(self) -> range:
        return range(CONFIRM_FROM, CONFIRM_FROM + self.effort.confirm_seeds)

    def fresh_row(self, recipe: Recipe, seed: int) -> ResultRow | None:
        """The row of its last level; None if it has none, or diverged."""
        chain = recipe.chain(self.protocol, seed)
        if any(stage.stage_id not in self.dispatcher.graph for stage in chain):
            return None
        return self._row(chain[-1])

    def sharing(self) -> Sharing:
        stages = [
            stage
            for suggestion in self.concluded
            for chain in suggestion.chains.values()
            for stage in chain[: suggestion.recipe.levels + 1]
        ]
        ends = sum(len(suggestion.chains) for suggestion in self.concluded)
        whole = cost(build_graph(stages))
        return Sharing(
            epochs_asked=sum(map(trained, stages)),
            epochs_of_baselines=ends * trained(dense_stage(self.protocol, seed=0)),
            epochs_trained=whole.epochs,
            epochs_of_levels=whole.epochs_unshared,
        )

"""The Optuna study of a search: it suggests recipes and records their results."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from rewind_ray.errors import DataError, UserError
from rewind_ray.spec import Protocol, canonical
from rewind_ray.store.files import read_bytes
from rewind_ray.store.leases import PATIENCE_SECONDS, Watch
from rewind_ray.store.ledger import Ledger
from sweeps.searching.first_recipes import first_recipes
from sweeps.searching.journal import Journal
from sweeps.searching.objectives import Goal
from sweeps.searching.space import Recipe, Space, recipe_of

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=ExperimentalWarning)

POPULATION = 20
"""Of a generation of nsga2; Optuna's 50 would leave most searches in the first one."""

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(population_size=POPULATION, seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda seed: BruteForceSampler(seed=seed),
}
"""Name -> Optuna's sampler. grid: every recipe of the space once, in random order."""

ASKED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

PASSIVE_SAMPLER = RandomSampler(seed=0)
"""For recording results, which the brute-force sampler would answer by stopping the study."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySpec:
    """All that the suggestions of a study depend on, besides its sampler."""

    protocol: Protocol
    space: Space
    goal: Goal

    def digests(self) -> dict[str, str]:
        parts = {
            "protocol": canonical(self.protocol),
            "space": asdict(self.space),
            "goal": asdict(self.goal),
        }
        return {name: digest(content) for name, content in parts.items()}


def digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class SearchStudy:
    """A study in the storage root; its trials are recipes."""

    def __init__(self, ledger: Ledger, name: str, spec: StudySpec, sampler: str, seed: int) -> None:
        """Raises DataError for a broken study file, for a study made with something else, and
        while another driver searches in it."""
        self.spec = spec
        self.journal = Journal(ledger, name)
        self._sampler = sampler_named(sampler)
        self._seed = seed
        self.study = self._opened(name)
        self._check_spec(name)
        driver = self.study.user_attrs.get("driver")
        if driver and is_alive(ledger, driver):
            raise UserError(
                f"another driver ({driver}) searches in {name} at this moment; let it finish, or "
                "give this search a --name of its own: they share what they train all the same"
            )
        self.num_asked = len(self.trials())

    def _opened(self, name: str) -> optuna.Study:
        try:
            storage = JournalStorage(self.journal)
            if name in optuna.get_all_study_names(storage):
                return optuna.load_study(study_name=name, storage=storage, sampler=PASSIVE_SAMPLER)
            with self.journal.atomically():
                goal = self.spec.goal
                study = optuna.create_study(
                    storage=storage,
                    study_name=name,
                    directions=goal.directions,
                    sampler=PASSIVE_SAMPLER,
                )
                study.set_metric_names(list(goal.objectives))
                study.set_user_attr("made_with", self.spec.digests())
                for parameters in first_recipes(self.spec.space, self.spec.protocol, goal):
                    study.enqueue_trial(parameters)
                return study
        except (KeyError, TypeError, AssertionError, AttributeError) as error:
            raise DataError(
                f"study file {self.journal.path} is no study of this Optuna: {error!r}; move it "
                "away: the search starts anew without training anything twice"
            ) from error

    def _check_spec(self, name: str) -> None:
        ours, before = self.spec.digests(), self.study.user_attrs.get("made_with", {})
        other = [part for part in ours if ours[part] != before.get(part)]
        if other:
            digests = ", ".join(f"{part} {before.get(part)}, now {ours[part]}" for part in other)
            raise UserError(
                f"the study {name} was made with another {' and '.join(other)} ({digests}); give "
                "this search another --name, or the former options: values of the two can't be "
                "compared"
            )

    def dashboard_hint(self) -> str:
        """How to open the study in a browser."""
        if self.journal.is_local:
            return f"watch it with  optuna-dashboard {self.journal.path}"
        return f"to watch it, copy {self.journal.path} here: optuna-dashboard COPY"

    def begin(self, driver: str) -> None:
        """Record ``driver`` as the one that searches."""
        self.study.set_user_attr("driver", driver)

    def trials(self) -> list[FrozenTrial]:
        """All trials that were asked for."""
        return self.study.get_trials(deepcopy=False, states=ASKED)

    def within_limits(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if "beyond" not in trial.user_attrs]

    def ask(self) -> tuple[Trial, Recipe]:
        """The next recipe. It depends only on the number of suggestions and the results so far, so
        that an interrupted search continues as if it had not been."""
        self.study.sampler = self._sampler(mixed(self._seed, self.num_asked))
        with self.journal.atomically():
            trial = self.study.ask()
            recipe = self.recipe(trial)
            trial.set_user_attr("recipe", recipe.describe())
        self.num_asked += 1
        return trial, recipe

    def again(self, trial: FrozenTrial) -> Trial:
        """A trial that awaits its result, as one that takes it."""
        self.study.sampler = PASSIVE_SAMPLER
        return Trial(self.study, trial._trial_id)

    def recipe(self, trial: Trial | FrozenTrial) -> Recipe:
        goal = self.spec.goal
        return recipe_of(trial, self.spec.space, self.spec.protocol, goal.target_compression)

    def tell(
        self,
        trial: Trial,
        values: list[float] | None,
        limits: dict[str, float],
        notes: dict[str, Any],
    ) -> None:
        """Record a trial's result. values: None if it was given up. limits: by how much each limit
        was missed; 0 and below: kept."""
        self.study.sampler = PASSIVE_SAMPLER
        with self.journal.atomically():
            for name, note in notes.items():
                trial.set_user_attr(name, note)
            for name, missed in limits.items():
                trial.set_constraint(name, missed)
            state = TrialState.PRUNED if values is None else TrialState.COMPLETE
            self.study.tell(trial, values, state)


def sampler_named(name: str) -> Callable[[int], BaseSampler]:
    if name not in SAMPLERS:
        raise UserError(f"unknown --sampler {name!r}; known: {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def mixed(seed: int, number: int) -> int:
    """A seed of its own for each suggestion."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:4])


def is_alive(ledger: Ledger, driver: str) -> bool:
    """Whether a driver runs: immediate for drivers of this machine and those that ended in order;
    for others once their heartbeat changes, or after PATIENCE_SECONDS without."""
    watch, first = Watch(ledger), heartbeat(ledger, driver)
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if watch.is_dead(driver):
            return False
        if heartbeat(ledger, driver) != first:
            return True
        time.sleep(0.5)
    return False


def heartbeat(ledger: Ledger, driver: str) -> bytes:
    try:
        return read_bytes(ledger.filesystem, ledger.layout.driver(driver))
    except FileNotFoundError:
        return b""

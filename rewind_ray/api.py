"""Compare methods and prune networks from a script or notebook, in this process and without Ray.

The stages, their ids and the storage are those of the commands: what one has trained, the other
doesn't train again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import Progress, TextColumn
from torch import nn

from rewind_ray.command_line import DONE
from rewind_ray.datasets.own import OwnData, load_own
from rewind_ray.digests import tensors_digest
from rewind_ray.errors import UserError
from rewind_ray.export import command as exporting
from rewind_ray.export.formats import Exported, Form, check_form, form_of
from rewind_ray.importing import GIVEN, SEPARATOR, give, is_import_path, path_of
from rewind_ray.models.history import history_files
from rewind_ray.models.own import read_weights
from rewind_ray.protocols import plain, usual_rewind_epoch
from rewind_ray.pruning import check_prune
from rewind_ray.pruning.criteria import DEFAULT_CRITERION
from rewind_ray.result import ResultRow, accuracy_drop
from rewind_ray.schedule import Schedule
from rewind_ray.spec import (
    BUILDER,
    Protocol,
    Prune,
    Retrain,
    Stage,
    dense_stage,
    missing_origin,
    retrain_stage,
)
from rewind_ray.store.ledger import Ledger
from rewind_ray.structures import DEFAULT_STRUCTURE
from rewind_ray.targets import (
    Target,
    chosen_target,
    file_bytes,
    last_within,
    latency_of,
    measure_target,
    planned,
    step_of,
)
from rewind_ray.tasks import adopting, adopting_history, identified, planned_task, task_class
from rewind_ray.tasks.identity import uncovered
from rewind_ray.training.given import store_given
from rewind_ray.training.graph import Graph, build_graph
from rewind_ray.training.run import Runtime
from rewind_ray.training.stage import run_stage

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("method", "density", "compression_ratio", "n_seeds", "test_accuracy", "accuracy_change")

IsLast = Callable[[Stage, ResultRow], bool]
"""Whether nothing is trained after a stage with this row."""


def never(stage: Stage, row: ResultRow) -> bool:
    return False


Network = nn.Module | str | Any
"""A module (copied, and taken for trained), a function that returns one, or a name or import path
such as ``my_models:unet``."""


def compare(
    network: Network,
    train_data: Any,
    test_data: Any = None,
    *,
    methods: Sequence[str | Retrain] = (),
    densities: Iterable[float] = (0.2, 0.1, 0.05),
    prune: Prune | None = None,
    seeds: int = 3,
    epochs: int | None = None,
    retrain_epochs: int | None = None,
    trained: bool | None = None,
    init: str | Path | None = None,
    init_history: str | Path | None = None,
    data: str | Path | None = None,
    storage: str = "results",
    name: str = "compare",
    device: str = "auto",
    ray: bool | str = False,
    quiet: bool = False,
    **protocol: Any,
) -> Results:
    """Train dense networks, prune each to every density, and retrain it by every method.

    train_data, test_data: torch Datasets of (input, class) or pairs of tensors; or as train_data
    alone a name such as ``"cifar10"`` or ``"folder:photos"``, an import path, or a function that
    returns both. data: folder of a named data set's files. methods: names, or ``Retrain``;
    finetune, lr_rewind and, unless the network is trained, weight_rewind if left out. prune: how,
    its fraction aside; no N:M structure and no rates, which have none. epochs: T, 30 if left out.
    retrain_epochs: t, 9/10 of T if left out. trained: the network is adopted as it comes; True of a
    module if left out. init: file of trained weights that it is adopted with. init_history: folder
    of the network's own checkpoints, such as 0000.pt to 0090.pt, adopted as its training: the last
    one is the trained network and says T, and weights can be rewound to the others. ray: False
    trains one stage after the other in this process; True starts Ray on this machine, and an
    address, such as ``"auto"``, uses a cluster: as many at once as there is room for, of networks
    and data that workers can import. protocol: other fields of ``spec.Protocol``, such as
    batch_size, schedule, optimizer, weight_decay, prunable.

    Stages, ids and storage are those of ``rewind-ray compare``. Raises UserError for what
    can't be trained so, TypeError for a field that Protocol doesn't have.
    """
    given = Given(trained=trained, init=init, history=init_history)
    epochs = total_epochs(epochs, 30, init_history)
    described, folder = described_protocol(
        network, train_data, test_data, data, epochs, given, protocol
    )
    if retrain_epochs is None:
        retrain_epochs = max(1, described.epochs - usual_rewind_epoch(described))
    usual = [name for name in METHODS if not missing_origin(described, name)]
    retrains = [
        Retrain(method=method, epochs=retrain_epochs) if isinstance(method, str) else method
        for method in methods or usual
    ]
    how = prune or Prune(fraction=0.5)
    stages = []
    for seed in range(seeds):
        dense = dense_stage(described, seed)
        for retrain in retrains:
            for density in densities:
                if not 0 < density < 1:
                    raise UserError(f"density is {density:g}; allowed: above 0 and below 1")
                step = replace(how, fraction=1 - density)
                stages.append(retrain_stage(dense, step, retrain))
    results = Results(storage=storage, name=name, stages=stages, given=given, data=folder)
    results.train(device, quiet, ray)
    return results


METHODS = ("finetune", "weight_rewind", "lr_rewind")


def prune(
    network: Network,
    train_data: Any,
    test_data: Any = None,
    *,
    target_compression: float | None = None,
    target_size: str | None = None,
    target_latency: str | None = None,
    max_accuracy_drop: float | str | None = None,
    structure: str = DEFAULT_STRUCTURE,
    criterion: str = DEFAULT_CRITERION,
    scope: str = "global",
    format: str = "pt2",
    latency_device: str = "auto",
    epochs: int | None = None,
    method: str = "lr_rewind",
    seed: int = 0,
    trained: bool | None = None,
    init: str | Path | None = None,
    init_history: str | Path | None = None,
    data: str | Path | None = None,
    retrain_epochs: int | None = None,
    storage: str = "results",
    name: str = "prune",
    device: str = "auto",
    ray: bool | str = False,
    quiet: bool = False,
    **protocol: Any,
) -> Best:
    """Prune step by step and retrain after each, until the target or the largest drop is reached.

    Renda et al. 2020, Algorithm 1, with equal steps of at most 20%. The target is one of:
    target_compression, 10 if none is given; target_size, of the file of this ``format``, as
    ``"500kB"`` or ``"1.5MB"``; target_latency, ``"2ms"``, of a forward pass of one example in fp32
    on latency_device. The last two need structure ``"filters"``. The last network within
    ``max_accuracy_drop`` (a fraction, 0.005, or points, "0.5pt"; None: any) is the answer, with the
    target reached or not. epochs: T, 20 if left out, or that of the last file of init_history.
    retrain_epochs: of each step, T if left out. Other arguments: see ``compare``.

    Stages, ids and storage are those of ``rewind-ray prune``. Raises UserError where not even
    the first step stays within the drop, and, before anything is trained, where the target can't be
    reached however much is pruned.
    """
    limit = drop_of(max_accuracy_drop)
    target = chosen_target(target_compression, target_size, target_latency, structure, str)
    step = step_of(structure, criterion, scope)
    check_prune(step)
    check_form(Form(format=format))
    given = Given(trained=trained, init=init, history=init_history)
    total = total_epochs(epochs, 20, init_history)
    described, folder = described_protocol(
        network, train_data, test_data, data, total, given, protocol
    )
    on = exporting.chosen_device(latency_device)
    plan = planned(
        *(target, step, described, seed, f"target_{target.kind}", folder),
        init=init,
        history=init_history,
        device=on,
    )
    retrain = Retrain(method=method, epochs=retrain_epochs or total)
    end = dense_stage(described, seed)
    for _ in range(plan.most):
        end = retrain_stage(end, plan.step, retrain)
    results = Results(storage=storage, name=name, stages=[end], given=given, data=folder)
    measured: dict[str, tuple[float, bool]] = {}
    """Stage -> what it reaches of the target, and whether the file has more beside the weights."""

    def reached_by(stage: Stage, row: ResultRow) -> tuple[float, bool]:
        if not target.is_measured:
            return row.compression_ratio, False
        if stage.stage_id not in measured:
            best = Best(storage=storage, stage=stage, row=row, drop=0.0, data=folder)
            form = Form(format=format)
            measured[stage.stage_id] = measure_target(target, best._exported(), form, on)
        return measured[stage.stage_id]

    def is_too_far(stage: Stage, row: ResultRow) -> bool:
        return limit is not None and results.drop(stage) > limit

    def is_last(stage: Stage, row: ResultRow) -> bool:
        if stage.level == 0 or not target.is_measured:
            return False
        value, hopeless = reached_by(stage, row)
        return target.reached(value) or hopeless

    results.train(device, quiet, ray, lambda *one: is_too_far(*one) or is_last(*one))
    found = last_within(end, results.row, is_too_far, is_last)
    if found is None:
        assert plan.step.fraction is not None
        raise UserError(
            f"the first step, to {1 / (1 - plan.step.fraction):.2f}×, already costs more than "
            f"max_accuracy_drop {max_accuracy_drop}; allow more, or give more epochs"
        )
    stage, row = found
    value, _ = reached_by(stage, row)
    return Best(
        storage=storage,
        stage=stage,
        row=row,
        drop=results.drop(stage),
        target=target,
        value=value,
        reached=target.reached(value) if target.is_measured else stage.level == plan.steps,
        data=folder,
    )


@dataclass(frozen=True, kw_only=True)
class Given:
    """Trained weights that the user has."""

    trained: bool | None = None
    """Whether the network comes with them."""
    init: str | Path | None = None
    """Their file."""
    history: str | Path | None = None
    """The folder of those of several epochs."""


def drop_of(limit: float | str | None) -> float | None:
    """``"0.5pt"`` and 0.005 -> 0.005. Raises UserError for a text that is no such difference."""
    if not isinstance(limit, str):
        return limit
    from analysis.table.metrics import difference_of

    return difference_of(limit, "max_accuracy_drop", zero=True)


def described_protocol(
    network: Network,
    train_data: Any,
    test_data: Any,
    data: str | Path | None,
    epochs: int,
    given: Given,
    changes: dict[str, Any],
) -> tuple[Protocol, str | None]:
    """What the commands make of the same network, data and settings, and the data's folder."""
    if given.history is not None and (given.trained or given.init is not None):
        other = "trained is True" if given.trained else f"init is {str(given.init)!r}"
        raise UserError(
            f"{other}, and init_history is {str(given.history)!r}, whose last file is the "
            "trained network; leave one of them out"
        )
    known = {field.name for field in fields(Protocol)}
    for name in changes:
        if name not in known:
            if name in {field.name for field in fields(Schedule)}:
                others = "" if name == "lr" else f", {name}=..."
                raise TypeError(
                    f"there is no argument {name!r}; it belongs to the schedule: "
                    f"schedule=rewind_ray.schedule.Schedule(lr=...{others})"
                )
            raise TypeError(
                f"there is no argument {name!r}; besides their own, compare and prune take the "
                f"fields of rewind_ray.spec.Protocol: {', '.join(sorted(known))}. How compare "
                "prunes is said by prune=rewind_ray.spec.Prune(structure=..., ...)"
            )
    dataset, size = data_path(train_data, test_data)
    path = network_path(network)
    usual = plain(path, dataset)
    task = "classification" if is_import_path(dataset) else usual.task
    settings: dict[str, Any] = {
        "task": task,
        "task_options": {},
        "augmentation": usual.augmentation,
        "image_size": None,
        **changes,
    }
    dataset, folder, place = task_class(settings["task"]).located(
        dataset, None if data is None else str(data), settings
    )
    settings = {"epochs": epochs, **settings, **place, **changes}
    if size is not None and "batch_size" not in changes:
        settings["batch_size"] = min(64, size)
    described = identified(plain(path, dataset, **settings), folder)
    if given.history is not None:
        return adopting_history(described, folder, given.history), folder
    if given.init is not None and given.init != BUILDER:
        weights = read_weights(given.init, "init")
        return adopting(described, folder, weights, f"init {given.init}"), folder
    trained = isinstance(network, nn.Module) if given.trained is None else given.trained
    adopted = trained or given.init == BUILDER
    return (replace(described, init=BUILDER) if adopted else described), folder


def total_epochs(epochs: int | None, usual: int, history: str | Path | None) -> int:
    """T, by default that of the history, or ``usual``."""
    if epochs is None:
        return usual if history is None else max(history_files(history))
    return epochs


def network_path(network: Network) -> str:
    if isinstance(network, str):
        return network
    if isinstance(network, nn.Module):
        kept = copy.deepcopy(network).cpu()
        digest = tensors_digest({**dict(kept.named_parameters()), **dict(kept.named_buffers())})
        return give(f"{GIVEN}:{type(network).__name__}_{digest[:8]}", partial(copy.deepcopy, kept))
    if not callable(network):
        raise UserError(
            f"network is a {type(network).__name__}; give an nn.Module, a function that returns "
            "one, or an import path"
        )
    return path_of(network)


def data_path(train_data: Any, test_data: Any) -> tuple[str, int | None]:
    """The data's import path, and how many examples train where that is known."""
    if isinstance(train_data, str):
        return train_data, None
    if test_data is None:
        if callable(train_data) and not hasattr(train_data, "__getitem__"):
            return path_of(train_data), None
        raise UserError(
            "test_data is left out; give it, or as train_data a function that returns "
            "{'train': ..., 'test': ...}"
        )
    parts = {"train": train_data, "test": test_data}
    loaded: OwnData = load_own(give(f"{GIVEN}:data", parts), 0.0)
    return give(f"{GIVEN}:data_{loaded.digest[:8]}", parts), len(loaded.train)


@dataclass(frozen=True, kw_only=True)
class Results:
    """Stages of this comparison and what the storage holds of them."""

    storage: str
    name: str
    """Of the record in the storage."""
    stages: list[Stage]
    """Ends of the chains."""
    given: Given = Given()
    data: str | None = None
    """Folder of the data set's files, where it has one."""

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.storage)

    @property
    def graph(self) -> Graph:
        return build_graph(self.stages)

    def train(
        self,
        device: str = "auto",
        quiet: bool = False,
        ray: bool | str = False,
        is_last: IsLast = never,
    ) -> None:
        """Whatever is missing. Left out are stages after one that has diverged or ``is_last``."""
        if ray:
            self._train_on_ray("local" if ray is True else ray, is_last)
            return
        on = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        threads = torch.get_num_threads()
        runtime = Runtime(storage=self.storage, data=self.data, device=on, threads=threads)
        ledger, graph = self.ledger, self.graph
        store_given(graph, ledger, self.given.init, self.given.history)
        self._record(ledger, graph)
        columns = (*Progress.get_default_columns(), TextColumn("{task.fields[now]}"))
        with Progress(*columns, disable=quiet) as bar:
            if not quiet:
                for protocol in {stage.protocol for stage in self.stages}:
                    task = planned_task(protocol, self.data)
                    if warning := uncovered(task.network(0), task.prunable, protocol):
                        bar.console.print(warning, markup=False, soft_wrap=True)
            shown = bar.add_task(self.name, total=len(graph), now="")
            ended: set[str] = set()
            """Stages that have no descendants."""
            for node in graph.values():
                stage = node.stage
                bar.update(shown, now=f"{stage.method}, level {stage.level}, seed {stage.seed}")
                if stage.parent is not None and stage.parent.stage_id in ended:
                    ended.add(stage.stage_id)
                else:
                    with torch.random.fork_rng():
                        run_stage(node.job, runtime, ledger)
                    row = self.row(stage)
                    if row is None or row.status == "diverged" or is_last(stage, row):
                        ended.add(stage.stage_id)
                bar.advance(shown)

    def _train_on_ray(self, address: str, is_last: IsLast) -> None:
        """As the commands do, which show how far they are and what failed."""
        from sweeps.options import Options
        from sweeps.run.launch import Sweep, run_sweep

        for stage in self.stages:
            for path in (stage.protocol.network, stage.protocol.dataset, stage.protocol.task):
                if path.startswith((f"{GIVEN}{SEPARATOR}", f"__main__{SEPARATOR}")):
                    raise UserError(
                        f"{path} exists in this process only, and Ray's workers can't import it; "
                        "put the function into a module beside the script, or leave ray out"
                    )
        sweep = Sweep(
            name=self.name,
            stages=self.stages,
            data=self.data,
            init=None if self.given.init is None else str(self.given.init),
            history=None if self.given.history is None else str(self.given.history),
            stop=is_last,
        )
        code = run_sweep(sweep, Options(storage=self.storage, address=address))
        if code != DONE:
            raise UserError(
                f"not every stage could be trained (exit code {code}); what is done is kept in "
                f"{self.storage}, and the same call goes on"
            )

    def _record(self, ledger: Ledger, graph: Graph) -> None:
        """As a sweep's, so that housekeeping keeps the stages and the analysis finds them."""
        asked = {stage_id: sorted(node.row_epochs) for stage_id, node in graph.items()}
        if self.name in ledger.sweeps():
            asked = ledger.sweep_rows(self.name) | asked
        record = {"sweep": self.name, "command": ["rewind_ray"], "git_commit": None, "code": []}
        ledger.write_sweep(self.name, record | {"stages": asked})

    # What there is

    def row(self, stage: Stage) -> ResultRow | None:
        return self.ledger.sound_row(stage.stage_id, stage.train_epochs)

    def drop(self, stage: Stage) -> float:
        """Dense accuracy less the stage's, see ``result.accuracy_drop``."""
        row, dense = self.row(stage), self.row(stage.baseline)
        assert row is not None and dense is not None
        return accuracy_drop(dense, row)

    def rows(self) -> pd.DataFrame:
        """All result rows, one a stage; the columns are those of ``result.ResultRow``."""
        from analysis.table.rows import read_rows

        found = read_rows(self.storage, self.name)
        return found[found["stage_id"].isin(self.graph)]

    def table(self) -> pd.DataFrame:
        """One line a method and density: medians over the seeds."""
        from analysis.table.points import points_of

        points = points_of(self.rows())
        return points[[name for name in COLUMNS if name in points]]

    def pareto(self) -> pd.DataFrame:
        """The points in accuracy and compression, with a column ``nondominated``."""
        from analysis.questions.pareto import pareto

        return pareto(self.rows())

    def plot(self, out: str) -> None:
        """Accuracy against compression, to a .png, .pdf or .svg."""
        from analysis.draw.figures import accuracy_against_compression

        accuracy_against_compression(self.rows(), out)

    def report(self, out: str) -> None:
        """The page of ``rewind-ray analysis report``, of all that the storage holds."""
        from analysis.commands.report import report_command

        report_command(self.storage, out=out)

    def best(self, max_accuracy_drop: float | str = 0.005) -> Best:
        """The smallest network that is at most this much (a fraction, or points as ``"0.5pt"``)
        less accurate than its dense one, by validation where there is one. Raises UserError, with
        how far it got, without any.
        """
        limit = drop_of(max_accuracy_drop)
        assert limit is not None
        rows = [(stage, row) for stage in self.stages if (row := self.row(stage)) is not None]
        sound = [(stage, row) for stage, row in rows if row.status == "done"]
        if not sound:
            raise UserError(f"none of the {len(self.stages)} networks could be trained to its end")
        drops = {stage.stage_id: self.drop(stage) for stage, _ in sound}
        within = [each for each in sound if drops[each[0].stage_id] <= limit]
        if not within:
            nearest = min(sound, key=lambda each: drops[each[0].stage_id])
            raise UserError(
                f"no network is within {100 * limit:g} points of its dense one; the "
                f"nearest, {nearest[1].compression_ratio:.2f}× by {nearest[0].method}, is "
                f"{100 * drops[nearest[0].stage_id]:.2f} points down: allow that, or more epochs"
            )
        stage, row = max(
            within, key=lambda each: (each[1].compression_ratio, -drops[each[0].stage_id])
        )
        drop = drops[stage.stage_id]
        return Best(storage=self.storage, stage=stage, row=row, drop=drop, data=self.data)


@dataclass(frozen=True, kw_only=True)
class Best:
    """A pruned and retrained network."""

    storage: str
    stage: Stage
    row: ResultRow
    drop: float
    """Accuracy lost against the dense network, a fraction; of validation where there is one."""
    target: Target | None = None
    """Of ``prune``."""
    value: float | None = None
    """What was reached of it: a compression ratio, bytes of the file, or milliseconds."""
    reached: bool = True
    """Whether the target was."""
    data: str | None = None
    """Folder of the data set's files, where it has one."""

    @property
    def model(self) -> nn.Module:
        """In evaluation mode on the CPU, pruned weights zero, pruned filters cut out."""
        return self._exported().network

    def summary(self) -> dict[str, Any]:
        """Accuracies as fractions, and the network's size."""
        facts = self._exported().facts
        model = self.model
        weights = model.state_dict().values()
        return {
            "stage_id": self.stage.stage_id,
            "compression_ratio": self.row.compression_ratio,
            "target_reached": self.reached,
            **self._measured(),
            "test_accuracy": self.row.test_accuracy,
            "baseline_test_accuracy": self.row.baseline_test_accuracy,
            "params_total": self.row.params_total,
            "params_exported": facts["params_exported"],
            "params_nonzero": sum(int(w.count_nonzero()) for w in model.parameters()),
            "bytes_exported": sum(w.numel() * w.element_size() for w in weights),
            "flops_dense": self.row.flops_dense,
            "flops_exported": facts["flops_exported"],
            "flops_remaining": self.row.flops_remaining,
        }

    def export(self, out: str | Path, dtype: str = "fp32", masks: bool = False) -> dict[str, Any]:
        """Write a .safetensors (weights), .pt2, .onnx or .pt (a state_dict), and beside it what is
        known of it as .json, and a model card as .md.

        dtype: fp32, fp16 or, of ONNX, int8. masks: of a state_dict, as torch.nn.utils.prune has
        them. Returns what is known. Raises UserError for what doesn't go together.
        """
        form = form_of(str(out), dtype, masks)
        return exporting.write_export(
            self._exported(), Path(out).absolute(), form, self.data, trust=True
        )

    def file_bytes(self, format: str = "pt2") -> int:
        """Of the file that ``export`` writes."""
        return file_bytes(self._exported(), Form(format=format))

    def latency(self, device: torch.device | str = "cpu") -> float:
        """Milliseconds of a forward pass of one example, in fp32; the median of several rounds."""
        exported = self._exported()
        example = exported.task.example()[0]
        return latency_of(exported.network, example, torch.device(device))

    def _measured(self) -> dict[str, float]:
        if self.target is None or self.value is None or not self.target.is_measured:
            return {}
        return {{"size": "file_bytes", "latency": "latency_ms"}[self.target.kind]: self.value}

    def _exported(self) -> Exported:
        stage = self.stage
        cut = any(step.prunes_channels for step in stage.chain)
        return exporting.load_export(
            Ledger(self.storage), stage.stage_id, stage.train_epochs, cut, self.data, trust=True
        )

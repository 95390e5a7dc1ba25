"""The plain default: prune 20%, retrain by learning-rate rewinding, and repeat.

Renda et al. 2020, §5, Algorithm 1 (and, with another --method, Algorithm 2 of App. D): train to the
end, prune the 20% of the weights with the lowest magnitudes, retrain for the original time, and
repeat until the target compression is reached or the accuracy has dropped too far. The drop is
that of the validation accuracy below the same seed's dense network (of the test accuracy where
there is no validation set). The result is the last network before the drop.

Examples:
  rewind-ray algorithm1 --dataset digits --protocol digits --network digits_resnet
  rewind-ray algorithm1 --network resnet56 --target-compression 10 --dry-run
  rewind-ray algorithm1 --dataset folder:/data/flowers --max-accuracy-drop 1pt
  rewind-ray algorithm1 --method weight_rewind --share 0.9
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

import tyro

from rewind_ray.errors import UserError
from rewind_ray.result import ResultRow, accuracy_drop
from rewind_ray.retraining import method_named
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage
from rewind_ray.store.ledger import Ledger
from sweeps.compare import Training, chosen_protocol, given
from sweeps.options import Options, drop_limit
from sweeps.plan.chains import iterative, prepared, scaled, seeds, share_of, steps_to, sweep_name
from sweeps.plan.naming import percent
from sweeps.run.launch import Sweep, command, run_sweep

NAME = "algorithm1"
SEEDS = 3
FARTHEST_COMPRESSION = 1000.0
"""End of a chain that only its accuracy stops."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Algorithm:
    target_compression: Annotated[float | None, tyro.conf.arg(metavar="RATIO")] = None
    """Stop at this compression ratio; 20 if neither this nor --max-accuracy-drop is given."""
    max_accuracy_drop: Annotated[str | None, tyro.conf.arg(metavar="0.5pt|0.005")] = None
    """Stop once the accuracy has dropped by more than this: 0.5pt (points) or 0.005."""
    method: str = "lr_rewind"
    """Retraining method."""
    share: float = 1.0
    """Retraining time, as a share of the original training's length."""
    fraction: float = 0.2
    """Share of the remaining weights that each step removes."""
    restore_momentum: bool = True
    """Restore the momentum with the weights, as Renda et al.'s code; fresh weights have none."""


def target_of(algorithm: Algorithm) -> float:
    if algorithm.target_compression is not None:
        return algorithm.target_compression
    return 20.0 if algorithm.max_accuracy_drop is None else FARTHEST_COMPRESSION


def algorithm1(full: Protocol, protocol: Protocol, algorithm: Algorithm, seed: int) -> Stage:
    """The last stage of the longest chain that may be needed."""
    if not 0 < algorithm.share <= 1:
        raise UserError(f"--share is {algorithm.share:g}; allowed: above 0, up to 1")
    epochs = scaled(share_of(full.epochs, algorithm.share), full.epochs, protocol)
    fresh = method_named(algorithm.method).weights == "fresh"
    restore_momentum = algorithm.restore_momentum and not fresh
    retrain = Retrain(method=algorithm.method, epochs=epochs, restore_momentum=restore_momentum)
    prune = Prune(fraction=algorithm.fraction)
    steps = steps_to(target_of(algorithm), algorithm.fraction)
    return iterative(dense_stage(protocol, seed), retrain, steps, prune)


def drop_from_dense(ledger: Ledger, stage: Stage, row: ResultRow) -> float:
    """``accuracy_drop`` of a row of the stage against its dense network."""
    baseline = stage.baseline
    return accuracy_drop(ledger.read_row(baseline.stage_id, baseline.train_epochs), row)


def drops_beyond(limit: float | None, ledger: Ledger) -> Callable[[Stage, ResultRow], bool] | None:
    """Whether a row's accuracy has dropped by more than the limit; None without a limit."""
    if limit is None:
        return None
    return lambda stage, row: drop_from_dense(ledger, stage, row) > limit


def answers(ends: Iterable[Stage], ledger: Ledger, max_drop: float | None) -> list[str]:
    """One line for each seed: where its chain stopped, and why."""
    lines = []
    for end in ends:
        best: ResultRow | None = None
        verdict = "target compression reached"
        for stage in end.chain:
            if stage.train_epochs not in ledger.row_epochs(stage.stage_id):
                verdict = "not finished"
                break
            row = ledger.read_row(stage.stage_id, stage.train_epochs)
            if row.status == "diverged":
                verdict = f"diverged at level {stage.level}"
                break
            drop = drop_from_dense(ledger, stage, row)
            if max_drop is not None and drop > max_drop:
                verdict = (
                    f"stopped at level {stage.level} ({row.compression_ratio:.2f}×), whose "
                    f"accuracy is {100 * drop:.2f} points down"
                )
                break
            best = row
        if best is not None:
            lines.append(
                f"seed {end.seed}: {best.compression_ratio:.2f}× ({1 - best.density:.1%} sparse), "
                f"test {percent(best.test_accuracy)} (dense {percent(best.baseline_test_accuracy)})"
                f", search cost {best.search_cost_epochs} epochs, stage {best.stage_id}; {verdict}"
            )
    return lines


def main(
    *,
    training: Annotated[Training, tyro.conf.arg(name="")],
    algorithm: Annotated[Algorithm, tyro.conf.arg(name="")],
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    limit = drop_limit(algorithm.max_accuracy_drop)
    full, folder = chosen_protocol(training, options.data_folder)
    protocol = prepared(full, options)
    ends = [algorithm1(full, protocol, algorithm, seed) for seed in seeds(options, SEEDS)]
    ledger = Ledger(options.storage)
    sweep = Sweep(
        name=sweep_name(NAME, options),
        stages=ends,
        data=folder,
        **given(training),
        stop=drops_beyond(limit, ledger),
    )
    code = run_sweep(sweep, options)
    if not options.dry_run:
        print("\n".join(answers(ends, ledger, limit)))
    return code


if __name__ == "__main__":
    command(main)

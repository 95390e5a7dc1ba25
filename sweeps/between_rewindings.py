"""Is a retraining procedure between the two rewindings better than both?

The question that Mikler 2022, §7 closes with: learning-rate rewinding fails on large networks, so
"there might exist a simple workaround [...] a retraining procedure between weight rewinding and
learning rate rewinding, which works even for larger networks". Here the surviving weights start
from α · final + (1 − α) · rewound: α = 0 is weight rewinding and 1 learning-rate rewinding (trained
as such, so shared with all other sweeps), over retraining times and step sizes, one-shot and
iterative. α is chosen by validation accuracy and compared by test accuracy, with intervals; the
figure shows all of it.

Not yet measured by us on WRN-16-8; --dry-run shows the cost. Digits take minutes:
  rewind-ray between-rewindings --dataset digits --network digits_resnet --protocol digits
      --densities 0.05 0.02 --fractions 0.5 0.8 --target-compression 25

Examples:
  rewind-ray between-rewindings --dry-run
  rewind-ray between-rewindings --smoke --seeds 2
  rewind-ray between-rewindings --network resnet56 --protocol renda_cifar --shares 0.9
      --restore-momentum
  rewind-ray between-rewindings --fractions 0.2 --densities --alphas 0.1 0.5 0.9
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import tyro

from analysis.questions.judge import MARGIN
from analysis.table.metrics import margin_of
from rewind_ray.errors import UserError
from rewind_ray.result import ResultRow
from rewind_ray.spec import Protocol, Prune, Retrain, Stage, dense_stage
from rewind_ray.store.ledger import Ledger
from sweeps.compare import Training, chosen_protocol, given
from sweeps.options import Options
from sweeps.plan.chains import iterative, one_shot, prepared, seeds, share_of, steps_to, sweep_name
from sweeps.run.launch import Sweep, command, run_sweep
from sweeps.run.summary import figure_path
from sweeps.searching.between import AlphaRows, Condition, draw_between, verdict_lines

NAME = "between_rewindings"
SEEDS = 6  # an interval of 1.05 standard deviations between seeds each way; 3 have 2.48
LARGE = Training(network="wrn_16_8", protocol="mikler_wrn", validation=0.2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Between:
    alphas: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Values strictly between 0 and 1; 0 and 1 are added."""
    shares: tuple[float, ...] = (0.5, 0.9)
    """Retraining times of each level, as shares of the original training's."""
    densities: tuple[float, ...] = (0.1, 0.02)
    """One-shot pruning: shares of the prunable weights that are left."""
    fractions: tuple[float, ...] = (0.2, 0.3)
    """Iterative pruning: step sizes, shares of the remaining weights."""
    target_compression: Annotated[float, tyro.conf.arg(metavar="RATIO")] = 10.0
    """Where the iterative chains end."""
    restore_momentum: bool = False
    """Restore the momentum, blended like the weights."""
    margin: Annotated[str, tyro.conf.arg(metavar="0.5pt|0.005")] = f"{100 * MARGIN:g}pt"
    """Smallest difference that matters: in points (or BLEU), or as a fraction."""

    def __post_init__(self) -> None:
        wrong = [alpha for alpha in self.alphas if not 0 < alpha < 1]
        if wrong or not self.alphas:
            value = f"{wrong[0]:g}" if wrong else "empty"
            raise UserError(
                f"--alphas is {value}; allowed: above 0 and below 1 (0 and 1 are added)"
            )
        if any(not 0 < share <= 1 for share in self.shares) or not self.shares:
            raise UserError(f"--shares is {self.shares}; allowed: above 0, up to 1")
        if not self.densities and not self.fractions:
            raise UserError("neither --densities nor --fractions: nothing is pruned; give some")
        margin_of(self.margin)


def retraining(alpha: float, epochs: int, restore_momentum: bool) -> Retrain:
    """``blend``, or at alpha 0 and 1 the rewindings themselves."""
    ends = {0.0: "weight_rewind", 1.0: "lr_rewind"}
    return Retrain(
        method=ends.get(alpha, "blend"),
        epochs=epochs,
        alpha=None if alpha in ends else alpha,
        restore_momentum=restore_momentum,
    )


def between_rewindings(
    protocol: Protocol, between: Between, seed: int
) -> Iterator[tuple[Condition, float, Stage]]:
    """The last stage of every chain, with its alpha and what it is compared within."""
    dense = dense_stage(protocol, seed)
    for epochs in sorted({share_of(protocol.epochs, share) for share in between.shares}):
        for alpha in sorted({0.0, *between.alphas, 1.0}):
            retrain = retraining(alpha, epochs, between.restore_momentum)
            for density in between.densities:
                condition = Condition(schedule_kind="one-shot", size=density, retrain_epochs=epochs)
                (stage,) = one_shot(dense, retrain, (density,), Prune(fraction=0.5))
                yield condition, alpha, stage
            for fraction in between.fractions:
                condition = Condition(
                    schedule_kind="iterative", size=fraction, retrain_epochs=epochs
                )
                steps = steps_to(between.target_compression, fraction)
                yield condition, alpha, iterative(dense, retrain, steps, Prune(fraction=fraction))


def rows_by_condition(
    ends: list[tuple[Condition, float, Stage]], ledger: Ledger
) -> dict[Condition, AlphaRows]:
    found: dict[Condition, AlphaRows] = {}
    for condition, alpha, stage in ends:
        seeds_of = found.setdefault(condition, {}).setdefault(alpha, {})
        row = finished_row(stage, ledger)
        if row is not None:
            seeds_of[stage.seed] = row
    return found


def finished_row(stage: Stage, ledger: Ledger) -> ResultRow | None:
    if stage.train_epochs not in ledger.row_epochs(stage.stage_id):
        return None
    row = ledger.read_row(stage.stage_id, stage.train_epochs)
    return None if row.status == "diverged" else row


def main(
    *,
    training: Annotated[Training, tyro.conf.arg(name="")] = LARGE,
    between: Annotated[Between, tyro.conf.arg(name="")],
    options: Annotated[Options, tyro.conf.arg(name="")],
) -> int:
    full, folder = chosen_protocol(training, options.data_folder)
    protocol = prepared(full, options)
    if protocol.validation == "none":
        raise UserError(
            f"{training.protocol} has no validation set to choose alpha by: --validation 0.2 "
            "takes a fifth of the test set"
        )
    ends = [
        end for seed in seeds(options, SEEDS) for end in between_rewindings(protocol, between, seed)
    ]
    name = sweep_name(NAME, options)
    stages = [stage for _, _, stage in ends]
    sweep = Sweep(name=name, stages=stages, data=folder, **given(training))
    code = run_sweep(sweep, options)
    if options.dry_run:
        return code
    conditions = rows_by_condition(ends, Ledger(options.storage))
    figure = figure_path(f"{name}-alpha", options)
    if any(rows for condition in conditions.values() for rows in condition.values()):
        draw_between(conditions, figure)
        print(f"figure   {figure}")
    print("\n".join(verdict_lines(conditions, margin_of(between.margin))))
    return code


if __name__ == "__main__":
    command(main)

"""Requests that a stage makes to an object store (moto's server), of the worker and of the driver.

python -m benchmarks.requests
"""

from __future__ import annotations

import logging
import os
from collections import Counter

from rewind_ray.protocols import digits
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Prune, Retrain, Stage, dense_stage, retrain_stage
from rewind_ray.store.leases import FencedLedger, claim, release
from rewind_ray.store.ledger import Ledger
from rewind_ray.training.run import Job, Runtime
from rewind_ray.training.stage import run_epoch, run_stage, start_stage
from sweeps.plan.graph import build_graph
from sweeps.run.dispatcher import Dispatcher
from tests.rewind_ray.s3_store import BUCKET, ENVIRONMENT, Store
from trainables.stage_trainable import described

FEW, MANY = 4, 12
KINDS = ("PUT", "GET", "HEAD", "POST", "DELETE")


def stages_of(epochs: int, seed: int) -> tuple[Stage, Stage]:
    """A baseline, and its child that retrains for so long."""
    protocol = digits(epochs=MANY, schedule=Schedule(lr=0.1), train_examples=64, test_examples=50)
    dense = dense_stage(protocol, seed)
    retrain = Retrain(method="lr_rewind", epochs=epochs)
    return dense, retrain_stage(dense, Prune(fraction=0.5), retrain)


def worker(store: Store, uri: str, epochs: int) -> Counter[str]:
    """Of a child, as ``StageTrainable`` does it, with its lease, from claim to release."""
    dense, child = stages_of(epochs, seed=epochs)
    run_stage(Job(stage=dense, row_epochs=(MANY,), rewind_epochs=(MANY,)), Runtime(storage=uri))
    ledger = Ledger(uri)
    ledger.write_spec(child)  # the driver's
    store.requests.clear()
    described(ledger, child.stage_id)
    claim(ledger, child.stage_id, "a-driver", ticket="a-worker")
    fenced = FencedLedger(uri, child.stage_id, "a-driver", "a-worker")
    run = start_stage(Job(stage=child, row_epochs=(epochs,)), Runtime(storage=uri), fenced)
    while not run.finished:
        run_epoch(run)
    release(ledger, child.stage_id, "a-driver")
    return kinds(store)


def driver(store: Store, uri: str) -> Counter[str]:
    """Of handing out a child and looking at its end."""
    dense, child = stages_of(FEW, seed=0)
    dispatcher = Dispatcher(build_graph([child]), Ledger(uri))
    for stage in (dense, child):
        node = dispatcher.next_ready()
        assert node is not None and node.stage_id == stage.stage_id
        store.requests.clear()
        dispatcher.ledger.write_spec(stage)
        before = kinds(store)
        run_stage(node.job, Runtime(storage=uri))
        store.requests.clear()
        dispatcher.finish(stage.stage_id)
    return before + kinds(store)


def kinds(store: Store) -> Counter[str]:
    return Counter(request.partition(" ")[0] for request in store.requests)


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    store = Store()
    os.environ |= ENVIRONMENT | {"AWS_ENDPOINT_URL": store.url}
    few, many = (worker(store, f"s3://{BUCKET}/{epochs}", epochs) for epochs in (FEW, MANY))
    epoch = Counter({kind: (many[kind] - few[kind]) / (MANY - FEW) for kind in KINDS})
    rest = Counter({kind: few[kind] - FEW * epoch[kind] for kind in KINDS})
    print(f"{'':24}{''.join(f'{kind:>8}' for kind in KINDS)}{'all':>8}")
    for name, count in (
        ("worker, an epoch", epoch),
        ("worker, a stage besides", rest),
        ("driver, a stage", driver(store, f"s3://{BUCKET}/driver")),
    ):
        numbers = [*(count[kind] for kind in KINDS), sum(count.values())]
        print(f"{name:24}{''.join(f'{number:8.1f}' for number in numbers)}")
    store.stop()


if __name__ == "__main__":
    main()

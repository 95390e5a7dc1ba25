"""What is done of 10,000 stages in S3: requests and seconds, asked stage by stage and at once.

The server is moto's, on this machine: it answers in milliseconds what Amazon's answers in tens of
them, and gets slower the more it holds, so the requests are the result. Stage by stage is measured
on a part of the stages and multiplied; the requests of a stage are always two.

  python -m benchmarks.listing
  python -m benchmarks.listing --stages 1000 --epochs 36
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator

import tyro
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from rewind_ray.store.ledger import Ledger
from tests.rewind_ray.s3_store import BUCKET, ENVIRONMENT, Store

ROOT = "storage"


def main(stages: int = 10_000, epochs: int = 4, part: int = 50) -> None:
    """Prints both, and their ratio.

    Args:
        stages: stages in the storage
        epochs: of each, with metrics; the first and last have their tensors, the last has a row
        part: stages that are asked for one by one
    """
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    store = Store()
    os.environ |= ENVIRONMENT | {"AWS_ENDPOINT_URL": store.url}
    stage_ids = [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(stages)]
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    keys = [key for stage_id in stage_ids for key in keys_of(stage_id, epochs)]
    for key in keys:
        backend.put_object(BUCKET, f"{ROOT}/stages/{key}", b"{}")
    ledger = Ledger(f"s3://{BUCKET}/{ROOT}")
    print(f"{stages:,} stages, {len(keys):,} files")

    def one_by_one() -> None:
        for stage_id in stage_ids[:part]:
            assert ledger.row_epochs(stage_id) == [epochs]
            assert ledger.points(stage_id) == [0, epochs]

    def at_once() -> None:
        listed = ledger.listed(stage_ids)
        assert all(listed.row_epochs(stage_id) == [epochs] for stage_id in stage_ids)
        assert all(listed.points(stage_id) == [0, epochs] for stage_id in stage_ids)

    def few() -> None:
        assert len(ledger.listed(stage_ids[:20]).stage_ids()) == 20

    requests, seconds = measured(store, one_by_one)
    old_requests, old_seconds = requests * stages // part, seconds * stages / part
    new_requests, new_seconds = measured(store, at_once)
    few_requests, few_seconds = measured(store, few)
    print(
        f"one by one  {old_requests:>7,} requests {old_seconds:>9,.1f} s (from {part} stages)\n"
        f"at once     {new_requests:>7,} requests {new_seconds:>9,.1f} s\n"
        f"ratio       {old_requests / new_requests:>7,.0f} "
        f"{old_seconds / new_seconds:>18,.0f}\n"
        f"20 of them  {few_requests:>7,} requests {few_seconds:>9,.1f} s"
    )
    store.stop()


def keys_of(stage_id: str, epochs: int) -> Iterator[str]:
    yield f"{stage_id}/spec.json"
    yield f"{stage_id}/data.json"
    for epoch in range(epochs + 1):
        yield f"{stage_id}/epochs/{epoch:04d}.json"
    for epoch in (0, epochs):
        yield f"{stage_id}/epochs/{epoch:04d}.safetensors"
    yield f"{stage_id}/rows/{epochs:04d}.json"


def measured(store: Store, work: Callable[[], object]) -> tuple[int, float]:
    """Requests and seconds."""
    begun = time.perf_counter()
    requests = store.count(work)
    return requests, time.perf_counter() - begun


if __name__ == "__main__":
    tyro.cli(main)

"""A ledger in S3: a real server of moto's, that is throttled, taken away and brought back."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_ray.spec import Stage, dense_stage
from rewind_ray.store import opening, patience
from rewind_ray.store.files import (
    delete,
    digest,
    is_file,
    list_names,
    read_bytes,
    walk,
    write_atomically,
)
from rewind_ray.store.ledger import Ledger
from rewind_ray.store.opening import check_writable, open_storage, redact, storage_time
from rewind_ray.store.patience import is_passing, patiently
from rewind_ray.training.run import Job
from rewind_ray.training.stage import missing_epochs, run_stage
from tests.rewind_ray.s3_store import BUCKET, OTHERS, Store, use
from tests.rewind_ray.store.test_ledger import STAGE, TENSORS, a_row
from tests.rewind_ray.tiny_stages import Lab, child, tiny

IMPATIENT = {"FIRST_PAUSE_SECONDS": 0.05, "LONGEST_PAUSE_SECONDS": 0.5, "TRIES": 1}
PLACES = {"TRIES": opening}
AS_FOR_USERS = {name: getattr(PLACES.get(name, patience), name) for name in IMPATIENT}


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    store = Store()
    yield store
    store.stop()


@pytest.fixture
def s3(server: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store, known to all by the environment."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # it tells every request
    use(server, monkeypatch)
    return server


@pytest.fixture
def uri(s3: Store, tmp_path: Path) -> str:
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of a tenth, and none of Arrow's own."""
    for name, value in IMPATIENT.items():
        monkeypatch.setattr(PLACES.get(name, patience), name, value)


# One interface


def test_what_is_written_is_read(uri: str) -> None:
    filesystem, root = open_storage(uri)
    assert list_names(filesystem, f"{root}/nowhere") == []
    for path in (f"{root}/a/b/c.json", f"{root}/a/b/d.json", f"{root}/e.json"):
        assert not is_file(filesystem, path)
        write_atomically(filesystem, path, path.encode())
        assert read_bytes(filesystem, path) == path.encode()
    assert list_names(filesystem, f"{root}/a/b") == ["c.json", "d.json"]
    assert sorted(file.path for file in walk(filesystem, root)) == [
        "a/b/c.json",
        "a/b/d.json",
        "e.json",
    ]
    large = bytes(range(256)) * 50_000  # of several parts
    write_atomically(filesystem, f"{root}/e.json", large)
    assert read_bytes(filesystem, f"{root}/e.json") == large
    assert digest(filesystem, f"{root}/e.json")[1] == len(large)
    with pytest.raises(ValueError, match="more than the 100 that it may have"):
        read_bytes(filesystem, f"{root}/e.json", limit=100)
    delete(filesystem, f"{root}/e.json")
    delete(filesystem, f"{root}/e.json")
    with pytest.raises(FileNotFoundError):
        read_bytes(filesystem, f"{root}/e.json")
    check_writable(filesystem, root)
    assert abs(storage_time(filesystem, root) - time.time()) < 60
    assert list_names(filesystem, root) == ["a"]


# Endpoint, region, credentials


@pytest.mark.parametrize(
    ("query", "environment"),
    [
        ("", {"AWS_ENDPOINT_URL": "{url}"}),
        ("", {"AWS_ENDPOINT_URL_S3": "{url}", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}),
        ("?endpoint_override={host}&scheme=http", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}),
        ("?endpoint_override={url}&region=eu-west-1", {}),
        ("?region=eu-west-1", {"AWS_ENDPOINT_URL": "{url}", "AWS_REGION": "us-west-2"}),
        ("", {"AWS_ENDPOINT_URL": "{url}", "AWS_REGION": "eu-west-1"}),
        ("", {"AWS_ENDPOINT_URL": "{url}", "AWS_DEFAULT_REGION": "eu-west-1"}),
    ],
)
def test_where_an_endpoint_and_a_region_come_from(
    s3: Store,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    query: str,
    environment: dict[str, str],
) -> None:
    names = {"url": s3.url, "host": s3.url.removeprefix("http://")}
    for name in OTHERS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(**names))
    ledger = Ledger(f"s3://{BUCKET}/{tmp_path.name}{query.format(**names)}")
    ledger.write_row(a_row())
    assert ledger.row_epochs(STAGE) == [6]
    if "eu-west-1" in f"{query}{environment}":
        assert ledger.filesystem.region == "eu-west-1"


def test_credentials_are_those_of_the_environment(
    s3: Store, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    answer = s3._answer
    monkeypatch.setattr(
        s3, "_answer", lambda e, r: sent.append(e["HTTP_AUTHORIZATION"]) or answer(e, r)
    )
    Ledger(uri).write_row(a_row())
    assert all("Credential=an-id/" in header for header in sent)
    assert sent


def test_an_unknown_parameter_is_told(s3: Store) -> None:
    with pytest.raises(ValueError, match=r"can't open storage .*'colour'; known: region, endpoint"):
        open_storage(f"s3://{BUCKET}/x?colour=red")


# Secrets

secrets = st.text(
    st.characters(codec="ascii", categories=("L", "N"), include_characters="/+=-_~%"), min_size=6
).filter(lambda text: not text.startswith("***"))


@given(secret=secrets, user=st.sampled_from(["KEY", "an-id", ""]))
def test_no_secret_gets_through(secret: str, user: str) -> None:
    for place in (
        f"s3://{user}:{secret}@bucket/folder",
        f"s3://bucket/folder?secret_key={secret}",
        f"s3://bucket/folder?region=eu-west-1&session_token={secret}&scheme=http",
        f"s3://bucket/folder?AWS_SECRET_ACCESS_KEY={secret}",
    ):
        assert secret not in redact(place).replace("bucket/folder", "").replace("***", "")
        with pytest.raises(ValueError, match="contains a secret") as caught:
            open_storage(place)
        assert secret not in str(caught.value).split("; give secrets")[0].replace("folder", "")
        assert "***" in str(caught.value)


@pytest.mark.parametrize(
    "place",
    [
        "s3://bucket/folder",
        "s3://bucket/someone@somewhere/x:y",
        "s3://bucket/folder?region=eu-west-1&endpoint_override=127.0.0.1:9000&scheme=http",
        "gs://anonymous@bucket/folder",
        "abfs://container@account.dfs.core.windows.net/folder",
        "hdfs://user@host:8020/folder",
        "hdfs://host:8020/someone@somewhere",
        "/local/a:b@c",
        "file:///local/a:b@c",
    ],
)
def test_what_is_no_secret_stays(place: str) -> None:
    assert redact(place) == place


# Requests


def test_requests_of_each_kind(s3: Store, uri: str) -> None:
    ledger = Ledger(uri)
    stage = dense_stage(tiny(), 0)
    assert s3.count(lambda: ledger.write_row(a_row())) == 1
    assert s3.count(lambda: ledger.write_point(STAGE, 6, TENSORS, {})) == 2
    assert s3.count(lambda: ledger.write_spec(stage)) == 2  # one to see that it isn't there
    assert s3.count(lambda: ledger.read_row(STAGE, 6)) == 2
    assert s3.count(lambda: ledger.row_epochs(STAGE)) == 1
    assert s3.count(lambda: ledger.drop_point(STAGE, 6)) <= 3
    assert s3.count(lambda: ledger.drop_point(STAGE, 6)) == 1


def fill(ledger: Ledger, stages: int, points: int) -> list[str]:
    """Stages of a row and some rewind points each, written side by side. Their ids, sorted."""
    stage_ids = sorted(f"{number * 7919:016x}" for number in range(stages))
    threads = [
        threading.Thread(target=fill_stages, args=(ledger, stage_ids[start::8], points))
        for start in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return stage_ids


def fill_stages(ledger: Ledger, stage_ids: list[str], points: int) -> None:
    for stage_id in stage_ids:
        for epoch in range(points):
            ledger.write_point(stage_id, epoch, TENSORS, {})
        ledger.write_metrics(stage_id, points, {})
        ledger.write_row(a_row(stage_id=stage_id, baseline_id=stage_id))


def test_many_stages_are_listed_at_once(s3: Store, uri: str) -> None:
    """Two requests for the names of stages and of files, where one by one takes two a stage."""
    ledger = Ledger(uri)
    stage_ids = fill(ledger, stages=60, points=2)
    listings = []
    assert s3.count(lambda: listings.append(ledger.listed())) == 1 + 8 + 1  # 8: the sample
    listed = listings[0]
    assert s3.count(listed.stage_ids) == 0
    assert listed.stage_ids() == stage_ids
    for stage_id in stage_ids:
        assert listed.row_epochs(stage_id) == ledger.row_epochs(stage_id) == [6]
        assert listed.points(stage_id) == ledger.points(stage_id) == [0, 1]
    assert listed.read_row(stage_ids[0], 6).stage_id == stage_ids[0]


def test_a_few_stages_of_many_are_listed_one_by_one(s3: Store, uri: str) -> None:
    """And those that aren't there cost nothing."""
    ledger = Ledger(uri)
    stage_ids = fill(ledger, stages=30, points=1)
    wanted = [*stage_ids[:5], *(f"{number:016x}" for number in range(2**60, 2**60 + 1000))]
    listings = []
    assert s3.count(lambda: listings.append(ledger.listed(wanted))) == 1 + 5
    assert listings[0].stage_ids() == stage_ids[:5]
    assert listings[0].points(stage_ids[0]) == [0]
    assert listings[0].row_epochs(wanted[-1]) == listings[0].points(wanted[-1]) == []


def test_long_stages_are_listed_one_by_one(
    s3: Store, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a stage has more files than a request lists, as here are said to be."""
    monkeypatch.setattr("rewind_ray.store.ledger.KEYS_A_REQUEST", 2)
    ledger = Ledger(uri)
    stage_ids = fill(ledger, stages=12, points=1)
    listings = []
    assert s3.count(lambda: listings.append(ledger.listed())) == 1 + 12
    assert [listings[0].row_epochs(stage_id) for stage_id in stage_ids] == [[6]] * 12


def test_rows_are_read_side_by_side(s3: Store, uri: str) -> None:
    ledger = Ledger(uri)
    stage_ids = fill(ledger, stages=40, points=0)
    keys = [(stage_id, 6) for stage_id in stage_ids]
    rows = ledger.read_rows(keys)
    assert list(rows) == keys
    assert all(row.stage_id == stage_id for (stage_id, _), row in rows.items())
    with pytest.raises(FileNotFoundError):
        ledger.read_rows([*keys, (STAGE, 6)])


def test_what_an_old_listing_lacks_is_there(s3: Store, uri: str) -> None:
    """Of a stage that has just ended: else it would be said to have ended without its results."""
    stage = dense_stage(tiny(), 0)
    job = Job(stage=stage, row_epochs=(6,), rewind_epochs=(4,))
    ledger = Ledger(uri)
    assert missing_epochs(ledger, job) == [4, 6]
    s3.lists_as_before = True
    try:
        ledger.write_point(stage.stage_id, 4, TENSORS, {})
        assert missing_epochs(ledger, job) == [4, 6]
        ledger.write_row(a_row(stage_id=stage.stage_id, baseline_id=stage.stage_id))
        assert ledger.row_epochs(stage.stage_id) == ledger.points(stage.stage_id) == []
        assert missing_epochs(ledger, job) == []
    finally:
        s3.lists_as_before = False
    assert s3.old_answers > 0
    assert ledger.row_epochs(stage.stage_id) == [6] and ledger.points(stage.stage_id) == [4]


def test_an_answer_that_breaks_off_is_asked_for_again(s3: Store, uri: str) -> None:
    ledger = Ledger(uri)
    ledger.write_row(a_row())
    ledger.write_point(STAGE, 6, TENSORS, {})
    s3.cuts = 3
    assert ledger.read_row(STAGE, 6) == a_row()
    assert ledger.read_point(STAGE, 6) == TENSORS
    assert s3.cut == 3


# Patience


def test_throttling_delays_and_is_told_once(
    s3: Store, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(uri)
    ledger.write_point(STAGE, 4, TENSORS, {})
    for work in (
        lambda: ledger.write_row(a_row()),
        lambda: ledger.read_row(STAGE, 6),
        lambda: ledger.read_point(STAGE, 4),
        lambda: ledger.row_epochs(STAGE),
        lambda: ledger.entries(),
        lambda: ledger.drop_point(STAGE, 4),
    ):
        caplog.clear()
        s3.refusals = 4
        work()
        assert s3.refusals == 0
        told = [record.message for record in caplog.records]
        assert len(told) == 2, told
        assert re.search(
            r"\(s3\) doesn't answer; waiting for it, up to 300 s: .*(SLOW|503)", told[0]
        )
        assert re.search(r"\(s3\) is back after [0-9.]+ s", told[1])
    assert ledger.read_row(STAGE, 6) == a_row()
    assert ledger.points(STAGE) == []


def test_many_threads_tell_an_outage_once(
    s3: Store, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(uri)
    stage_ids = fill(ledger, stages=20, points=0)
    s3.stop()
    threading.Timer(2, s3.start).start()
    rows = ledger.read_rows((stage_id, 6) for stage_id in stage_ids)
    assert len(rows) == 20
    assert [("doesn't answer" in r.message, "is back" in r.message) for r in caplog.records] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_an_outage_delays_and_loses_nothing(
    s3: Store, uri: str, lab: Lab, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is stopped in the middle of a training, and started again on the same port."""
    for name, value in AS_FOR_USERS.items():
        monkeypatch.setattr(PLACES.get(name, patience), name, value)
    stage = child(dense_stage(tiny(), 0), "weight_rewind", 4)
    lab.run(stage.baseline, rewinds=(2,))
    lab.run(stage)

    remote = Lab(uri)  # type: ignore[arg-type]
    begun = time.monotonic()
    failures: list[BaseException] = []

    def train() -> None:
        try:
            run_stage(remote.job(stage.baseline, rewinds=(2,)), remote.runtime())
            run_stage(Job(stage=stage, row_epochs=(stage.train_epochs,)), remote.runtime())
        except BaseException as error:
            failures.append(error)

    s3.requests.clear()
    training = threading.Thread(target=train)
    training.start()
    while len(s3.requests) < 25:  # some epochs into the baseline
        time.sleep(0.001)
    s3.stop()
    answered = len(s3.requests)
    time.sleep(seconds)
    assert training.is_alive()
    assert len(s3.requests) == answered
    s3.start()
    training.join(timeout=60)
    assert not failures
    assert not training.is_alive()
    assert seconds <= time.monotonic() - begun < seconds + 60
    assert_same(remote, lab, stage)


def assert_same(one: Lab, other: Lab, stage: Stage) -> None:
    """Rewind points bit for bit, and rows but for their times."""
    for step in stage.chain:
        assert one.points(step) == other.points(step)
        assert one.bytes(step) == other.bytes(step)
        same: dict[str, Any] = {"train_seconds": 0.0, "finished_at": ""}
        assert replace(one.row(step), **same) == replace(other.row(step), **same)


def test_patience_ends(s3: Store, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(uri)
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 1.0)
    s3.stop()
    try:
        begun = time.monotonic()
        message = r"away for 1 s; nothing is lost, the same command continues: .*NETWORK_CONNECTION"
        with pytest.raises(OSError, match=message):
            ledger.write_row(a_row())
        assert 1 <= time.monotonic() - begun < 60
    finally:
        s3.start()
    ledger.write_row(a_row())
    assert patience._away == {}


def test_a_mistake_is_told_at_once(s3: Store, uri: str) -> None:
    """No bucket: waiting wouldn't help."""
    filesystem, root = open_storage("s3://no-such-bucket/folder")
    begun = time.monotonic()
    with pytest.raises(OSError, match=r"can't write to the storage .*NO_SUCH_BUCKET"):
        check_writable(filesystem, root)
    with pytest.raises(FileNotFoundError):
        read_bytes(filesystem, f"{root}/x")
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ConnectionRefusedError(111, "refused"), True),
        (TimeoutError("slow"), True),
        (OSError(5, "input/output error"), True),
        (OSError(116, "stale file handle"), True),
        (OSError("AWS Error SLOW_DOWN during PutObject operation"), True),
        (OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation"), True),
        (OSError("AWS Error NETWORK_CONNECTION during PutObject: curlCode: 7, Couldn't"), True),
        (OSError("google::cloud::Status(UNAVAILABLE: try again)"), True),
        (OSError("AWS Error NETWORK_CONNECTION during PutObject: curlCode: 60, SSL peer"), False),
        (OSError("AWS Error ACCESS_DENIED during PutObject operation"), False),
        (OSError("AWS Error NO_SUCH_BUCKET during PutObject operation"), False),
        (OSError("AWS Error UNKNOWN (HTTP status 400) during PutObject"), False),
        (FileNotFoundError(2, "no such file"), False),
        (PermissionError(13, "denied"), False),
        (OSError(28, "no space left"), False),
        (OSError(30, "read-only"), False),
        (OSError(122, "quota exceeded"), False),
    ],
)
def test_what_is_waited_for(error: OSError, passing: bool) -> None:
    assert is_passing(error) == passing
    tries = []

    def once_bad() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise error
        return "done"

    if passing:
        assert patiently("test", once_bad) == "done"
    else:
        with pytest.raises(type(error)) as caught:
            patiently("test", once_bad)
        assert caught.value is error
    assert len(tries) == 1 + passing


def test_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a thousand workers don't all come back at the same moment."""
    for name, value in AS_FOR_USERS.items():
        monkeypatch.setattr(PLACES.get(name, patience), name, value)
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    tries = count()

    def fail_ten_times() -> None:
        if next(tries) % 11 < 10:
            raise ConnectionError("away")

    for _ in range(20):
        patiently("test", fail_ten_times)
    for number in range(10):
        longest = min(0.5 * 2**number, AS_FOR_USERS["LONGEST_PAUSE_SECONDS"])
        same_try = pauses[number::10]
        assert all(longest / 2 <= pause <= longest for pause in same_try)
        assert len(set(same_try)) == 20

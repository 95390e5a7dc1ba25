"""Files that somebody damaged or made to do harm: refused, quickly, with the documented errors.

More than 10,000 of them, from a fixed seed: bytes and values changed at random, and all the
tricks that we know. What is accepted all the same must be sound.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from rewind_ray.result import ResultRow
from rewind_ray.spec import dense_stage, stage_to_dict
from rewind_ray.store import checkpoint
from rewind_ray.store.housekeeping import collect, delete_garbage, holdings, read_records, verify
from rewind_ray.store.ledger import CorruptRewindPoint, Ledger
from rewind_ray.store.strict_json import parse_json, seal
from tests.rewind_ray.store.test_ledger import STAGE, a_row
from tests.rewind_ray.tiny_stages import child, tiny

INPUTS = {"points": 3500, "specs": 2500, "rows": 2000, "metrics": 1500, "sweeps": 800, "names": 500}
REFUSALS = (ValueError, CorruptRewindPoint, FileNotFoundError)
SECONDS = 20.0
"""Of processor time that reading one small file may take at most; it takes milliseconds here."""
MEMORY = 400 * 2**20
"""Bytes that all of it may add to the memory of the process."""


def test_enough_inputs() -> None:
    assert sum(INPUTS.values()) > 10_000


@pytest.fixture(autouse=True, scope="module")
def memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < MEMORY


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """In a folder beside one that nobody may touch."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("x", "spec.json", "0004.json", "0004.safetensors"):
        (outside / name).write_text("keep out")
    before = snapshot(outside)
    yield Ledger(str(tmp_path / "inside" / "storage"))
    assert snapshot(outside) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"outside", "inside"}
    assert [path.name for path in (tmp_path / "inside").glob("*")] in ([], ["storage"])


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


@contextmanager
def refused_or_sound(what: object) -> Iterator[None]:
    """Whatever the body does, it does quickly, and raises nothing else."""
    begun = time.process_time()
    try:
        yield
    except REFUSALS as error:
        assert len(str(error)) < 3000, what
    assert time.process_time() - begun < SECONDS, what


# How bytes and values are changed

DEEP = "[" * 100_000
TEXTS = [
    "",
    "../x",
    "../../outside/x",
    "/etc/passwd",
    "..\\x",
    "x\x00y",
    "\ud800",
    "\x1b[2J",
    "__import__('os').system('touch outside/x')",
    "a" * 5000,
    "0" * 16,
    "g" * 16,
    "٠" * 16,
]
NUMBERS = [0, -1, 1, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308, -1e308, 5e-324]
VALUES: list[Any] = [
    *(None, True, False, [], {}, [[]], [None], {"": 0}, [1, 2, 3], {"a": {"b": {}}}),
    *(math.nan, math.inf, -math.inf),
    *TEXTS,
    *NUMBERS,
]


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped, cut, doubled, left out, put in, or something else altogether."""
    at = rng.randrange(len(data) + 1)
    size = rng.choice((1, 2, 8, 64, 1000))
    match rng.randrange(7):
        case 0:
            flipped = bytearray(data)
            for _ in range(rng.choice((1, 1, 4, 50))):
                flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(flipped)
        case 1:
            return data[:at]
        case 2:
            return data[at:]
        case 3:
            return data[:at] + data[at + size :]
        case 4:
            return data[:at] + rng.randbytes(size) + data[at:]
        case 5:
            return data[:at] + data[at : at + size] * 3 + data[at + size :]
    return rng.randbytes(rng.randrange(200))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in json."""
    if isinstance(value, dict):
        keys: Any = list(value)
    elif isinstance(value, list):
        keys = range(len(value))
    else:
        return []
    return [found for key in keys for found in ((value, key), *places(value[key]))]


def changed_json(plain: Any, rng: random.Random) -> bytes:
    """Values replaced, taken away, doubled, renamed; and then sometimes the text itself."""
    changed = json.loads(json.dumps(plain))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        container, key = rng.choice(places(changed))
        match rng.randrange(6):
            case 0 | 1 | 2:
                container[key] = deepcopy(rng.choice(VALUES))
            case 3:
                container[key] = [container[key]] * rng.choice((1, 2, 50))
            case 4 if isinstance(container, dict):
                container[rng.choice(TEXTS)] = container.pop(key)
            case _ if isinstance(container, dict):
                container[rng.choice(TEXTS)] = deepcopy(rng.choice(VALUES))
    text = json.dumps(changed)
    match rng.randrange(12):
        case 0:  # a name twice
            text = text.replace("{", '{"seed": 1, "seed": 2, ', 1)
        case 1:  # deeper than anybody reads
            text = text.replace(rng.choice("0123456789"), DEEP, 1)
        case 2:
            text = text.replace(rng.choice("0123456789"), rng.choice("123") * 5000, 1)
        case 3:
            text = text.replace(rng.choice("0123456789"), "1e999", 1)
        case 4:
            return text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig")), errors="replace")
        case 5:
            return changed_bytes(text.encode(errors="replace"), rng)
    return text.encode(errors="replace")


def inputs(
    name: str, make: Callable[[random.Random], bytes]
) -> Iterator[tuple[int, bytes, random.Random]]:
    for number in range(INPUTS[name]):
        rng = random.Random(f"{name} {number}")
        yield number, make(rng), rng


def put(ledger: Ledger, path: str, data: bytes) -> Path:
    """Below the storage root, not through the ledger."""
    file = Path(ledger.root) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # ext4 is slow to overwrite
    file.write_bytes(data)
    return file


def forged(data: bytes) -> bytes:
    """With a checksum that fits, as somebody makes it who knows the format; as it is where it is
    no json that could have one."""
    try:
        return seal(parse_json(data))
    except (ValueError, TypeError):
        return data


# Rewind points


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Flatten())


def point_of(net: nn.Module) -> bytes:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.randn(4, 1, 5, 5)).sum().backward()
    optimizer.step()
    mask = {"0.weight": torch.rand(3, 1, 3, 3) > 0.5}
    return checkpoint.to_bytes(checkpoint.capture(net, optimizer, mask))


def with_header(data: bytes, header: Any, length: int | None = None) -> bytes:
    """The same tensors under another header, which may say it is as long as you like."""
    size = int.from_bytes(data[:8], "little")
    text = header if isinstance(header, bytes) else json.dumps(header).encode(errors="replace")
    said = len(text) if length is None else length
    return said.to_bytes(8, "little") + text + data[8 + size :]


def header_of(data: bytes) -> dict[str, Any]:
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    return header


def changed_point(data: bytes, rng: random.Random) -> bytes:
    header = header_of(data)
    match rng.randrange(8):
        case 0 | 1:
            return changed_bytes(data, rng)
        case 2:
            return with_header(data, changed_json(header, rng))
        case 3:  # a giant header, or one that is said to be giant
            length = rng.choice((2**24 + 1, 2**31, 2**40, 2**63, 2**64 - 1, 0, 1, 7))
            return with_header(data, header, length)
        case 4:
            name = rng.choice([name for name in header if name != "__metadata__"])
            shapes = ([2**40, 0], [2**62, 4], [0] * 500, [1] * 10_000, [-1], [2**64], [3.5], "3")
            header[name]["shape"] = rng.choice(shapes)
        case 5:
            name = rng.choice([name for name in header if name != "__metadata__"])
            kinds = ("F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "F4", "PICKLE")
            header[name]["dtype"] = rng.choice(kinds)
        case 6:
            name = rng.choice([name for name in header if name != "__metadata__"])
            at = rng.choice(([0, 2**63], [4, 0], [-4, 4], [0, 0], [10**18, 10**18 + 4]))
            header[name]["data_offsets"] = at
        case 7:
            name = rng.choice([name for name in header if name != "__metadata__"])
            part = rng.choice(("weights/", "mask/", "buffers/", "optimizer/m/", "cut/", "", "x/"))
            header[part + rng.choice(TEXTS)] = header.pop(name)
    return with_header(data, header)


def try_point(data: bytes, net: nn.Module) -> None:
    point = checkpoint.from_bytes(data)
    assert all(tensor.isfinite().all() for tensor in point.weights.values())
    before = [tensor.clone() for tensor in net.state_dict().values()]
    try:
        checkpoint.load_network_(net, point)
    except ValueError:
        now = net.state_dict().values()
        assert all(map(torch.equal, before, now))  # left as it was
        raise
    found = {name: tensor.dtype for name, tensor in point.weights.items()}
    assert found == {name: tensor.dtype for name, tensor in net.named_parameters()}


def test_rewind_points() -> None:
    torch.manual_seed(0)
    good, net = point_of(network()), network()
    try_point(good, net)
    for number, data, _ in inputs("points", lambda rng: changed_point(good, rng)):
        with refused_or_sound(number):
            try_point(data, net)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["weights/a", "optimizer/exp_avg/a"])
def test_weights_that_are_no_numbers(part: str, poison: float) -> None:
    tensors = {"weights/a": torch.ones(3), part: torch.tensor([1.0, poison, 1.0])}
    with pytest.raises(ValueError, match=f"{part.partition('/')[0]} of '.*a' aren't finite"):
        checkpoint.from_bytes(save(tensors))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.complex64])
def test_weights_of_another_kind(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="this is no rewind point: weights of 'a'"):
        checkpoint.from_bytes(save({"weights/a": torch.ones(3).to(dtype)}))


def test_weights_of_another_precision_are_not_cast() -> None:
    net = network()
    state = {f"weights/{name}": tensor.double() for name, tensor in net.named_parameters()}
    state |= {f"buffers/{name}": tensor for name, tensor in net.named_buffers()}
    with pytest.raises(ValueError, match=r"is of torch\.float64, the network wants torch\.float32"):
        checkpoint.load_network_(net, checkpoint.from_bytes(save(state)))


@pytest.mark.parametrize(
    "cut",
    [
        DEEP.encode(),
        b'{"a": [[1e999], [null]]}',
        b'{"a": [[4], [[0, 99]]]}',
        b'{"a": [[4], [[-1]]]}',
        b'{"a": [[' + b"9" * 5000 + b"], [null]]}",
        b'{"a": 3}',
        b"\xff\xfe",
        b"",
    ],
)
def test_cuts(cut: bytes) -> None:
    tensor = torch.tensor(list(cut), dtype=torch.uint8)
    with pytest.raises(ValueError, match="this is no rewind point"):
        checkpoint.from_bytes(save({checkpoint.CUT: tensor}))


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def test_pickles_are_no_rewind_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    """Neither as tensors nor as any json, and torch's own files aren't either."""
    monkeypatch.chdir(tmp_path / "outside")
    torch.save({"weights/a": torch.ones(3)}, tmp_path / "inside.pt")
    torches = (tmp_path / "inside.pt").read_bytes()
    (tmp_path / "inside.pt").unlink()
    for data in (pickle.dumps(Bomb()), pickle.dumps({"weights/a": Bomb()}), torches):
        with pytest.raises(ValueError, match="this is no rewind point"):
            checkpoint.from_bytes(data)
        put(ledger, f"stages/{STAGE}/spec.json", data)
        put(ledger, f"stages/{STAGE}/rows/0006.json", data)
        put(ledger, f"stages/{STAGE}/epochs/0006.json", data)
        for read in (
            lambda: ledger.read_spec(STAGE),
            lambda: ledger.read_row(STAGE, 6),
            lambda: ledger.read_metrics(STAGE, 6),
        ):
            with pytest.raises(ValueError):
                read()


def test_reading_never_unpickles() -> None:
    """Nothing in the library does: no ``torch.load``, no ``pickle``."""
    package = Path(checkpoint.__file__).parent
    for path in package.glob("*.py"):
        text = path.read_text()
        assert "torch.load" not in text, path
        assert "import pickle" not in text, path


# Specs, rows, metrics, records


def test_specs(ledger: Ledger) -> None:
    baseline = dense_stage(tiny(network_options={"batch_norm_decay": 0.8}), 3)
    stage = child(child(baseline, "step", 4, drops=(1, 2), factor=0.5), "finetune", 5, lr=0.01)
    plain = json.loads(json.dumps(stage_to_dict(stage)))
    unsigned = {name: value for name, value in plain.items() if name != "stage_id"}
    path = f"stages/{stage.stage_id}/spec.json"
    put(ledger, path, seal(plain))
    assert ledger.read_spec(stage.stage_id).stage_id == stage.stage_id
    for number, data, _ in inputs(
        "specs", lambda rng: changed_json(rng.choice((plain, unsigned)), rng)
    ):
        put(ledger, path, forged(data))
        with refused_or_sound(number):
            found = ledger.read_spec(stage.stage_id)
            assert found.stage_id == stage.stage_id
            assert stage_to_dict(found) == stage_to_dict(stage)


def test_a_spec_that_would_take_long_to_hash(ledger: Ledger) -> None:
    """Many steps of a long description: every step's id hashes all of it."""
    stage = child(dense_stage(tiny(), 0), "finetune", 2)
    plain = json.loads(json.dumps(stage_to_dict(stage)))
    del plain["stage_id"]
    many = plain | {"steps": plain["steps"] * 4000}
    long = json.loads(json.dumps(plain))
    long["protocol"]["network_options"] = [[str(n), "x" * 900] for n in range(100)]
    long["steps"] *= 1000
    large = plain | {"seed": 10**4000}
    for content in (many, long, large, plain | {"padding": "x" * 2**21}):
        put(ledger, f"stages/{STAGE}/spec.json", forged(json.dumps(content).encode()))
        with refused_or_sound(len(content)), pytest.raises(ValueError):
            ledger.read_spec(STAGE)


def test_a_stage_in_another_ones_folder(ledger: Ledger) -> None:
    stage = dense_stage(tiny(), 0)
    put(ledger, f"stages/{STAGE}/spec.json", seal(stage_to_dict(stage)))
    with pytest.raises(ValueError, match=f"{STAGE}.*describes stage {stage.stage_id}"):
        ledger.read_spec(STAGE)


def test_rows(ledger: Ledger) -> None:
    plain = asdict(a_row())
    for number, data, _ in inputs("rows", lambda rng: changed_json(plain, rng)):
        put(ledger, f"stages/{STAGE}/rows/0006.json", forged(data))
        with refused_or_sound(number):
            assert_sound_row(ledger.read_row(STAGE, 6))


def assert_sound_row(row: ResultRow) -> None:
    assert (row.stage_id, row.train_epochs) == (STAGE, 6)
    for name, value in asdict(row).items():
        assert value is None or type(value) in (str, int, float, bool), name
        if isinstance(value, float):
            assert math.isfinite(value), name
        if isinstance(value, int):
            assert abs(float(value)) <= 1e300, name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 1.5),
        ("seed", True),
        ("seed", "0"),
        ("seed", 2**63),
        ("network", 3),
        ("network", None),
        ("network", "n" * 1001),
        ("test_accuracy", True),
        ("test_accuracy", "0.9"),
        ("train_seconds", None),
        ("train_seconds", 10**400),
        ("parent_id", ["a"]),
    ],
)
def test_a_row_with_a_value_of_another_type(ledger: Ledger, name: str, value: Any) -> None:
    put(
        ledger,
        f"stages/{STAGE}/rows/0006.json",
        seal(asdict(a_row()) | {name: value}),
    )
    with pytest.raises(ValueError, match=f"this is no result row: {name} is .*ResultRow's"):
        ledger.read_row(STAGE, 6)


def test_metrics_and_their_points(ledger: Ledger) -> None:
    tensors = bytes(range(256))
    ledger.write_point(STAGE, 4, tensors, {"epoch": 4, "lr": 0.1, "threads": 1})
    good = ledger.read_metrics(STAGE, 4)
    for number, data, rng in inputs("metrics", lambda rng: changed_json(good, rng)):
        put(ledger, f"stages/{STAGE}/epochs/0004.json", forged(data))
        with refused_or_sound(number):
            assert isinstance(ledger.read_metrics(STAGE, 4), dict)
        if rng.random() < 0.2:
            damaged = changed_bytes(tensors, rng)
            put(ledger, f"stages/{STAGE}/epochs/0004.safetensors", damaged)
        for read in (ledger.read_point, ledger.check_point):
            with refused_or_sound(number):
                assert read(STAGE, 4) in (tensors, None)
        put(ledger, f"stages/{STAGE}/epochs/0004.safetensors", tensors)


def test_sweeps(ledger: Ledger) -> None:
    record = {
        "sweep": "one",
        "command": ["python", "-m", "sweeps.quickstart"],
        "git_commit": None,
        "stages": {STAGE: [2, 6], "f" * 16: [182]},
    }
    for number, data, _ in inputs("sweeps", lambda rng: changed_json(record, rng)):
        put(ledger, "sweeps/one.json", forged(data))
        with refused_or_sound(number):
            for stage_id, asked in ledger.sweep_rows("one").items():
                assert len(stage_id) == 16 and int(stage_id, 16) >= 0
                assert all(0 <= epoch < 10**9 for epoch in asked)
        with refused_or_sound(number):
            collect(ledger, "referenced")


# Sizes and kinds of files


@pytest.mark.parametrize("path", ["rows/0006.json", "epochs/0006.json", "spec.json"])
def test_a_file_too_large_for_what_it_is(ledger: Ledger, path: str) -> None:
    """A terabyte, of which nothing is on the disk; it would fill the memory."""
    with put(ledger, f"stages/{STAGE}/{path}", b"{}").open("r+b") as file:
        file.truncate(2**40)
    with refused_or_sound(path), pytest.raises(ValueError, match="more than the 1,048,576"):
        read_all(ledger, STAGE)


def read_all(ledger: Ledger, stage_id: str) -> None:
    """Whatever is there."""
    with_files = {path.name for path in (Path(ledger.root) / "stages" / stage_id).iterdir()}
    if "rows" in with_files:
        ledger.read_row(stage_id, 6)
    if "epochs" in with_files:
        ledger.read_metrics(stage_id, 6)
    ledger.read_spec(stage_id)


def test_tensors_larger_than_their_json_says(ledger: Ledger) -> None:
    ledger.write_point(STAGE, 6, b"tensors", {})
    with put(ledger, f"stages/{STAGE}/epochs/0006.safetensors", b"").open("r+b") as file:
        file.truncate(2**40)
    with refused_or_sound("sparse"), pytest.raises(CorruptRewindPoint, match="more than the 7"):
        ledger.read_point(STAGE, 6)
    put(ledger, f"stages/{STAGE}/epochs/0006.json", json.dumps({"bytes": 2**41}).encode())
    with refused_or_sound("sparse"), pytest.raises(CorruptRewindPoint):
        ledger.read_point(STAGE, 6)


def test_pipes_and_devices_are_no_files(ledger: Ledger) -> None:
    """Opening a pipe would wait for ever, and /dev/zero never ends."""
    file = put(ledger, f"stages/{STAGE}/rows/0006.json", b"")
    file.unlink()
    os.mkfifo(file)
    with refused_or_sound("pipe"), pytest.raises(ValueError, match="is no file"):
        ledger.read_row(STAGE, 6)
    file.unlink()
    file.symlink_to("/dev/zero")
    with refused_or_sound("device"), pytest.raises(ValueError, match="is no file"):
        ledger.read_row(STAGE, 6)
    file.unlink()
    file.mkdir()
    with refused_or_sound("folder"), pytest.raises(ValueError, match="is no file"):
        ledger.read_row(STAGE, 6)


# Names and paths

ALPHABET = [
    *"0123456789abcdefABCDEFg",
    "/",
    "..",
    "../",
    "\\",
    "\x00",
    "\n",
    ".",
    "~",
    "%2f",
    "é",
    "٣",
]


def hostile_name(rng: random.Random) -> str:
    known = ("../outside/x", "../../outside", f"{STAGE}/../..", f"{STAGE}\n", STAGE.upper(), "")
    if rng.random() < 0.2:
        return rng.choice(known)
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(25)))


def test_ids_and_names_that_lead_elsewhere(ledger: Ledger) -> None:
    """Every way into a path refuses them, before anything is read, written or deleted."""
    stage_ways: list[Callable[[str], object]] = [
        ledger.read_spec,
        ledger.points,
        ledger.row_epochs,
        lambda name: ledger.read_row(name, 4),
        lambda name: ledger.read_metrics(name, 4),
        lambda name: ledger.read_point(name, 4),
        lambda name: ledger.write_point(name, 4, b"", {}),
        lambda name: ledger.write_metrics(name, 4, {}),
        lambda name: ledger.write_row(a_row(stage_id=name)),
        lambda name: ledger.drop_point(name, 4),
        ledger.drop_stage,
    ]
    sweep_ways: list[Callable[[str], object]] = [
        ledger.read_sweep,
        ledger.sweep_rows,
        lambda name: ledger.write_sweep(name, {}),
    ]
    for number in range(INPUTS["names"]):
        rng = random.Random(f"names {number}")
        name = hostile_name(rng)
        for way in stage_ways:
            if len(name) != 16 or not set(name) <= set("0123456789abcdef"):
                with pytest.raises((ValueError, CorruptRewindPoint)):
                    way(name)
        if "/" in name or "\\" in name or name.startswith("."):
            for way in sweep_ways:
                with pytest.raises(ValueError, match="is no sweep's name"):
                    way(name)


@pytest.mark.parametrize("epoch", [-1, 10**9, True, None, "4", "../../x", 4.0, math.nan])
def test_epochs_that_are_none(ledger: Ledger, epoch: Any) -> None:
    for way in (
        lambda: ledger.write_metrics(STAGE, epoch, {}),
        lambda: ledger.read_metrics(STAGE, epoch),
        lambda: ledger.drop_point(STAGE, epoch),
        lambda: ledger.read_row(STAGE, epoch),
    ):
        with pytest.raises(ValueError, match="is no number of epochs"):
            way()


def test_stray_names_are_nobodys(ledger: Ledger) -> None:
    """They are neither stages, nor rows, nor rewind points, and cost those beside them nothing."""
    ledger.write_row(a_row())
    ledger.write_point(STAGE, 6, b"tensors", {})
    for name in ("4", "00004", "+004", " 004", "-001", "٠٠٠٤", "1e3", "copy of 0006", "0" * 200):
        for folder, suffix in (("rows", "json"), ("epochs", "json"), ("epochs", "safetensors")):
            put(ledger, f"stages/{STAGE}/{folder}/{name}.{suffix}", b"{}")
    for name in ("x", "0123456789ABCDEF", "0123456789abcde", ".0123456789abcdef", "é" * 16):
        put(ledger, f"stages/{name}/rows/0006.json", b"{}")
    put(ledger, "stages/aaaaaaaaaaaaaaaa", b"a file")
    assert ledger.row_epochs(STAGE) == ledger.points(STAGE) == [6]
    assert ledger.stage_ids() == [STAGE, "aaaaaaaaaaaaaaaa"]
    assert ledger.row_epochs("aaaaaaaaaaaaaaaa") == []
    listed = ledger.listed()
    assert listed.row_epochs(STAGE) == listed.points(STAGE) == [6]


def test_housekeeping_stays_inside(ledger: Ledger, tmp_path: Path) -> None:
    """Links out of the storage are neither followed nor counted, and what they lead to stays."""
    outside = tmp_path / "outside"
    ledger.write_sweep("one", {"stages": {"f" * 16: [1]}})
    ledger.write_row(a_row())
    stage = Path(ledger.root) / "stages" / STAGE
    (stage / "epochs").symlink_to(outside)
    (stage.parent / ("a" * 16)).symlink_to(outside)
    (stage / "rows" / "0007.json").symlink_to(outside / "x")
    old = time.time() - 7200
    for path in stage.rglob("*"):
        os.utime(path, (old, old), follow_symlinks=False)
    assert not any(path.is_symlink() for path in snapshot_paths(ledger))
    found = delete_garbage(ledger, "referenced")
    assert [item.stage_id for item in found] == [STAGE]
    assert not stage.exists()
    assert sorted(path.name for path in outside.iterdir()) == sorted(snapshot(outside))


def snapshot_paths(ledger: Ledger) -> list[Path]:
    return [Path(ledger.root) / entry.file.path for entry in ledger.entries()]


def test_a_storage_full_of_rubbish(ledger: Ledger) -> None:
    """Listed, judged and verified to the end, and every bad file is found."""
    rng = random.Random("rubbish")
    bad = set()
    for number in range(60):
        stage_id = f"{rng.getrandbits(64):016x}"
        for path in ("spec.json", "rows/0004.json", "epochs/0004.json"):
            put(ledger, f"stages/{stage_id}/{path}", rng.randbytes(number))
            bad.add(f"stages/{stage_id}/{path}")
        put(ledger, f"stages/{stage_id}/epochs/0004.safetensors", rng.randbytes(number))
        bad.add(f"stages/{stage_id}/epochs/0004.safetensors")
    put(ledger, "sweeps/one.json", b"rubbish")
    records, damaged = read_records(ledger)
    assert records == {} and list(damaged) == ["one"]
    whole, _ = holdings(ledger.entries(), records)
    assert whole.stages == 60
    assert {item.path for item in verify(ledger, ledger.entries())} == bad | {"sweeps/one.json"}
    with pytest.raises(ValueError, match=r"can't tell what is needed: .*sweeps/one\.json"):
        delete_garbage(ledger, "all")

"""Exported files, loaded again, against the masked network put together here by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score
from torch import Tensor, nn

from rewind_ray.datasets import load, resolve
from rewind_ray.datasets.split import split_indices
from rewind_ray.export import command as export_module
from rewind_ray.export import formats, read_safetensors
from rewind_ray.export.command import image_facts, main, recalled_task
from rewind_ray.export.latency import compare
from rewind_ray.models import build_network
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Stage, dense_stage, stage_to_dict
from rewind_ray.store.checkpoint import RewindPoint
from rewind_ray.store.housekeeping import to_verify, verify
from rewind_ray.store.ledger import Ledger
from rewind_ray.tasks import load_task
from rewind_ray.tasks.image import ImageClassification
from tests.rewind_ray.tiny_stages import Lab, child, tiny

FILTERS: dict[str, Any] = {"structure": "filters", "fraction": 0.6, "keep_layers": True}
FIRST: dict[str, Any] = {"structure": "filters", "scope": "layer", "layers": "stages.*.conv1"}


def stages() -> dict[str, Stage]:
    dense = dense_stage(tiny(), 0)
    unstructured = child(child(dense, "lr_rewind", 2, 0.6), "weight_rewind", 2, 0.6)
    bf16 = child(dense_stage(tiny(precision="bf16"), 0), "lr_rewind", 2, 0.6)
    same = dense_stage(tiny(network_options={"same_padding": True}), 0)
    shrunk = child(dense, "lr_rewind", 2, shrink=True, **FIRST)
    return {
        "dense": dense,
        "unstructured": unstructured,
        "2:4": child(dense, "lr_rewind", 2, None, structure="2:4", layers="stages.*"),
        "bf16": bf16,
        "filters": child(dense, "lr_rewind", 2, **FILTERS),
        "filters, same padding": child(same, "lr_rewind", 2, **FILTERS),
        "filters of vgg": child(dense_stage(tiny(network="vgg8"), 0), "lr_rewind", 2, **FILTERS),
        "filters of wrn": child(
            dense_stage(tiny(network="wrn_10_1"), 0), "lr_rewind", 2, **FILTERS
        ),
        "filters, then weights": child(child(dense, "finetune", 2, **FILTERS), "lr_rewind", 2, 0.3),
        "shrunk": shrunk,
        "shrunk twice": child(shrunk, "weight_rewind", 2, shrink=True, **FIRST),
    }


STAGES = stages()
WITH_FILTERS = [name for name in STAGES if "filters" in name or "shrunk" in name]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("trained") / "storage")
    for stage in STAGES.values():
        lab.run_chain(stage)
    return lab


@pytest.fixture
def export(trained: Lab, tmp_path: Path) -> Callable[..., Path]:
    """The command, as typed; the file that it writes."""

    def exported(stage: Stage, format: str, *options: str) -> Path:
        path = tmp_path / f"exported.{format}"
        arguments = (stage.stage_id, "--storage", str(trained.storage), "--format", format)
        assert main((*arguments, "--out", str(path), *options)) == 0
        return path

    return exported


# the reference


def masked(lab: Lab, stage: Stage, epoch: int | None = None) -> nn.Module:
    """The dense network with the stage's weights, and zeros where something was removed."""
    point = lab.point(stage, epoch)
    protocol = stage.protocol
    network = build_network(protocol.network, 10, 1, dict(protocol.network_options))
    tensors = point.weights | point.buffers
    tensors |= {name: tensors[name] * kept for name, kept in point.mask.items()}
    network.load_state_dict({name: full_size(name, t, point) for name, t in tensors.items()})
    return network.eval()


def full_size(name: str, small: Tensor, point: RewindPoint) -> Tensor:
    """A tensor of a shrunk network where it was in the dense one, zeros around it."""
    if point.cut is None or name not in point.cut.sizes:
        return small
    places = [
        range(size) if kept is None else kept
        for size, kept in zip(point.cut.sizes[name], point.cut.kept[name], strict=True)
    ]
    full = torch.zeros(point.cut.sizes[name])
    full[np.ix_(*places)] = small
    return full


def raw_test_images(stage: Stage) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(N, H, W, C) uint8, and labels."""
    data = load("digits", None, None)
    chosen = split_indices(stage.protocol, len(data.train_images), len(data.test_images)).test
    return data.test_images[chosen].numpy(), data.test_labels[chosen].numpy()


# the files


def run_safetensors(path: Path) -> Callable[[Tensor], Tensor]:
    return read_safetensors(path)[0]


def run_pt2(path: Path) -> Callable[[Tensor], Tensor]:
    return torch.export.load(path).module()


def run_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


RUN = {"safetensors": run_safetensors, "pt2": run_pt2, "onnx": run_onnx}


@pytest.fixture(params=list(RUN))
def format(request: pytest.FixtureRequest) -> str:
    if request.param == "onnx":
        pytest.importorskip("onnxscript")
    return str(request.param)


def facts_in(path: Path) -> dict[str, Any]:
    """What the file says of itself."""
    if path.suffix == ".safetensors":
        text = read_metadata(path)
    elif path.suffix == ".pt2":
        extra = {"rewind_ray.json": ""}
        torch.export.load(path, extra_files=extra)
        text = extra["rewind_ray.json"]
    else:
        session = pytest.importorskip("onnxruntime").InferenceSession(path)
        text = session.get_modelmeta().custom_metadata_map["rewind_ray"]
    return dict(json.loads(text))


def read_metadata(path: Path) -> str:
    """By the layout of the format: 8 bytes of length, then a json."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return str(json.loads(content[8 : 8 + length])["__metadata__"]["rewind_ray"])


@pytest.mark.parametrize("name", list(STAGES))
@torch.no_grad()
def test_a_file_computes_what_the_masked_network_does(
    trained: Lab, export: Callable[..., Path], format: str, name: str
) -> None:
    stage = STAGES[name]
    network, loaded = masked(trained, stage), RUN[format](export(stage, format))
    for batch_size in (1, 3, 128):
        images = torch.randn(batch_size, 1, 8, 8)
        torch.testing.assert_close(loaded(images), network(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", WITH_FILTERS)
@torch.no_grad()
def test_so_does_a_shrunk_one(
    trained: Lab, export: Callable[..., Path], format: str, name: str
) -> None:
    stage = STAGES[name]
    path = export(stage, format, "--shrink")
    network, loaded = masked(trained, stage), RUN[format](path)
    for batch_size in (1, 3, 128):
        images = torch.randn(batch_size, 1, 8, 8)
        torch.testing.assert_close(loaded(images), network(images), rtol=1e-5, atol=1e-5)
    facts = facts_in(path)
    assert facts["shrunk"] is True
    assert facts["params_exported"] < facts["params_total"]
    assert facts["flops_exported"] < facts["flops_dense"]


@torch.no_grad()
def test_the_file_tells_all_that_is_needed_to_use_it(
    trained: Lab, export: Callable[..., Path], format: str
) -> None:
    """From raw pixels by what it says of its input, to the accuracy in the row."""
    stage = STAGES["unstructured"]
    path = export(stage, format)
    facts = facts_in(path)
    pixels, labels = raw_test_images(stage)
    given = facts["input"]
    standardised = (pixels.astype(np.float32) - given["mean"]) / given["std"]
    images = torch.from_numpy(standardised.astype(given["dtype"])).permute(0, 3, 1, 2)
    assert ["N", *images.shape[1:]] == given["shape"]
    logits = RUN[format](path)(images.contiguous())
    assert facts["output"]["shape"] == ["N", 10]
    named = [given["classes"][position] for position in logits.argmax(1)]
    found = accuracy_score([str(label) for label in labels], named)
    assert found == facts["test_accuracy"] == trained.row(stage).test_accuracy


@pytest.mark.parametrize("name", list(STAGES))
def test_what_is_known_is_what_the_row_says(
    trained: Lab, export: Callable[..., Path], name: str
) -> None:
    stage = STAGES[name]
    facts = json.loads(export(stage, "json").read_text())
    row = trained.row(stage)
    assert facts["row"] == json.loads(json.dumps(asdict(row)))
    assert facts["spec"] == json.loads(json.dumps(stage_to_dict(stage)))
    assert (facts["stage_id"], facts["epoch"]) == (stage.stage_id, row.train_epochs)
    for column in (
        *("density", "params_total", "params_prunable", "params_remaining"),
        *("flops_dense", "flops_remaining", "val_accuracy", "test_accuracy", "pruned_accuracy"),
    ):
        assert facts[column] == getattr(row, column), column
    before = trained.metrics(stage, 0)
    for metric in ("pruned_accuracy_recalibrated", "val_pruned_accuracy_recalibrated"):
        assert facts[metric] == before[metric]
    point = trained.point(stage)
    assert facts["params_exported"] == sum(w.numel() for w in point.weights.values())
    assert facts["shrunk"] == (point.cut is not None)


def test_shapes_of_a_shrunk_file(trained: Lab, export: Callable[..., Path]) -> None:
    """Half of the first convolution's filters, and of the second's inputs."""
    stage = child(STAGES["dense"], "lr_rewind", 2, **FIRST)
    trained.run(stage)
    masked_file = load_file(export(stage, "safetensors"))
    small = load_file(export(stage, "safetensors", "--shrink"))
    for block, width in enumerate((16, 32, 64)):
        names = [f"stages.{block}.0.{part}" for part in ("conv1.weight", "norm1.weight")]
        assert [len(masked_file[name]) for name in names] == [width, width]
        assert [len(small[name]) for name in names] == [width // 2, width // 2]
        assert small[f"stages.{block}.0.conv2.weight"].shape == (width, width // 2, 3, 3)
    trained_small = trained.point(STAGES["shrunk"]).weights
    assert {n: small[n].shape for n in trained_small} == {
        n: w.shape for n, w in trained_small.items()
    }


def test_zeros_are_applied(trained: Lab, export: Callable[..., Path]) -> None:
    stage = STAGES["unstructured"]
    tensors = load_file(export(stage, "safetensors"))
    mask = trained.point(stage).mask
    assert all(torch.count_nonzero(tensors[n][~kept]) == 0 for n, kept in mask.items())
    nonzero = sum(int(torch.count_nonzero(tensors[name])) for name in mask)
    assert nonzero == trained.row(stage).params_remaining


def test_a_json_lies_beside_the_file(export: Callable[..., Path], format: str) -> None:
    path = export(STAGES["unstructured"], format)
    beside = json.loads(Path(f"{path}.json").read_text())
    assert beside["file"] == path.name
    assert beside["bytes"] == path.stat().st_size
    assert beside["sha256"] == sha256(path.read_bytes()).hexdigest()
    inside = facts_in(path)
    assert {name: beside[name] for name in inside} == inside
    assert Path(f"{path}.md").exists()


def test_the_same_stage_gives_the_same_bytes(export: Callable[..., Path]) -> None:
    first = export(STAGES["shrunk"], "safetensors").read_bytes()
    assert export(STAGES["shrunk"], "safetensors").read_bytes() == first


@torch.no_grad()
def test_any_epoch_with_a_rewind_point_can_be_exported(
    trained: Lab, export: Callable[..., Path]
) -> None:
    stage, images = STAGES["dense"], torch.randn(3, 1, 8, 8)
    for epoch in (0, 4):
        path = export(stage, "safetensors", "--epoch", str(epoch))
        network, facts = read_safetensors(path)
        expected = masked(trained, stage, epoch)(images)
        torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)
        assert (facts["epoch"], facts["row"]) == (epoch, None)
        assert facts["test_accuracy"] == trained.metrics(stage, epoch)["test_accuracy"]


def test_the_longest_finished_row_is_the_default(trained: Lab, lab: Lab, tmp_path: Path) -> None:
    stage = child(STAGES["dense"], "finetune", 2)
    lab.run(stage.baseline)
    lab.run(stage, rows=(1, 3))
    out = tmp_path / "facts.json"
    arguments = (stage.stage_id, "--storage", str(lab.storage), "--format", "json")
    assert main((*arguments, "--out", str(out))) == 0
    assert json.loads(out.read_text())["epoch"] == 3


def test_without_out_it_is_named_after_stage_and_epoch(
    trained: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stage = STAGES["filters"]
    for options in ((), ("--shrink",)):
        assert main((stage.stage_id, "--storage", str(trained.storage), *options)) == 0
    name = f"{stage.stage_id}-0002"
    expected = {f"{name}{shrunk}.safetensors" for shrunk in ("", "-shrunk")}
    assert {path.name for path in tmp_path.glob("*.safetensors")} == expected


def test_latency_is_measured_against_the_dense_network(
    export: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "compare", partial(compare, rounds=3, round_seconds=0.01))
    path = export(STAGES["shrunk"], "pt2", "--latency", "--device", "cpu")
    facts = json.loads(Path(f"{path}.json").read_text())
    measured = facts["latency"]
    assert (measured["device"], measured["threads"]) == ("cpu", torch.get_num_threads())
    assert [one["batch_size"] for one in measured["batches"]] == [1, 128]
    for one in measured["batches"]:
        assert one["dense_ms"] > 0 and one["exported_ms"] > 0
        assert one["lowest_ratio"] <= one["ratio"] <= one["highest_ratio"]
    assert "latency" not in facts_in(path)  # another measurement, the same file


# the command


def test_only_json_is_on_stdout(trained: Lab, tmp_path: Path) -> None:
    """As typed, and by the start of an id."""
    stage_id = STAGES["dense"].stage_id
    arguments = (stage_id[:9], "--storage", str(trained.storage), "--format", "json")
    done = subprocess.run(
        [sys.executable, "-m", "rewind_ray.export", *arguments],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stage_id"] == stage_id
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dense", ("--epoch", "99"), "no rewind point at epoch 99; there are some at: 0, 1, 2, 3"),
        ("unstructured", ("--epoch", "1"), "some at: 2"),
        ("dense", ("--shrink",), "is dense; leave --shrink out"),
        ("unstructured", ("--shrink",), "pruned unstructured; leave --shrink out"),
        ("2:4", ("--shrink",), "pruned 2:4"),
        ("dense", ("--format", "torchscript"), "pt2"),
        ("dense", ("--format", "pt2", "--out", "x.onnx"), "ends in .pt2"),
        ("dense", ("--latency", "--device", "abacus"), "allowed: auto, cpu, cuda"),
    ],
)
def test_wrong_usage_is_told_with_the_way_out(
    trained: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert code_of(STAGES[name].stage_id, "--storage", str(trained.storage), *options) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def code_of(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as exited:  # tyro's own
        return int(exited.code or 0)


def test_an_unknown_stage_is_answered_with_near_ones(
    trained: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage_id = STAGES["dense"].stage_id
    typo = stage_id[:6] + ("0" if stage_id[6] != "0" else "1") + stage_id[7:]
    storage = ("--storage", str(trained.storage))
    assert main((typo, *storage)) == 2
    assert f"no stage '{typo}'" in (err := capsys.readouterr().err)
    assert f"nearest: {stage_id}" in err
    assert main(("", *storage)) == 2
    assert f"{len(trained.ledger.stage_ids())} stages start with ''" in capsys.readouterr().err
    assert main((stage_id, "--storage", str(tmp_path / "nothing"))) == 2
    assert "there are no stages in" in capsys.readouterr().err


def test_onnx_without_its_packages_names_them(
    trained: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    arguments = (STAGES["dense"].stage_id, "--storage", str(trained.storage))
    assert main((*arguments, "--format", "onnx")) == 2
    assert "pip install onnx onnxscript" in capsys.readouterr().err


def test_an_unfinished_stage_needs_an_epoch(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = dense_stage(tiny(), 0)
    lab.run(stage, rows=(), rewinds=(1, 2))
    arguments = (stage.stage_id, "--storage", str(lab.storage))
    assert main(arguments) == 2
    assert "no finished row" in (err := capsys.readouterr().err) and "0, 1, 2" in err
    assert main((*arguments, "--epoch", "2", "--out", str(tmp_path / "x.safetensors"))) == 0


def test_a_diverged_stage_has_nothing_to_export(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = dense_stage(tiny(schedule=Schedule(lr=1e20)), 0)
    lab.run(stage)
    assert lab.row(stage).status == "diverged"
    assert main((stage.stage_id, "--storage", str(lab.storage))) == 2
    assert "no rewind point at epoch 6; there are some at: 0" in capsys.readouterr().err


def test_what_is_damaged_is_a_failure(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = dense_stage(tiny(), 0)
    lab.run(stage)
    out = tmp_path / "x.safetensors"
    arguments = (stage.stage_id, "--storage", str(lab.storage), "--out", str(out))
    weights, spec = lab.file(stage, 6), lab.file(stage, 6).parents[1] / "spec.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert main(arguments) == 1
    assert "not those written" in capsys.readouterr().err
    weights.write_bytes(whole)
    text = spec.read_text()
    spec.write_text(text.replace('"seed": 0', '"seed": 1'))
    assert main(arguments) == 1
    assert "edited" in capsys.readouterr().err
    assert not out.exists()
    spec.write_text(text)
    assert main(arguments) == 0


def test_a_file_that_can_t_be_written_is_a_failure(
    trained: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    arguments = (STAGES["dense"].stage_id, "--storage", str(trained.storage))
    assert main((*arguments, "--out", str(tmp_path / "file" / "x.safetensors"))) == 1
    assert "error: " in capsys.readouterr().err


def test_reading_a_foreign_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match=r"not written by rewind_ray\.export"):
        read_safetensors(tmp_path / "foreign.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "foreign.safetensors").read_bytes()[:-1])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        read_safetensors(tmp_path / "cut.safetensors")


# folders of images


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """cat and dog, 8x8, 12 each to train on and 6 to test with."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for part, count in (("train", 12), ("test", 6)):
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


def test_a_folder_s_stage(
    lab: Lab,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset, data, digest, size = resolve(f"folder:{photos}", None, None)
    protocol = tiny(
        dataset=dataset,
        data_digest=digest,
        image_size=size,
        batch_size=8,
        train_examples=None,
        test_examples=None,
    )
    stage = dense_stage(protocol, 0, train_epochs=1)
    lab.run(stage, data=data)
    out = tmp_path / "x.safetensors"
    arguments = (stage.stage_id, "--storage", str(lab.storage), "--out", str(out))
    assert main(arguments) == 0
    given = facts_in(out)["input"]
    train = np.stack([np.asarray(Image.open(p)) for p in photos.glob("train/*/*.png")])
    np.testing.assert_allclose(given["mean"], train.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(given["std"], train.std((0, 1, 2)), rtol=1e-5)
    assert given["classes"] == ["cat", "dog"]
    assert (given["shape"], given["channels"]) == (["N", 3, 8, 8], "RGB")
    assert "shorter side to 8 pixels" in given["resized"]
    _, _, streamed_digest, _ = resolve(f"folder:{photos}", None, size, augmentation="imagenet_tf")
    as_tensorflow = replace(
        protocol,
        data_digest=streamed_digest,
        augmentation="imagenet_tf",
        standardisation="imagenet",
    )
    by_constants = image_facts(ImageClassification(as_tensorflow, data, torch.device("cpu")))
    np.testing.assert_allclose(by_constants["mean"], [123.675, 116.28, 103.53], rtol=1e-6)
    np.testing.assert_allclose(by_constants["std"], [58.395, 57.12, 57.375], rtol=1e-6)
    assert "8/40 of the shorter side" in by_constants["resized"]
    shutil.rmtree(photos)
    load_task.cache_clear()
    before = out.read_bytes()
    assert main((*arguments, "--data", str(photos))) == 0
    assert out.read_bytes() == before
    # what the last stage of a chain has lost, another one has
    small = child(stage, "finetune", 1)
    (lab.storage / "stages" / small.stage_id).mkdir()
    lab.ledger.write_spec(small)
    found = recalled_task(lab.ledger, small, None, trust=False)
    assert image_facts(found) == given  # type: ignore[arg-type]
    # fp16 goes without its accuracy, int8 can't
    assert main((*arguments, "--dtype", "fp16")) == 0
    assert "isn't measured without the data" in caplog.text
    assert json.loads(Path(f"{out}.json").read_text())["test_accuracy_exported"] is None
    assert "wasn't measured" in Path(f"{out}.md").read_text()
    onnx = (*arguments[:-1], str(tmp_path / "x.onnx"), "--format", "onnx")
    if find_spec("onnxruntime"):
        assert main((*onnx, "--dtype", "int8")) == 2
        assert "--dtype int8 measures on training data" in capsys.readouterr().err
    # with what is kept damaged, the data set itself is asked for
    file = lab.storage / "stages" / stage.stage_id / "data.json"
    file.write_text(file.read_text().replace("cat", "cut"))
    assert [d.kind for d in verify(lab.ledger, to_verify(lab.ledger.entries()))] == ["data"]
    assert main(arguments) == 2
    assert "--data DIR" in capsys.readouterr().err and "is damaged" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"info": {"num_classes": 10**9}},
        {"info": {"image_size": 0}},
        {"info": {"channels": "1"}},
        {"info": None},
        {"classes": ["0"]},
        {"classes": [1] * 10},
        {"mean": [1]},
        {"std": None},
    ],
)
def test_forged_facts_of_data_are_not_used(
    trained: Lab, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    """The data set is read instead."""
    stage = STAGES["dense"]
    kept = trained.ledger.read_data(stage.stage_id)
    for name, value in change.items():
        both = isinstance(value, dict) and isinstance(kept[name], dict)
        kept[name] = kept[name] | value if both else value

    class Forged(Ledger):
        def read_data(self, stage_id: str) -> dict[str, Any]:
            return kept

    task = recalled_task(Forged(str(trained.storage)), stage, None, trust=False)
    assert "is damaged" in caplog.text
    assert isinstance(task, ImageClassification) and task.classes == tuple("0123456789")


def test_images_standardised_by_themselves_need_no_moments(lab: Lab, tmp_path: Path) -> None:
    stage = dense_stage(tiny(standardisation="image"), 0, train_epochs=0)
    lab.run(stage)
    out = tmp_path / "x.json"
    arguments = (stage.stage_id, "--storage", str(lab.storage), "--format", "json")
    assert main((*arguments, "--out", str(out))) == 0
    given = json.loads(out.read_text())["input"]
    assert (given["mean"], given["std"]) == (None, None)
    assert "of each image" in given["standardised"]

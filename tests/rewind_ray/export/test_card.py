"""Model cards: their code runs without this project, and their numbers are the stage's."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from rewind_ray.export import command as export_module
from rewind_ray.export.card import accuracy_notes, made, model_card
from rewind_ray.export.command import main
from rewind_ray.export.formats import halved, own_tensors
from rewind_ray.models import build_network
from rewind_ray.spec import Stage, dense_stage
from rewind_ray.store.checkpoint import load_network_
from rewind_ray.tasks import load_task
from tests.rewind_ray.export.loading import run_cards
from tests.rewind_ray.tiny_stages import Lab, child, tiny

DENSE = dense_stage(tiny(), 0)
STAGES = {
    "weights": child(DENSE, "lr_rewind", 2, 0.6),
    "filters": child(
        dense_stage(tiny(network_options={"same_padding": True}), 0),
        *("lr_rewind", 2, 0.6),
        structure="filters",
        keep_layers=True,
    ),
    "by image": child(dense_stage(tiny(standardisation="image"), 0), "lr_rewind", 2, 0.6),
}
AT_HAND = ["safetensors", "pt2", "state_dict", *(["onnx"] if find_spec("onnxruntime") else [])]
SUFFIX = {"safetensors": "safetensors", "pt2": "pt2", "onnx": "onnx", "state_dict": "pt"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("trained") / "storage")
    for stage in STAGES.values():
        lab.run_chain(stage)
    return lab


@pytest.fixture
def export(trained: Lab, tmp_path: Path) -> Callable[..., Path]:
    def exported(stage: Stage, format: str, *options: str) -> Path:
        path = tmp_path / f"small.{SUFFIX[format]}"
        arguments = (stage.stage_id, "--storage", str(trained.storage), "--format", format)
        assert main((*arguments, "--out", str(path), *options)) == 0
        return path

    return exported


def masked(lab: Lab, stage: Stage) -> nn.Module:
    point, protocol = lab.point(stage), stage.protocol
    network = build_network(protocol.network, 10, 1, dict(protocol.network_options))
    load_network_(network, point)
    for name, kept in point.mask.items():
        assert torch.equal(point.weights[name], point.weights[name] * kept)
    return network.eval()


def pixels_and_images(stage: Stage) -> tuple[Tensor, Tensor]:
    """Raw test images (N, H, W, C), and as the stage itself saw them."""
    task = load_task(stage.protocol, None, torch.device("cpu"))
    (images, _), *_ = task.batches("test", 0, 0)
    data: Any = task
    if stage.protocol.standardisation == "image":
        raw = torch.randint(256, (7, 8, 8, 1))
        values = raw.double().numpy()
        mean = values.mean((1, 2, 3), keepdims=True)
        std = np.maximum(values.std((1, 2, 3), keepdims=True), 1 / 8)
        return raw, torch.tensor((values - mean) / std).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(each) for each in data.pixel_moments)
    raw = images.permute(0, 2, 3, 1) * std + mean
    assert torch.allclose(raw, raw.round(), atol=1e-3)
    return raw.round().long(), images


@pytest.mark.parametrize("name", STAGES)
@torch.no_grad()
def test_its_code_computes_what_the_masked_network_does(
    trained: Lab, export: Callable[..., Path], name: str
) -> None:
    stage = STAGES[name]
    pixels, images = pixels_and_images(stage)
    expected = masked(trained, stage)(images)
    formats = AT_HAND if name == "weights" else ["safetensors"]
    for found in run_cards([export(stage, format) for format in formats], pixels):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_so_does_that_of_a_shrunk_network(trained: Lab, export: Callable[..., Path]) -> None:
    stage = STAGES["filters"]
    pixels, images = pixels_and_images(stage)
    files = [export(stage, format, "--shrink") for format in ("safetensors", "pt2")]
    files.append(export(stage, "state_dict", "--shrink", "--masks"))
    for found in run_cards(files, pixels):
        torch.testing.assert_close(found, masked(trained, stage)(images), rtol=1e-5, atol=1e-5)


def test_its_numbers_are_the_stage_s(
    trained: Lab, export: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = STAGES["filters"]
    file = export(stage, "state_dict", "--shrink")
    card, row = Path(f"{file}.md").read_text(), trained.row(stage)
    tensors = torch.load(file, weights_only=True)
    weights = sum(t.numel() for n, t in tensors.items() if "running" not in n and "num_b" not in n)
    assert row.test_accuracy is not None and row.baseline_test_accuracy is not None
    for number in (
        f"{row.params_total:,} | {weights:,}",
        f"{row.params_prunable:,} | {row.params_remaining:,}",
        f"{100 * row.test_accuracy:.2f}%",
        f"{100 * row.baseline_test_accuracy:.2f}%",
        f"{file.stat().st_size:,}",
        stage.stage_id,
        "Pruned 60% of the rest, filters by magnitude; retrained 2 epochs, lr_rewind.",
    ):
        assert number in card, number
    assert "## Latency" not in card
    head = yaml.safe_load(card.split("---")[1])
    assert head["datasets"] == ["digits"] and head["metrics"] == ["accuracy"]


@pytest.mark.parametrize(("part", "share", "said"), [("test", 0.2, True), ("none", 0.0, False)])
def test_that_a_share_of_the_test_part_validates_is_said(
    part: str, share: float, said: bool
) -> None:
    protocol = {"validation": part, "validation_fraction": share}
    notes = accuracy_notes({"dtype": "fp32", "spec": {"protocol": protocol}})
    assert ("0.8" in " ".join(notes)) == said


def test_steps_alike_are_one_line() -> None:
    prune = {"fraction": 0.2, "structure": "unstructured", "criterion": "magnitude"}
    first = {"prune": prune, "retrain": {"epochs": 2, "method": "finetune"}}
    then = {"prune": prune, "retrain": {"epochs": 2, "method": "lr_rewind"}}
    protocol = {"init": "0123abcd"}
    facts = {
        **{"spec": {"protocol": protocol, "seed": 0, "steps": [first, then, then, then]}},
        **{"shrunk": False, "stage_id": "4f0c", "epoch": 2},
    }
    how = "Pruned 20% of the rest, unstructured by magnitude; retrained 2 epochs"
    assert made(facts)[1:3] == [f"2. {how}, finetune.", f"3. {how}, lr_rewind, 3 times over."]


def test_a_measured_latency_is_in_it(export: Callable[..., Path]) -> None:
    file = export(STAGES["filters"], "pt2", "--shrink", "--latency", "--device", "cpu")
    measured = json.loads(Path(f"{file}.json").read_text())["latency"]
    for one in measured["batches"]:
        assert (
            f"| {one['dense_ms']:.3f} | {one['exported_ms']:.3f} |"
            in Path(f"{file}.md").read_text()
        )


def test_names_of_others_are_shown_as_text(export: Callable[..., Path]) -> None:
    file = export(STAGES["weights"], "pt2")
    facts = json.loads(Path(f"{file}.json").read_text())
    hostile = "x\n---\n```\n<script>| \x1b[2J"
    facts["input"]["classes"][0] = hostile
    facts["spec"]["protocol"]["dataset"] = hostile
    card = model_card(facts)
    head, body = card.removeprefix("---\n").split("\n---\n")
    assert yaml.safe_load(head)["datasets"] == [hostile]
    assert "\x1b" not in card and card.count("\n```") == 2
    prose, _, code = body.partition("```python")
    assert "\\<script" in prose and "<script" not in prose.replace("\\<script", "")
    assert repr(hostile) in code


# Smaller numbers


@torch.no_grad()
def test_fp16_takes_half_the_bytes_and_says_its_accuracy(
    trained: Lab, export: Callable[..., Path]
) -> None:
    stage = STAGES["weights"]
    whole = {format: export(stage, format).stat().st_size for format in AT_HAND}
    files = {format: export(stage, format, "--dtype", "fp16") for format in AT_HAND}
    pixels, images = pixels_and_images(stage)
    exact = masked(trained, stage)(images)
    labels = torch.cat([labels for _, labels in labelled(stage)])
    for (format, file), found in zip(
        files.items(), run_cards([*files.values()], pixels), strict=True
    ):
        facts = json.loads(Path(f"{file}.json").read_text())
        assert whole[format] - file.stat().st_size > 1.8 * facts["params_exported"]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, exact, rtol=2e-2, atol=2e-2)
        assert not torch.allclose(found, exact, rtol=1e-6, atol=1e-6)
        accuracy = float((found.argmax(1) == labels).float().mean())
        assert facts["test_accuracy_exported"] == pytest.approx(accuracy)
        assert f"| this file, fp16 | {100 * accuracy:.2f}% |" in Path(f"{file}.md").read_text()


def labelled(stage: Stage) -> list[tuple[Tensor, Tensor]]:
    return list(load_task(stage.protocol, None, torch.device("cpu")).batches("test", 0, 0))


@pytest.mark.parametrize("name", ["weights", "filters"])
@torch.no_grad()
def test_int8_keeps_zeros_and_says_its_accuracy(
    trained: Lab, export: Callable[..., Path], name: str
) -> None:
    onnx, onnxruntime = map(pytest.importorskip, ("onnx", "onnxruntime"))
    stage = STAGES[name]
    file = export(stage, "onnx", "--dtype", "int8")
    assert Path(f"{file}.json").exists()
    model = onnx.load(file)
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    ]
    point = trained.point(stage)
    kept = {m.shape: 0 for m in point.mask.values()}
    for mask in point.mask.values():
        kept[mask.shape] += int(mask.sum())
    shapes: dict[Any, int] = dict.fromkeys(kept, 0)
    for weight in weights:  # a linear layer's may be transposed
        shape = torch.Size(weight.shape)
        shapes[shape if shape in kept else torch.Size(weight.shape[::-1])] += np.count_nonzero(
            weight
        )
    assert all(0 < shapes[shape] <= number for shape, number in kept.items())
    pixels, images = pixels_and_images(stage)
    (found,), exact = run_cards([file], pixels), masked(trained, stage)(images)
    assert torch.corrcoef(torch.stack([found.flatten(), exact.flatten()]))[0, 1] > 0.98
    labels = torch.cat([labels for _, labels in labelled(stage)])
    facts = json.loads(Path(f"{file}.json").read_text())
    accuracy = float((found.argmax(1) == labels).float().mean())
    assert facts["test_accuracy_exported"] == pytest.approx(accuracy)
    session = onnxruntime.InferenceSession(file)
    inside = json.loads(session.get_modelmeta().custom_metadata_map["rewind_ray"])
    assert (inside["dtype"], inside["stage_id"]) == ("int8", stage.stage_id)


def test_what_fp16_can_t_hold_is_named() -> None:
    with pytest.raises(ValueError, match=r"big has values up to 70000, and fp16 ends at 65504"):
        halved({"small": torch.ones(2), "big": torch.tensor([7e4])})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "pt2", "--dtype", "int8"), "allowed with it: --format onnx"),
        (("--format", "json", "--dtype", "fp16"), "--dtype fp16 with --format json"),
        (("--format", "onnx", "--masks"), "only --format state_dict has masks"),
        (("--format", "state_dict", "--out", "x.state_dict"), "ends in .pt"),
        (("--format", "pt2", "--dtype", "fp16", "--latency"), "leave one out"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(
    trained: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export_module, "load_export", None)
    stage_id = STAGES["weights"].stage_id
    assert main((stage_id, "--storage", str(trained.storage), *options)) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dense_network_has_no_masks(
    trained: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (DENSE.stage_id, "--storage", str(trained.storage), "--format", "state_dict")
    assert main((*arguments, "--masks", "--out", str(tmp_path / "x.pt"))) == 2
    assert "is dense and has none" in capsys.readouterr().err


# state_dict


def test_it_goes_on_training_by_torch_s_own_pruning(
    trained: Lab, export: Callable[..., Path]
) -> None:
    """As a user of torch.nn.utils.prune: the parametrised network takes the file as it is, and its
    pruned weights stay zero in training."""
    stage = STAGES["weights"]
    state = torch.load(export(stage, "state_dict", "--masks"), weights_only=True)
    point = trained.point(stage)
    network = build_network("digits_resnet", 10, 1, {})
    for name in point.mask:
        path, _, parameter = name.rpartition(".")
        torch_prune.identity(network.get_submodule(path), parameter)
    assert state.keys() == network.state_dict().keys()
    network.load_state_dict(state)
    for name, kept in point.mask.items():
        assert torch.equal(state[f"{name}_mask"], kept.float())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    (images, labels), *_ = labelled(stage)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, kept in point.mask.items():
        path, _, parameter = name.rpartition(".")
        module = network.get_submodule(path)
        torch_prune.remove(module, parameter)
        weight = module.get_parameter(parameter)
        assert not weight[~kept].any() and not torch.equal(weight, point.weights[name])


def test_a_shrunk_network_s_source_trains_on(trained: Lab, export: Callable[..., Path]) -> None:
    """Its BatchNorm learns too, and its state_dict goes on fitting."""
    import runpy

    stage = STAGES["filters"]
    file = export(stage, "safetensors", "--shrink")
    state = load_file(file)
    network = runpy.run_path(f"{file}.py")["Network"]()
    network.load_state_dict(state)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    (images, labels), *_ = labelled(stage)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network.train()(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    trained_on = own_tensors(network)
    assert {n: t.shape for n, t in trained_on.items()} == {n: t.shape for n, t in state.items()}
    assert not torch.equal(trained_on["norm.running_mean"], state["norm.running_mean"])

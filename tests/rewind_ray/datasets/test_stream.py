"""Images read from files in every epoch, against views made one by one here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from rewind_ray.datasets import DATASETS, describe, load, resolve, stream
from rewind_ray.datasets.batches import plan_epoch
from rewind_ray.datasets.catalog import list_streamed
from rewind_ray.datasets.class_folders import list_folder
from rewind_ray.datasets.stream import (
    StreamSet,
    crop_seed,
    epoch_batches,
    evaluation_batches,
    prepare,
)
from rewind_ray.datasets.tensorflow_view import tensorflow_view
from rewind_ray.protocols import digits, renda_imagenet
from rewind_ray.pruning import dense_mask, prunable_parameters, pruned_mask
from rewind_ray.schedule import Schedule
from rewind_ray.spec import Protocol, Prune
from rewind_ray.tasks import load_task
from rewind_ray.tasks.image import ImageClassification, classification_loss
from rewind_ray.training.epoch import train_epoch
from rewind_ray.training.optimizers import make_optimizer

SIDE = 16
Make = Callable[..., StreamSet]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """JPEG photos of many shapes in ImageNet's layout: 5 a class to train on, 4 to test with."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for part, count in (("train", 5), ("val", 4)):
        for label in ("n01", "n02"):
            (folder / part / label).mkdir(parents=True)
            for number in range(count):
                coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
                size = (int(rng.integers(20, 50)), int(rng.integers(20, 50)))
                image = Image.fromarray(coarse).resize(size)
                image.save(folder / part / label / f"{number}.JPEG", quality=95)
    return folder


def protocol_of(photos: Path, **changes: Any) -> Protocol:
    dataset, _, digest, size = resolve(f"folder:{photos}", None, SIDE, augmentation="imagenet")
    settings: dict[str, Any] = {
        "network": "resnet8",
        "dataset": dataset,
        "data_digest": digest,
        "image_size": size,
        "batch_size": 4,
        "epochs": 2,
        "schedule": Schedule(lr=0.05),
        "validation_fraction": 0.25,
        "augmentation": "imagenet",
        "standardisation": "dataset",
        "precision": "fp32",
    }
    return renda_imagenet(**settings | changes)


@pytest.fixture
def make(photos: Path) -> Make:
    def made(num_workers: int | None = 0, **changes: Any) -> StreamSet:
        protocol = protocol_of(photos, **changes)
        listing = list_folder(photos)
        return prepare(protocol, listing, SIDE, torch.device("cpu"), num_workers)

    return made


def together(batches: Any) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def files_of(photos: Path, part: str) -> list[Path]:
    return sorted(photos.glob(f"{part}/*/*"))


def centre(path: Path) -> np.ndarray:
    """Shorter side 18 = round(16 * 256 / 224), then the middle 16 pixels."""
    with Image.open(path) as image:
        width, height = image.size
        size = tuple(int(18 * side / min(width, height)) for side in (width, height))
        resized = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
    top, left = round((size[1] - SIDE) / 2), round((size[0] - SIDE) / 2)
    return resized[top : top + SIDE, left : left + SIDE]


def test_an_epoch_is_what_torchvision_makes_of_the_planned_images(make: Make, photos: Path) -> None:
    data = make(standardisation="image")
    assert data.steps_per_epoch == 2  # of 10 images, 4 a batch
    torch.manual_seed(1)
    before = torch.get_rng_state()
    images, labels = together(epoch_batches(data, seed=5, epoch=3))
    assert torch.equal(torch.get_rng_state(), before)

    order = plan_epoch(5, 3, 10, 4, 2, 1, whole_pass=True).order.tolist()
    files = files_of(photos, "train")
    augment = v2.Compose([v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip()])
    for place, image in enumerate(order):
        torch.manual_seed(crop_seed(5, 3, place))
        shown = np.asarray(augment(Image.open(files[image]).convert("RGB"))).astype(float)
        expected = (shown - shown.mean()) / shown.std()
        np.testing.assert_allclose(images[place], expected.transpose(2, 0, 1), atol=1e-4)
    assert labels.tolist() == [image // 5 for image in order]
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_epochs_of_updates_follow_each_other_through_the_passes(make: Make) -> None:
    """Epochs of 3 updates of 4 images, out of 10: five of them are six passes."""
    data = make(0, steps_per_epoch=3)
    labels = torch.cat([together(epoch_batches(data, 5, epoch))[1] for epoch in range(5)])
    assert len(labels) == 60
    for one_pass in labels.view(6, 10):
        assert one_pass.sum() == 5  # five of either class: every image once
    plans = [plan_epoch(5, epoch, 10, 4, 3, 1, whole_pass=False).order for epoch in range(5)]
    assert torch.equal(labels, torch.cat(plans) // 5)


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "CHUNK_IMAGES", 3)  # not a divisor of the batch
    changes = {"batch_size": 5, "steps_per_epoch": 5}
    alone = make(0, **changes)
    expected = [together(epoch_batches(alone, 0, epoch)) for epoch in (0, 1)]
    expected += [together(evaluation_batches(alone, "test", 4))]
    assert not torch.equal(expected[0][0], expected[1][0])
    for num_workers in (1, 2):
        data = make(num_workers, **changes)
        abandoned = epoch_batches(data, 9, 9)
        next(abandoned)
        found = [together(epoch_batches(data, 0, epoch)) for epoch in (0, 1)]
        found += [together(evaluation_batches(data, "test", 4))]
        for (images, labels), (same_images, same_labels) in zip(found, expected, strict=True):
            assert torch.equal(images, same_images)
            assert torch.equal(labels, same_labels)
        with pytest.raises(RuntimeError, match="another pass"):
            next(abandoned)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_yields_the_same_batches(photos: Path) -> None:
    protocol, listing = protocol_of(photos), list_folder(photos)
    on_cpu = prepare(protocol, listing, SIDE, torch.device("cpu"), 0)
    on_gpu = prepare(protocol, listing, SIDE, torch.device("cuda"), 2)
    for epoch in (0, 1):
        here, labels = together(epoch_batches(on_cpu, 1, epoch))
        there, same_labels = together(epoch_batches(on_gpu, 1, epoch))
        torch.testing.assert_close(there.cpu(), here)
        assert torch.equal(same_labels.cpu(), labels)


def test_an_image_is_augmented_anew_at_every_place() -> None:
    seeds = {
        crop_seed(seed, epoch, place)
        for seed in range(10)
        for epoch in range(10)
        for place in range(10)
    }
    assert len(seeds) == 1000
    assert max(seeds) < 2**63
    assert crop_seed(0, 0, 0) == 0x77FC9ECA83A0C9  # golden: a resumed run must see the same crops


def test_evaluation_shows_the_centres_standardised_as_the_training_set(
    make: Make, photos: Path
) -> None:
    data = make()
    train = np.stack([centre(path) for path in files_of(photos, "train")]).astype(float)
    np.testing.assert_allclose(data.mean.flatten(), train.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(1 / data.inv_std.flatten(), train.std((0, 1, 2)), rtol=1e-5)

    images, labels = together(evaluation_batches(data, "train", batch_size=3))
    expected = ((train - train.mean((0, 1, 2))) / train.std((0, 1, 2))).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(images, expected, atol=1e-4)
    assert labels.tolist() == [0] * 5 + [1] * 5

    assert data.val is not None
    both = sorted([*data.val.paths, *data.test.paths])
    assert both == [str(path.relative_to(photos)) for path in files_of(photos, "val")]
    assert (len(data.val), len(data.test)) == (2, 6)
    with pytest.raises(ValueError, match="no part 'dev' in this data; it has: train, val, test"):
        next(evaluation_batches(data, "dev"))


def test_mean_and_deviation_are_measured_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make()
    assert "measuring 10 images" in capsys.readouterr().err
    with monkeypatch.context() as context:
        context.setattr(stream, "_count_values", None)
        assert torch.equal(make().mean, first.mean)
    monkeypatch.setattr(stream, "STATISTICS_IMAGES", 4)
    assert not torch.equal(make().mean, first.mean)
    assert "measuring 4 images" in capsys.readouterr().err


def test_an_unreadable_image_is_named(make: Make, photos: Path) -> None:
    broken = photos / "val/n02/1.JPEG"
    broken.write_bytes(b"no image")
    for num_workers in (0, 1):
        data = make(num_workers)
        with pytest.raises(ValueError, match=f"can't read the image {broken}"):
            list(evaluation_batches(data, "test"))
            list(evaluation_batches(data, "val"))


def test_the_digest_is_over_paths_and_sizes(make: Make, photos: Path) -> None:
    name, data, digest, size = resolve(f"folder:{photos}", None, None, augmentation="imagenet")
    assert (name, data, size) == ("folder:photos", str(photos), 224)
    path = photos / "train/n01/0.JPEG"
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes(2))
    assert resolve(f"folder:{photos}", None, None, augmentation="imagenet")[2] == digest
    assert resolve(f"folder:{photos}", None, 8)[2] != digest
    path.write_bytes(content + b" ")
    assert resolve(f"folder:{photos}", None, None, augmentation="imagenet")[2] != digest
    with pytest.raises(ValueError, match="the folder was changed"):
        make(data_digest=digest)


def test_a_task_streams_where_the_augmentation_says_so(photos: Path) -> None:
    torch.set_num_threads(1)
    protocol = protocol_of(photos)
    task = load_task(protocol, str(photos), torch.device("cpu"))
    assert isinstance(task, ImageClassification)
    assert isinstance(task.images, StreamSet)
    assert task.steps_per_epoch == 2
    assert [part.shape for part in task.example()] == [(1, 3, SIDE, SIDE)]
    network = task.network(0)
    batches = list(task.batches("train", 3, 1))
    assert [tuple(images.shape) for images, _ in batches] == [(4, 3, SIDE, SIDE)] * 2
    assert network(batches[0][0]).shape == (4, 2)
    for part in ("val", "test"):
        images, labels = together(evaluation_batches(task.images, part))
        right = (network.eval()(images).argmax(1) == labels).double().mean().item()
        assert task.evaluate(network, part) == pytest.approx(right)
    without = protocol_of(photos, validation="none", validation_fraction=0.0)
    assert load_task(without, str(photos), torch.device("cpu")).evaluate(network, "val") is None
    with pytest.raises(
        ValueError, match=r"reads folders of images, and digits is none.*imagenet100"
    ):
        load_task(protocol_of(photos, dataset="digits"), None, torch.device("cpu"))


def test_as_many_processes_as_threads() -> None:
    torch.set_num_threads(1)
    assert stream.default_workers(torch.device("cpu")) == 0
    assert stream.default_workers(torch.device("cuda")) == 1
    torch.set_num_threads(500)
    assert stream.default_workers(torch.device("cuda")) <= len(os.sched_getaffinity(0))


# ImageNet by name


def tiny(monkeypatch: pytest.MonkeyPatch, name: str, train: int, test: int, classes: int) -> None:
    info = replace(DATASETS[name], num_train=train, num_test=test, num_classes=classes)
    monkeypatch.setitem(DATASETS, name, info)


def test_imagenet_is_a_folder_given_as_data(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("imagenet", "imagenet100"):
        assert resolve(name, str(photos), None, augmentation="imagenet") == (
            name,
            str(photos),
            "",
            224,
        )
        assert resolve(name, str(photos), 64, augmentation="imagenet") == (
            name,
            str(photos),
            "",
            64,
        )
        for missing in (
            lambda name=name: resolve(name, None, None),
            lambda name=name: list_streamed(name, None),
        ):
            with pytest.raises(ValueError, match=f"{name} is a folder of images.*--data DIR"):
                missing()
        with pytest.raises(ValueError, match=r"\(10, 8, 2\), and .*complete it, or call it folder"):
            list_streamed(name, str(photos))
        with pytest.raises(ValueError, match="doesn't fit into memory"):
            load(name, str(photos), 224)
    info = describe("imagenet", None, 224)
    assert (info.num_train, info.num_test, info.num_classes) == (1_281_167, 50_000, 1000)
    assert (describe("imagenet100", None, 160).image_size, info.channels) == (160, 3)

    tiny(monkeypatch, "imagenet", 10, 8, 2)
    assert len(list_streamed("imagenet", str(photos)).train) == 10
    tiny(monkeypatch, "imagenet", 11, 8, 2)
    with pytest.raises(ValueError, match=r"has \(11, 8, 2\)"):
        list_streamed("imagenet", str(photos))
    tiny(monkeypatch, "imagenet100", 99, 8, 2)  # the classes are the user's choice
    protocol = protocol_of(photos, dataset="imagenet100", data_digest="")
    task = load_task(protocol, str(photos), torch.device("cpu"))
    assert isinstance(task, ImageClassification)
    assert len(task.images.train) == 10
    with pytest.raises(FileNotFoundError, match="no folder train/"):
        list_streamed("imagenet", str(photos.parent))


# Processes


KILLED = """
import sys, time
from pathlib import Path
import torch
from rewind_ray.datasets.stream import Reader, View
if __name__ == "__main__":
    reader = Reader(Path(sys.argv[1]), 16, "imagenet", torch.device("cpu"), num_workers=1)
    views = [View(sys.argv[2], None)] * 1000
    next(reader.read(views, [1] * 1000))
    import multiprocessing
    print(multiprocessing.active_children()[0].pid, flush=True)
    time.sleep(100)
"""


@pytest.mark.slow
def test_reading_processes_die_with_a_killed_trial(photos: Path, tmp_path: Path) -> None:
    """They look every 5 seconds whether their parent still is; with forkserver they wouldn't."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(photos), "train/n01/0.JPEG"]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as trial:
        assert trial.stdout is not None
        reader = int(trial.stdout.readline())
        os.kill(reader, 0)
        trial.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and is_running(reader):
        time.sleep(0.2)
    assert not is_running(reader)


def is_running(pid: int) -> bool:
    """Not gone, nor a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# As Renda et al.'s networks see ImageNet


def test_renda_s_batches_are_tensorflow_s_views_by_imagenet_s_constants(
    make: Make, photos: Path
) -> None:
    data = make(augmentation="imagenet_tf", standardisation="imagenet")
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)

    def expected(path: Path, seed: int | None) -> Tensor:
        with Image.open(path) as image:
            return (tensorflow_view(image.convert("RGB"), seed, SIDE).float() - mean) / std

    images, _ = together(epoch_batches(data, seed=5, epoch=3))
    files = files_of(photos, "train")
    order = plan_epoch(5, 3, 10, 4, 2, 1, whole_pass=True).order.tolist()
    for place, image in enumerate(order):
        torch.testing.assert_close(images[place], expected(files[image], crop_seed(5, 3, place)))
    shown, _ = together(evaluation_batches(data, "train"))
    for one, path in zip(shown, files, strict=True):
        torch.testing.assert_close(one, expected(path, None))


def test_mean_and_deviation_of_tensorflow_s_views(make: Make, photos: Path) -> None:
    """Measured apart from those of the other views, of the nearest whole levels."""
    other = make()
    data = make(augmentation="imagenet_tf")
    assert not torch.equal(data.mean, other.mean)
    levels = [
        tensorflow_view(Image.open(path).convert("RGB"), None, SIDE).float().round().clamp(0, 255)
        for path in files_of(photos, "train")
    ]
    torch.testing.assert_close(data.mean.flatten(), torch.stack(levels).mean((0, 2, 3)))


def test_imagenet_s_constants_are_of_three_channels() -> None:
    grey = digits(standardisation="imagenet")
    with pytest.raises(ValueError, match="is for 3 channels, and the images have 1"):
        load_task(grey, None, torch.device("cpu"))


@pytest.mark.parametrize("network", ["resnet34", "resnet50"])
def test_a_batch_trains_renda_s_imagenet_network(photos: Path, network: str) -> None:
    """All options at once, in bfloat16: a step lowers the loss on its batch, masks stay zero."""
    torch.set_num_threads(1)
    ours = renda_imagenet(network)
    protocol = protocol_of(
        photos,
        network=network,
        augmentation="imagenet_tf",
        standardisation="imagenet",
        precision="bf16",
        image_size=64,  # else the last blocks see one pixel
        batch_size=8,
        network_options={**dict(ours.network_options), "batch_norm_shards": 2},
    )
    task = load_task(protocol, str(photos), torch.device("cpu"))
    net = task.network(0)
    optimizer = make_optimizer(net, protocol)
    parameters = prunable_parameters(net, protocol.prunable)
    mask = pruned_mask(parameters, dense_mask(parameters), Prune(fraction=0.5))
    batch = next(iter(task.batches("train", 0, 0)))
    losses = []
    for _ in range(3):
        trained = train_epoch(
            net, optimizer, [batch], classification_loss, lambda _: 0.01, parameters, mask, "bf16"
        )
        losses.append(trained.train_loss)
    assert losses[-1] < losses[0]
    for name, kept in mask.items():
        assert not parameters[name][~kept].any()

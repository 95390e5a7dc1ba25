"""Named data sets: scikit-learn's digits, and torchvision's sets from files written here."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision import datasets

from rewind_ray.datasets import DATASETS, DatasetInfo, describe, load, resolve


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def tiny(monkeypatch: pytest.MonkeyPatch, name: str, num_train: int, num_test: int) -> None:
    info = DATASETS[name]
    monkeypatch.setitem(
        DATASETS,
        name,
        DatasetInfo(
            num_train=num_train,
            num_test=num_test,
            num_classes=info.num_classes,
            channels=info.channels,
            image_size=info.image_size,
        ),
    )


def test_digits_are_scikit_learns() -> None:
    data = load("digits", None, None)
    assert data.train_images.shape == (1347, 8, 8, 1)
    assert data.test_images.shape == (450, 8, 8, 1)
    assert data.train_images.dtype == torch.uint8
    assert data.classes == tuple("0123456789")
    info = describe("digits", None, None)
    assert (info.num_train, info.num_test, info.channels, info.image_size) == (1347, 450, 1, 8)

    original = load_digits()
    together = torch.cat([data.train_images, data.test_images]).flatten(1).double() * 16 / 255
    labels = torch.cat([data.train_labels, data.test_labels])
    found = sorted(zip(together.round().tolist(), labels.tolist(), strict=True))
    expected = sorted(zip(original.data.tolist(), original.target.tolist(), strict=True))
    assert found == expected
    shares = data.test_labels.bincount() / (
        data.test_labels.bincount() + data.train_labels.bincount()
    )
    assert ((shares - 0.25).abs() < 0.01).all()


def test_the_digits_split_never_changes() -> None:
    """Golden: stored results belong to this split."""
    images = load("digits", None, None).test_images.numpy()
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == "cf4be828d59d9227"


def write_idx(path: Path, values: np.ndarray) -> None:
    """The format of the MNIST files: magic number, sizes, bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    path.write_bytes(head + values.tobytes())


def write_fashion(root: Path, packed: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    written = {}
    for prefix, count in (("train", 12), ("t10k", 5)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        written |= {f"{prefix}-images": images, f"{prefix}-labels": labels}
        for name, values in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            path = root / "FashionMNIST/raw" / f"{prefix}-{name}"
            write_idx(path, values)
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()
    return written


@pytest.mark.parametrize("packed", [False, True])
def test_fashion_mnist_from_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None, packed: bool
) -> None:
    written = write_fashion(tmp_path, packed)
    raw = tmp_path / "FashionMNIST/raw"
    resources = [
        (f"{name}.gz", hashlib.md5((raw / f"{name}.gz").read_bytes()).hexdigest() if packed else "")
        for name, _ in (
            (Path(resource).stem, md5) for resource, md5 in datasets.FashionMNIST.resources
        )
    ]
    monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
    tiny(monkeypatch, "fashion_mnist", 12, 5)

    data = load("fashion_mnist", str(tmp_path), None)

    np.testing.assert_array_equal(data.train_images[..., 0], written["train-images"])
    np.testing.assert_array_equal(data.test_images[..., 0], written["t10k-images"])
    np.testing.assert_array_equal(data.train_labels, written["train-labels"])
    assert data.train_labels.dtype == torch.int64
    assert data.train_images.shape == (12, 28, 28, 1)


def write_pickle(path: Path, content: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "kind", "label_key"),
    [("cifar10", datasets.CIFAR10, "labels"), ("cifar100", datasets.CIFAR100, "fine_labels")],
)
def test_cifar_from_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    offline: None,
    name: str,
    kind: type[datasets.CIFAR10],
    label_key: str,
) -> None:
    folder = tmp_path / kind.base_folder
    rng = np.random.default_rng(4)
    planes = rng.integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 10, 8).tolist()
    for attribute, part in (("train_list", slice(0, 6)), ("test_list", slice(6, 8))):
        batch = {"data": planes[part].reshape(-1, 3072), label_key: labels[part]}
        md5 = write_pickle(folder / attribute, batch)
        monkeypatch.setattr(kind, attribute, [[attribute, md5]])
    names = [f"class{number}" for number in range(DATASETS[name].num_classes)]
    md5 = write_pickle(folder / kind.meta["filename"], {kind.meta["key"]: names})
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5})
    tiny(monkeypatch, name, 6, 2)

    data = load(name, str(tmp_path), None)

    np.testing.assert_array_equal(data.train_images, planes[:6].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(data.test_images, planes[6:].transpose(0, 2, 3, 1))
    assert data.train_labels.tolist() + data.test_labels.tolist() == labels
    assert data.classes == tuple(names)

    tiny(monkeypatch, name, 50_000, 10_000)
    with pytest.raises(ValueError, match=r"has \(training images.*\(6, 2, .*should have"):
        load(name, str(tmp_path), None)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_missing_files_are_told(tmp_path: Path, offline: None, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="--data DIR") as caught:
        load(name, str(tmp_path / "empty"), None)
    message = str(caught.value)
    assert str(tmp_path / "empty") in message
    assert "no network in tests" in message
    assert ".gz" in message


def test_a_half_written_file_is_told(tmp_path: Path, offline: None) -> None:
    write_fashion(tmp_path, packed=False)
    images = tmp_path / "FashionMNIST/raw/train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(FileNotFoundError, match="Remove what is broken"):
        load("fashion_mnist", str(tmp_path), None)


def test_by_default_data_is_kept_in_the_cache(cache_home: Path, offline: None) -> None:
    with pytest.raises(FileNotFoundError, match=str(cache_home / "rewind-ray/data")):
        load("cifar10", None, None)


def test_names_resolve_to_themselves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert resolve("cifar10", None, None) == ("cifar10", None, "", None)
    monkeypatch.chdir(tmp_path)
    assert resolve("cifar10", "files", None) == ("cifar10", str(tmp_path / "files"), "", None)


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"unknown dataset 'mnist'; known: digits, .*folder:PATH"):
        resolve("mnist", None, None)
    with pytest.raises(ValueError, match="image_size is 64, but cifar10 has images of 32"):
        resolve("cifar10", None, 64)
    with pytest.raises(ValueError, match="say where it is: --data DIR"):
        load("folder:animals", None, None)
    with pytest.raises(ValueError, match="needs a path"):
        resolve("folder:", None, None)


def test_listing_what_there_is_needs_no_torch() -> None:
    code = "import sys, rewind_ray.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

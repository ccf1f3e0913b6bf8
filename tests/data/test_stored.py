"""SMILEs and MNIST: what their readers give, refuse, and leave out."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.data import mnist, smiles
from robustgen.data.dataset import Dataset
from robustgen.data.duplicates import digest
from robustgen.data.mnist import load_mnist
from robustgen.data.smiles import load_smiles
from robustgen.data.stored import read_stored
from robustgen.datasets import build_dataset
from robustgen.domain import load_domain
from robustgen.errors import RequestError
from robustgen.sources import data_folder
from robustgen.suite import Pair, Splits

SPLIT = np.array(["train", "train", "val", "test"])


def arrays(side: int, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    plain = {
        "images": rng.integers(0, 256, (4, side, side), np.uint8),
        "labels": np.array([1, 0, 0, 1], np.uint8),
        "split": SPLIT,
        **changes,
    }
    return {name: array for name, array in plain.items() if array is not None}


def save(folder: Path, file: str, **content: Any) -> Path:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **content)
    return path


def test_photographs(tmp_path: Path):
    content = arrays(64, names=np.array(["5", "5", "7", "9"]))
    save(tmp_path, smiles.FILE, **content)
    data = load_smiles(tmp_path)
    assert (data.name, data.flip, data.image_shape) == ("smiles", True, (1, 64, 64))
    assert data.class_names == ("not smiling", "smiling")
    np.testing.assert_array_equal(
        data.pixels()[:, 0], content["images"] / np.float32(255)
    )
    assert data.labels.tolist() == [1, 0, 0, 1]
    assert data.split.tolist() == SPLIT.tolist()
    assert data.index.tolist() == [0, 1, 2, 3]
    assert data.mask_pixels() is None


def test_digits_lie_in_the_middle_of_a_black_border(tmp_path: Path):
    content = arrays(28, labels=np.array([7, 2, 9, 0]))
    save(tmp_path, mnist.FILE, **content)
    data = load_mnist(tmp_path)
    assert (data.name, data.flip, data.image_shape) == ("mnist", False, (1, 32, 32))
    assert data.class_names == tuple("0123456789")
    pixels = data.pixels()[:, 0]
    np.testing.assert_array_equal(
        pixels[:, 2:30, 2:30], content["images"] / np.float32(255)
    )
    pixels[:, 2:30, 2:30] = 0
    assert not pixels.any()
    assert data.labels.tolist() == [7, 2, 9, 0]


def test_a_near_duplicate_is_dropped_from_its_split_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    content = arrays(64)
    content["images"][3] = content["images"][0]
    known = frozenset({(digest(content["images"][0]), "train")})
    monkeypatch.setattr(smiles, "dropped_images", lambda: known)
    save(tmp_path, smiles.FILE, **content)
    data = load_smiles(tmp_path)
    assert data.split.tolist() == ["dropped", "train", "val", "test"]
    assert data.part("train").index.tolist() == [1]


@pytest.mark.parametrize(
    ("load", "name"), [(load_smiles, "smiles"), (load_mnist, "mnist")]
)
def test_a_missing_file_says_how_to_get_it(tmp_path: Path, load: Any, name: str):
    file = tmp_path / (smiles.FILE if name == "smiles" else mnist.FILE)
    with pytest.raises(RequestError) as caught:
        load(tmp_path)
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        f"{file}: no such file. Fetch it: robustgen fetch {name}; or set "
        f"ROBUSTGEN_DATA to the folder that holds {name}/{file.name}."
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((4, 32, 32), np.uint8)}, "shape [4, 32, 32] and type uin"),
        ({"images": np.zeros((4, 64, 64), np.float32)}, "and type float32, expected"),
        ({"images": np.zeros((0, 64, 64), np.uint8)}, "images of shape [0, 64, 64]"),
        ({"labels": np.zeros(3, np.int64)}, "labels of shape [3] and type int64"),
        ({"labels": np.zeros(4)}, "labels of shape [4] and type float64, expected 4"),
        ({"labels": np.array([0, 1, 2, 0])}, "labels from 0 to 2, expected 0 to 1"),
        ({"labels": np.array([0, -1, 1, 0])}, "labels from -1 to 1, expected 0 to 1"),
        ({"labels": None}, "lacks the array 'labels'"),
        ({"split": None}, "split is not 4 of train, val, test"),
        ({"split": SPLIT[:3]}, "split is not 4 of train, val, test"),
        ({"split": np.array(["train", "x", "val", "test"])}, "split is not 4 of train"),
        ({"masks": np.zeros(4)}, "unknown array 'masks'"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: dict[str, Any], words: str):
    path = save(tmp_path, "x.npz", **arrays(64, **change))
    with pytest.raises(RequestError) as caught:
        read_stored(path, 64, 2, fetched_as="smiles")
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path: Path):
    path = save(tmp_path, smiles.FILE, **arrays(64))
    whole = path.read_bytes()
    for content in (whole[:-300], b"", b"<html>"):
        path.write_bytes(content)
        with pytest.raises(RequestError, match="cut off or damaged"):
            load_smiles(tmp_path)


def test_a_suite_may_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROBUSTGEN_DATA", str(tmp_path))
    save(tmp_path, smiles.FILE, **arrays(64))
    save(tmp_path, mnist.FILE, **arrays(28))
    for name, side in (("smiles", 64), ("mnist", 32)):
        made = build_dataset(pair(name), load_domain(name), Splits(), ())
        assert (made.name, made.image_shape) == (name, (1, side, side))
        assert made.flip == load_domain(name).jitter.flip
        with pytest.raises(RequestError, match="it has no attributes; leave"):
            build_dataset(pair(name, attribute="Young"), None, Splits(), ())


def pair(dataset: str, **more: str) -> Pair:
    networks = ("classifier", "generator", "encoder", "perceptual")
    return Pair.model_validate(
        {"dataset": dataset, **dict.fromkeys(networks, "digits"), **more}
    )


def counts(data: Dataset, split: str) -> tuple[int, ...]:
    labels = data.labels[data.split == split]
    return tuple(Counter(labels.tolist())[k] for k in range(len(data.class_names)))


def needs(file: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (data_folder() / file).is_file(),
        reason=f"{data_folder() / file}: no such file; see robustgen fetch",
    )


@needs(smiles.FILE)
def test_the_photographs_that_are_here():
    data = load_smiles(data_folder())
    assert counts(data, "train") == (7156, 2785)
    assert counts(data, "val") == (723, 275)
    assert counts(data, "test") == (720, 280)
    assert counts(data, "dropped") == (22, 4)


@needs(mnist.FILE)
def test_the_digits_that_are_here():
    data = load_mnist(data_folder())
    assert data.labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert counts(data, "test") == (101, 110, 105, 101, 88, 90, 100, 101, 105, 99)
    assert [sum(counts(data, split)) for split in ("train", "val")] == [6000, 1000]

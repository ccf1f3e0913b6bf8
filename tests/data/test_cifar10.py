"""CIFAR-10 from both archives: places, splits, and pickles that are not run."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from trees import CIFAR_RECORD, cifar10_tree, python2_batch

from robustgen.data.cifar10 import CLASS_NAMES, load_cifar10
from robustgen.errors import RequestError


@pytest.fixture(params=[False, True], ids=["binary", "python"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    cifar10_tree(tmp_path, 4, python=request.param)
    return tmp_path


def test_the_end_of_the_training_batches_validates(tree: Path):
    data = load_cifar10(tree, val=3)
    assert data.split.tolist() == ["train"] * 17 + ["val"] * 3 + ["test"] * 4
    assert data.index.tolist() == list(range(24))
    assert data.labels.tolist() == [k % 10 for k in range(24)]
    assert data.class_names == CLASS_NAMES
    assert data.image_shape == (3, 32, 32)
    assert data.mask_pixels() is None
    assert data.flip
    val = data.part("val")
    assert val.index.tolist() == [17, 18, 19]
    pixels = val.pixels()
    # The corner holds the place; class 7 is a stripe of white from column 21 to 24.
    np.testing.assert_array_equal(
        pixels[:, 0, 0, 0], np.array([17, 18, 19], np.float32) / np.float32(255)
    )
    stripe = np.zeros((32, 32), np.float32)
    stripe[:, 21:25] = 1
    np.testing.assert_array_equal(pixels[0, 1], stripe)


def test_both_archives_hold_the_same(tmp_path: Path):
    cifar10_tree(tmp_path / "bytes", 3)
    cifar10_tree(tmp_path / "pickles", 3, python=True)
    first = load_cifar10(tmp_path / "bytes", val=2)
    second = load_cifar10(tmp_path / "pickles", val=2)
    assert first.fingerprint() == second.fingerprint()
    assert np.array_equal(first.pixels(), second.pixels())


def test_one_byte_changes_the_fingerprint_of_its_split(tmp_path: Path):
    cifar10_tree(tmp_path, 3)
    before = load_cifar10(tmp_path, val=2)
    path = tmp_path / "cifar-10-batches-bin/test_batch.bin"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    after = load_cifar10(tmp_path, val=2)
    assert before.part("val").fingerprint() == after.part("val").fingerprint()
    assert before.part("test").fingerprint() != after.part("test").fingerprint()


@pytest.mark.parametrize("val", [15, -1])
def test_validation_leaves_images_for_training(tmp_path: Path, val: int):
    cifar10_tree(tmp_path, 3)
    message = f"{val} validation images of 15 training images asked for"
    with pytest.raises(RequestError, match=message):
        load_cifar10(tmp_path, val=val)


@pytest.mark.parametrize("size", [0, CIFAR_RECORD - 1, CIFAR_RECORD + 1])
def test_batches_that_are_cut_off_are_named(tmp_path: Path, size: int):
    cifar10_tree(tmp_path, 3)
    path = tmp_path / "cifar-10-batches-bin/data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:size])
    message = rf"data_batch_2\.bin: {size} bytes, expected a multiple of 3073\."
    with pytest.raises(RequestError, match=message):
        load_cifar10(tmp_path, val=2)


def test_labels_out_of_range_are_named(tmp_path: Path):
    cifar10_tree(tmp_path, 3)
    path = tmp_path / "cifar-10-batches-bin/data_batch_1.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(RequestError, match="label 10 of image 0 is outside 0 to 9"):
        load_cifar10(tmp_path, val=2)


def test_missing_files_are_named(tree: Path):
    (batch,) = tree.glob("*/data_batch_5*")
    batch.unlink()
    with pytest.raises(RequestError, match=rf"{batch.name}: no such file\."):
        load_cifar10(tree, val=2)
    message = "no unpacked CIFAR-10; looked for cifar-10-batches-bin/ and cifar-10-"
    with pytest.raises(RequestError, match=message):
        load_cifar10(tree / "other", val=2)


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # pyright: ignore[reportReturnType]


def python_tree(folder: Path, content: bytes) -> Path:
    cifar10_tree(folder, 3, python=True)
    (folder / "cifar-10-batches-py/test_batch").write_bytes(content)
    return folder


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path):
    victim = tmp_path / "ran"
    folder = python_tree(tmp_path, pickle.dumps(_Runs(victim)))
    with pytest.raises(RequestError, match=r"test_batch: no batch of CIFAR-10, or one"):
        load_cifar10(folder, val=2)
    assert not victim.exists()


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((3, 3072), np.float32),
        np.array([None, 1, 2]),
        np.zeros((3, 3071), np.uint8),
        np.zeros((2, 3072), np.uint8),
    ],
)
def test_pickles_of_something_else_are_refused(tmp_path: Path, data: np.ndarray):
    content = pickle.dumps({b"data": data, b"labels": [0, 1, 2]}, protocol=4)
    with pytest.raises(RequestError, match="test_batch: "):
        load_cifar10(python_tree(tmp_path, content), val=2)


def test_a_pickle_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path: Path):
    whole = python2_batch(np.zeros((1, 3072), np.uint8), [1])
    folder = python_tree(tmp_path, whole)
    assert load_cifar10(folder, val=2).labels[-1] == 1
    for stop in [*range(0, 120, 5), len(whole) - 1]:
        (folder / "cifar-10-batches-py/test_batch").write_bytes(whole[:stop])
        with pytest.raises(RequestError, match=r"test_batch: no batch of CIFAR-10"):
            load_cifar10(folder, val=2)

"""NumPy archives: layouts told apart, optional arrays, complaints."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustgen.data.npz import load_npz
from robustgen.errors import RequestError

BYTES = np.arange(6 * 3 * 4 * 5, dtype=np.uint8).reshape(6, 3, 4, 5) % 251
LABELS = np.array([0, 1, 2, 0, 1, 2])


def save(folder: Path, **changes: Any) -> Path:
    arrays: dict[str, Any] = {"images": BYTES, "labels": LABELS, **changes}
    path = folder / "tiny.npz"
    np.savez(path, **{key: v for key, v in arrays.items() if v is not None})
    return path


def test_bytes_become_shares_of_255(tmp_path: Path):
    data = load_npz(save(tmp_path))
    expected = BYTES.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(data.pixels(), expected)
    assert data.name == "tiny"
    assert data.class_names == ("0", "1", "2")
    assert data.index.tolist() == list(range(6))
    assert data.mask_pixels() is None
    assert not data.flip


def test_channels_last_are_moved_to_the_front_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = save(tmp_path, images=BYTES.transpose(0, 2, 3, 1))
    with caplog.at_level(logging.INFO, "robustgen.data.npz"):
        data = load_npz(path)
    np.testing.assert_array_equal(data.pixels(), load_npz(save(tmp_path)).pixels())
    assert data.image_shape == (3, 4, 5)
    assert caplog.messages == [f"{path}: images of shape [6, 4, 5, 3] read as nhwc"]


def test_an_ambiguous_layout_is_asked_for(tmp_path: Path):
    images = np.linspace(0, 1, 54, dtype=np.float64).reshape(6, 3, 1, 3)
    path = save(tmp_path, images=images)
    message = r"images of shape \[6, 3, 1, 3\]; which axis is the channel\? Say `layout"
    with pytest.raises(RequestError, match=message):
        load_npz(path)
    assert load_npz(path, layout="nchw").image_shape == (3, 1, 3)
    last = load_npz(path, layout="nhwc")
    assert last.pixels().dtype == np.float32
    np.testing.assert_allclose(last.pixels(), images.transpose(0, 3, 1, 2), atol=1e-7)


def test_gray_images_need_no_channel(tmp_path: Path):
    data = load_npz(save(tmp_path, images=BYTES[:, 0]))
    assert data.image_shape == (1, 4, 5)


def test_optional_arrays(tmp_path: Path):
    split = np.array(["val", "test", "test", "train", "val", "test"])
    mask = np.ones((6, 4, 5), bool)
    mask[1, 2, 3] = False
    path = save(
        tmp_path,
        split=split.astype("S"),
        index=np.array([9, 8, 7, 6, 5, 4], np.uint8),
        class_names=np.array(["x", "y", "z"]),
        masks=mask,
    )
    data = load_npz(path, flip=True, name="mine")
    assert data.split.tolist() == split.tolist()
    assert data.part("test").index.tolist() == [8, 7, 4]
    assert data.class_names == ("x", "y", "z")
    assert (data.flip, data.name) == (True, "mine")
    masks = data.part("test").mask_pixels()
    assert masks is not None
    assert masks.shape == (3, 1, 4, 5)
    assert np.argwhere(masks == 0).tolist() == [[0, 0, 2, 3]]


def test_without_a_split_each_class_is_cut_by_a_seed(tmp_path: Path):
    images, labels = np.zeros((40, 1, 2, 2), np.float32), np.arange(40) % 2
    path = save(tmp_path, images=images, labels=labels)
    split = load_npz(path).split
    for label in (0, 1):
        mine = split[labels == label].tolist()
        assert [mine.count(name) for name in ("train", "val", "test")] == [10, 5, 5]
    assert load_npz(path).split.tolist() == split.tolist()
    assert load_npz(path, seed=1).split.tolist() != split.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "lacks the array 'images'"),
        ({"labels": None}, "lacks the array 'labels'"),
        ({"mask": LABELS}, "unknown array 'mask'. Did you mean 'masks'?"),
        ({"images": BYTES[0, 0]}, r"images of shape \[4, 5\], expected \[N, C, H, W\]"),
        ({"images": BYTES.astype(np.int64)}, "images of type int64, expected bytes"),
        ({"images": BYTES.astype(np.float32)}, r"pixels from 0 to 250, expected \[0"),
        ({"labels": LABELS / 2}, "labels of type float64 and shape"),
        ({"labels": LABELS[:5]}, r"shape \[5\], expected 6 whole numbers"),
        ({"labels": LABELS - 1}, "label -1 of image 0 is outside 0 to 1"),
        ({"index": LABELS}, "an index occurs twice"),
        ({"split": np.array(["test"] * 5)}, "split of 5 texts for 6 images"),
        ({"split": np.array(["tset"] * 6)}, "split 'tset'. Did you mean 'test'?"),
        ({"split": LABELS}, r"split of type int64 and shape \[6\], expected one axis"),
        ({"class_names": np.array(["a", "b"])}, "label 2 of image 2 is outside 0 to 1"),
        ({"masks": np.ones((6, 4, 5), np.uint8)}, "masks of type uint8 and shape"),
        ({"masks": np.ones((6, 4, 4))}, r"masks of shape \[6, 1, 4, 4\], expected"),
        ({"labels": np.array([None] * 6)}, "no NumPy archive of plain arrays"),
        (
            {"images": BYTES[:0], "labels": LABELS[:0], "split": np.array([], "U5")},
            "no images",
        ),
    ],
)
def test_faults_are_named(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(RequestError, match=message):
        load_npz(save(tmp_path, **changes))


def test_damaged_files_are_named(tmp_path: Path):
    path = save(tmp_path)
    whole = path.read_bytes()
    for content in (b"", b"<html>", whole[: len(whole) // 2], whole[:100]):
        path.write_bytes(content)
        with pytest.raises(RequestError, match=r"tiny\.npz: no NumPy archive of plain"):
            load_npz(path)
    with path.open("wb") as stream:
        np.save(stream, BYTES)
    with pytest.raises(RequestError, match=r"tiny\.npz: a single array; write several"):
        load_npz(path)
    path.unlink()
    with pytest.raises(RequestError, match=r"tiny\.npz: no such file\."):
        load_npz(path)

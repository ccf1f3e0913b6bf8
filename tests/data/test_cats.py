"""Aligned cats in the released layout: breeds, sorted names, masks, complaints."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import cats_tree

from robustgen.data.cats import load_cats
from robustgen.data.dataset import Dataset
from robustgen.errors import RequestError

SIDE = 8


def load(folder: Path) -> Dataset:
    return load_cats(folder, resolution=SIDE, mask_threshold=0.02)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    cats_tree(tmp_path, 5, SIDE)
    return tmp_path


def test_breeds_take_turns_and_dogs_are_no_cats(tree: Path):
    data = load(tree)
    assert data.class_names == ("Abyssinian", "Bengal", "Maine Coon")
    assert len(data) == 15
    assert data.flip
    # Five of a breed: 1 2 | 3 | 4 5.
    parts = {name: data.part(name).index.tolist() for name in ("train", "val", "test")}
    assert parts == {
        "train": [1, 10_001, 20_001, 2, 10_002, 20_002],
        "val": [3, 10_003, 20_003],
        "test": [4, 10_004, 20_004, 5, 10_005, 20_005],
    }
    assert data.part("test").labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_the_split_follows_sorted_names_as_released(tmp_path: Path):
    cats_tree(tmp_path, 11, SIDE, breeds=["Bengal"])
    data = load(tmp_path)
    # Sorted: 1 10 11 2 3 | 4 5 6 ... : half of eleven trains, a quarter up tests.
    assert data.part("train").index.tolist() == [1, 10, 11, 2, 3]
    assert data.part("val").index.tolist() == [4, 5, 6]
    assert data.part("test").index.tolist() == [7, 8, 9]


def test_pixels_and_masks_of_the_padding(tree: Path):
    part = load(tree).part("test", 2)
    pixels, masks = part.pixels(), part.mask_pixels()
    assert masks is not None
    expected = np.ones((SIDE, SIDE), np.float32)
    expected[: SIDE // 4] = 0
    np.testing.assert_array_equal(masks[0, 0], expected)
    np.testing.assert_array_equal(masks[1, 0], expected)
    colors = np.array([[20, 40, 60], [100, 40, 60]], np.float32) / np.float32(255)
    for image, color in zip(pixels, colors, strict=True):
        assert (image[:, : SIDE // 4] == np.float32(128) / np.float32(255)).all()
        assert (image[:, SIDE // 4 :] == color[:, None, None]).all()


def test_loading_decodes_nothing_and_settings_count(tree: Path):
    before = load(tree).fingerprint()
    other = load_cats(tree, resolution=SIDE, mask_threshold=0.03)
    assert other.fingerprint() != before
    (tree / "images/images/Bengal_3.png").write_bytes(b"no image")
    data = load(tree)
    assert data.fingerprint() != before
    assert len(data.part("test").pixels()) == 6
    for use in (data.part("val").pixels, data.part("val").mask_pixels):
        with pytest.raises(RequestError, match=r"Bengal_3\.png: no image"):
            use()


def test_another_size_is_refused(tree: Path):
    Image.new("RGB", (9, 8)).save(tree / "images/images/Bengal_3.png")
    message = r"Bengal_3\.png: 9 x 8 pixels, expected 8 x 8\. Is it an aligned cat\?"
    with pytest.raises(RequestError, match=message):
        load(tree).pixels()


def test_the_flat_folder_is_found_too(tmp_path: Path):
    cats_tree(tmp_path / "deep", 2, SIDE)
    cats_tree(tmp_path / "flat", 2, SIDE, images="images")
    assert (
        load(tmp_path / "flat").fingerprint() == load(tmp_path / "deep").fingerprint()
    )


def test_a_folder_without_cats_is_refused(tmp_path: Path):
    with pytest.raises(RequestError, match=r"looked for images/images/ and images/\."):
        load(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/Bengal_1.jpg").write_bytes(b"")
    with pytest.raises(RequestError, match=r"no PNG file of an aligned cat, such as"):
        load(tmp_path)


def test_files_named_otherwise_are_listed(tree: Path):
    for name in ("Cat.png", "Bengal_x.png"):
        (tree / "images/images" / name).write_bytes(b"")
    message = r"not named by breed and number, .*: Bengal_x\.png, Cat\.png\."
    with pytest.raises(RequestError, match=message):
        load(tree)

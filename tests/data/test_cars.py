"""Cars196 in the released layout: kinds, floors of the split, alignment, complaints."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from trees import cars_tree

from robustgen.data.cars import load_cars
from robustgen.data.dataset import Dataset
from robustgen.errors import RequestError

SUV, SEDAN, COUPE, CAB, OTHER_SUV = 1, 2, 3, 4, 5
ORDER = [SUV, CAB, SUV, COUPE, SUV, SEDAN, SUV, OTHER_SUV, SUV, SEDAN]


def load(folder: Path, group: str = "threecars") -> Dataset:
    return load_cars(folder, group=group, width=64, content=(48, 64), canvas=64)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    cars_tree(tmp_path, ORDER)
    return tmp_path


def test_each_fine_class_is_cut_in_the_order_of_the_file(tree: Path):
    data = load(tree)
    assert data.class_names == ("SUV", "Sedan", "Cab")
    assert data.index.tolist() == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert data.labels.tolist() == [0, 2, 0, 0, 1, 0, 0, 0, 1]
    # Five of the first SUV: 1 3 | 5 | 7 9; one of the other: 8; two sedans: 6 | | 10.
    parts = {name: data.part(name).index.tolist() for name in ("train", "val", "test")}
    assert parts == {"train": [1, 3, 6], "val": [5], "test": [2, 7, 8, 9, 10]}
    assert data.flip


@pytest.mark.parametrize(
    ("group", "index", "labels"),
    [
        ("suvsedan", [1, 3, 5, 6, 7, 8, 9, 10], [0, 0, 0, 1, 0, 0, 0, 1]),
        ("sixcars", list(range(1, 11)), [0, 5, 0, 4, 0, 1, 0, 0, 0, 1]),
    ],
)
def test_other_groups(tree: Path, group: str, index: list[int], labels: list[int]):
    data = load(tree, group)
    assert data.index.tolist() == index
    assert data.labels.tolist() == labels


def test_cars_land_in_the_middle_of_a_gray_canvas(tmp_path: Path):
    boxes = cars_tree(tmp_path, [SUV, SEDAN], size=(128, 96))
    assert boxes[0] == (16, 48, 58, 80)
    data = load(tmp_path)
    assert data.image_shape == (3, 64, 64)
    image, sedan = data.pixels()
    masks = data.mask_pixels()
    assert masks is not None
    # Halved to 64 x 48: the box is (8, 24, 29, 40), so it moves 14 right and 8 up.
    mask = np.zeros((64, 64), np.float32)
    mask[8 : 8 + 40, 14:] = 1
    np.testing.assert_array_equal(masks[0, 0], mask)
    assert (image[:, :8] == 0.5).all()
    assert (image[:, 56:] == 0.5).all()
    assert (image[:, 8:56, :14] == 0).all()
    assert (image[:, 48:56] == 0).all()
    # White 21 x 16 pixels around the middle, within JPEG's error; a color beside them.
    assert image[:, 26:38, 24:41].min() > 0.9
    red = image[:, 10:20, 20:60].mean(axis=(1, 2))
    np.testing.assert_allclose(red, np.array([40, 210, 90]) / 255, atol=0.02)
    red = sedan[:, 10:20, 20:60].mean(axis=(1, 2))
    np.testing.assert_allclose(red, np.array([80, 170, 90]) / 255, atol=0.02)


def test_loading_decodes_nothing_and_reading_names_the_file(tree: Path):
    before = load(tree)
    first = before.fingerprint()
    path = tree / "images/images/00003.jpg"
    path.write_bytes(path.read_bytes()[:300])
    data = load(tree)
    assert data.fingerprint() != first
    assert len(data.part("val").pixels()) == 1
    with pytest.raises(RequestError, match=r"00003\.jpg: no image, or one that is cut"):
        data.pixels()


def test_the_box_is_part_of_the_fingerprint(tree: Path):
    before = load(tree).fingerprint()
    path = tree / "devkit/cars_train_annos.mat"
    records = loadmat(path)["annotations"]
    records[0, 0]["bbox_x1"] = np.uint16(14)
    savemat(path, {"annotations": records})
    assert load(tree).fingerprint() != before


def test_the_folder_of_the_archive_is_found_too(tree: Path):
    before = load(tree).fingerprint()
    (tree / "images/images").rename(tree / "cars_train")
    assert load(tree).fingerprint() == before
    (tree / "cars_train").rename(tree / "elsewhere")
    message = r"no folder of images; looked for images/images/ and cars_train/\."
    with pytest.raises(RequestError, match=message):
        load(tree)


def test_a_missing_photograph_would_change_the_split(tree: Path):
    for number in (1, 3, 5, 9):
        (tree / f"images/images/{number:05d}.jpg").unlink()
    message = r"lacks 4 of 9 annotated images: 00001\.jpg, .* and 1 more\."
    with pytest.raises(RequestError, match=message):
        load(tree)


def test_photographs_of_other_kinds_may_be_missing(tree: Path):
    (tree / "images/images/00004.jpg").unlink()
    assert len(load(tree)) == 9


def test_an_unknown_group_gets_help(tree: Path):
    with pytest.raises(RequestError, match=r"'three'\. Did you mean 'threecars'\?"):
        load(tree, "three")


def test_a_tree_without_the_kinds_is_refused(tmp_path: Path):
    cars_tree(tmp_path, [COUPE])
    with pytest.raises(RequestError, match="no car is of a kind of 'threecars': SUV"):
        load(tmp_path)


@pytest.mark.parametrize("file", ["cars_train_annos.mat", "cars_meta.mat"])
def test_damaged_devkits_are_named(tree: Path, file: str):
    path = tree / "devkit" / file
    whole = path.read_bytes()
    for content in (b"", b"<html>", whole[:200], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(RequestError, match=rf"{file}: no MATLAB file, or one that"):
            load(tree)
    savemat(path, {"other": 1})
    with pytest.raises(RequestError, match=rf"{file}: holds no '(annot|class_names)"):
        load(tree)
    path.unlink()
    with pytest.raises(RequestError, match=rf"{file}: no such file\."):
        load(tree)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("class", 9, r"class 9 of 00001\.jpg is outside 1 to 5\."),
        ("class", "SUV", r"annotation 1 \(00001\.jpg\) holds no whole numbers\."),
        ("fname", "car.jpg", r"annotation 1 names the file 'car\.jpg', expected a num"),
        (None, None, r"the annotations lack class\."),
    ],
)
def test_strange_annotations_are_named(
    tree: Path, field: str | None, value: object, message: str
):
    path = tree / "devkit/cars_train_annos.mat"
    records = loadmat(path)["annotations"]
    if field is None:
        renamed = {n: "kind" if n == "class" else n for n in records.dtype.names}
        other = np.empty(records.shape, [(name, "O") for name in renamed.values()])
        for old, new in renamed.items():
            other[new] = records[old]
        records = other
    else:
        records[0, 0][field] = value
    savemat(path, {"annotations": records})
    with pytest.raises(RequestError, match=message):
        load(tree)


def test_class_names_without_a_kind_are_named(tree: Path):
    names = np.empty((1, 5), object)
    names[0] = ["Hummer"] * 5
    savemat(tree / "devkit/cars_meta.mat", {"class_names": names})
    with pytest.raises(RequestError, match="class 'Hummer' is no name with a kind"):
        load(tree)


def test_one_annotation_is_a_data_set(tmp_path: Path):
    cars_tree(tmp_path, [CAB])
    data = load(tmp_path)
    assert (data.index.tolist(), data.split.tolist()) == ([1], ["test"])

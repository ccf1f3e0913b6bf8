"""A folder of files by class: splits, sizes, identities, complaints."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustgen.data.folder import load_folder
from robustgen.errors import RequestError


def save(path: Path, value: int = 0, size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 2 * value, 0)).save(path)


@pytest.fixture
def split_tree(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for label, name in enumerate(("dog", "cat")):
            for number in range(count):
                save(tmp_path / split / name / f"{number}.png", 50 * label + number)
    (tmp_path / "test/cat/notes.txt").write_text("not an image")
    (tmp_path / "test/cat/.hidden.png").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_folders_of_splits(split_tree: Path):
    data = load_folder(split_tree)
    assert data.name == split_tree.name
    assert data.class_names == ("cat", "dog")
    assert data.image_shape == (3, 4, 6)
    sizes = {name: len(data.part(name)) for name in ("train", "val", "test")}
    assert sizes == {"train": 6, "val": 2, "test": 4}
    assert data.part("test").labels.tolist() == [0, 1, 0, 1]
    red = data.part("test").pixels()[:, 0, 0, 0] * 255
    np.testing.assert_allclose(red, [50, 0, 51, 1], atol=1e-4)
    assert not data.flip
    assert load_folder(split_tree, flip=True, name="pets").flip
    assert load_folder(split_tree, flip=True, name="pets").name == "pets"


def class_tree(folder: Path, count: int = 9) -> Path:
    for name in ("a", "b"):
        for number in range(count):
            save(folder / name / f"{number}.png", number)
    return folder


def test_folders_of_classes_are_cut_by_a_seed(tmp_path: Path):
    data = load_folder(class_tree(tmp_path))
    for label in (0, 1):
        mine = data.split[data.labels == label].tolist()
        assert [mine.count(name) for name in ("train", "val", "test")] == [4, 2, 3]
    again = load_folder(tmp_path)
    assert again.split.tolist() == data.split.tolist()
    assert again.fingerprint() == data.fingerprint()
    other = load_folder(tmp_path, seed=1)
    test = set(data.part("test").index.tolist())
    assert set(other.part("test").index.tolist()) != test


def test_an_image_keeps_its_index_when_others_come(tmp_path: Path):
    before = load_folder(class_tree(tmp_path))
    save(tmp_path / "a" / "00.png")
    after = load_folder(tmp_path)
    assert set(before.index.tolist()) < set(after.index.tolist())
    assert before.index.max() < 2**52
    assert before.index.min() >= 0


def test_files_of_several_sizes_need_a_resolution(tmp_path: Path):
    save(tmp_path / "a/0.png", size=(6, 4))
    save(tmp_path / "b/0.png", size=(4, 4))
    data = load_folder(tmp_path)
    message = (
        r"b/0\.png: 4 x 4 pixels, but the first image has 6 x 4\. Give a `resolution`"
    )
    with pytest.raises(RequestError, match=message):
        data.pixels()
    assert load_folder(tmp_path, resolution=4).pixels().shape == (2, 3, 4, 4)


@pytest.mark.parametrize("turned", [False, True])
def test_the_middle_of_the_resized_shorter_side_is_cut_out(
    tmp_path: Path, turned: bool
):
    # Three squares of 8 pixels: black, red, black. Halved, the middle one is red.
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16, 0] = 255
    if turned:
        pixels = pixels.transpose(1, 0, 2)
    (tmp_path / "a").mkdir()
    Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "a/0.png")
    (image,) = load_folder(tmp_path, resolution=4).pixels()
    assert image.shape == (3, 4, 4)
    assert image[0, 1:3, 1:3].min() > 0.95
    assert image[0].min() > 0.85, "LANCZOS rings at the border"
    assert image[1:].max() == 0


def test_a_square_of_the_resolution_is_taken_as_it_is(tmp_path: Path):
    save(tmp_path / "a/0.png", 100, size=(4, 4))
    pixels = load_folder(tmp_path, resolution=4).pixels()
    np.testing.assert_array_equal(pixels[0, 0], np.float32(100) / np.float32(255))


def test_loading_decodes_nothing(tmp_path: Path):
    class_tree(tmp_path)
    before = load_folder(tmp_path, resolution=4)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no image")
    data = load_folder(tmp_path, resolution=4)
    assert data.part("val").index.tolist() == before.part("val").index.tolist()
    assert data.part("val").fingerprint() != before.fingerprint()
    with pytest.raises(RequestError, match="no image, or one that is cut off"):
        data.part("val", 1).pixels()


def test_splits_and_classes_do_not_mix(split_tree: Path):
    save(split_tree / "validation/cat/0.png")
    message = r"holds validation beside folders of splits\. Expected train, val and"
    with pytest.raises(RequestError, match=message):
        load_folder(split_tree)


def test_folders_without_images_are_refused(tmp_path: Path):
    with pytest.raises(RequestError, match="gone: no such folder"):
        load_folder(tmp_path / "gone")
    (tmp_path / "a").mkdir()
    with pytest.raises(
        RequestError, match=r"no images\. Expected files such as CLASS/"
    ):
        load_folder(tmp_path)


def test_a_split_that_is_not_there_is_named(tmp_path: Path):
    save(tmp_path / "test/a/0.png")
    data = load_folder(tmp_path)
    with pytest.raises(RequestError, match="no val images; it has 1 test"):
        data.part("val")

"""CelebA-HQ in the released layout: splits, labels, indices, and every complaint."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from trees import CELEBA_HEADER, celebahq_tree

from robustgen.data.celebahq import attribute_names, load_celebahq
from robustgen.errors import RequestError

SIDE = 8


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    celebahq_tree(tmp_path, 10, SIDE)
    return tmp_path


def test_only_what_lies_there_counts_in_the_order_of_its_numbers(tree: Path):
    (tree / "images/images/000014.png").unlink()
    (tree / "images/images/000004.jpg").write_bytes(b"")
    (tree / "images/images/.000001.png").write_bytes(b"")
    data = load_celebahq(tree, attribute="Smiling", resolution=SIDE)
    assert data.index.tolist() == [4, 9, 19, 24, 29, 34, 39, 44, 49]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0]
    assert data.split.tolist() == (
        ["train", "train", "test", "train", "train", "val", "test", "train", "train"]
    )
    assert data.part("test").index.tolist() == [19, 39]
    assert data.class_names == ("not Smiling", "Smiling")
    assert data.image_shape == (3, SIDE, SIDE)
    assert data.flip
    assert data.mask_pixels() is None


@pytest.mark.parametrize("attribute", ["Mouth_Slightly_Open", "mouth_slightly_OPEN"])
def test_any_of_the_40_attributes_in_any_case(tree: Path, attribute: str):
    assert attribute_names(tree) == tuple(CELEBA_HEADER.split())
    data = load_celebahq(tree, attribute=attribute, resolution=SIDE)
    assert data.class_names == ("not Mouth Slightly Open", "Mouth Slightly Open")
    male = load_celebahq(tree, attribute="male", resolution=SIDE)
    assert male.labels.tolist() == [0, 1] * 5, "odd numbers are listed as male"


def test_pixels_are_those_of_the_files(tree: Path):
    data = load_celebahq(tree, attribute="Smiling", resolution=SIDE)
    stored = np.asarray(Image.open(tree / "images/images/000019.png"), np.float32)
    pixels = data.part("test", 1).pixels()
    np.testing.assert_array_equal(pixels[0], stored.transpose(2, 0, 1) / 255)


def test_another_size_is_resized_by_averaging(tmp_path: Path):
    celebahq_tree(tmp_path, 1, 2 * SIDE)
    path = tmp_path / "images/images/000004.png"
    # A ramp: the triangle of a bilinear halving weighs 1, 3, 3, 1 over 8.
    ramp = np.repeat(np.arange(2 * SIDE, dtype=np.uint8)[None] * 16, 2 * SIDE, axis=0)
    Image.fromarray(np.stack([ramp] * 3, axis=2)).save(path)
    data = load_celebahq(tmp_path, attribute="Smiling", resolution=SIDE)
    row = data.pixels()[0, 0, 3] * 255
    inner = 8 + 32 * np.arange(SIDE)
    np.testing.assert_allclose(row[1:-1], inner[1:-1], atol=0.5)
    assert data.image_shape == (3, SIDE, SIDE)


def test_loading_decodes_nothing(tree: Path):
    first = load_celebahq(tree, attribute="Smiling", resolution=SIDE).part("test", 2)
    before = first.fingerprint()
    for path in (tree / "images/images").iterdir():
        path.write_bytes(b"no image")
    data = load_celebahq(tree, attribute="Smiling", resolution=SIDE)
    part = data.part("test", 2)
    assert part.index.tolist() == [19, 39]
    assert part.fingerprint() != before
    with pytest.raises(RequestError, match=r"000019\.png: no image, or one that is"):
        part.pixels()


def test_one_byte_of_a_file_changes_the_fingerprint_of_its_split(tree: Path):
    data = load_celebahq(tree, attribute="Smiling", resolution=SIDE)
    before = {s: data.part(s).fingerprint() for s in ("train", "val", "test")}
    path = tree / "images/images/000019.png"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    after = {s: data.part(s).fingerprint() for s in ("train", "val", "test")}
    assert [s for s in before if before[s] != after[s]] == ["test"]
    other = load_celebahq(tree, attribute="Smiling", resolution=2 * SIDE)
    assert other.part("val").fingerprint() != before["val"]
    same = load_celebahq(tree, attribute="smiling", resolution=SIDE)
    assert same.part("val").fingerprint() == before["val"]


def test_a_file_that_went_away_is_named(tree: Path):
    data = load_celebahq(tree, attribute="Smiling", resolution=SIDE)
    (tree / "images/images/000004.png").unlink()
    for use in (data.pixels, data.fingerprint):
        with pytest.raises(RequestError, match=r"000004\.png: no such file\."):
            use()


def test_a_file_that_is_not_square_is_named(tree: Path):
    Image.new("RGB", (178, 218)).save(tree / "images/images/000004.png")
    data = load_celebahq(tree, attribute="Smiling", resolution=SIDE)
    with pytest.raises(RequestError, match=r"000004\.png: 178 x 218 pixels; images"):
        data.pixels()


def test_smiles_can_be_told_from_the_pixels(tmp_path: Path):
    celebahq_tree(tmp_path, 96, 32)
    data = load_celebahq(tmp_path, attribute="Smiling", resolution=32)

    def mouths(split: str) -> tuple[np.ndarray, np.ndarray]:
        part = data.part(split)
        return part.pixels()[:, :, 20:28, 8:24].reshape(len(part), -1), part.labels

    model = LogisticRegression(max_iter=500).fit(*mouths("train"))
    score = model.score(*mouths("val"))
    assert score > 0.9


ATTRIBUTES = "list_attr_celeba.txt"
PARTITIONS = "list_eval_partition.txt"


def replace_line(path: Path, number: int, line: str | None) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if line is None else [line]
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("file", "number", "line", "message"),
    [
        (ATTRIBUTES, 1, "many", r"expected the number of images in line 1"),
        (ATTRIBUTES, 9, None, r"line 1 says 49 images, but 48 lines follow the names"),
        (ATTRIBUTES, 9, "000007.jpg -1 1", r"line 9: expected a file name and 40 val"),
        (
            ATTRIBUTES,
            9,
            "000007.jpg " + "0 " * 40,
            r"line 9: expected a file name and 40 values of -1 or 1\.",
        ),
        (
            ATTRIBUTES,
            6,
            "900000.jpg " + "1 " * 40,
            r"list_attr_celeba\.txt: no line for 1 images of .*: 000004\.",
        ),
        (PARTITIONS, 5, "000005.jpg 3", r"line 5: expected a file name and 0 \(train"),
        (
            PARTITIONS,
            9,
            None,
            r"list_eval_partition\.txt: no line for 1 images of .*: 000009\.",
        ),
    ],
)
def test_damaged_lists_are_named(
    tree: Path, file: str, number: int, line: str | None, message: str
):
    replace_line(tree / file, number, line)
    with pytest.raises(RequestError, match=message):
        load_celebahq(tree, attribute="Smiling", resolution=SIDE)


@pytest.mark.parametrize("file", [ATTRIBUTES, PARTITIONS])
def test_missing_lists_are_named(tree: Path, file: str):
    (tree / file).unlink()
    with pytest.raises(RequestError, match=rf"{file}: no such file\."):
        load_celebahq(tree, attribute="Smiling", resolution=SIDE)
    (tree / file).write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match=rf"{file}: cannot be read as text"):
        load_celebahq(tree, attribute="Smiling", resolution=SIDE)


def test_an_unknown_attribute_gets_help(tree: Path):
    message = (
        "Unknown attribute of data set 'celebahq' 'Smilling'. Did you mean 'Smiling'?"
    )
    with pytest.raises(RequestError, match=message):
        load_celebahq(tree, attribute="Smilling", resolution=SIDE)


def test_files_named_by_another_order_are_refused(tree: Path):
    (tree / "images/images/00007.png").write_bytes(b"")
    with pytest.raises(RequestError, match=r"00007\.png: not named by a number of Cel"):
        load_celebahq(tree, attribute="Smiling", resolution=SIDE)


def test_a_folder_of_jpegs_is_refused(tree: Path):
    images = tree / "images/images"
    for path in images.glob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    with pytest.raises(RequestError, match="images: no PNG file among 10 files"):
        load_celebahq(tree, attribute="Smiling", resolution=SIDE)


def test_a_missing_folder_is_named(tree: Path):
    (tree / "images").rename(tree / "pictures")
    message = r": no folder of images; looked for images/images/\."
    with pytest.raises(RequestError, match=message):
        load_celebahq(tree, attribute="Smiling", resolution=SIDE)

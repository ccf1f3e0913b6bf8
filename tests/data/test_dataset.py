"""Data sets: what is accepted, what is refused, and fixed splits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits as sklearn_digits

from robustgen.data.dataset import Dataset
from robustgen.data.digits import SPLITS, load_digits
from robustgen.errors import RequestError


def make(**changes: object) -> Dataset:
    fields: dict[str, object] = {
        "name": "tiny",
        "images": np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 1, 2, 2),
        "labels": np.array([0, 1, 1, 0]),
        "split": np.array(["val", "test", "test", "val"]),
        "index": np.arange(4),
        "class_names": ("no", "yes"),
        "flip": False,
    }
    return Dataset(**{**fields, **changes})  # pyright: ignore[reportArgumentType]


def test_a_part_keeps_order_and_indices():
    part = make().part("test")
    assert part.index.tolist() == [1, 2]
    assert part.labels.tolist() == [1, 1]
    assert make().part("val", 1).index.tolist() == [0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.full((4, 1, 2, 2), 8, np.float32)}, "expected \\[0, 1\\]"),
        ({"images": np.full((4, 1, 2, 2), np.nan, np.float32)}, "expected \\[0, 1\\]"),
        ({"labels": np.array([0, 1, 2, 0])}, "label 2 of image 2 is outside 0 to 1"),
        ({"labels": np.array([0, 1, -1, 0])}, "label -1"),
        ({"labels": np.array([0, 1])}, "different lengths \\[2, 4\\]"),
        ({"index": np.array([0, 1, 1, 3])}, "an index occurs twice"),
        (
            {"masks": np.ones((4, 1, 2, 3), np.float32)},
            r"masks of shape \[4, 1, 2, 3\], expected \[4, 1, 2, 2\]\.",
        ),
        (
            {"masks": np.ones((4, 3, 2, 2), np.float32)},
            r"masks of shape \[4, 3, 2, 2\], expected \[4, 1, 2, 2\]\.",
        ),
        (
            {"masks": np.full((4, 1, 2, 2), 2, np.float32)},
            r"mask of row 0 goes from 2 to 2, expected weights in \[0, 1\]\.",
        ),
        (
            {"masks": np.zeros((4, 1, 2, 2), np.float32)},
            "the mask of row 0 is 0 everywhere: no pixel would count.",
        ),
    ],
)
def test_faults_are_named(changes: dict[str, object], message: str):
    with pytest.raises(RequestError, match=message):
        make(**changes)


def test_too_few_images_are_named():
    with pytest.raises(RequestError, match="5 test images asked for, but it has 2"):
        make().part("test", 5)


def test_an_empty_split_is_named():
    message = "data set 'tiny': no train images; it has 2 test, 2 val."
    with pytest.raises(RequestError, match=message):
        make().part("train")


def test_arrays_are_handed_out_as_they_are():
    masks = np.arange(1, 17, dtype=np.float32).reshape(4, 1, 2, 2) / 16
    data = make(masks=masks)
    assert len(data) == 4
    assert data.image_shape == (1, 2, 2)
    assert data.pixels() is data.images
    assert data.mask_pixels() is masks
    assert make().mask_pixels() is None
    part = data.rows(np.array([3, 0]))
    assert np.array_equal(part.pixels(), data.pixels()[[3, 0]])
    assert np.array_equal(part.mask_pixels(), masks[[3, 0]])  # pyright: ignore[reportArgumentType]
    assert part.index.tolist() == [3, 0]


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((4, 1, 2, 2), np.float32)},
        {"labels": np.array([1, 1, 1, 0])},
        {"index": np.array([0, 1, 2, 4])},
        {"masks": np.ones((4, 1, 2, 2), np.float32)},
    ],
)
def test_content_decides_the_fingerprint(changes: dict[str, object]):
    assert make(**changes).fingerprint() != make().fingerprint()


def test_only_content_decides_the_fingerprint():
    assert make(name="other").fingerprint() == make().fingerprint()
    whole = make().fingerprint()
    assert make().rows(slice(None)).fingerprint() == whole
    assert make().rows(np.array([1, 0, 2, 3])).fingerprint() != whole
    rows = np.array([2, 0])
    strided = make().rows(slice(2, None, -2))
    assert strided.fingerprint() == make().rows(rows).fingerprint()


def test_digits_have_fixed_disjoint_splits():
    digits = load_digits()
    assert digits.images.shape == (1797, 1, 32, 32)
    counts = {name: int((digits.split == name).sum()) for name in SPLITS}
    assert counts == SPLITS
    assert digits.part("test").index[:5].tolist() == FIRST_TEST
    # Cubic interpolation overshoots; it is clipped, and averages stay close.
    pixels, _ = sklearn_digits(return_X_y=True)
    small = pixels.reshape(-1, 8, 8) / 16
    means = digits.images.reshape(1797, 8, 4, 8, 4).mean(axis=(2, 4))
    assert np.abs(means - small).mean() < 0.05


FIRST_TEST = [466, 467, 471, 480, 481]

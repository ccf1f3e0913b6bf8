"""Near-duplicates: planted ones are found, the shipped list is what the data give."""

from importlib import resources

import numpy as np
import pytest
from jaxtyping import UInt8

from robustgen.data.duplicates import (
    NearDuplicate,
    digest,
    dropped_lines,
    near_duplicates,
    similarities,
)
from robustgen.data.smiles import FILE, SIDE, dropped_images
from robustgen.data.stored import Stored, read_stored
from robustgen.errors import RequestError
from robustgen.sources import data_folder

Images = UInt8[np.ndarray, "n h w"]


def photographs(count: int, seed: int = 0) -> Images:
    """Smooth random images of 80 px; unrelated ones correlate by chance alone."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, 10, 10))
    return np.kron(coarse, np.ones((8, 8))).astype(np.uint8)


def center(images: Images, down: int = 0, right: int = 0) -> Images:
    return images[:, 8 + down : 72 + down, 8 + right : 72 + right]


COPIES = {
    "exact": lambda x: center(x),
    "mirrored": lambda x: center(x)[:, :, ::-1],
    "2 px down": lambda x: center(x, 2, 0),
    "4 px up and 2 px left": lambda x: center(x, -4, -2),
    "mirrored, 4 px right": lambda x: center(x, 0, 4)[:, :, ::-1],
    "darker, less contrast": lambda x: (center(x) * 0.4 + 20).astype(np.uint8),
    "brighter": lambda x: (center(x) // 2 + 120).astype(np.uint8),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_planted_copy_is_found(name: str):
    whole = photographs(6)
    scored = center(whole)
    images = np.concatenate(
        [scored, COPIES[name](whole[4:5]), photographs(3, 1)[:, :64, :64]]
    )
    split = np.array(["test"] * 6 + ["train"] * 4)
    (found,) = near_duplicates(images, split, threshold=0.92)
    assert (found.row, found.held_out) == (6, 4)
    assert found.similarity == pytest.approx(1, abs=1e-4)


def test_unrelated_images_are_not_found():
    images = center(photographs(60))
    alike = similarities(images[:30], images[30:])
    assert alike.shape == (30, 30)
    # 50 tries of 196 numbers, of which about 49 are independent.
    assert 0.1 < alike.max() < 0.7


def test_a_shift_beyond_four_pixels_is_not_found():
    whole = photographs(1)
    alike = similarities(center(whole), center(whole, 8, 0))
    assert alike.item() < 0.7


def test_validation_loses_what_is_tested_and_training_what_is_either():
    images = np.repeat(center(photographs(2)), 4, axis=0)
    split = np.array(["test", "val", "train", "test", "val", "val", "train", "train"])
    found = near_duplicates(images, split, threshold=0.99)
    assert [(one.row, one.held_out) for one in found] == [
        *((1, 0), (2, 0), (6, 4), (7, 4)),
    ]


def test_without_held_out_images_nothing_is_found():
    images = np.repeat(center(photographs(1)), 2, axis=0)
    assert near_duplicates(images, np.array(["train"] * 2), threshold=0) == []


def test_a_flat_image_resembles_nothing():
    flat = np.full((1, 64, 64), 90, np.uint8)
    assert similarities(flat, flat).item() == 0


def test_lines_of_a_list():
    images = center(photographs(2))
    lines = dropped_lines(
        images, np.array(["train", "val"]), [NearDuplicate(0, 1, 0.93456)]
    )
    assert lines == [f"{digest(images[0])} train 0.935 {digest(images[1])} val"]


@pytest.mark.parametrize("shape", [(2, 64, 32), (2, 28, 28), (2, 48, 48), (2, 0, 0)])
def test_other_sizes_are_refused(shape: tuple[int, int, int]):
    images = np.zeros(shape, np.uint8)
    with pytest.raises(RequestError, match=r"a multiple of 32\. Pad them"):
        similarities(images, images)


@pytest.fixture(scope="module")
def stored() -> Stored:
    if not (data_folder() / FILE).is_file():
        pytest.skip(f"{data_folder() / FILE}: no such file; robustgen fetch smiles")
    return read_stored(data_folder() / FILE, SIDE, 2, fetched_as="smiles")


def shipped_lines() -> list[str]:
    text = resources.files("robustgen.data").joinpath("smiles_dropped.txt").read_text()
    return text.splitlines()[1:]


def test_the_shipped_pairs_are_as_alike_as_the_list_says(stored: Stored):
    place = {
        (digest(im), str(s)): k
        for k, (im, s) in enumerate(zip(stored.images, stored.split, strict=True))
    }
    lines = [line.split() for line in shipped_lines()]
    rows = np.array([place[line[0], line[1]] for line in lines])
    others = np.array([place[line[3], line[4]] for line in lines])
    alike = similarities(stored.images[rows], stored.images[others])
    assert [f"{value:.3f}" for value in np.diag(alike)] == [line[2] for line in lines]
    assert len(dropped_images()) == len(lines) == 26


@pytest.mark.slow
def test_the_shipped_list_is_what_the_data_give(stored: Stored):
    found = near_duplicates(stored.images, stored.split, threshold=0.92)
    assert dropped_lines(stored.images, stored.split, found) == shipped_lines()
